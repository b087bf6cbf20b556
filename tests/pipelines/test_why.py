"""`preceptor why` on duplicates: who the other is, how alike, and in which words they differ."""

import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import pipelines.console
import pipelines.explain
from pipelines.corpus import Corpus, _others, open_corpus, why

HOSTILE = "[red]x[/red] \u202eevil\u202c \x9b31m {{ 7 }} <b>"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    """Two corpora: `tiny`, with a near twin of hostile words and an exact one, and `other`."""
    folder = tmp_path_factory.mktemp("why")
    words = lab.text(3).split()
    words[40] = HOSTILE
    records = [{"id": f"k{i}", "text": lab.text(i)} for i in range(8)]
    records += [{"id": "near", "text": " ".join(words)}, {"id": "same", "text": lab.text(5)}]
    lab.jsonl(folder / "notes.jsonl", records)
    lab.jsonl(folder / "more" / "notes.jsonl", [{"id": "far", "text": lab.text(70)}] * 2)
    near = {"threshold": 0.7}
    keep = {"clean": {"unicode": "none", "control": False}, "deduplicate": {"near": near}}
    lab.run(lab.recipe(folder, **keep), folder / "store")
    lab.run(lab.recipe(folder / "more", name="other"), folder / "store")
    return folder


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


def test_the_words_that_differ_stand_between_marks_and_command_nothing(
    corpus: Corpus, base: Path, screen: io.StringIO
) -> None:
    pipelines.explain.explain("tiny", _id(corpus, "near"), store=str(base / "store"))
    said = screen.getvalue()
    assert "[red]x[/red] " in said
    assert not [c for c in said if not c.isprintable() and c != "\n"]
    assert "{+[red]x[/red]" in said or "[-[red]x[/red]" in said
    assert "words [-only there-]" in said or "word [-only there-]" in said
    assert _id(corpus, "k3") in said


def test_in_a_terminal_the_words_are_coloured_too(corpus: Corpus, base: Path) -> None:
    out = io.StringIO()
    colours = Console(file=out, width=100, force_terminal=True, color_system="standard")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NO_COLOR", raising=False)
        colours.no_color = False
        patch.setattr(pipelines.explain, "console", colours)
        pipelines.explain.explain("tiny", _id(corpus, "near"), store=str(base / "store"))
    assert "\x1b[32m{+" in out.getvalue()
    assert "\x1b[31m[-" in out.getvalue()
    assert "\x9b" not in out.getvalue()


def test_the_kept_twin_is_told_with_its_jaccard_and_the_difference(corpus: Corpus) -> None:
    verdicts = corpus.table("verdicts").collect()
    lost = verdicts.filter(verdicts["kept_id"].is_not_null())
    assert lost.height == 2
    for row in lost.iter_rows(named=True):
        life = why(corpus, row["doc_id"])
        kept = life["kept_instead"]
        assert kept["other_id"] == row["kept_id"]
        assert kept["other"]["corpus"] == "tiny@1"
        (edge,) = life["duplicates"]
        assert edge["other_id"] == row["kept_id"]
        assert edge["diff"] == kept["diff"]
        assert (edge["kind"], edge["jaccard"]) == (kept["kind"], kept["jaccard"])
        assert (edge["kind"] == "exact") == (not edge["diff"]["places"])
        assert json.loads(json.dumps(life["duplicates"])) == life["duplicates"]
    alone = why(corpus, _id(corpus, "k1"))
    assert (alone["duplicates"], alone["kept_instead"]) == ([], None)


def test_a_twin_in_the_corpus_that_was_compared_against_is_found_there(
    corpus: Corpus, base: Path
) -> None:
    other = open_corpus("other", store=str(base / "store"))
    far = _id(other, "far")
    assert _others(corpus, {far}) == {}
    made = corpus.manifest("deduplicate")
    for against, found in (
        ({"corpus": "other@1"}, {far}),
        ("other", {far}),
        ({"corpus": "gone@4"}, set()),
        (None, set()),
    ):
        info = {**made.info, "against": against}
        corpus._manifests["deduplicate"] = dataclasses.replace(made, info=info)
        assert _others(corpus, {far}).keys() == found
    assert _others(corpus, {far}, ["gone@1", "other@1"])[far]["corpus"] == "other@1"


def test_keys_and_paths_lose_what_is_redacted_where_they_are_shown_and_ids_stay(
    tmp_path: Path, lab: Any, screen: io.StringIO
) -> None:
    url = "https://x.org/?4111 1111 1111 1111,2001:4860:4860::8888"
    records = [{"id": f"k{i}", "text": lab.text(i)} for i in range(8)]
    records += [{"id": "<7.jo@site.org>", "text": f"To jo@site.org: {lab.text(9)}", "url": url}]
    lab.jsonl(tmp_path / "bo@site.org" / "notes.jsonl", records)
    sources = [{"name": "mail", "paths": ["*/notes.jsonl"]}]
    ids = []
    for store, kinds in (("open", []), ("hidden", ["email", "card", "ip"])):
        given = lab.recipe(tmp_path, sources=sources, clean={"redact": kinds})
        lab.run(given, tmp_path / store)
        made = open_corpus("tiny", store=str(tmp_path / store))
        ids.append(set(made.table("documents").collect()["doc_id"]))
    assert ids[0] == ids[1]
    for table in ("documents", "raw"):
        shown = made.table(table).collect()
        assert set(shown["key"]) == {"<********>", *(f"k{i}" for i in range(8))}
        assert "site.org" not in shown.write_json()
        assert "2001:" not in shown.write_json()
        assert made.table(table).filter(key="k2").select("text").collect().height == 1
    doc_id = _id(made, "<********>")
    assert "site.org" not in json.dumps(why(made, doc_id))
    pipelines.explain.explain("tiny", doc_id, store=str(tmp_path / "hidden"))
    assert "********" in screen.getvalue()
    assert "site.org" not in screen.getvalue()


def test_a_twin_that_is_nowhere_is_told_by_its_id(
    corpus: Corpus, base: Path, screen: io.StringIO, lab: Any
) -> None:
    import pipelines.corpus

    with lab.patched(pipelines.corpus, "_documents", lambda corpus, ids: {}):
        pipelines.explain.explain("tiny", _id(corpus, "near"), store=str(base / "store"))
    assert "its text is not in this store" in screen.getvalue()
    assert "only there" not in screen.getvalue()
