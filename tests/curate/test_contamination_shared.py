"""What is known about the labelled data: which benchmarks it holds, and which only seem so."""

import bz2
import gzip
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.contamination.index import BenchmarkIndex
from curate.contamination.methods import Decon, Llama3, required

BENCHMARKS = {
    "gsm8k_test": ("question", "answer"),
    "HumanEval": ("prompt", "canonical_solution", "test"),
    "arc_validation": ("question", "choices"),
    "bbh": ("input", "target"),
    "mmlu_test": ("question", "choices"),
}


def lines(path: Path) -> list[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def flat(value: object) -> str:
    if isinstance(value, dict):
        return flat(value["text"])
    return "\n".join(map(flat, value)) if isinstance(value, list) else str(value)


@pytest.fixture(scope="module")
def items(shared_data: Path) -> pl.DataFrame:
    rows = [
        (name, str(number), "\n".join(flat(item[column]) for column in columns))
        for name, columns in BENCHMARKS.items()
        for number, item in enumerate(lines(shared_data / f"benchmarks/{name}.jsonl.gz"))
    ]
    return pl.DataFrame(rows, schema=["benchmark", "item", "text"], orient="row")


@pytest.fixture(scope="module")
def index(items: pl.DataFrame) -> BenchmarkIndex:
    return BenchmarkIndex.build(items)


@pytest.fixture(scope="module")
def speeches(shared_data: Path) -> pa.Array:
    rows = lines(shared_data / "text/gov_speeches_us.jsonl.gz")
    return pa.array([row["text"] for row in rows], pa.large_string())


@pytest.fixture(scope="module")
def every(items: pl.DataFrame) -> BenchmarkIndex:
    some = items.filter(pl.col("benchmark").is_in(["mmlu_test", "HumanEval"]))
    return BenchmarkIndex.build(some, methods=[Llama3(), Decon()])


def reaching(matches: pl.DataFrame, method: str, threshold: float) -> pl.DataFrame:
    enough = matches["overlap"].to_numpy() >= required(threshold, matches["strictness"])
    return matches.filter(pl.Series(enough) & (pl.col("method") == method))


def overlapping(matches: pl.DataFrame) -> dict[str, int]:
    items = matches.unique(["benchmark", "item"])
    return dict(items.group_by("benchmark").len().rows())


def test_seven_questions_of_mmlu_quote_the_speeches(
    index: BenchmarkIndex, speeches: pa.Array
) -> None:
    anyhow = index.match(speeches, record_above=0.0)
    assert overlapping(anyhow) == {"mmlu_test": 7}
    assert overlapping(anyhow.filter(pl.col("overlap") >= 0.5)) == {"mmlu_test": 5}


def test_llama3_finds_the_seven_and_decon_calls_a_quotation_no_question(
    every: BenchmarkIndex, speeches: pa.Array
) -> None:
    matches = every.match(speeches)
    assert overlapping(reaching(matches, "llama3", 0.3)) == {"mmlu_test": 7}
    assert reaching(matches, "decon", 0.8).is_empty()


def test_two_questions_of_mmlu_quote_the_encyclopaedia(
    index: BenchmarkIndex, shared_data: Path
) -> None:
    with bz2.open(shared_data / "text/enwiki_sample.xml.bz2") as stream:
        pages = [e.text for e in ET.parse(stream).iter() if e.tag.endswith("}text")]
    matches = index.match(pa.array(pages, pa.large_string()), record_above=0.0)
    assert overlapping(matches) == {"mmlu_test": 2}
    assert matches["overlap"].min() > 0.4


def test_a_run_of_digits_in_code_is_not_humaneval(
    index: BenchmarkIndex, every: BenchmarkIndex, shared_data: Path
) -> None:
    code = pq.read_table(shared_data / "text/code_python.parquet")["text"]
    matches = index.match(code.cast(pa.large_string()), record_above=0.0)
    # Three idioms remain (the English numerals, a double loop), each a sliver of its item.
    assert overlapping(matches) == {"HumanEval": 3}
    assert matches["overlap"].max() < 0.04
    assert index.match(code.cast(pa.large_string())).is_empty()
    matches = every.match(code.cast(pa.large_string()))
    assert reaching(matches, "llama3", 0.3).is_empty()
    assert reaching(matches, "decon", 0.8).is_empty()


def test_long_items_planted_in_real_text_are_found(
    index: BenchmarkIndex, items: pl.DataFrame, speeches: pa.Array
) -> None:
    long = items.filter(pl.col("text").str.count_matches(r"\w+") >= 30).sample(500, seed=1)
    hosts = [speeches[i % len(speeches)].as_py()[:3000] for i in range(long.height)]
    texts = [
        f"{host[:1500]} {text} {host[1500:]}"
        for host, text in zip(hosts, long["text"], strict=True)
    ]
    matches = index.match(pa.array(texts, pa.large_string()), record_above=0.5)
    found = set(matches.select("document", "benchmark", "item").rows())
    wanted = [(i, *row) for i, row in enumerate(long.select("benchmark", "item").rows())]
    assert np.mean([row in found for row in wanted]) >= 0.99


def test_coverage_of_the_labelled_benchmarks_counts_every_item(
    index: BenchmarkIndex, items: pl.DataFrame
) -> None:
    coverage = index.coverage()
    parts = coverage.select(pl.sum_horizontal(pl.col("^.*_items$"))).to_series()
    assert parts.to_list() == coverage["items"].to_list()
    assert coverage["items"].sum() == items.height
    assert coverage["uncoverable_items"].sum() < 0.02 * items.height
