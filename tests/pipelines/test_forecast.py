"""A forecast looks at a small part of the input, from all over it, and speaks of the whole."""

import gzip
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from curate.corpus.errors import InputError
from pipelines.cli import app
from pipelines.forecast import model
from pipelines.forecast.model import continued, extrapolated
from pipelines.forecast.sampling import draw
from pipelines.forecast.trial import _sampled, measure, run_trial
from pipelines.recipe import Recipe

MEGABYTE = 1_000_000


def lines_of(paths: list[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in Path(path).read_bytes().splitlines()]


def test_records_come_from_all_over_a_large_file_and_long_ones_not_too_often(
    lab: Any, tmp_path: Path
) -> None:
    records = [{"n": n, "text": "x" * (20 if n % 10 else 2000)} for n in range(20_000)]
    lab.jsonl(tmp_path / "a.jsonl", records)
    size = (tmp_path / "a.jsonl").stat().st_size
    (sample,) = draw(lab.recipe(tmp_path), tmp_path / "sample", [size // 20])
    found = lines_of(sample.paths["notes"])
    assert sample.total_bytes == size
    assert sample.input_bytes == pytest.approx(size / 20, rel=0.1)
    numbers = [record["n"] for record in found]
    assert len(set(numbers)) == len(numbers), "each record once"
    assert len({n // 1000 for n in numbers}) > 16, "nearly every twentieth of it is there"
    assert sum(n % 10 == 0 for n in numbers) / len(numbers) == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_file_of_few_long_lines_gives_each_once(lab: Any, tmp_path: Path, end: bytes) -> None:
    lines = [json.dumps({"text": letter * 400_000}).encode() for letter in "abc"]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines) + end)
    lab.jsonl(tmp_path / "b.jsonl", [{"text": "d" * 700_000}])
    (sample,) = draw(lab.recipe(tmp_path), tmp_path / "sample", [1_800_000])
    letters = [record["text"][0] for record in lines_of(sample.paths["notes"])]
    assert sorted(letters) == ["a", "b", "c", "d"]


def test_a_smaller_sample_is_part_of_a_larger_one(lab: Any, tmp_path: Path) -> None:
    for name in "abc":
        lab.jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {n}"} for n in range(30_000)])
    small, large = draw(lab.recipe(tmp_path), tmp_path / "sample", [50_000, 200_000])
    fewer, more = ({r["text"] for r in lines_of(one.paths["notes"])} for one in (small, large))
    assert 0 < len(fewer) < len(more)
    assert fewer <= more
    assert {text[0] for text in fewer} == set("abc")


def test_every_format_is_sampled_as_it_can_be(lab: Any, tmp_path: Path) -> None:
    lines = [f"{n},{lab.text(n, 6)}\n" for n in range(20_000)]
    (tmp_path / "table.csv").write_text("number,body\n" + "".join(lines))
    text = [hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(40_000)]
    pq.write_table(pa.table({"text": text}), tmp_path / "rows.parquet", row_group_size=2000)
    packed = b"".join(json.dumps({"text": lab.text(n, 60)}).encode() + b"\n" for n in range(5000))
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(packed, 1))
    for n in range(200):
        path = tmp_path / "small" / f"{n}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(lab.text(n, 50))
    sources = [
        {"name": "table", "paths": ["table.csv"], "columns": {"text": "body"}},
        {"name": "rows", "paths": ["rows.parquet"]},
        {"name": "packed", "paths": ["packed.jsonl.gz"]},
        {"name": "small", "paths": ["small"]},
    ]
    recipe = lab.recipe(tmp_path, sources=sources)
    (sample,) = draw(recipe, tmp_path / "sample", [MEGABYTE])
    assert 0.05 < sample.input_bytes / sample.total_bytes < 0.5
    (table,) = sample.paths["table"]
    rows = Path(table).read_text().splitlines()
    assert rows[0] == "number,body"
    assert set(rows[1:]) <= {line.strip() for line in lines}
    (parquet,) = sample.paths["rows"]
    assert 0 < pq.read_metadata(parquet).num_rows < 40_000
    assert sample.notes == (
        "source 'packed': only the beginnings of large files are read",
    ) or not any(Path(p).stat().st_size > 1 << 18 for p in sample.paths["packed"])
    assert 10 < len(sample.paths["small"]) < 190
    everything, whole = draw(recipe, tmp_path / "all", [MEGABYTE, 10**9])
    assert everything.total_bytes == whole.total_bytes == whole.input_bytes


def test_a_sample_is_curated_without_what_only_the_whole_can_answer(
    lab: Any, tmp_path: Path
) -> None:
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(n)} for n in range(12)])
    recipe = lab.recipe(
        tmp_path,
        mix={"budget": "1M tokens", "repeat_cap": 1000},
        deduplicate={"against": "other", "near": None, "guardrails": {"source_loss": 0.1}},
        checks={"many": {"use": "documents", "above": 1000}},
    )
    (sample,) = draw(recipe, tmp_path / "sample", [MEGABYTE])
    data = _sampled(recipe, sample)
    assert not {"mix", "checks"} & set(data)
    assert "against" not in data["deduplicate"]
    found = measure(
        {"recipe": data, "base": str(tmp_path), "allow": [], "store": str(tmp_path / "store")}
    )
    assert found["passes"]["judge"]["counts"]["kept"] == 12
    assert found["text_bytes"]["all"] == found["text_bytes"]["kept"] > 0
    for taken in found["passes"].values():
        assert taken["peak_bytes"] > MEGABYTE
        assert all(wall >= 0 and cpu >= 0 for wall, cpu, _ in taken["stages"].values())
    on_disk = sum(path.stat().st_size for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert sum(sum(p["disk_bytes"].values()) for p in found["passes"].values()) <= on_disk
    json.dumps(found)


def test_a_sample_that_cannot_be_curated_says_why(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    recipe = lab.recipe(tmp_path)
    (sample,) = draw(recipe, tmp_path / "sample", [MEGABYTE])
    failing = "import sys; sys.stderr.write('error: no document is kept\\n'); sys.exit(2)"
    monkeypatch.setattr("pipelines.forecast.trial._COMMAND", ("-c", failing))
    with pytest.raises(InputError, match="the sample cannot be curated: no document is kept"):
        run_trial(recipe, sample, tmp_path)


@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=30),
    st.floats(0.02, 0.2),
    st.floats(2.0, 4.0),
)
def test_distinct_texts_grow_and_never_beyond_the_documents(
    groups: list[int], share: float, step: float
) -> None:
    total = 1000.0 * sum(groups)

    def drawn(p: float) -> tuple[float, float, float]:
        documents = p * total
        distinct = 1000 * sum(1 - (1 - p) ** size for size in groups)
        singles = 1000 * sum(size * p * (1 - p) ** (size - 1) for size in groups)
        return documents, distinct, singles

    columns = list(zip(drawn(share), drawn(share * step), strict=True))
    found, alone = continued(*columns, total)
    assert columns[1][1] * (1 - 1e-9) <= found <= total
    assert 0 <= alone <= found * (1 + 1e-9)


def test_what_a_sample_shows_of_duplicates_is_continued_to_the_whole() -> None:
    groups = [1, 1, 2, 3, 5, 9, 20]  # two in three documents are not the first of their group

    def drawn(p: float) -> tuple[float, ...]:
        distinct = sum(1 - (1 - p) ** size for size in groups)
        return p * sum(groups), distinct, sum(size * p * (1 - p) ** (size - 1) for size in groups)

    found, _ = continued(*zip(drawn(0.05), drawn(0.2), strict=True), sum(groups))
    assert found == pytest.approx(len(groups), rel=0.25)
    naive = drawn(0.2)[1] / 0.2
    assert naive > 2.5 * len(groups), "the share in the sample would be far off"


@given(st.floats(0.01, 10), st.floats(0, 3), st.floats(2, 20), st.floats(20, 1000))
def test_a_line_is_continued_and_noise_is_no_growth(
    start: float, slope: float, ratio: float, end: float
) -> None:
    x = [1.0, ratio]
    y = [start + slope * value for value in x]
    assert extrapolated(x, y, end) == pytest.approx(start + slope * end, rel=1e-6)
    assert extrapolated(x, y[::-1], end) <= max(y)
    assert extrapolated([ratio, ratio], y, ratio) <= max(y), "a bounded sample costs the same"


def trial(documents: int, seconds: float) -> dict[str, Any]:
    """What a trial of so many documents would have measured."""
    names = ["collect", "clean", "measure", "deduplicate", "decontaminate"]
    names += ["judge", "tokenize", "mix", "pack"]
    counts = {"documents": documents, "clustered_documents": 0, "clusters": 0, "candidates": 0}
    passes: dict[str, Mapping[str, Any]] = {
        name: {
            "stages": {"read": [seconds, seconds, 1]},
            "peak_bytes": 100 * MEGABYTE,
            "disk_bytes": {"": 10 * documents},
            "counts": counts,
        }
        for name in names
    }
    text = {"all": 100 * documents, "kept": 100 * documents}
    return {"passes": passes, "start": {"cpu": 0.5, "wall": 0.5}, "text_bytes": text}


def test_the_command_tells_what_to_do_and_what_it_takes(
    lab: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(n % 100)} for n in range(4000)])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: tiny\nsources: [{name: notes, paths: ['*.jsonl']}]\n")
    monkeypatch.setattr(model, "SAMPLE_BYTES", (50_000, 200_000))

    def fake(recipe: Recipe, sample: Any, folder: Path) -> dict[str, Any]:
        assert sample.input_bytes < sample.total_bytes
        return trial(sample.input_bytes // 100, 1.0 + sample.input_bytes / 100_000)

    monkeypatch.setattr(model, "run_trial", fake)
    call = ["plan", str(recipe), "--store", str(tmp_path / "store")]
    plain = CliRunner().invoke(app, call)
    assert plain.exit_code == 0
    assert "1 of 1 parts to do" in plain.output
    assert "forecast" not in plain.output
    told = CliRunner().invoke(app, [*call, "--forecast", "--workers", "2"])
    assert told.exit_code == 0, told.output
    assert "with 2 workers" in told.output
    assert "free there" in told.output
    told = CliRunner().invoke(app, [*call, "--forecast", "--workers", "1", "--json"])
    data = json.loads(told.output)
    total = (tmp_path / "a.jsonl").stat().st_size
    (collect,) = [one for one in data["forecast"]["passes"] if one["name"] == "collect"]
    assert collect["cpu_s"] == pytest.approx(1.0 + total / 100_000, rel=0.02)
    assert collect["disk_bytes"] == pytest.approx(total / 10, rel=0.02)
    assert not (tmp_path / "store").exists(), "a forecast leaves nothing"

    def whole(recipe: Recipe, sample: Any, folder: Path) -> dict[str, Any]:
        tried.append(sample.input_bytes)
        return trial(sample.input_bytes // 100, 2.0)

    tried: list[int] = []
    monkeypatch.setattr(model, "SAMPLE_BYTES", (10**7, 10**8))
    monkeypatch.setattr(model, "run_trial", whole)
    told = CliRunner().invoke(app, [*call, "--forecast", "--workers", "1", "--json"])
    (collect, *_) = json.loads(told.output)["forecast"]["passes"]
    assert (tried, collect["cpu_s"]) == ([total], 2.0), "a small input is tried whole, once"

    refused = CliRunner().invoke(app, [*call, "--forecast", "--limit", "5"])
    assert "leave out --limit" in str(refused.exception)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    told = CliRunner().invoke(app, [*call, "--forecast"])
    assert "warning: the disk of" in told.output
    assert math.isfinite(collect["wall_s"])


def test_a_trial_that_compiled_is_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compiling(recipe: Recipe, sample: Any, folder: Path) -> dict[str, Any]:
        tried.append(sample)
        (tmp_path / "a-kernel").touch()
        return {"number": len(tried)}

    tried: list[str] = []
    monkeypatch.setattr(model, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(model, "run_trial", compiling)
    found = [model._warm_trial(None, sample, tmp_path) for sample in ("small", "large")]
    assert tried == ["small", "small", "large"]
    assert [one["number"] for one in found] == [2, 3]
