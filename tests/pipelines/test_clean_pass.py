"""The cleaning pass: who was revised by what, unchanged rows untouched, and nothing shown raw."""

import io
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from rich.console import Console

import pipelines.console
import pipelines.explain
import pipelines.passes.clean
from curate.cleaning.redact import MASK
from curate.corpus.errors import InputError
from curate.corpus.identity import content_hash
from pipelines.corpus import Corpus, open_corpus, why
from pipelines.engine import SerialEngine

PRIVATE = ("jo@site.org", "(555) 234-5678", "93.184.216.34", "4111 1111 1111 1111")
CLEAN = {
    "redact": {"kinds": ["email", "ip", "phone", "card"], "exempt": ["code"]},
    "whitespace": {"exempt": ["code"]},
    "truncate": {"max_characters": 700, "at": "line"},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    mail = (
        f"To {PRIVATE[0]}, call {PRIVATE[1]}\r\nfrom {PRIVATE[2]}; {PRIVATE[3]}.\n\n\n\n[red]x[/]"
    )
    hidden = "to j\x00ane@site.org now"
    notes = [{"id": f"n{i}", "text": lab.text(i)} for i in range(6)]
    notes += [
        {
            "id": "mail",
            "text": f"{lab.text(30)}\n{mail}\n{lab.text(31)}",
            "url": f"https://site.org/?to={PRIVATE[0]}&x=1",
            "from": {"name": f"x\n{PRIVATE[0]}", "tel": "5552345678"},
            "sent": 3,
        },
        {"id": "hidden", "text": f"{lab.text(32)} {hidden}"},
        {"id": "empty", "text": "\x00\x01"},
        {"id": "long", "text": "\n".join(lab.text(40 + i, 20) for i in range(12))},
    ]
    lab.jsonl(folder / "notes.jsonl", notes)
    lab.jsonl(folder / "plain.jsonl", [{"id": f"p{i}", "text": lab.text(60 + i)} for i in range(5)])
    code = [{"id": "c", "by": PRIVATE[0], "text": f"x  =  1\n{lab.text(80)}\n# {PRIVATE[0]}"}]
    lab.jsonl(folder / "code.jsonl", code)
    lab.run(recipe(folder, lab), folder / "store")
    return folder


def recipe(folder: Path, lab: Any, **clean: Any) -> Any:
    names = ("notes", "plain", "code")
    sources = [{"name": name, "paths": [f"{name}.jsonl"]} for name in names]
    return lab.recipe(folder, sources=sources, clean={**CLEAN, **clean})


@pytest.fixture
def corpus(base: Path) -> Corpus:
    return open_corpus("tiny", store=str(base / "store"))


@pytest.fixture
def screen() -> Iterator[io.StringIO]:
    out = io.StringIO()
    plain = Console(file=out, width=100, highlight=False, emoji=False, color_system=None)
    with pytest.MonkeyPatch.context() as patch:
        for module in (pipelines.console, pipelines.explain):
            patch.setattr(module, "console", plain)
        yield out


def _id(corpus: Corpus, key: str) -> str:
    return str(corpus.table("documents").filter(key=key).collect()["doc_id"][0])


def test_every_revision_is_a_row_and_counted_in_the_manifest(corpus: Corpus) -> None:
    revisions = corpus.table("revisions").collect()
    documents = corpus.table("documents").collect()
    hashes = dict(documents.select("doc_id", "text_hash").iter_rows())
    told: dict[str, dict[tuple[str, str | None], int]] = {}
    keys = dict(documents.select("doc_id", "key").iter_rows())
    for row in revisions.iter_rows(named=True):
        assert row["text_hash"] == hashes[row["doc_id"]]
        assert row["count"] > 0
        one = told.setdefault(keys[row["doc_id"]], {})
        assert (row["step"], row["kind"]) not in one
        one[row["step"], row["kind"]] = row["count"]
    assert told["mail"] == {
        ("control", "line_breaks"): 1,
        ("whitespace", None): 2,
        ("redact", "email"): 1,
        ("redact", "ip"): 1,
        ("redact", "phone"): 1,
        ("redact", "card"): 1,
        ("truncate", None): told["mail"]["truncate", None],
    }
    assert told["hidden"] == {("control", "controls"): 1, ("redact", "email"): 1}
    assert told["empty"] == {("control", "controls"): 2}
    assert set(told) == {"mail", "hidden", "empty", "long"}
    counts = corpus.manifest("clean").counts
    assert (counts["hidden:url"], counts["hidden:meta"]) == (1, 1)
    assert counts["documents"] == documents.height
    assert counts["documents_changed"] == 4
    assert counts["documents_emptied"] == 1
    assert counts["revised:redact"] == 2
    assert counts["revised:redact:email"] == 2
    assert counts["revised:control:controls"] == 3
    assert counts["revised:truncate"] == 2


def test_a_text_that_nobody_changed_keeps_its_hash_and_its_shard(corpus: Corpus) -> None:
    raw = {shard.path for shard in corpus.shards("raw")}
    cleaned = [shard.path for shard in corpus.shards("documents")]
    assert len(raw & set(cleaned)) == 2, "the shards of `plain` and of `code`"
    assert sum(path.startswith("clean/") for path in cleaned) == 1
    for row in corpus.table("documents").collect().iter_rows(named=True):
        assert row["text_hash"] == content_hash(row["text"].encode()).hex()
    code = corpus.table("documents").filter(key="c").collect()["text"][0]
    assert code.startswith("x  =  1\n")
    assert PRIVATE[0] in code, "the source is exempt"


def test_batches_before_the_first_change_are_written_too(
    base: Path, corpus: Corpus, lab: Any
) -> None:
    wanted = corpus.table("documents").collect().sort("doc_id")
    real = pipelines.passes.clean.iter_batches

    def small(storage: Any, shard: Any, columns: Any = None) -> Iterator[Any]:
        return itertools.chain(*(_one_by_one(batch) for batch in real(storage, shard, columns)))

    with lab.patched(pipelines.passes.clean, "iter_batches", small):
        outcome, _ = lab.run(recipe(base, lab), base / "other", engine=SerialEngine())
    other = open_corpus("tiny", store=str(base / "other"))
    assert outcome is not None
    assert other.table("documents").collect().sort("doc_id").equals(wanted)
    assert other.manifest("clean").counts == corpus.manifest("clean").counts


def _one_by_one(batch: Any) -> Iterator[Any]:
    return (batch.slice(row, 1) for row in range(batch.num_rows))


def test_another_setting_is_another_revision_and_the_same_one_is_none(base: Path, lab: Any) -> None:
    again, executed = lab.run(recipe(base, lab, redact=CLEAN["redact"]), base / "store")
    assert executed.total() == 0
    same, _ = lab.run(recipe(base, lab, lines=[], whitespace=CLEAN["whitespace"]), base / "store")
    assert same.version == again.version
    reordered = {"kinds": ["card", "phone", "ip", "email"], "exempt": ["code"]}
    _, executed = lab.run(recipe(base, lab, redact=reordered), base / "store")
    assert executed.total() == 0, "the order of the kinds is nobody's business"


def test_what_was_redacted_is_shown_nowhere(
    corpus: Corpus, base: Path, screen: io.StringIO
) -> None:
    exempt = pl.col("source") == "code"
    for table in ("raw", "documents"):
        frame = corpus.table(table).filter(~exempt).collect()
        text = "\n".join(map(str, frame.rows()))
        assert "5552345678" not in text
        (mail,) = frame.filter(key="mail").iter_rows(named=True)
        assert mail["url"] == f"https://site.org/?to={MASK}&x=1"
        assert json.loads(mail["meta"]) == {"from": {"name": f"x\n{MASK}", "tel": MASK}, "sent": 3}
        assert not [secret for secret in (*PRIVATE, "ane@site", "j\x00ane") if secret in text]
    assert PRIVATE[0] in corpus.table("raw").filter(exempt).collect()["text"][0]
    for key in ("mail", "hidden"):
        said = json.dumps(why(corpus, _id(corpus, key)), default=str)
        assert not [secret for secret in (*PRIVATE, "ane@site") if secret in said]
        pipelines.explain.explain("tiny", _id(corpus, key), store=str(base / "store"))
    shown = screen.getvalue()
    assert not [secret for secret in (*PRIVATE, "ane@site") if secret in shown]


def test_why_tells_the_steps_and_the_words_that_changed(
    corpus: Corpus, base: Path, screen: io.StringIO
) -> None:
    pipelines.explain.explain("tiny", _id(corpus, "mail"), store=str(base / "store"))
    said = " ".join(screen.getvalue().split())
    assert "cleaning control: line breaks 1; whitespace: 2 characters; redact: card 1" in said
    assert "[-********,-]{+<EMAIL_1>,+}" in said
    assert "[red]x[/]" in said
    life = why(corpus, _id(corpus, "mail"))
    assert life["cleaning"]["steps"][0] == {
        "step": "control",
        "kind": "line_breaks",
        "count": 1,
        "counted": "characters",
    }
    assert json.loads(json.dumps(life["cleaning"])) == life["cleaning"]


def test_why_tells_that_a_text_is_as_it_was_read(
    corpus: Corpus, base: Path, screen: io.StringIO
) -> None:
    pipelines.explain.explain("tiny", _id(corpus, "p1"), store=str(base / "store"))
    assert "the text is as it was read" in screen.getvalue()
    assert why(corpus, _id(corpus, "p1"))["cleaning"] is None


@pytest.mark.parametrize(
    ("clean", "message"),
    [
        ({"redact": ["emial"]}, "clean.redact"),
        ({"redact": {"kind": ["email"]}}, "unknown key `clean.redact.kind`.*Did you mean 'kinds'"),
        ({"redact": {"kinds": ["email"], "exempt": ["cod"]}}, "Did you mean 'code'"),
        ({"whitespace": {"exempt": ["nots"]}}, "Did you mean 'notes'"),
        ({"lines": ["c6"]}, "clean.lines"),
        ({"truncate": {"max_bytes": 5, "max_characters": 5}}, "give either max_characters or"),
        ({"truncate": {"max_bytes": 0}}, "clean.truncate.max_bytes"),
        ({"truncate": 7}, "clean.truncate"),
        ({"truncat": {}}, "unknown key `clean.truncat`.*Did you mean 'truncate'"),
        ({"ftfy": "yes"}, "clean.ftfy"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(
    clean: dict[str, Any], message: str, tmp_path: Path, lab: Any
) -> None:
    with pytest.raises(InputError, match=message) as refused:
        recipe(tmp_path, lab, **clean)
    assert len(str(refused.value).splitlines()) <= 2
