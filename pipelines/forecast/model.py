"""From two small trials to the whole run: a fixed part and a growing part, for every stage.

What grows with what is known: most stages with the text; encoding and packing with the text that is
kept; shingling and clustering with the documents that have a twin; verifying with the pairs; the
tokenizer's fit and the measured recall with a sample whose size the recipe bounds. A sample shows
few of the duplicates that the whole has. How many it will have is the question of how many species
there are: distinct texts D of n documents grow at the rate of those seen once, dD/dn = singles/n
(Good, Biometrika 40, 1953), and the exponent of that growth, read off both samples, is continued.
"""

import math
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError
from curate.kernels.cache import cache_folder
from pipelines.forecast.sampling import Sample, draw
from pipelines.forecast.trial import run_trial
from pipelines.recipe import Recipe

__all__ = ["Forecast", "PassForecast", "continued", "extrapolated", "forecast"]

SAMPLE_BYTES = (4_000_000, 16_000_000)
_NEAR = 1.5
_MIN_RATIO = 2.5  # between the samples: a line through two near points points anywhere
_CLUSTER_S = 3.0  # until local workers are there
_BATCH_BYTES = 32 << 20  # of text in memory at once, whatever a part holds
_SERIAL = {"judge", "mix", "pack"}
_SERIAL_STAGES = {"fit", "cluster", "index", "compare", "identify"}
_ROW_BYTES = {"mix": 64, "pack": 64}  # held of every document: id, source, copies, places

# What decides how much a stage, or a table, grows; all others grow with the text.
_DRIVERS = {
    ("deduplicate", "shingle"): "clustered",
    ("deduplicate", "verify"): "pairs",
    ("deduplicate", "cluster"): "clustered",
    ("deduplicate", "write"): "clustered",
    ("deduplicate", "sample"): "picked",
    ("deduplicate", "index"): "sampled",
    ("deduplicate", "compare"): "sampled",
    ("deduplicate", "probe"): "probed",
    ("tokenize", "fit"): "fitted",
    ("tokenize", "encode"): "encoded",
}
_TABLE_DRIVERS = {
    ("deduplicate", "shingles"): "clustered",
    ("deduplicate", "pairs"): "pairs",
    ("deduplicate", "edges"): "pairs",
    ("deduplicate", "duplicates"): "clustered",
    ("deduplicate", "clusters"): "clustered",
    ("deduplicate", "sampled"): "sampled",
    ("deduplicate", "picked"): "picked",
    ("deduplicate", "twins"): "sampled",
    ("deduplicate", "checked"): "sampled",
    ("tokenize", "tokens"): "kept",
    ("tokenize", "kept"): "kept",
}
# Of `pipelines.passes.measured`: what is sampled and probed to measure the recall of near pairs.
# Of `pipelines.passes.tokenize`: one document of so many is compared; research measured the speeds.
_COMPARED, _SLOWER = 1000, 38
_RECALL_BYTES, _PROBE_BYTES, _PROBE_SHARE = 16 << 20, 64_000_000, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PassForecast:
    """What one pass will take.

    Attributes:
        cpu_s: processor seconds, all workers together.
        wall_s: seconds, with the workers asked for.
        memory_bytes: the most that one process holds, mapped files included.
        disk_bytes: what it adds to the store.
    """

    name: str
    cpu_s: float
    wall_s: float
    memory_bytes: float
    disk_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a run will take.

    Attributes:
        passes: in order.
        start_s: until the first pass begins.
        kept_share: of the text, that is not dropped.
        distinct_share: of the documents, that have no twin before them.
        sampled_bytes: of the input, in the larger trial, of `input_bytes`.
        seconds: what the forecast took.
        notes: what it could not see.
        trials: everything measured.
    """

    passes: tuple[PassForecast, ...]
    start_s: float
    kept_share: float
    distinct_share: float
    sampled_bytes: int
    input_bytes: int
    seconds: float
    notes: tuple[str, ...]
    trials: tuple[Mapping[str, Any], ...]


def forecast(recipe: Recipe, *, workers: int = 1, jobs: int | None = None) -> Forecast:
    """Run two samples of a recipe's input and say what the whole will take.

    Args:
        recipe: as it would be run, into an empty store.
        workers: processes.
        jobs: parts that `collect` reads the input in, if that is known.

    Raises:
        InputError: a sample cannot be curated.
    """
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="preceptor-forecast-"))
    try:
        samples = _samples(recipe, folder)
        # The whole of a small input need not be tried twice.
        whole_once = samples[0].input_bytes == samples[1].input_bytes
        tried = [_warm_trial(recipe, sample, folder) for sample in samples[whole_once:]]
        trials = (tried[0], tried[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    notes = list(samples[-1].notes)
    if recipe.deduplicate.against is not None:
        notes.append(f"duplicates in {recipe.deduplicate.against} are not looked for in a sample")
    total = samples[-1].total_bytes
    whole = _whole(recipe, samples, trials, total)
    each = [
        _sizes(recipe, trial, sample.input_bytes)
        for trial, sample in zip(trials, samples, strict=True)
    ]
    shards = [t["passes"]["collect"]["stages"]["read"][2] for t in trials]
    parts = [*shards, jobs or samples[-1].jobs]
    for sizes, number in zip([*each, whole], parts, strict=True):
        sizes["part"] = max(1.0, min(sizes["text"] / max(number, 1), _BATCH_BYTES))
        sizes["picked"] = min(sizes["text"], max(number, 1) * sizes["sampled"])  # of each part
        sizes["encoded"] = _encoded(trials[-1], sizes["kept"], max(number, 1))
    passes = tuple(
        _pass(name, trials, each, whole, workers, parts[-1]) for name in trials[-1]["passes"]
    )
    return Forecast(
        passes=passes,
        start_s=trials[-1]["start"]["cpu"] + (_CLUSTER_S if workers > 1 else 0.0),
        kept_share=whole["kept"] / max(whole["text"], 1.0),
        distinct_share=whole["distinct"],
        sampled_bytes=samples[-1].input_bytes,
        input_bytes=total,
        seconds=time.monotonic() - began,
        notes=tuple(notes),
        trials=trials,
    )


def _warm_trial(recipe: Recipe, sample: Sample, folder: Path) -> dict[str, Any]:
    """Run a trial, and once more where it made what a machine keeps for all later runs."""
    before = _kept()
    tried = run_trial(recipe, sample, folder)
    return tried if _kept() == before else run_trial(recipe, sample, folder)


def _kept() -> set[Path]:
    """Return the files that the machine keeps: compiled kernels, tables."""
    folder = cache_folder()
    return set() if folder is None else set(folder.rglob("*"))


def _samples(recipe: Recipe, folder: Path) -> list[Sample]:
    """Draw a small sample and a larger one; with giant documents the small one is not so small."""
    (small,) = draw(recipe, folder / "small", SAMPLE_BYTES[:1])
    scale = small.input_bytes / SAMPLE_BYTES[0]
    size = SAMPLE_BYTES[1] if scale < 2 else int(_MIN_RATIO * scale * SAMPLE_BYTES[0])
    (large,) = draw(recipe, folder / "large", (size,))
    if not small.input_bytes:
        raise InputError("the sources hold nothing to sample")
    return [small, large]


def _sizes(recipe: Recipe, trial: Mapping[str, Any], input_bytes: int) -> dict[str, float]:
    """Return what stages grow with, as a trial had it."""
    counts = trial["passes"]["deduplicate"]["counts"]
    documents = max(counts["documents"], 1)
    clustered = counts.get("clustered_documents", 0)
    distinct = documents - clustered + counts.get("clusters", 0)
    text = trial["text_bytes"]["all"]
    return {
        "input": input_bytes,
        "documents": documents,
        "text": text,
        "kept": trial["text_bytes"]["kept"],
        "drawn": trial["text_bytes"]["kept"],
        "clustered": clustered,
        "pairs": counts.get("candidates", 0) + counts.get("exact", 0),
        "distinct": distinct / documents,
        "singles": documents - clustered,
        **_bounded(recipe, text, trial["text_bytes"]["kept"], documents),
    }


def _bounded(recipe: Recipe, text: float, kept: float, documents: float) -> dict[str, float]:
    """Return the sizes that the recipe bounds."""
    near = recipe.deduplicate.near
    some = near.sample * text / documents if near else 0.0
    return {
        "sampled": min(text, some, _RECALL_BYTES),
        "probed": min(text, max(_PROBE_BYTES, _PROBE_SHARE * text)),
        "fitted": min(kept, recipe.tokenize.tokenizer.sample_bytes),
    }


def _whole(
    recipe: Recipe, samples: Sequence[Sample], trials: Sequence[Mapping[str, Any]], total: int
) -> dict[str, float]:
    """Return the sizes of the whole input."""
    small, large = (
        _sizes(recipe, trial, sample.input_bytes)
        for trial, sample in zip(trials, samples, strict=True)
    )
    factor = total / large["input"]
    documents, text = factor * large["documents"], factor * large["text"]
    distinct, singles = continued(
        [one["documents"] for one in (small, large)],
        [one["distinct"] * one["documents"] for one in (small, large)],
        [one["singles"] for one in (small, large)],
        documents,
    )
    share = distinct / documents
    kept = text * large["kept"] / max(large["text"], 1.0) * share / large["distinct"]
    near = recipe.deduplicate.near
    most = documents * (near.max_bucket if near else 1)  # larger buckets are banded again
    return {
        "input": total,
        "documents": documents,
        "text": text,
        "kept": kept,
        "drawn": _drawn(recipe, trials[-1], kept, large["kept"]),
        "clustered": documents - singles,
        "pairs": min(large["pairs"] * factor**2, most) if share < 1 else 0.0,
        "distinct": share,
        "singles": singles,
        **_bounded(recipe, text, kept, documents),
    }


def _encoded(trial: Mapping[str, Any], kept: float, parts: int) -> float:
    """Return the bytes to encode, in those of the fast encoder.

    Where one is used, a thousandth of a part's documents, one at least, is encoded by the slow one
    too; of a few giant documents that is most of the work.
    """
    if set(trial.get("encoders", ())) <= {"tokenizers"}:
        return kept
    each = trial["text_bytes"]["kept"] / max(trial["passes"]["judge"]["counts"]["kept"], 1)
    compared = min(kept, parts * max(each, kept / parts / _COMPARED))
    return float(kept + _SLOWER * compared)


def _drawn(recipe: Recipe, trial: Mapping[str, Any], kept: float, sampled: float) -> float:
    """Return the bytes of text that the mixture draws: a budget may ask for some of it, or more."""
    budget, tokens = recipe.mix.budget_tokens, trial["passes"]["tokenize"]["counts"].get("tokens")
    return kept if budget is None or not tokens else budget * sampled / tokens


def continued(
    documents: Sequence[float], distinct: Sequence[float], singles: Sequence[float], total: float
) -> tuple[float, float]:
    """Continue the growth of distinct texts from two samples to `total` documents.

    The exponent of the growth, e = d ln D / d ln n = singles / distinct, changes by as much per
    ln n as between the samples, and stays between 0 and 1.

    Returns:
        Distinct texts, and documents without a twin.

    >>> continued([10, 40], [10, 40], [10, 40], 160)
    (160.0, 160.0)
    """
    low, high = (s / d for s, d in zip(singles, distinct, strict=True))
    span = math.log(documents[1] / documents[0]) if documents[1] > documents[0] else 1.0
    bend = max(0.0, (low - high) / span)
    way = max(0.0, math.log(total / documents[1]))
    if bend and high / bend < way:  # nothing new from there on
        grown, last = high * high / bend / 2, 0.0
    else:
        grown, last = high * way - bend * way * way / 2, high - bend * way
    found = min(distinct[1] * math.exp(grown), total)
    return round(found, 6), round(min(last * found, total), 6)


def extrapolated(x: Sequence[float], y: Sequence[float], end: float) -> float:
    """Continue the line through two points, which never falls below zero.

    >>> extrapolated([1, 3], [5, 9], 10)
    23.0
    >>> extrapolated([1, 3], [5, 4], 10)  # noise, not growth
    4.5
    >>> extrapolated([10, 12], [5, 6], 14)  # too near to each other for a slope
    7.0
    """
    if 0 < x[1] < _NEAR * x[0]:
        return end * (y[0] + y[1]) / (x[0] + x[1])
    if y[1] <= y[0] or x[1] <= x[0]:
        return (y[0] + y[1]) / 2
    slope = (y[1] - y[0]) / (x[1] - x[0])
    return max(0.0, y[1] + slope * (end - x[1]))


def _pass(
    name: str,
    trials: Sequence[Mapping[str, Any]],
    sizes: Sequence[Mapping[str, float]],
    whole: Mapping[str, float],
    workers: int,
    jobs: int,
) -> PassForecast:
    """Add up a pass's stages and tables."""
    found = [trial["passes"][name] for trial in trials]
    default = "drawn" if name in ("mix", "pack") else "text"
    cpu = wall = 0.0
    for stage in dict.fromkeys(stage for one in found for stage in one["stages"]):
        spent = [one["stages"].get(stage, (0.0, 0.0, 0))[1] for one in found]
        driver = _DRIVERS.get((name, stage), default)
        seconds = extrapolated([s[driver] for s in sizes], spent, whole[driver])
        serial = name in _SERIAL or not stage or stage.split()[0] in _SERIAL_STAGES
        cpu += seconds
        wall += seconds if serial else seconds / max(1, min(workers, jobs))
    disk = 0.0
    for table in dict.fromkeys(table for one in found for table in one["disk_bytes"]):
        written = [float(one["disk_bytes"].get(table, 0)) for one in found]
        driver = _TABLE_DRIVERS.get((name, table), default)
        disk += extrapolated([s[driver] for s in sizes], written, whole[driver])
    peaks = [float(one["peak_bytes"]) for one in found]
    if name == "judge":
        memory = extrapolated([s["documents"] for s in sizes], peaks, whole["documents"])
    else:  # buffers fill up: from 2 to 8 MB of a part costs about as much as from 8 to 32
        small, large, end = (math.log(s["part"]) for s in (*sizes, whole))
        slope = max(0.0, peaks[1] - peaks[0]) / max(large - small, 1.0)
        memory = peaks[1] + slope * (end - large)
    memory = max(memory, max(peaks) + _ROW_BYTES.get(name, 0) * whole["documents"])
    return PassForecast(name=name, cpu_s=cpu, wall_s=wall, memory_bytes=memory, disk_bytes=disk)
