"""Repeated lines, from the recipe to the tokens: found once, cut everywhere, told to people."""

from collections import Counter

import numpy as np
import polars as pl
import pytest

from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.shard import read_shard
from curate.tokens.tokenizer import decode, load_tokenizer
from pipelines.build import run
from pipelines.corpus import why
from pipelines.exchange import export
from pipelines.explain import explain
from pipelines.passes import lines as lines_pass
from pipelines.passes import tokenize
from pipelines.verify import verify

HEADER = "Licensed under the terms of the Open Archive"
FOOTER = "Read more on our site \xa9 caf\xe9 2024"
MENU = "Home About Contact Newsletter Archive"


def _page(lab, number, *, header=True, footer=False):
    words = lab.text(number, 60).split()
    body = [" ".join(words[:30]), "}", " ".join(words[30:])]
    head = [("  " + HEADER.upper() + ".\r") if number % 2 else HEADER] if header else []
    return "\n".join([*head, *body, *([FOOTER] if footer else [])])


def _write(lab, folder):
    """Three files: 12 pages with a header, 12 with header and footer, 12 with neither."""
    for name, first, options in (
        ("a", 0, {}),
        ("b", 20, {"footer": True}),
        ("c", 40, {"header": False}),
    ):
        rows = [{"id": f"{name}{i}", "text": _page(lab, first + i, **options)} for i in range(12)]
        lab.jsonl(folder / f"{name}.jsonl", rows)


def _recipe(lab, folder, above=15, **sections):
    clean = {"repeated_lines": {"above": above}} if above else {}
    return lab.recipe(folder, **{"clean": clean, **sections})


def _run(lab, recipe, store, **options):
    """Run; return the outcome and how many parts each stage of each pass executed."""
    executed = Counter()

    def observe(event):
        if event.kind == "part":
            executed[event.name, event.stage] += 1

    outcome = run(recipe, store=str(store), observe=observe, **options)
    return outcome, executed


@pytest.fixture(scope="module")
def base(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lines")
    _write(lab, folder / "in")
    _run(lab, _recipe(lab, folder / "in"), folder / "store")
    return folder


@pytest.fixture
def world(lab, tmp_path):
    """Inputs and a store that a test may change."""
    _write(lab, tmp_path / "in")
    _run(lab, _recipe(lab, tmp_path / "in"), tmp_path / "store")
    return tmp_path


def _open(lab, folder):
    return lab.open("tiny", store=str(folder / "store"))


def _cuts_by_document(corpus):
    found = {}
    for row in corpus.table("cuts").collect().iter_rows(named=True):
        found.setdefault(row["doc_id"], []).append((row["start"], row["length"]))
    return found


def _tokens(corpus):
    """Return doc_id -> (text the tokens spell, num_bytes)."""
    storage = corpus.store.storage
    model = load_tokenizer(storage.read(corpus.manifest("tokenize").info["tokenizer"]["path"]))
    found = {}
    for shard in corpus.shards("tokens"):
        table = read_shard(storage, shard).select(["doc_id", "tokens", "num_bytes"])
        for row in table.to_pylist():
            text = decode(model, np.array(row["tokens"]))
            found[row["doc_id"].hex()] = (text, row["num_bytes"])
    return found


def test_tokens_spell_the_text_without_the_repeated_lines(lab, base):
    corpus = _open(lab, base)
    lab.check_laws(corpus)
    assert verify(corpus) == []
    documents = lab.frame(corpus, "documents")
    cuts, tokens = _cuts_by_document(corpus), _tokens(corpus)
    assert len(cuts) == 24, "the header of the pages of a and b"
    assert set(tokens) == set(documents["doc_id"])
    for doc, text in documents.select("doc_id", "text").iter_rows():
        left = text.encode()
        for start, length in reversed(cuts.get(doc, [])):
            assert HEADER.lower() in left[start : start + length].decode().lower()
            left = left[:start] + left[start + length :]
        assert tokens[doc] == (left.decode(), len(left))
        assert "}" in left.decode()
        assert FOOTER in text or FOOTER not in left.decode()
    verdicts = lab.frame(corpus, "verdicts")
    counts = corpus.manifest("deduplicate").counts
    assert counts["documents_cut"] == 24
    assert counts["documents_emptied"] == 0
    assert counts["lines_repeated"] == 1
    assert counts["lines_counted"] == 24 + 12 + 2 * 36
    assert counts["bytes_cut"] == sum(length for spans in cuts.values() for _, length in spans)
    assert counts["bytes_cut"] + corpus.manifest("tokenize").counts["bytes"] == (
        verdicts.filter("kept")["num_bytes"].sum()
    )


def test_what_is_exported_is_what_is_tokenized(lab, base, tmp_path):
    corpus = _open(lab, base)
    export(corpus, "parquet", tmp_path / "out")
    rows = pl.read_parquet(tmp_path / "out" / "data" / "*.parquet")
    exported = dict(zip(rows["id"], rows["text"], strict=True))
    assert exported == {doc: text for doc, (text, _) in _tokens(corpus).items()}
    assert not any(HEADER.lower() in text.lower() for text in exported.values())
    assert rows["source"].unique().to_list() == ["notes"]


def test_the_tokenizer_is_trained_without_the_repeated_lines(lab, base):
    corpus = _open(lab, base)
    model = load_tokenizer(
        corpus.store.storage.read(corpus.manifest("tokenize").info["tokenizer"]["path"])
    )
    assert not [token for token in model.model.get_vocab() if "cens" in token or "CENS" in token]


def test_the_tables_tell_the_lines_and_their_places(lab, base):
    corpus = _open(lab, base)
    (line,) = lab.frame(corpus, "lines").iter_rows(named=True)
    assert (line["documents"], line["groups"]) == (24, 24)
    assert line["text"].strip(" .").lower() == HEADER.lower()
    cuts = lab.frame(corpus, "cuts")
    assert set(cuts["line"]) == {line["line"]}
    assert len(line["line"]) == 16
    documents = lab.frame(corpus, "documents")
    joined = cuts.join(documents, on="doc_id")
    assert joined["text_hash"].to_list() == joined["text_hash_right"].to_list()


def test_why_shows_the_lines_and_in_how_many_documents_they_stand(lab, base, capsys):
    corpus = _open(lab, base)
    doc = lab.frame(corpus, "cuts")["doc_id"][0]
    (line,) = why(corpus, doc)["cut_lines"]
    assert line["documents"] == 24
    assert line["text"].strip(" .\n").lower() == HEADER.lower()
    explain("tiny", doc, store=str(base / "store"))
    told = capsys.readouterr().out
    assert "1 repeated line, " in told
    assert f"in 24 documents: {HEADER}".lower() in told.lower()
    other = lab.frame(corpus, "documents").filter(~pl.col("doc_id").is_in([doc]))
    other = other.filter(~pl.col("text").str.to_lowercase().str.contains(HEADER.lower()))
    assert why(corpus, other["doc_id"][0])["cut_lines"] == []
    explain("tiny", other["doc_id"][0], store=str(base / "store"))
    assert "repeated line" not in capsys.readouterr().out


def test_nothing_is_looked_for_unless_asked(lab, world):
    outcome, executed = _run(lab, _recipe(lab, world / "in", above=None), world / "store")
    assert not [stage for _, stage in executed if "line" in stage or "cut" in stage]
    assert {name for name, _ in executed} == {"tokenize", "mix", "pack"}
    manifest = outcome.manifests["deduplicate"]
    assert not {"lines", "cuts"} & set(manifest.tables)
    assert not [name for name in manifest.counts if "line" in name or "cut" in name]
    corpus = _open(lab, world)
    assert lab.frame(corpus, "lines").is_empty()
    assert lab.frame(corpus, "cuts").is_empty()


def test_a_shard_without_repeated_lines_is_encoded_as_if_nobody_had_looked(lab, world):
    _, executed = _run(lab, _recipe(lab, world / "in", above=30), world / "store")
    assert executed["tokenize", "encode"] == 2
    outcome, executed = _run(lab, _recipe(lab, world / "in", above=None), world / "store")
    assert outcome.published
    assert not {"clean", "deduplicate", "tokenize"} & {name for name, _ in executed}


def test_a_changed_threshold_cleans_and_counts_nothing_anew(lab, world):
    outcome, executed = _run(lab, _recipe(lab, world / "in", above=10), world / "store")
    assert outcome.manifests["deduplicate"].counts["lines_repeated"] == 2
    assert executed["deduplicate", "join lines"] == 1
    assert executed["deduplicate", "find cuts"] == 1, "of the file with the footers"
    assert executed["tokenize", "encode"] == 1
    assert {name for name, _ in executed} == {"deduplicate", "tokenize", "mix", "pack"}
    assert ("deduplicate", "count lines") not in executed


def test_one_more_file_is_counted_alone_and_touches_no_other_shard(lab, world):
    rows = [{"id": f"d{i}", "text": _page(lab, 60 + i)} for i in range(3)]
    lab.jsonl(world / "in" / "d.jsonl", rows)
    outcome, executed = _run(lab, _recipe(lab, world / "in"), world / "store")
    assert lab.frame(_open(lab, world), "lines")["documents"].to_list() == [27]
    assert outcome.manifests["deduplicate"].counts["documents_cut"] == 27
    for stage in ("count lines", "join lines", "find cuts", "tell lines"):
        assert executed["deduplicate", stage] == 1, stage
    assert executed["clean", "revise"] == executed["tokenize", "encode"] == 1


def test_a_file_that_makes_a_line_repeated_cuts_it_where_it_stands_and_nowhere_else(lab, world):
    rows = [
        {"id": f"d{i}", "text": _page(lab, 60 + i, header=False, footer=True)} for i in range(4)
    ]
    lab.jsonl(world / "in" / "d.jsonl", rows)
    outcome, executed = _run(lab, _recipe(lab, world / "in"), world / "store")
    assert outcome.manifests["deduplicate"].counts["lines_repeated"] == 2
    assert executed["deduplicate", "count lines"] == 1
    assert executed["deduplicate", "find cuts"] == 2, "b and d have the footer"
    assert executed["tokenize", "encode"] == 2
    assert executed["clean", "revise"] == 1
    lab.check_laws(_open(lab, world))


def test_copies_of_a_document_do_not_take_its_lines(lab, tmp_path):
    """Twenty copies, exact and near, count as one document."""
    rows = [{"id": f"n{i}", "text": _page(lab, 300 + i, header=False)} for i in range(8)]
    page = _page(lab, 1)
    rows += [{"id": f"x{i}", "text": page} for i in range(12)]
    rows += [{"id": f"y{i}", "text": f"{page}\nnear{i}"} for i in range(8)]
    lab.jsonl(tmp_path / "a.jsonl", rows)
    outcome, _ = _run(lab, _recipe(lab, tmp_path, above=5), tmp_path / "store")
    assert outcome.manifests["deduplicate"].counts["clustered_documents"] == 20
    assert outcome.manifests["deduplicate"].counts["lines_repeated"] == 0
    assert lab.frame(_open(lab, tmp_path), "cuts").is_empty()
    alone = {"exact": False, "near": None}
    outcome, _ = _run(lab, _recipe(lab, tmp_path, above=5, deduplicate=alone), tmp_path / "store")
    assert outcome.manifests["deduplicate"].counts["lines_repeated"] == 3


def test_a_document_of_repeated_lines_alone_stays_as_an_empty_text(lab, tmp_path):
    pages = [{"id": f"p{i}", "text": f"{HEADER}\n{lab.text(i)}"} for i in range(8)]
    pages += [{"id": f"e{i}", "text": f"{MENU}\n{HEADER}"} for i in range(1)]
    pages += [{"id": f"m{i}", "text": f"{lab.text(20 + i)}\n{MENU}"} for i in range(8)]
    lab.jsonl(tmp_path / "a.jsonl", pages)
    outcome, _ = _run(lab, _recipe(lab, tmp_path, above=5), tmp_path / "store")
    assert outcome.manifests["deduplicate"].counts["documents_emptied"] == 1
    corpus = _open(lab, tmp_path)
    assert sorted(_tokens(corpus).values())[0] == ("", 0)
    assert len(_tokens(corpus)) == 17
    lab.check_laws(corpus)
    assert verify(corpus) == []


def _state(lab, folder):
    """Return what was found, as sets: files and parts leave no trace."""
    corpus = _open(lab, folder)
    rows = {name: lab.frame(corpus, name).rows() for name in ("lines", "cuts")}
    assert all(len(set(found)) == len(found) for found in rows.values())
    counts = corpus.manifest("deduplicate").counts
    return (
        {name: set(found) for name, found in rows.items()},
        {name: counts[name] for name in counts if "line" in name or "document" in name},
        {doc: text for doc, (text, _) in _tokens(corpus).items()},
    )


def test_any_split_order_and_number_of_ranges_finds_the_same(lab, base, tmp_path, monkeypatch):
    expected = _state(lab, base)
    lab.jsonl(
        tmp_path / "in" / "all.jsonl",
        [
            {"id": f"{name}{i}", "text": _page(lab, first + i, **options)}
            for i in reversed(range(12))
            for name, first, options in (
                ("c", 40, {"header": False}), ("b", 20, {"footer": True}), ("a", 0, {}),
            )
        ],
    )  # fmt: skip
    monkeypatch.setattr(lines_pass, "_RANGE_ROWS", 30)
    monkeypatch.setattr(lines_pass, "_RUN_ROWS", 5)
    for name, part_bytes in (("whole", 1 << 20), ("parts", 1500)):
        recipe = _recipe(lab, tmp_path / "in", collect={"part_bytes": part_bytes})
        folder = tmp_path / name
        _, executed = _run(lab, recipe, folder / "store", engine=lab.ShufflingEngine(3))
        assert executed["deduplicate", "join lines"] == executed["deduplicate", "tell lines"] == 4
        assert _state(lab, folder)[:2] == expected[:2]
        assert _state(lab, folder)[2] == expected[2]


def test_the_order_in_which_jobs_end_changes_no_byte(lab, base, tmp_path):
    import shutil

    shutil.copytree(base / "in", tmp_path / "in", copy_function=shutil.copy2)
    recipe = _recipe(lab, base / "in")
    for seed in (1, 2):
        _run(lab, recipe, tmp_path / f"{seed}", engine=lab.ShufflingEngine(seed))
        assert lab.snapshot(tmp_path / f"{seed}") == lab.snapshot(base / "store")


@pytest.fixture
def two_sources(lab, tmp_path):
    """Sources `pages` and `laws` whose documents all begin with the same line."""
    for name, first in (("pages", 0), ("laws", 100)):
        rows = [{"id": f"{i}", "text": f"{HEADER}\n{lab.text(first + i, 12)}"} for i in range(6)]
        lab.jsonl(tmp_path / "in" / f"{name}.jsonl", rows)
    sources = [{"name": name, "paths": [f"{name}.jsonl"]} for name in ("pages", "laws")]

    def recipe(**lines):
        clean = {"repeated_lines": {"above": 8, **lines}}
        return lab.recipe(tmp_path / "in", sources=sources, clean=clean)

    return recipe, tmp_path


def test_an_exempt_source_is_counted_and_loses_nothing(lab, two_sources):
    recipe, folder = two_sources
    _run(lab, recipe(), folder / "store")
    assert lab.frame(_open(lab, folder), "cuts").height == 12
    _, executed = _run(lab, recipe(exempt=["laws"]), folder / "store")
    assert executed["deduplicate", "find cuts"] == executed["tokenize", "encode"] == 1
    corpus = _open(lab, folder)
    lost = lab.frame(corpus, "cuts").join(lab.frame(corpus, "documents"), on="doc_id")
    assert set(lost["source"]) == {"pages"}
    assert lost.height == 6
    _run(lab, recipe(exempt=["laws", "pages"]), folder / "store")
    (line,) = lab.frame(_open(lab, folder), "lines").iter_rows(named=True)
    assert (line["documents"], line["text"]) == (12, None)


def test_a_source_that_would_lose_too_much_stops_the_run(lab, two_sources, monkeypatch):
    recipe, folder = two_sources
    _run(lab, recipe(source_loss=0.0), folder / "store")  # of so few documents a share says nothing
    monkeypatch.setattr(lines_pass, "_GUARDED_SOURCE", 6)
    with pytest.raises(InputError, match="of source 'laws', more than the share 0.3") as error:
        _run(lab, recipe(source_loss=0.3), folder / "store")
    assert "`clean.repeated_lines.above`" in str(error.value)
    _run(lab, recipe(source_loss=0.3, exempt=["laws", "pages"]), folder / "store")
    _run(lab, recipe(source_loss=None), folder / "store")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ({"exempt": ["law"]}, "exempt names the source 'law'; sources are: .*Did you mean 'laws'"),
        ({"above": 0}, "above.*greater than or equal to 1"),
        ({"min_character": 3}, "unknown key.*Did you mean 'min_characters'"),
        ({"numbers": "none"}, "'keep' or 'zero'"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(two_sources, lines, told):
    recipe, _ = two_sources
    with pytest.raises(InputError, match=told):
        recipe(**lines)


def test_cuts_of_another_revision_of_the_text_are_refused(lab, base):
    corpus = _open(lab, base)
    storage = corpus.store.storage
    documents, cuts = corpus.shards("documents"), corpus.shards("cuts")
    of = corpus.manifest("deduplicate").info["cut_documents"]
    assert of == [0, 1]
    with pytest.raises(IntegrityError, match="cuts lines from documents that .* lacks"):
        list(tokenize.cut_batches(storage, documents[1], cuts[0], []))
    raw = corpus.shards("raw")[0]  # the lines end in CR LF there: other texts
    with pytest.raises(IntegrityError, match="another revision of the text"):
        list(tokenize.cut_batches(storage, raw, cuts[0], []))
