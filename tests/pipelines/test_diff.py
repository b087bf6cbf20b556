"""Two versions side by side: conservation, causes, and what a hostile corpus cannot do."""

import html
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from pipelines.corpus import Corpus, open_corpus
from pipelines.diff import compare, counts
from pipelines.diff.joined import Joined, merged
from pipelines.diff.lineage import because, differences
from pipelines.diff.page import render
from pipelines.diff.text import describe, show_difference
from pipelines.forget.selecting import Request
from pipelines.forget.takedown import forget

HOSTILE = "<script>alert('x')</script> \x1b[31mred\x1b[0m \u202eevil {{ 7 * 7 }} "
SOURCES = [{"name": "notes", "paths": ["notes/*.jsonl"]}, {"name": "old", "paths": ["old/*.jsonl"]}]


def write(lab: Any, folder: Path, version: int) -> None:
    """Write the input of a version: files and records come, go and change."""
    notes = [{"id": f"n{i}", "text": lab.text(i)} for i in range(30)]
    notes += [{"id": f"d{i}", "text": lab.near(i, i % 3)} for i in range(4)]
    notes += [{"id": "h<i>", "text": HOSTILE + lab.text(70, 25)}]
    notes[11]["text"] += " cafe\u0301"
    old = [{"id": f"o{i}", "text": lab.text(900 + i)} for i in range(6)]
    lab.jsonl(folder / "old" / "p.jsonl", [{"id": "p", "text": lab.text(77)}])
    if version == 1:
        lab.jsonl(folder / "old" / "o.jsonl", old)
    else:
        (folder / "old" / "o.jsonl").unlink()
        notes[10]["text"] += " entirely new ending"
        notes = notes[:20] + notes[23:] + [{"id": "late", "text": lab.text(500)}]
        more = [{"id": f"b{i}", "text": lab.text(800 + i, 30 + i)} for i in range(10)]
        lab.jsonl(folder / "notes" / "b.jsonl", more)
    lab.jsonl(folder / "notes" / "a.jsonl", notes)


@pytest.fixture(scope="module")
def store(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six versions: 1 -> 2 the input, 2 -> 3 a rule, 3 -> 4 the mixture, 4 -> 5 cleaning, ..."""
    folder = tmp_path_factory.mktemp("diff")
    store = folder / "store"
    rules = {"add": {"long": "num_words >= 20"}}
    steps: list[dict[str, Any]] = [
        {"rules": rules},
        {"rules": rules},
        {"rules": {"add": {"long": "num_words >= 35"}}},
        {"mix": {"budget": "3K tokens", "weights": {"notes": 0.8, "old": 0.2}}},
        {"clean": {"unicode": "none", "control": False}},
        {"tokenize": {"tokenizer": {"vocab_size": 310, "sample_bytes": 10_000}}},
        {"deduplicate": {"near": None}},
    ]
    sections: dict[str, Any] = {"sources": SOURCES}
    for number, step in enumerate(steps):
        if number < 2:
            write(lab, folder, number + 1)
        sections |= step
        outcome, _ = lab.run(lab.recipe(folder, **sections), store)
        assert outcome.version.number == number + 1
    return store


def opened(store: Path, number: int) -> Corpus:
    return open_corpus(f"tiny@{number}", store=str(store))


def difference(store: Path, a: int, b: int, **options: Any) -> dict[str, Any]:
    return compare(opened(store, a), opened(store, b), **options)


def check_balance(lab: Any, a: Corpus, b: Corpus, found: dict[str, Any]) -> None:
    """Count both versions again, row by row, and the changes between them."""
    sides = []
    for corpus in (a, b):
        rows = lab.frame(corpus, "verdicts").iter_rows(named=True)
        tokens: dict[str, int] = {}
        for shard in corpus.shards("tokens"):
            read = read_shard(corpus.store.storage, shard)
            ids = (one.hex() for one in read["doc_id"].to_pylist())
            tokens |= dict(zip(ids, map(len, read["tokens"].to_pylist()), strict=True))
        sides.append({row["doc_id"]: (row, tokens.get(row["doc_id"], 0)) for row in rows})
    left, right = ({i for i, (row, _) in side.items() if row["kept"]} for side in sides)
    assert found["balance"]["documents"] == {
        "a": len(left),
        "gained": len(right - left),
        "lost": len(left - right),
        "b": len(right),
    }
    changes = [
        (sides[1][i][1] if i in right else 0) - (sides[0][i][1] if i in left else 0)
        for i in left | right
    ]
    tokens = found["balance"]["tokens"]
    assert tokens["a"] == sum(sides[0][i][1] for i in left)
    assert tokens["b"] == sum(sides[1][i][1] for i in right)
    if found["comparable"]:
        assert tokens["gained"] == sum(c for c in changes if c > 0)
        assert tokens["lost"] == -sum(c for c in changes if c < 0)
    reworded = [
        i for i in left & right if sides[0][i][0]["text_hash"] != sides[1][i][0]["text_hash"]
    ]
    assert found["balance"]["changed"] == len(reworded)


@pytest.mark.parametrize(("a", "b"), [(1, 2), (2, 1), (2, 3), (4, 5), (1, 6), (6, 7)])
def test_what_was_there_and_gained_less_lost_is_what_is_there(
    lab: Any, store: Path, a: int, b: int
) -> None:
    found = difference(store, a, b, num_samples=1)
    check_balance(lab, opened(store, a), opened(store, b), found)
    for name in ("collected", "documents", "bytes", "tokens", "drawn_tokens"):
        row = found["balance"][name]
        if row["gained"] is not None:
            assert row["a"] + row["gained"] - row["lost"] == row["b"], name
    kept = found["balance"]["documents"]
    for column in ("gained", "lost"):
        assert sum(row[column] for row in found["causes"]) == kept[column], "one cause for each"
        assert sum(row[column] for row in found["sources"]) == kept[column]
    for row in found["sources"]:
        assert row["a"] + row["gained"] - row["lost"] == row["b"]
        if found["comparable"]:
            change = row["tokens_gained"] - row["tokens_lost"]
            assert row["tokens_a"] + change == row["tokens_b"]
    both = sum(row["documents"] for row in found["fates"])
    assert both == found["balance"]["collected"]["a"] + found["balance"]["collected"]["gained"]


def test_a_comparison_turned_round_is_its_mirror(store: Path) -> None:
    there, back = difference(store, 1, 3), difference(store, 3, 1)
    for name in ("documents", "tokens", "bytes", "drawn_tokens", "collected"):
        row, mirrored = there["balance"][name], back["balance"][name]
        assert (row["a"], row["gained"], row["lost"]) == tuple(
            mirrored[end] for end in ("b", "lost", "gained")
        )
    assert {(r["before"], r["after"], r["documents"]) for r in there["moves"]["rows"]} == {
        (r["after"], r["before"], r["documents"]) for r in back["moves"]["rows"]
    }
    assert difference(store, 1, 3) == there, "and it is a function of the two"


def causes(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{row['pass']}: {row['what']}": row for row in found["causes"]}


def test_changed_input_is_told_by_file_and_record(store: Path) -> None:
    found = difference(store, 1, 2)
    told = causes(found)
    assert told["collect: a new file"]["gained"] == 10
    assert told["collect: a gone file"]["lost"] == 6
    assert told["collect: a gone record of a file that both have"]["lost"] == 3
    assert told["collect: a new record of a file that both have"]["gained"] == 1
    assert told["collect: the same record with another text"]["changed"] == 1
    assert told["collect: a new file"]["because"] == ["files added: 1"]
    assert found["recipe"]["count"] == 0
    files = {(row["source"], row["path"]): row["change"] for row in found["inputs"]["rows"]}
    assert files == {
        ("notes", "notes/a.jsonl"): "changed",
        ("notes", "notes/b.jsonl"): "added",
        ("old", "old/o.jsonl"): "removed",
    }
    (changed,) = (row for row in found["samples"] if row["fate"] == "changed")
    assert "{+entirely new ending+}" in "".join(
        f"{{+{text}+}}" if kind == "added" else text for kind, text in changed["diff"]["hunks"][0]
    )


def test_a_changed_threshold_is_told_by_rule_and_recipe_key(store: Path) -> None:
    found = difference(store, 2, 3)
    (row,) = found["causes"]
    assert (row["pass"], row["what"]) == ("judge", "rule:recipe.long changed")
    assert row["because"] == ["recipe: rules.add.long"]
    assert (row["gained"], row["lost"]) == (0, 6)  # the hostile one, and five short ones of b
    assert found["rules"] == [
        {
            "reason": "rule:recipe.long",
            "change": "changed",
            "before": "num_words >= 20",
            "after": "num_words >= 35",
            "a": 0,
            "b": 6,
            "took": 6,
            "gave": 0,
        }
    ]
    assert found["inputs"]["rows"] == []
    assert {"before": "kept", "after": "rule:recipe.long", "documents": 6} in found["moves"]["rows"]


def test_a_new_mixture_changes_draws_and_no_document(store: Path) -> None:
    found = difference(store, 3, 4)
    assert found["causes"] == []
    assert found["samples"] == []
    drawn = found["balance"]["drawn_tokens"]
    assert drawn["lost"] > 0
    assert drawn["b"] < 3100
    why = found["mixture"]["why"]
    assert why["documents"] == {"gained": 0, "lost": 0}
    assert why["copies"] == {"gained": drawn["gained"], "lost": drawn["lost"]}
    for row in found["mixture"]["rows"]:
        assert row["a"] + row["gained"] - row["lost"] == row["b"]
    assert [row["path"] for row in found["recipe"]["rows"]] == [
        "mix.budget",
        "mix.weights",
    ]


def test_cleaning_and_deduplication_are_told_apart_from_input(store: Path) -> None:
    cleaned = difference(store, 4, 5)
    assert {row["pass"] for row in cleaned["causes"]} <= {"clean", "deduplicate", "measure"}
    assert "clean: the same record, cleaned otherwise" in causes(cleaned)
    undone = causes(difference(store, 6, 7))
    row = undone["deduplicate: duplicate:near: other verified twins"]
    assert row["gained"] == 4
    assert row["because"] == ["recipe: deduplicate.near"]


def test_tokens_of_different_tokenizers_are_not_compared(store: Path) -> None:
    found = difference(store, 5, 6)
    assert not found["comparable"]
    assert not found["identical"]
    tokens = found["balance"]["tokens"]
    assert tokens["gained"] is None
    assert tokens["lost"] is None
    assert found["causes"] == [], "another count of tokens is no change of a document"
    assert "are not compared" in describe(found)[1]
    assert [row["what"] for row in found["fitted"]] == ["tokenizer"]
    assert "another tokenizer" in render(found)


def test_identical_versions_are_told_in_one_line(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = difference(store, 2, 2)
    show_difference(found, as_json=False)
    assert capsys.readouterr().out == "tiny@2 and tiny@2 are identical\n"
    assert "are identical" in render(found)


def test_hostile_text_is_harmless_in_the_terminal_and_on_the_page(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = difference(store, 2, 3, num_samples=50)
    assert any("<script>" in row["text"] for row in found["samples"])
    show_difference(found, as_json=False)
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    page = render(found)
    assert "<script" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "alert(&#39;x&#39;)" in page
    assert "{{ 7 * 7 }}" in html.unescape(page)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert "http://" not in page
    assert "https://" not in page
    show_difference(found, as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))


def test_redacted_addresses_in_paths_are_masked(lab: Any, tmp_path: Path) -> None:
    text = {"text": lab.text(1) + " jo@site.org"}
    sources = [{"name": "notes", "paths": ["*/*.jsonl"]}]
    recipe = lab.recipe(tmp_path, sources=sources, clean={"redact": ["email"]})
    for name in ("a/a.jsonl", "jo@site.org/b.jsonl"):
        lab.jsonl(tmp_path / name, [{**text, "id": name}, {"id": f"{name} 2", "text": lab.text(2)}])
        outcome, _ = lab.run(recipe, tmp_path / "store")
    assert outcome.version.number == 2
    found = difference(tmp_path / "store", 1, 2)
    assert len(found["inputs"]["rows"]) == 1
    assert found["samples"]
    assert "jo@site.org" not in json.dumps(found)


def test_what_one_version_has_forgotten_is_not_shown_because_another_has_it(
    lab: Any, tmp_path: Path
) -> None:
    rows = [{"id": f"n{i}", "text": lab.text(i)} for i in range(8)]
    rows[3]["text"] += " the secret of somebody"
    lab.jsonl(tmp_path / "a.jsonl", rows)
    lab.run(lab.recipe(tmp_path), tmp_path / "store")
    store = tmp_path / "store"
    documents = lab.frame(opened(store, 1), "documents")
    doc_id = documents.filter(pl.col("text").str.contains("secret"))["doc_id"][0]
    forget("tiny", Request(ids=(bytes.fromhex(doc_id),)), store=str(store))
    found = difference(store, 1, 2)
    (row,) = found["causes"]
    assert (row["pass"], row["what"], row["lost"]) == ("judge", "forgotten", 1)
    assert row["because"] == ["a takedown"]
    assert [sample["doc_id"] for sample in found["samples"]] == [doc_id]
    for pair in (found, difference(store, 2, 1)):
        assert "secret" not in json.dumps(pair)
        assert "secret" not in render(pair)


def test_corpora_that_share_no_document_can_be_compared(lab: Any, tmp_path: Path) -> None:
    for name, source in (("one", "left"), ("two", "right")):
        lab.jsonl(tmp_path / f"{name}.jsonl", [{"text": lab.text(i)} for i in range(8)])
        sources = [{"name": source, "paths": [f"{name}.jsonl"]}]
        lab.run(lab.recipe(tmp_path, name=name, sources=sources), tmp_path / name)
    found = compare(
        open_corpus("one", store=str(tmp_path / "one")),
        open_corpus("two", store=str(tmp_path / "two")),
    )
    assert found["balance"]["documents"] == {"a": 8, "gained": 8, "lost": 8, "b": 8}
    assert found["balance"]["renamed"] == 8, "the same texts under another source"
    assert set(causes(found)) == {"collect: a new source", "collect: a gone source"}
    assert "another id" in describe(found)[0]


@pytest.mark.parametrize(
    ("name", "what", "keys"),
    [
        ("judge", "rule:recipe.long changed", ["rules.add.long", "rules.override.notes"]),
        ("judge", "rule:c4@tfds.lines removed", ["rules.use"]),
        ("judge", "duplicate:near: another of its group is kept", ["deduplicate.keep"]),
        ("judge", "contaminated:quiz: another action or threshold", ["decontaminate.action"]),
        ("deduplicate", "duplicate:near: other verified twins", ["deduplicate.near.bands"]),
        (
            "deduplicate",
            "other repeated lines are cut",
            ["clean.repeated_lines", "deduplicate.near.bands"],
        ),
        ("clean", "the same record, cleaned otherwise", ["clean.unicode"]),
        ("collect", "a new source", ["sources.old"]),
        ("collect", "a new file", ["sources.notes.paths", "sources.old"]),
        (
            "measure",
            "other signals for rule:recipe.long",
            ["other documents came, went or changed"],
        ),
        ("judge", "forgotten", ["a takedown"]),
    ],
)
def test_each_cause_names_the_keys_of_the_recipe_that_it_follows(
    name: str, what: str, keys: list[str]
) -> None:
    old = {
        "sources": [{"name": "notes", "paths": ["a"]}],
        "clean": {"unicode": "NFC", "repeated_lines": None},
        "rules": {
            "add": {"long": "n > 1", "odd": "n > 2"},
            "use": ["c4@tfds", "x"],
            "override": {},
        },
        "deduplicate": {"keep": "a", "near": {"bands": 1}},
        "decontaminate": {"action": "drop"},
    }
    new = {
        "sources": [{"name": "notes", "paths": ["b"]}, {"name": "old", "paths": ["c"]}],
        "clean": {"unicode": "none", "repeated_lines": {"above": 3}},
        "rules": {
            "add": {"long": "n > 3", "odd": "n > 3"},
            "use": ["x"],
            "override": {"notes": {"long": "n > 9"}},
        },
        "deduplicate": {"keep": "b", "near": {"bands": 2}},
        "decontaminate": {"action": "mark"},
    }
    rows = [dict(zip(("path", "before", "after"), r, strict=True)) for r in differences(old, new)]
    told = {
        "recipe": {"rows": rows},
        "inputs": {"added": 0, "removed": 0, "changed": 0},
        "passes": [],
        "fitted": [],
    }
    joined: Any = SimpleNamespace(same=lambda name: False)
    found = because({"pass": name, "what": what}, told, joined)
    assert [one.removeprefix("recipe: ") for one in found] == keys


_REASONS = ["rule:r.a", "duplicate:near", "contaminated:x"]
_DOCUMENT = st.tuples(
    st.lists(st.sampled_from(_REASONS), unique=True, max_size=2),
    st.integers(0, 2),  # its text
    st.integers(0, 9),  # its tokens, if it is kept
    st.integers(0, 3),  # copies
)
_SIDE = st.dictionaries(st.integers(0, 9), _DOCUMENT, max_size=10)


def side(documents: dict[int, Any]) -> pl.DataFrame:
    """Return a side of a comparison, as the tables of a corpus would give it."""
    rows = []
    for number, (reasons, text, tokens, copies) in documents.items():
        own = 0 if reasons else tokens
        rows.append(
            {
                "doc_id": bytes([number] * 16),
                "source": "even" if number % 2 == 0 else "odd",
                "kept": not reasons,
                "reasons": "\n".join(reasons),
                "split": "train",
                "text_hash": bytes([text] * 16),
                "bytes": 3 * tokens,
                "tokens": own,
                "copies": 0 if reasons else copies,
                "drawn": 0 if reasons else copies * own,
            }
        )
    schema: Any = {
        "kept": pl.Boolean,
        **dict.fromkeys(("doc_id", "text_hash"), pl.Binary),
        **dict.fromkeys(("source", "reasons", "split"), pl.Categorical),
        **dict.fromkeys(("bytes", "tokens", "copies", "drawn"), pl.Int64),
    }
    return pl.DataFrame(rows, schema=schema)


@given(_SIDE, _SIDE)
def test_whatever_two_sides_hold_counts_agree_with_a_plain_count(
    a: dict[int, Any], b: dict[int, Any]
) -> None:
    documents = merged(side(a), side(b), comparable=True)
    joined = Joined(a=None, b=None, documents=documents, comparable=True)  # type: ignore[arg-type]
    cube = counts.cube(joined)
    found = counts.balance(joined, cube)  # asserts that each row conserves
    left, right = ({n for n, d in one.items() if not d[0]} for one in (a, b))
    assert found["documents"]["gained"] == len(right - left)
    assert found["documents"]["lost"] == len(left - right)
    assert found["changed"] == sum(a[n][1] != b[n][1] for n in left & right)
    change = [(b[n][2] if n in right else 0) - (a[n][2] if n in left else 0) for n in left | right]
    assert found["tokens"]["gained"] == sum(c for c in change if c > 0)
    assert found["tokens"]["lost"] == sum(-c for c in change if c < 0)
    assert found["collected"]["a"] == len(a)
    assert found["collected"]["b"] == len(b)
    assert sum(row["documents"] for row in counts.fates(joined, cube)) == len({*a, *b})
    for row in counts.reasons(cube):
        has = [{n for n, d in one.items() if row["reason"] in d[0]} for one in (a, b)]
        assert (row["a"], row["b"], row["both"]) == (*map(len, has), len(has[0] & has[1]))
        assert row["took"] == len(has[1] & left)
        assert row["gave"] == len(has[0] & right)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(0, 3) | st.text("ab", max_size=2),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.text("xy", min_size=1, max_size=2), inner, max_size=3)
        ),
        max_leaves=5,
    )
)  # fmt: skip
def test_a_recipe_does_not_differ_from_itself_and_from_others_in_both_ways(data: Any) -> None:
    assert differences(data, json.loads(json.dumps(data))) == []
    other = {"sources": [{"name": "s", "value": data}], "extra": 1}
    there = differences({"sources": [{"name": "s", "value": 99}]}, other)
    back = differences(other, {"sources": [{"name": "s", "value": 99}]})
    assert there == [(path, before, after) for path, after, before in back]
    assert [path for path, _, _ in there] == ["extra", "sources.s.value"]


def test_the_command_writes_a_page_and_refuses_a_folder(
    lab: Any, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from pipelines.cli import app

    page = tmp_path / "deep" / "diff.html"
    arguments = ["diff", "tiny@1", "tiny@3", "--store", str(store)]
    done = CliRunner().invoke(app, [*arguments, "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert page.read_text().count("<section") == 7
    refused = CliRunner().invoke(app, [*arguments, "--html", str(tmp_path)])
    assert isinstance(refused.exception, InputError)
    missing = CliRunner().invoke(app, ["diff", "tiny@1", "tinny", "--store", str(store)])
    assert "tiny" in str(missing.exception)
