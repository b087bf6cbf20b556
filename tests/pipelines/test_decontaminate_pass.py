"""Decontamination as a pass: methods, parts of items, actions, common n-grams, held-out texts."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.corpus.errors import InputError
from curate.corpus.shard import read_shard
from curate.readers.discover import expand
from pipelines.corpus import open_corpus
from pipelines.exchange import export
from pipelines.explain import explain
from pipelines.passes.benchmarks import read_items
from pipelines.passes.tokenize import cut_batches, document_cuts
from pipelines.report.page import write_report
from pipelines.testitems import item_texts
from pipelines.verify import verify

ITEM = (
    "Janet keeps sixteen ducks behind the old mill and sells whatever eggs are left after her "
    "breakfast to the baker, who pays two dollars for each of them every single morning."
)
ANSWER = "She makes eighteen dollars every day at the bakery of the village."


def against(lab: Any, folder: Path, **more: Any) -> dict[str, Any]:
    lab.jsonl(folder / "bench.jsonl", [{"q": ITEM, "a": ANSWER}, {"q": "Who?", "a": None}])
    return {"name": "quiz", "paths": ["bench.jsonl"], "columns": ["q", "a"], **more}


def notes(lab: Any, folder: Path, extra: list[str], plain: int = 12) -> None:
    texts = [lab.text(i) for i in range(plain)] + extra
    lab.jsonl(folder / "notes.jsonl", [{"id": f"n{i}", "text": t} for i, t in enumerate(texts)])


def run(lab: Any, folder: Path, **decontaminate: Any) -> Any:
    recipe = lab.recipe(
        folder,
        sources=[{"name": "notes", "paths": ["notes.jsonl"]}],
        deduplicate={"near": None},
        split={"validation": 0.0, "test": 0.0},
        decontaminate=decontaminate,
    )
    return lab.run(recipe, folder / "store")


def corpus_of(folder: Path) -> Any:
    return open_corpus("tiny", store=str(folder / "store"))


def matches(corpus: Any) -> list[tuple[str, str, float]]:
    frame = corpus.table("contamination").collect()
    return frame.select("item", "method", "overlap").sort("item", "method").rows()


def test_every_method_finds_the_item_and_why_shows_both_texts(
    lab: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes(lab, tmp_path, [f"{lab.text(90)}\n{ITEM}\n{ANSWER}\n{lab.text(91)}"])
    method: dict[str, Any] = {"ngram": {}, "llama3": {}, "decon": {}}
    run(lab, tmp_path, against=[against(lab, tmp_path)], method=method)
    corpus = corpus_of(tmp_path)
    assert matches(corpus) == [("0", name, 1.0) for name in ("decon", "llama3", "ngram")]
    assert corpus.manifest("judge").counts["reason:contaminated:quiz"] == 1
    assert verify(corpus) == []
    doc_id = corpus.table("contamination").collect()["doc_id"][0]
    explain("tiny", doc_id, store=str(tmp_path / "store"))
    told = " ".join(capsys.readouterr().out.split())
    assert "quiz item 0, ngram 1.00: dropped for it" in told
    assert "here: Janet keeps sixteen ducks" in told
    assert "item: Janet keeps sixteen ducks" in told
    assert item_texts(corpus, [("quiz", "0"), ("quiz", "9")]) == {
        ("quiz", "0"): f"{ITEM}\n{ANSWER}"
    }


def test_named_parts_let_the_question_count_and_never_the_passage(lab: Any, tmp_path: Path) -> None:
    passage = lab.text(50)
    record = {"q": ITEM, "a": ANSWER, "p": passage}
    lab.jsonl(tmp_path / "bench.jsonl", [record, {"q": lab.text(60), "a": "no", "p": None}])
    notes(lab, tmp_path, [f"{passage} and more", f"{ITEM} {ANSWER}", f"{passage} {ITEM} {ANSWER}"])
    bench = {
        "name": "quiz",
        "paths": ["bench.jsonl"],
        "columns": {"question": "q", "answer": ["a"], "passage": "p"},
    }
    run(lab, tmp_path, against=[bench], method={"ngram": {}, "decon": {"score": 0.8}})
    found = corpus_of(tmp_path).table("contamination").collect()
    assert found.filter(method="ngram")["overlap"].to_list() == [1.0, 1.0]
    assert sorted(found.filter(method="decon")["overlap"].to_list()) == [0.9, 1.0]


def test_a_cut_takes_the_span_out_of_the_tokens_and_leaves_the_signals(
    lab: Any, tmp_path: Path
) -> None:
    line = "This very line stands in every single one of the documents here"
    before, after = lab.text(90), lab.text(91)
    texts = [f"{line}\n{lab.text(i)}" for i in range(8)]
    notes(lab, tmp_path, [*texts, f"{line}\n{before}\n{ITEM} {ANSWER}\n{after}"], plain=4)
    recipe = lab.recipe(
        tmp_path,
        sources=[{"name": "notes", "paths": ["notes.jsonl"]}],
        clean={"repeated_lines": {"above": 3}},
        deduplicate={"near": None},
        decontaminate={"against": [against(lab, tmp_path)], "action": "cut"},
    )
    outcome, _ = lab.run(recipe, tmp_path / "store")
    corpus = corpus_of(tmp_path)
    assert corpus.manifest("judge").counts["contaminated_cut:quiz"] == 1
    assert corpus.table("verdicts").collect()["kept"].all()
    (shard,) = corpus.shards("documents")
    (cut,) = document_cuts(corpus.manifest("deduplicate"), corpus.manifest("tokenize"), 1)
    batches = cut_batches(corpus.store.storage, shard, cut, [])
    left = [text for batch in batches for text in batch["text"].to_pylist()]
    assert left[-1].split() == [*before.split(), ".", *after.split()]
    assert not any(line in text for text in left)
    words = corpus.table("signals").collect()["num_words"]
    assert words[-1] == len(f"{line} {before} {ITEM} {ANSWER} {after}".split())
    assert verify(corpus) == []
    export(corpus, "parquet", tmp_path / "out")
    written = pa.concat_tables(map(pq.read_table, sorted((tmp_path / "out/data").glob("*"))))
    assert sorted(written["text"].to_pylist()) == sorted(left)
    again, executed = lab.run(recipe, tmp_path / "store")
    assert not executed
    assert str(again.version) == str(outcome.version)


def test_overlapping_and_nested_spans_are_cut_once(lab: Any, tmp_path: Path) -> None:
    words = ITEM.split()
    pieces = [words[:18], words[4:], words[6:20]]
    lab.jsonl(tmp_path / "bench.jsonl", [{"q": " ".join(piece)} for piece in pieces])
    notes(lab, tmp_path, [f"{lab.text(90)} {ITEM} {lab.text(91)}"])
    bench = {"name": "quiz", "paths": ["bench.jsonl"], "columns": "q", "action": "cut"}
    run(lab, tmp_path, against=[bench])
    corpus = corpus_of(tmp_path)
    (cut,) = corpus.manifest("tokenize").tables["cuts"]
    spans = read_shard(corpus.store.storage, cut)
    assert spans["length"].to_pylist() == [len(ITEM) - 1]


def test_an_action_is_each_benchmarks_own_and_no_match_is_made_again_for_it(
    lab: Any, tmp_path: Path
) -> None:
    notes(lab, tmp_path, [f"{ITEM} {ANSWER} {lab.text(91)}"])
    first = against(lab, tmp_path, action="mark")
    run(lab, tmp_path, against=[first])
    corpus = corpus_of(tmp_path)
    assert corpus.manifest("judge").counts["marked:quiz"] == 1
    assert corpus.table("verdicts").collect()["kept"].all()
    _, executed = run(lab, tmp_path, against=[{**first, "action": None}], action="drop")
    assert "decontaminate" not in executed
    assert not corpus_of(tmp_path).table("verdicts").collect()["kept"].all()


def test_a_phrase_of_too_many_documents_is_no_evidence_and_what_it_silences_is_told(
    lab: Any, tmp_path: Path
) -> None:
    licence = (
        "permission is hereby granted free of charge to any person obtaining a copy of this "
        "software and associated documentation files to deal in the software without restriction"
    )
    lab.jsonl(
        tmp_path / "bench.jsonl",
        [{"q": licence}, {"q": f"Which licence says that {licence}? {ITEM}"}],
    )
    notes(lab, tmp_path, [f"{licence} {lab.text(i)}" for i in range(100, 109)] + [ITEM])
    asked = {"against": [{"name": "law", "paths": ["bench.jsonl"], "columns": "q"}]}
    run(lab, tmp_path, **asked)
    unguarded = corpus_of(tmp_path)
    counts = unguarded.manifest("decontaminate").counts
    assert counts == {"documents": 22, "documents_matched": 10, "matches": 19}
    assert unguarded.manifest("judge").counts["reason:contaminated:law"] == 9
    guards = {"max_documents": 5, "max_share": 0.0}
    _, executed = run(lab, tmp_path, **asked, guards=guards)
    assert executed["decontaminate"] == 3  # find, common, score; the index is there
    corpus = corpus_of(tmp_path)
    ((item, method, overlap),) = matches(corpus)
    assert (item, method) == ("1", "ngram")
    assert 0.3 < overlap < 1  # of what is no licence, less what stands at the seam
    counts = corpus.manifest("decontaminate").counts
    assert counts == {"documents": 22, "documents_matched": 1, "matches": 1}
    info = corpus.manifest("decontaminate").info
    assert info["silenced"] == {"law": 1}
    assert info["common"]["ngram"] > 0
    assert verify(corpus) == []


@pytest.mark.parametrize("part_bytes", [900, 4000])
def test_common_phrases_are_the_same_however_the_corpus_is_cut(
    lab: Any, tmp_path: Path, part_bytes: int
) -> None:
    item = " ".join(lab.text(7).split()[:30])
    texts = [f"{item} {lab.text(i)}" for i in range(20, 28)]
    lab.jsonl(tmp_path / "bench.jsonl", [{"q": f"{item} {ITEM}"}, {"q": item}])
    notes(lab, tmp_path, [*texts, f"{ITEM} {lab.text(40)}"])
    recipe = lab.recipe(
        tmp_path,
        sources=[{"name": "notes", "paths": ["notes.jsonl"]}],
        collect={"part_bytes": part_bytes},
        deduplicate={"near": None},
        decontaminate={
            "against": [{"name": "b", "paths": ["bench.jsonl"], "columns": "q"}],
            "method": {"ngram": {}, "llama3": {}, "decon": {}},
            "guards": {"max_documents": 4, "max_share": 0.0},
        },
    )
    lab.run(recipe, tmp_path / "store", engine=lab.ShufflingEngine(part_bytes))
    found = corpus_of(tmp_path).table("contamination").collect()
    keys = corpus_of(tmp_path).table("documents").select("doc_id", "key").collect()
    named = found.join(keys, on="doc_id").select("key", "item", "method", "overlap")
    shares = [("decon", 27 / 31), ("llama3", 31 / 38), ("ngram", 19 / 31)]
    assert named.sort("method").rows() == [("n20", "0", name, share) for name, share in shares]


def test_held_out_documents_of_an_earlier_version_are_a_benchmark(lab: Any, tmp_path: Path) -> None:
    def recipe(*files: str) -> Any:
        return lab.recipe(
            tmp_path,
            sources=[{"name": "notes", "paths": list(files)}],
            deduplicate={"near": None},
            split={"validation": 0.3, "test": 0.2},
            decontaminate={"held_out": True},
        )

    texts = [lab.text(i) for i in range(20)]
    lab.jsonl(tmp_path / "a.jsonl", [{"id": f"a{i}", "text": t} for i, t in enumerate(texts)])
    lab.run(recipe("a.jsonl"), tmp_path / "store")
    first = corpus_of(tmp_path)
    assert first.table("contamination").collect().is_empty()
    verdicts = first.table("verdicts").collect()
    held = set(verdicts.filter(pl.col("split") != "train")["doc_id"])
    keys = first.table("documents").collect().filter(pl.col("doc_id").is_in(held))["key"]
    assert 2 <= len(keys) < 20
    quoted = [f"{lab.text(300 + i)} {t} {lab.text(400 + i)}" for i, t in enumerate(texts)]
    lab.jsonl(tmp_path / "b.jsonl", [{"id": f"b{i}", "text": t} for i, t in enumerate(quoted)])
    both = recipe("a.jsonl", "b.jsonl")
    lab.run(both, tmp_path / "store")
    second = corpus_of(tmp_path)
    dropped = second.table("verdicts").filter(~pl.col("kept")).collect()
    assert dropped["reasons"].to_list() == [["contaminated:held_out"]] * len(keys)
    named = second.table("documents").collect().join(dropped.select("doc_id"), on="doc_id")
    assert set(named["key"]) == {f"b{key[1:]}" for key in keys}
    before = lab.snapshot(tmp_path / "store")
    _, executed = lab.run(both, tmp_path / "store")
    assert not executed
    assert lab.snapshot(tmp_path / "store") == before


@pytest.mark.parametrize(
    ("asked", "word"),
    [
        ({"columns": {"answer": "a"}}, "question is missing"),
        ({"columns": {"question": 7}}, "columns.question"),
        ({"columns": {"question": "q", "hint": "a"}}, "hint"),
    ],
)
def test_wrong_columns_of_a_benchmark_are_refused(
    lab: Any, tmp_path: Path, asked: dict[str, Any], word: str
) -> None:
    notes(lab, tmp_path, [])
    with pytest.raises(InputError, match=word):
        run(lab, tmp_path, against=[against(lab, tmp_path, **asked)])


def test_wrong_methods_are_refused(lab: Any, tmp_path: Path) -> None:
    notes(lab, tmp_path, [])
    for method, word in (
        ({"decon": {"perfect": 60}}, "below perfect"),
        ({"llama3": {"coverage": 0}}, "coverage"),
        ({"bloom": {}}, "known here: ngram, llama3, decon"),
    ):
        with pytest.raises(InputError, match=word):
            run(lab, tmp_path, against=[against(lab, tmp_path)], method=method)
    with pytest.raises(InputError, match="held_out"):
        run(lab, tmp_path, against=[against(lab, tmp_path, name="held_out")], held_out=True)


def test_a_benchmark_with_a_broken_record_stops_the_run(lab: Any, tmp_path: Path) -> None:
    notes(lab, tmp_path, [])
    lab.jsonl(tmp_path / "broken.jsonl", [{"q": ITEM}, b'{"q": '])
    bench = {"name": "quiz", "paths": ["broken.jsonl"], "columns": "q"}
    with pytest.raises(InputError, match="a test set must be whole"):
        run(lab, tmp_path, against=[bench])


def test_a_report_of_every_action_and_method_is_written(lab: Any, tmp_path: Path) -> None:
    notes(lab, tmp_path, [f"{ITEM} {ANSWER} {lab.text(91)}"])
    run(lab, tmp_path, against=[against(lab, tmp_path)], method={"decon": {}}, action="mark")
    assert "For such a match the document is kept and marked." in contamination_in(tmp_path)
    assert "<td>mark</td>" in contamination_in(tmp_path)


def contamination_in(folder: Path) -> str:
    write_report(corpus_of(folder), folder / "report.html")
    page = (folder / "report.html").read_text()
    return page[page.index('<section id="contamination"') :].partition("</section>")[0]


def test_a_report_tells_the_action_of_each_benchmark_and_that_a_cut_document_stays(
    lab: Any, tmp_path: Path
) -> None:
    notes(lab, tmp_path, [f"{lab.text(90)} {ITEM} {ANSWER} {lab.text(91)}"])
    one = against(lab, tmp_path, action="cut")
    run(lab, tmp_path, against=[one, {**one, "name": "exam", "action": None}], action="mark")
    told = contamination_in(tmp_path)
    assert "and be" not in told
    assert "dropped" not in told
    assert "cut (its span is cut out of the tokens and the document is kept)" in told
    assert "mark (the document is kept and marked)" in told
    actions = re.findall(r'<th scope="row">(\w+)</th><td>(\w+)</td>', told)
    assert actions == [("exam", "mark"), ("quiz", "cut")]


def test_items_of_every_format_have_their_key_or_their_record_number(
    lab: Any, tmp_path: Path
) -> None:
    table = pa.table({"q": [ITEM, "", "third"], "a": ["one", None, None], "p": [None, "x", None]})
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text(f'id,q,a\nk1,"{ITEM}",yes\nk2,other,\n')
    lab.jsonl(tmp_path / "c.jsonl", [{"q": ITEM, "a": "x"}, {"q": "last", "id": 7}])

    def items(name: str, **asked: Any) -> list[tuple[Any, ...]]:
        files = expand([name], str(tmp_path), None)
        benchmark = {"name": "b", "format": None, "delimiter": None, **asked}
        return read_items(benchmark, files).drop("benchmark").rows()

    parts = {"question": ["q"], "answer": ["a"], "passage": ["p"]}
    assert items("a.parquet", columns=["q", "a", "p"]) == [
        ("0", f"{ITEM}\none", None, None, None),
        ("1", "x", None, None, None),
        ("2", "third", None, None, None),
    ]
    with pytest.raises(InputError, match="record 1 cannot be read"):
        items("a.parquet", columns=["q", "a", "p"], parts=parts)
    parts = {"question": ["q"], "answer": ["a"]}
    assert items("b.csv", columns=["q", "a"], parts=parts) == [
        ("k1", f"{ITEM}\nyes", ITEM, "yes", None),
        ("k2", "other", "other", None, None),
    ]
    assert [row[0] for row in items("c.jsonl", columns=["q"])] == ["0", "7"]
