"""Two corpora compared: coverage both ways, by source, the pairs most alike; memory in ranges."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contamination.overlap import Side, compare, num_ranges
from curate.corpus.errors import InputError
from pipelines.overlap import overlap, show_overlap

words = st.lists(st.sampled_from(["ox", "cat", "dog", "hen", "bee"]), max_size=12).map(" ".join)
collections = st.lists(words, max_size=6)


def sides(folder: Path, texts: list[list[str]], ranges: int, width: int) -> list[Side]:
    made = []
    for number, column in enumerate(texts):
        place = folder / f"{ranges}-{number}"
        place.mkdir()
        side = Side(place, ranges, width)
        for start in range(0, len(column), 2):
            side.add(pa.array(column[start : start + 2], pa.large_string()))
        made.append(side)
    return made


def slow_coverage(mine: list[str], others: list[str], width: int) -> list[float]:
    def grams(text: str) -> set[tuple[str, ...]]:
        parts = text.split()
        return {tuple(parts[i : i + width]) for i in range(len(parts) - width + 1)}

    there = set().union(*map(grams, others)) if others else set()
    return [len(grams(t) & there) / max(1, len(grams(t))) for t in mine]


@given(collections, collections)
def test_coverage_equals_that_of_the_slow_twin_in_any_number_of_ranges(
    tmp_path_factory: pytest.TempPathFactory, left: list[str], right: list[str]
) -> None:
    for ranges in (1, 8):
        folder = tmp_path_factory.mktemp("sides")
        found = compare(*sides(folder, [left, right], ranges, 3))
        assert found.coverage(0).tolist() == slow_coverage(left, right, 3)
        assert found.coverage(1).tolist() == slow_coverage(right, left, 3)


def test_an_n_gram_of_many_documents_makes_no_pairs(tmp_path: Path) -> None:
    common = ["the same old words stand here"] * 10
    rare = "seven quite rare words make a pair"
    found = compare(*sides(tmp_path, [[*common, rare], [*common, rare]], 2, 4))
    assert found.pairs.rows() == [(10, 10, 4)]
    assert found.coverage(0)[-1] == 1.0


def test_more_text_is_cut_into_more_ranges_up_to_a_limit() -> None:
    assert [num_ranges(n) for n in (0, 1, 64 << 20, 65 << 20, 1 << 50)] == [1, 1, 1, 2, 1024]


@pytest.fixture(scope="module")
def store(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("two")
    own = [{"id": f"a{i}", "text": lab.text(i)} for i in range(12)]
    half = " ".join([*lab.text(3).split()[:40], *lab.text(70).split()[:40]])
    other = [{"id": f"b{i}", "text": lab.text(50 + i)} for i in range(6)]
    lab.jsonl(folder / "left" / "notes.jsonl", own)
    lab.jsonl(folder / "right" / "forum.jsonl", [*other, {"id": "whole", "text": lab.text(5)}])
    lab.jsonl(folder / "right" / "wiki.jsonl", [{"id": "half", "text": half}, {"text": "short"}])
    for name, files in (("left", ["notes"]), ("right", ["forum", "wiki"])):
        sources = [{"name": one, "paths": [f"{name}/{one}.jsonl"]} for one in files]
        lab.run(lab.recipe(folder, name=name, sources=sources), folder / "store")
    return str(folder / "store")


def test_two_corpora_tell_their_overlap_by_source_and_the_pairs_most_alike(store: str) -> None:
    found = overlap("left", "right", store=store)
    rows = {row["source"]: row for row in found["sources"]}
    counted = {s: (r["documents"], r["with_ngrams"], r["overlapping"]) for s, r in rows.items()}
    assert counted == {"notes": (12, 12, 1), "forum": (7, 7, 1), "wiki": (2, 1, 0)}
    assert rows["wiki"]["covered"] == pytest.approx(28 / 68)
    whole, half = found["pairs"]
    assert (whole["a_coverage"], whole["b_coverage"], whole["shared"]) == (1.0, 1.0, 68)
    assert (half["b_source"], half["shared"]) == ("wiki", 28)
    assert overlap("right", "left@1", store=store)["pairs"][0]["a_id"] == whole["b_id"]


def test_the_overlap_is_told_for_people_and_as_json(
    store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_overlap("left", "right", store=store, everything=True)
    told = capsys.readouterr().out
    assert "forum" in told
    assert "100.0%" in told
    show_overlap("left", "right", store=store, words=60, as_json=True)
    assert '"words": 60' in capsys.readouterr().out
    show_overlap("left", "right", store=store, words=64, threshold=1.0)


def test_a_corpus_covers_itself(store: str) -> None:
    found = overlap("left", "left", store=store, words=5)
    assert found["sources"][0]["overlapping"] == 12
    assert np.allclose([pair["a_coverage"] for pair in found["pairs"]], 1.0)


@pytest.mark.parametrize(
    ("asked", "word"),
    [({"words": 0}, "--words"), ({"threshold": 0.0}, "--threshold"), ({"b": "rihgt"}, "right")],
)
def test_what_cannot_be_compared_is_refused(store: str, asked: dict[str, Any], word: str) -> None:
    with pytest.raises(InputError, match=word):
        overlap(**{"a": "left", "b": "right", "store": store, **asked})
