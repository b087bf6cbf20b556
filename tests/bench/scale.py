"""How the pass `deduplicate` grows: 1x, 4x, 16x the data, 1 and 2 workers, 10^5 to 10^7 documents.

The corpus is synthetic: document n is a function of n alone (its words are drawn from a Zipf
vocabulary by a counter-based hash), so it is written a block at a time and never held. A tenth of
the documents are near-duplicates of a document anywhere in the corpus with their last one to three
words replaced, and one in fifty is an exact copy. Each measurement is a process of its own with a
fresh store. Prints a table and writes SCALE.md beside this file.

    python tests/bench/scale.py
    python tests/bench/scale.py --documents 100000 --memory
"""

import argparse
import itertools
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.manifest import Manifest
from curate.corpus.schema import SCHEMAS
from curate.kernels.mix import fmix64
from pipelines.engine import DaskEngine
from pipelines.passes import deduplicate
from pipelines.passes.base import Context, Event, Workspace
from pipelines.recipe import parse_recipe
from pipelines.store import Store

HERE = Path(__file__).resolve().parent
BLOCK_DOCS = 20_000  # made at a time: some 60 MB of temporaries
MAX_SHARD_DOCS = 250_000  # about 64 MB of text, what `collect` makes of a large input
MIN_SHARDS = 8
VOCABULARY = 50_000
WORDS = np.array([55, 71])  # fewest of a document, and one more than the most
FINAL = ("duplicates", "crowds")  # what the pass is for; all else it writes is on the way
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"

U64 = np.ndarray


def mixed(numbers: U64, purpose: int) -> U64:
    """Hash numbers under a purpose."""
    return fmix64(numbers.astype(np.uint64) + fmix64(np.array([purpose], np.uint64)))


def vocabulary() -> tuple[Any, np.ndarray]:
    """Return the words, and the cumulative weights of a Zipf-Mandelbrot law over them."""
    words = set()
    rng = np.random.default_rng(0)
    while len(words) < VOCABULARY:
        length = int(np.clip(rng.poisson(5.2), 2, 12))
        words.add("".join(LETTERS[i] for i in rng.integers(0, len(LETTERS), length)))
    ranked = sorted(sorted(words), key=len)  # frequent words are short
    weights = 1.0 / (np.arange(VOCABULARY) + 2.7)
    return pa.array(ranked, pa.large_string()), np.cumsum(weights / weights.sum())


def block(first: int, last: int, total: int, words: Any, weights: np.ndarray) -> Any:
    """Return documents `first` to `last` - 1 of a corpus of `total`, of the schema `documents`."""
    numbers = np.arange(first, last, dtype=np.uint64)
    # Numbers that end in 0 are originals only; the others may copy one of those.
    original = numbers - numbers % 10
    if total > 10:
        original = mixed(numbers, 1) % np.uint64(total // 10) * np.uint64(10)
    is_near, is_copy = numbers % 10 == 3, numbers % 50 == 7
    source = np.where(is_near | is_copy, original, numbers)
    lengths = WORDS[0] + (mixed(source, 2) % np.uint64(WORDS[1] - WORDS[0])).astype(np.int64)
    replaced = np.where(is_near, 1 + (mixed(numbers, 3) % np.uint64(3)).astype(np.int64), 0)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    row = np.repeat(np.arange(numbers.size), lengths)
    place = np.arange(offsets[-1]) - offsets[row]
    drawn = mixed(source[row] * np.uint64(128) + place.astype(np.uint64), 4)
    word = np.searchsorted(weights, (drawn >> np.uint64(11)) * 2.0**-53)
    edited = place >= (lengths - replaced)[row]
    shift = mixed(numbers[row[edited]] * np.uint64(128) + place[edited].astype(np.uint64), 5)
    other = 1 + (shift % np.uint64(VOCABULARY - 1)).astype(np.int64)
    word[edited] = (word[edited] + other) % VOCABULARY
    text = pc.binary_join(
        pa.LargeListArray.from_arrays(pa.array(offsets), words.take(pa.array(word))),
        pa.scalar(" ", pa.large_string()),
    )
    names = np.stack([mixed(numbers, 6), mixed(numbers, 7)], axis=1)
    ids = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), numbers.size, [None, pa.py_buffer(np.ascontiguousarray(names).tobytes())]
    )
    known = {"doc_id": ids, "text": text, "raw_hash": ids, "text_hash": ids}
    known["position"] = pa.array(numbers.astype(np.int64))
    fixed = {"source": "synthetic", "path": "scale"}
    columns = [
        known[f.name]
        if f.name in known
        else pa.repeat(pa.scalar(fixed.get(f.name), f.type), numbers.size)
        for f in SCHEMAS["documents"]
    ]
    return pa.table(columns, schema=SCHEMAS["documents"])


def write_corpus(store: Store, total: int) -> tuple[Manifest, int]:
    """Write the documents, and return the manifest `clean` and the bytes of their texts."""
    words, weights = vocabulary()
    workspace, shards, num_bytes = Workspace(store, "clean"), [], 0
    size = max(1, min(MAX_SHARD_DOCS, -(-total // MIN_SHARDS)))
    for begin in range(0, total, size):
        end = min(begin + size, total)
        with workspace.writer("documents") as writer:
            for first in range(begin, end, BLOCK_DOCS):
                table = block(first, min(first + BLOCK_DOCS, end), total, words, weights)
                num_bytes += pc.sum(pc.binary_length(table["text"])).as_py()
                writer.write(table)
            shards.append(writer.commit())
    manifest = Manifest(
        name="clean", settings={}, code="", parents={}, tables={"documents": tuple(shards)}
    )
    return manifest, num_bytes


def peaks() -> dict[str, float]:
    """Return this process's peak memory and CPU seconds so far.

    `VmHWM` and not `ru_maxrss`: a child inherits the latter from whoever started it.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    rows = dict(line.split(":", 1) for line in status.splitlines())
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "pid": os.getpid(),
        "peak_mib": int(rows["VmHWM"].split()[0]) / 1024,
        "cpu": used.ru_utime + used.ru_stime,
    }


class AnonymousMemory:
    """Watches how much memory of some processes is their own, and no mapped file's."""

    def __init__(self, pids: list[int], clock: dict[str, Any]) -> None:
        self.peak_mib = dict.fromkeys(pids, 0.0)
        self.by_stage: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            for pid in self.peak_mib:
                try:
                    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
                except OSError:
                    continue
                rows = dict(line.split(":", 1) for line in status.splitlines())
                if "RssAnon" in rows:
                    now = int(rows["RssAnon"].split()[0]) / 1024
                    self.peak_mib[pid] = max(self.peak_mib[pid], now)
                    stage = self._clock["stage"]
                    self.by_stage[stage] = max(self.by_stage[stage], now)

    def stop(self) -> None:
        """Watch no longer."""
        self._ended.set()
        self._thread.join()


def measure(folder: str, total: int, workers: int) -> dict[str, Any]:
    """Run the pass once on a corpus that is there, and tell everything about it."""
    store = Store(folder)
    found = json.loads((Path(folder) / "corpus.json").read_text(encoding="utf-8"))
    manifest = Manifest.from_json(json.dumps(found["manifest"]).encode(), "corpus.json")
    recipe = parse_recipe("name: scale\nsources: [{name: synthetic, paths: [none]}]\n")
    stages: dict[str, float] = defaultdict(float)
    clock = {"stage": "", "since": time.monotonic()}

    def observe(event: Event) -> None:
        if event.kind == "start":
            now = time.monotonic()
            stages[clock["stage"]] += now - clock["since"]
            clock.update(stage=event.stage, since=now)

    with DaskEngine(workers) as engine:
        list(engine.run_all([(peaks, ()) for _ in range(workers)]))  # start them
        begun = engine._client.run(peaks)
        pids = [os.getpid(), *(int(one["pid"]) for one in begun.values())]
        memory = AnonymousMemory(pids, clock)
        own = peaks()["cpu"]
        clock["since"] = start = time.monotonic()
        context = Context(
            store=store,
            engine=engine,
            recipe=recipe,
            manifests={"clean": manifest},
            observe=observe,
        )
        result = deduplicate.run(context)
        wall = time.monotonic() - start
        stages[clock["stage"]] += time.monotonic() - clock["since"]
        memory.stop()
        ended = engine._client.run(peaks)
    main = peaks()
    cpu = main["cpu"] - own + sum(ended[w]["cpu"] - begun[w]["cpu"] for w in ended)
    each = [main, *ended.values()]
    return {
        "documents": total,
        "workers": workers,
        "mb": found["bytes"] / 1e6,
        "wall": wall,
        "cpu": cpu,
        "stages": {name: seconds for name, seconds in stages.items() if name},
        "peak_mib": [one["peak_mib"] for one in each],
        "own_mib": [memory.peak_mib[int(one["pid"])] for one in each],
        "own_by_stage": {name: size for name, size in memory.by_stage.items() if name},
        "written": written(folder),
        "counts": dict(result.counts),
        "measured": result.info.get("measured"),
        "tables": result.content,
    }


def written(folder: str) -> dict[str, int]:
    """Return the bytes of all shards that the pass has written, by table, from its records."""
    sizes: dict[str, int] = defaultdict(int)
    seen = set()
    for path in sorted((Path(folder) / "deduplicate" / "parts").glob("*.json")):
        for table, shards in json.loads(path.read_text(encoding="utf-8"))["tables"].items():
            for shard in shards:
                if shard["path"] not in seen:
                    seen.add(shard["path"])
                    sizes[table] += shard["bytes"]
    return dict(sorted(sizes.items()))


def child(*arguments: str) -> dict[str, Any]:
    """Run this file in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(Path(__file__).resolve()), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def make(folder: str, total: int) -> dict[str, Any]:
    """Write a corpus and what `measure` needs of it."""
    manifest, num_bytes = write_corpus(Store(folder), total)
    record = {"manifest": json.loads(manifest.to_json()), "bytes": num_bytes}
    (Path(folder) / "corpus.json").write_text(json.dumps(record), encoding="utf-8")
    return {"bytes": num_bytes, **peaks()}


def runs(sizes: list[int], workers: list[int], where: str | None) -> list[dict[str, Any]]:
    """Measure every size with every number of workers, each in a fresh copy of one corpus."""
    rows = []
    for total in sizes:
        with tempfile.TemporaryDirectory(prefix="preceptor-scale-", dir=where) as folder:
            child("--make", folder, str(total))
            for count in workers:
                row = child("--measure", folder, str(total), str(count))
                rows.append(row)
                print(line(row), flush=True)
                passes = Path(folder) / "deduplicate"
                for path in sorted(passes.rglob("*"), reverse=True):
                    path.rmdir() if path.is_dir() else path.unlink()
    return rows


def shuffled(row: dict[str, Any]) -> float:
    """Return the bytes of intermediate tables per document."""
    passing = sum(size for name, size in row["written"].items() if name not in FINAL)
    return float(passing / row["documents"])


def line(row: dict[str, Any]) -> str:
    """Return a row of the first table."""
    per_core = row["mb"] / row["wall"] / row["workers"]
    peak, own = max(row["peak_mib"]), max(row["own_mib"])
    return (
        f"| {row['documents']:,} | {row['workers']} | {row['mb']:.0f} | {row['wall']:.1f} | "
        f"{row['cpu']:.1f} | {per_core:.1f} | {row['mb'] / row['cpu']:.1f} | {shuffled(row):.0f} | "
        f"{peak:.0f} | {own:.0f} |"
    )


HEAD = """| documents | workers | MB of text | wall s | CPU s | MB/s per core | MB per CPU s \
| bytes shuffled per document | peak MiB of a process | of it its own |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def growth(rows: list[dict[str, Any]]) -> list[str]:
    """Return how each number grows from one size to the next, for each number of workers."""
    told = [
        "| workers | documents | CPU s | bytes shuffled | peak MiB of a process | its own MiB | "
        "MiB more per million documents more |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for workers in sorted({row["workers"] for row in rows}):
        mine = [row for row in rows if row["workers"] == workers]
        for one, two in itertools.pairwise(mine):
            more = (two["documents"] - one["documents"]) / 1e6
            peak = max(two["own_mib"]) - max(one["own_mib"])
            told.append(
                f"| {workers} | {one['documents']:,} to {two['documents']:,} "
                f"(x{two['documents'] / one['documents']:.0f}) "
                f"| x{two['cpu'] / one['cpu']:.2f} "
                f"| x{shuffled(two) * two['documents'] / shuffled(one) / one['documents']:.2f} "
                f"| x{max(two['peak_mib']) / max(one['peak_mib']):.2f} "
                f"| x{max(two['own_mib']) / max(one['own_mib']):.2f} | {peak / more:.0f} |"
            )
    return told


def details(row: dict[str, Any]) -> list[str]:
    """Return stages, tables and processes of the largest run."""
    stages = sorted(row["stages"].items(), key=lambda pair: -pair[1])
    tables = sorted(row["written"].items(), key=lambda pair: -pair[1])
    processes = zip(row["peak_mib"], row["own_mib"], strict=True)
    return [
        f"The largest run ({row['documents']:,} documents, {row['workers']} workers):",
        "",
        "- seconds by stage: " + ", ".join(f"{name} {taken:.1f}" for name, taken in stages),
        "- own MiB of the largest process by stage: "
        + ", ".join(f"{name} {row['own_by_stage'].get(name, 0):.0f}" for name, _ in stages),
        "- bytes written per document: "
        + ", ".join(f"{name} {size / row['documents']:.1f}" for name, size in tables),
        "- MiB of each process, the first one being the scheduler's (own): "
        + ", ".join(f"{peak:.0f} ({own:.0f})" for peak, own in processes),
        "- counts: " + ", ".join(f"{name} {count:,}" for name, count in row["counts"].items()),
        f"- measured: {json.dumps(row['measured'])}",
    ]


def report(rows: list[dict[str, Any]]) -> str:
    """Return SCALE.md."""
    pairs = [
        (one, two)
        for one in rows
        for two in rows
        if one["documents"] == two["documents"] and (one["workers"], two["workers"]) == (1, 2)
    ]
    same = all(one["tables"] == two["tables"] for one, two in pairs)
    second = ", ".join(
        f"{one['wall'] / two['wall']:.2f}x at {one['documents']:,}" for one, two in pairs
    )
    return "\n".join(
        [
            "# How `deduplicate` grows",
            "",
            f"`make bench-scale`, {platform.machine()}, {os.cpu_count()} cores, Python "
            f"{platform.python_version()}. Synthetic documents of some 250 bytes, 10 % near and "
            "2 % exact duplicates. Each run is a fresh process with a fresh store on local disk; "
            "the kernels are compiled. A peak counts mapped files too; `own` leaves them out.",
            "",
            HEAD,
            *map(line, rows),
            "",
            f"A second worker: {second or 'not measured'}. "
            + (f"The same bytes with 1 and 2 workers: {'yes' if same else 'NO'}." if pairs else ""),
            "",
            *growth(rows),
            "",
            *details(rows[-1]),
            "",
        ]
    )


def main() -> None:
    """Measure and report; `--make` and `--measure` are for this file itself."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    sizes = [62_500, 250_000, 1_000_000]
    parser.add_argument("--documents", nargs="*", type=int, default=sizes, help="1x, 4x, 16x")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--memory",
        nargs="*",
        type=int,
        default=[100_000, 10_000_000],
        help="more sizes, with the most workers only, for the peak memory",
    )
    parser.add_argument("--folder", help="where stores are made (some 1 KB per document)")
    parser.add_argument("--report", default=str(HERE / "SCALE.md"))
    parser.add_argument("--make", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        print(json.dumps(make(options.make[0], int(options.make[1]))))
        return
    if options.measure:
        folder, total, count = options.measure
        print(json.dumps(measure(folder, int(total), int(count))))
        return
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory(prefix="preceptor-scale-") as folder:  # compile the kernels
        child("--make", folder, "2000")
        child("--measure", folder, "2000", "1")
    rows = runs(options.documents, options.workers, options.folder)
    rows += runs(options.memory, [max(options.workers)], options.folder)
    rows.sort(key=lambda row: (row["workers"], row["documents"]))
    text = report(rows)
    Path(options.report).write_text(text, encoding="utf-8")
    print(f"\n{text}\nwritten to {options.report}")


if __name__ == "__main__":
    main()
