"""`preceptor forget`: what goes, that nothing else moves, and that it never comes back."""

import json
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.order import samples_of
from curate.corpus.shard import read_shard
from curate.corpus.storage import Storage
from pipelines.checks.records import in_force
from pipelines.cli import app
from pipelines.corpus import Corpus, open_corpus, why
from pipelines.forget.selecting import Request, read_ids
from pipelines.forget.takedown import Takedown, forget
from pipelines.store import Store
from pipelines.training import prepare_run
from pipelines.verify import verify
from train.order import Order, Phase

_PLAIN: dict[str, Any] = {"standalone_mode": False}
WHEN = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)
SECRET = "The quick brown archivist Wilhelmina Featherstonehaugh keeps her diary in the attic."


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    """A corpus with a secret, its exact twin in another source, and two near twins."""
    folder = tmp_path_factory.mktemp("forget")
    secret = f"{SECRET} {lab.text(3)}"
    near = [secret.replace("attic", word) for word in ("cellar", "garden")]
    notes = [{"id": f"n{i}", "text": lab.text(i), "url": f"https://a.org/{i}"} for i in range(30)]
    notes[3] = {"id": "secret", "text": f"{secret} {lab.text(99)}", "url": "https://b.org/diary"}
    notes += [{"id": f"near{i}", "text": f"{t} {lab.text(99)}"} for i, t in enumerate(near)]
    lab.jsonl(folder / "notes.jsonl", notes)
    copy = f"{secret} {lab.text(99)}".upper()
    pages = [{"id": f"p{i}", "text": lab.text(200 + i)} for i in range(9)]
    lab.jsonl(folder / "pages.jsonl", [*pages, {"id": "copy", "text": copy}])
    lab.run(_recipe(lab, folder), folder / "store")
    return folder


def _recipe(lab: Any, folder: Path, **more: Any) -> Any:
    sections: dict[str, Any] = {
        "sources": [
            {"name": "notes", "paths": ["notes.jsonl"]},
            {"name": "pages", "paths": ["pages.jsonl"]},
        ],
        "collect": {"part_bytes": 4000},
        "deduplicate": {"near": {"threshold": 0.8}, "keep": "source, num_words DESC, doc_id"},
        "split": {"validation": 0.0, "test": 0.0},
    }
    return lab.recipe(folder, **(sections | more))


@pytest.fixture
def store(base: Path, tmp_path: Path) -> str:
    import shutil

    shutil.copytree(base / "store", tmp_path / "store")
    return str(tmp_path / "store")


def _id(corpus: Corpus, key: str) -> bytes:
    frame = corpus.table("raw", as_stored=True).filter(key=key).collect()
    return bytes.fromhex(frame["doc_id"][0])


def _kept(corpus: Corpus) -> set[str]:
    return set(corpus.table("verdicts").filter("kept").collect()["doc_id"])


def _take(store: str, **options: Any) -> Takedown:
    request = options.pop("request", Request(url="https://b.org/*"))
    return forget("tiny", request, store=store, now=WHEN, reason="art. 17", **options)


def test_a_dry_run_finds_everything_and_writes_nothing(store: str, lab: Any) -> None:
    before = lab.snapshot(Path(store))
    found = _take(store, dry_run=True).receipt
    assert lab.snapshot(Path(store)) == before
    assert [(row["named"], row["source"]) for row in found["documents"]] in (
        [(True, "notes"), (False, "pages")],
        [(False, "pages"), (True, "notes")],
    )
    assert len(found["near_twins"]) == 2
    assert all(0.8 <= row["jaccard"] < 1 and row["spoken_for"] for row in found["near_twins"])
    assert found["versions"] == [
        {
            "corpus": "tiny",
            "version": 1,
            "is_current": True,
            "documents": 2,
            "kept": 1,
            "forgotten": 0,
        }
    ]
    assert SECRET not in json.dumps(found)


def test_it_is_masked_in_place_and_nothing_else_moves(store: str) -> None:
    old = open_corpus("tiny@1", store=store)
    gone = _id(old, "secret")
    done = _take(store)
    new = open_corpus("tiny", store=store)
    assert (str(new.version), new.version.parent) == ("tiny@2", 1)
    assert verify(new) == []
    assert verify(open_corpus("tiny@1", store=store)) == []
    for table in ("plan_train", "draws", "signals", "duplicates"):
        assert new.shards(table) == old.shards(table)
    pad = new.manifest("tokenize").info["tokenizer"]["specials"]["pad"]
    storage = Storage(store)
    rewritten = 0
    for before, after in zip(old.shards("tokens"), new.shards("tokens"), strict=True):
        rewritten += before != after
        left, right = read_shard(storage, before), read_shard(storage, after)
        assert left.select(["doc_id", "source", "split"]) == right.select(
            ["doc_id", "source", "split"]
        )
        mine = pc.equal(left["doc_id"], gone)
        assert left.filter(pc.invert(mine)) == right.filter(pc.invert(mine))
        for was, now in zip(
            left.filter(mine).to_pylist(), right.filter(mine).to_pylist(), strict=True
        ):
            assert now["tokens"] == [pad] * len(was["tokens"])
            assert now["num_bytes"] == 0
    assert rewritten == 1
    assert _kept(new) == _kept(old) - {gone.hex()}
    counts = new.manifest("judge").counts
    assert counts["reason:forgotten"] == 2
    assert counts["kept"] == old.manifest("judge").counts["kept"] - 1
    place = next(row for row in done.receipt["documents"] if row["named"])
    spans = place["plans"]["plan_train"]
    assert sum(span[3] for span in spans) == place["tokens"]
    rows = new.table("plan_train").collect()["spans"]
    for row, inside, start, length in spans:
        at = 0
        for span in rows[row].to_list():
            if at == inside:
                assert (span["start"], span["length"]) == (start, length)
            at += span["length"]


def test_no_table_and_no_why_of_the_new_version_shows_the_text(store: str) -> None:
    _take(store)
    new = open_corpus("tiny", store=store)
    for table in ("documents", "raw", "lines", "quarantine"):
        frame = new.table(table).collect()
        assert "attic" not in str(frame.to_dict(as_series=False)).lower()
    life = why(new, _id(open_corpus("tiny@1", store=store), "secret").hex())
    assert life["verdict"]["reasons"] == ["forgotten"]
    assert "attic" not in json.dumps(life, default=str).lower()
    assert life["tokens"] is not None


def test_nothing_is_trained_on_a_version_that_still_holds_what_was_forgotten(store: str) -> None:
    config = {"depth": 1, "batch_rows": 3, "steps": 40}
    prepare_run(open_corpus("tiny@1", store=store), config)
    _take(store)
    with pytest.raises(
        InputError, match="tiny@1 holds . of the documents that were forgotten since"
    ):
        prepare_run(open_corpus("tiny@1", store=store), config)
    prepare_run(open_corpus("tiny", store=store), config)


def test_a_second_takedown_finds_nothing_to_do(store: str, lab: Any) -> None:
    first = _take(store)
    _take(store)  # the emptied shards are hashed once
    before = lab.snapshot(Path(store))
    again = _take(
        store, request=Request(ids=(bytes.fromhex(first.receipt["documents"][0]["doc_id"]),))
    )
    assert (again.changed, again.path, str(again.version)) == (False, None, "tiny@2")
    assert lab.snapshot(Path(store)) == before


def test_a_later_run_keeps_the_same_documents(base: Path, store: str, lab: Any) -> None:
    _take(store)
    masked = open_corpus("tiny", store=store)
    outcome, executed = lab.run(_recipe(lab, base), Path(store))
    later = open_corpus("tiny", store=store)
    assert str(later.version) == "tiny@3"
    assert executed["collect"] == executed["clean"] == executed["measure"] == 0
    assert _kept(later) == _kept(masked)
    assert verify(later) == []
    reasons = Counter(
        reason for row in later.table("verdicts").collect()["reasons"].to_list() for reason in row
    )
    assert reasons == {"forgotten": 2, "duplicate:near": 2}
    assert "Featherstonehaugh" not in str(later.table("raw").filter(key="secret").collect())
    again, executed = lab.run(_recipe(lab, base), Path(store))
    assert (again.executed, again.published) == (0, False)
    del outcome


def test_restored_twins_come_back_in_the_next_run(base: Path, store: str, lab: Any) -> None:
    _take(store, restore_twin=True)
    before = _kept(open_corpus("tiny", store=store))
    lab.run(_recipe(lab, base), Path(store))
    later = open_corpus("tiny", store=store)
    lab.check_laws(later)
    (best,) = _kept(later) - before
    assert best in {_id(later, "near0").hex(), _id(later, "near1").hex()}


def test_it_stays_forgotten_under_another_name(store: str, tmp_path: Path, lab: Any) -> None:
    _take(store)
    copy = f"{SECRET}  {lab.text(3)} {lab.text(99)}"
    lab.jsonl(
        tmp_path / "crawl.jsonl",
        [{"id": "x", "text": copy}, *({"text": lab.text(500 + i)} for i in range(9))],
    )
    lab.run(
        lab.recipe(
            tmp_path,
            name="other",
            sources=[{"name": "crawl", "paths": ["crawl.jsonl"]}],
            clean={"unicode": "none"},
        ),
        Path(store),
    )
    other = open_corpus("other", store=store)
    verdicts = other.table("verdicts").collect()
    assert verdicts.filter(~verdicts["kept"])["reasons"].to_list() == [["forgotten"]]
    assert "Featherstonehaugh" not in str(other.table("documents").collect().to_dict())


def test_two_takedowns_at_once_both_count(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = _id(open_corpus("tiny", store=store), "n7")
    real = Store.replace
    calls: list[Any] = []

    def first_another(self: Store, version: Any, manifests: Any) -> Any:
        if not calls:
            calls.append(version)
            _take(store, request=Request(ids=(other,)))
        return real(self, version, manifests)

    monkeypatch.setattr(Store, "replace", first_another)
    _take(store)
    new = open_corpus("tiny", store=store)
    assert str(new.version) == "tiny@3"
    assert new.manifest("judge").counts["reason:forgotten"] == 3
    assert verify(new) == []


@pytest.mark.parametrize(
    ("pattern", "found"),
    [("https://B.org/d?ary", 2), ("*://a.org/1", 1), ("*a.org/1*", 11), ("*.org/diary", 2)],
)
def test_a_pattern_is_a_glob_over_the_whole_address(store: str, pattern: str, found: int) -> None:
    takedown = _take(store, request=Request(url=pattern), dry_run=True)
    assert len(takedown.receipt["documents"]) == found


@pytest.mark.parametrize("pattern", ["a.org/1", "https://a.org/(", "(?i)*", "[ab]", "\\d+"])
def test_what_no_address_matches_is_refused(store: str, pattern: str) -> None:
    with pytest.raises(InputError, match="Nothing was changed"):
        _take(store, request=Request(url=pattern))


def test_a_condition_reads_signals_and_columns_and_no_text(store: str) -> None:
    where = Request(where="num_words < 90 AND source = 'notes' AND key = 'n4'")
    assert len(_take(store, request=where, dry_run=True).receipt["documents"]) == 1
    with pytest.raises(InputError, match="text"):
        _take(store, request=Request(where="text LIKE '%Wilhelmina%'"))
    with pytest.raises(InputError, match="Nothing was changed"):
        _take(store, request=Request(where="num_words > 100000"))


def test_a_file_of_ids_says_where_it_is_wrong(store: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.txt"
    known = _id(open_corpus("tiny", store=store), "n5").hex()
    file.write_text(f"doc_id\n# asked by letter\n{known.upper()}\n\n{'0' * 32}\n{known}\n")
    assert [one.hex() for one in read_ids(file)] == [known, "0" * 32]
    done = _take(store, request=Request(ids=read_ids(file)))
    assert done.receipt["unknown_ids"] == ["0" * 32]
    file.write_text(f"doc_id\n{known}\n", encoding="utf-8-sig")
    assert [one.hex() for one in read_ids(file)] == [known]
    file.write_text("123\n")
    with pytest.raises(InputError, match="line 1.*'123' is no document id"):
        read_ids(file)
    with pytest.raises(InputError, match="none of the 1 ids"):
        _take(store, request=Request(ids=(b"\0" * 16,)))
    with pytest.raises(InputError, match="names every address"):
        Request(url="**")
    with pytest.raises(InputError, match="names none of") as refused:
        _take(store, request=Request(url="https://nobody.org/" + "x" * 9999))
    assert len(str(refused.value)) < 300
    for condition in ("x" * 9999, "x" * 9999 + " (('"):
        with pytest.raises(InputError, match="--where") as refused:
            _take(store, request=Request(where=condition))
        assert "x" * 99 not in str(refused.value)
    with pytest.raises(InputError, match="2 were given"):
        Request(url="a", where="b")


def test_runs_and_steps_equal_a_slow_scan(store: str, lab: Any) -> None:
    corpus = open_corpus("tiny", store=store)
    gone = _id(corpus, "secret")
    config = {"depth": 1, "batch_rows": 3, "steps": 40, "seed": 11}
    path = prepare_run(corpus, config)
    (path.parent / "metrics.jsonl").write_text('{"step": 20}\n{"step": 37}\n{"st')
    for step in (10, 30):
        (path.parent / "checkpoints" / f"step-{step:09d}").mkdir(parents=True)
    unread = prepare_run(corpus, {**config, "seed": 12})
    (run, other) = sorted(
        _take(store, dry_run=True).receipt["runs"], key=lambda r: -r["steps_done"]
    )
    assert Path(other["folder"]) == unread.parent
    assert (other["num_steps"], other["first_step"], other["model"]) == (0, None, None)

    ordinals = {
        (ordinal, row)
        for ordinal, shard in enumerate(corpus.shards("tokens"))
        for row, doc_id in enumerate(read_shard(Storage(store), shard)["doc_id"].to_pylist())
        if doc_id == gone
    }
    rows = corpus.table("plan_train").collect()["spans"].to_list()
    order = Order({"train": len(rows)}, [Phase(first_row=0, plan="train", epoch=0)], seed=11)
    seen = set()
    for sample in range(37 * 3):
        for _, _, (row,) in order.rows(sample, sample + 1):
            if any((span["shard"], span["document"]) in ordinals for span in rows[row]):
                seen.add(sample // 3 + 1)
    assert run["steps"] == sorted(seen)
    assert (run["steps_done"], run["num_steps"]) == (37, len(seen))
    assert run["checkpoints"] == [
        {"step": step, "has_seen": step >= min(seen)} for step in (10, 30)
    ]


FAILS: dict[str, Any] = {"none": {"sql": "SELECT COUNT(*) FROM verdicts", "equals": 0}}


def test_the_checks_in_force_stay_so(base: Path, store: str, lab: Any) -> None:
    outcome, _ = lab.run(_recipe(lab, base, checks=FAILS), Path(store))
    assert not outcome.published, "the version is one that had no checks"
    _take(store)
    new = open_corpus("tiny", store=store)
    assert str(new.version) == "tiny@2"
    assert list(in_force(new)) == ["none"]
    with pytest.raises(InputError, match="tiny@2 fails 1 of its 1 checks: none"):
        prepare_run(new, {"depth": 1, "batch_rows": 3, "steps": 4, "seed": 1})


def test_checks_that_were_taken_away_do_not_come_back(tmp_path: Path, base: Path, lab: Any) -> None:
    store = tmp_path / "store"
    lab.run(_recipe(lab, base, checks=FAILS), store)
    lab.run(_recipe(lab, base), store)
    _take(str(store))
    new = open_corpus("tiny", store=str(store))
    assert "none" in new.recipe["checks"]
    assert in_force(new) == {}


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_samples_are_found_through_phases_and_epochs(data: st.DataObject) -> None:
    sizes = {"a": data.draw(st.integers(1, 9)), "b": data.draw(st.integers(1, 9))}
    rows = {
        n: np.array(sorted(data.draw(st.sets(st.integers(0, s - 1))))) for n, s in sizes.items()
    }
    cut, total = data.draw(st.integers(1, 30)), data.draw(st.integers(0, 60))
    phases: list[dict[str, Any]] = [
        {"first_row": 0, "plan": "a", "epoch": data.draw(st.integers(0, 3))},
        {"first_row": cut, "plan": "b", "epoch": data.draw(st.integers(0, 3))},
    ]
    found = samples_of(rows, sizes, phases, seed=5, num_samples=total)
    order = Order(sizes, [Phase(**phase) for phase in phases], seed=5)
    slow = []
    for sample in range(total):
        for plan, _, (row,) in order.rows(sample, sample + 1):
            slow += [sample] if row in rows[plan] else []
    assert found.tolist() == slow


def test_verify_tells_of_a_forgotten_document_that_is_not_masked(store: str) -> None:
    old = open_corpus("tiny@1", store=store)
    _take(store)
    new = open_corpus("tiny", store=store)
    undone = {**new.version.manifests, "tokenize": old.version.manifests["tokenize"]}
    new.store.replace(new.version, undone)
    (told,) = verify(open_corpus("tiny", store=store))
    assert "a forgotten document has tokens that are not masked" in told


def test_the_command_shows_and_does_it(store: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*words: str) -> str:
        app(["forget", "tiny", "--url", "https://b.org/*", "--store", store, *words], **_PLAIN)
        return capsys.readouterr().out

    told = run("--dry-run")
    assert "2 documents: 1 named, 1 exact twin; 1 of them kept in tiny@1" in told
    assert "nothing was changed" in told
    with pytest.raises(InputError, match="--purge deletes the bytes .* add --yes"):
        run("--purge")
    told = run("--reason", "[red]a letter[/red]")
    assert "tiny@2 is current" in told
    assert "receipts/00000001.json" in told
    assert "forgotten before; tiny@2 stays" in run()
    assert json.loads(run("--json"))["documents"][0]["was_forgotten"]
    app(["list", "receipts", "--store", store], **_PLAIN)
    assert "[red]a letter[/red]" in capsys.readouterr().out
