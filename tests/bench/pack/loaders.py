"""Compare our readers with other projects' loaders on the same rows of the same tokens.

The second part of `make bench-pack`. The corpus of `make bench-dedup`, as bytes, is packed into
rows; every loader gets these rows in its own format and reads an epoch in shuffled order and rows
at random, in turns, on one core, each time in a process of its own (see peers/stopwatch.py).
Writes LOADERS.md. Everything it makes is under .bench/, which may be deleted.

    python tests/bench/pack/loaders.py [--quick] [--repeats N] [--tokens-m N] [--only LOADER ...]
"""

import argparse
import hashlib
import importlib
import json
import os
import shutil
import statistics
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from next_door import HERE, ROOT, corpora, measure, pages

from curate.tokens.packing import pack, pack_stats
from curate.tokens.shards import token_table
from curate.tokens.tokenizer import SPECIALS, byte_tokenizer
from train.rows import open_rows

environments = importlib.import_module("environments")
Environment = environments.Environment
Facts = dict[str, Any]

SIZE_MB, TOKENS_M = 175.0, 40.0
QUICK_MB, QUICK_M = 10.0, 4.0
ROW_TOKENS = (1025, 2049)
SHARDS, SEED, AIM = 4, 7, 2.0
OURS, FLOOR = "ours-tokens", "memmap"
OURS_SCRIPT = "ours"
PIECE = 512

ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment(
            name="hf-datasets",
            package="datasets",
            requirements=("datasets==5.2.0", environments.ARROW, "numpy==2.4.6"),
            needs_torch=True,
        ),
        Environment(
            name="litdata",
            package="litdata",
            requirements=("litdata==0.2.76", "numpy==2.4.6"),
            needs_torch=True,
        ),
        Environment(
            name="mosaicml-streaming",
            package="mosaicml-streaming",
            requirements=("mosaicml-streaming==0.13.0",),
            needs_torch=True,
        ),
    )
}
# Name -> (script, environment: ours where it is empty, what it does).
LOADERS = {
    OURS: (OURS_SCRIPT, "", "`open_rows(...).tokens`: what the others give"),
    "ours": (OURS_SCRIPT, "", "`RowLoader`: tokens, targets, sources, documents and keys"),
    FLOOR: ("memmap", "", "one flat file of these rows, as in nanoGPT: the floor"),
    "mosaicml-streaming": (
        "streaming",
        "mosaicml-streaming",
        "`StreamingDataset`, `ndarray:uint16:N`, torch's `DataLoader` with one `np.stack`",
    ),
    "litdata": ("litdata", "litdata", "`StreamingDataset`, `TokensLoader`, `StreamingDataLoader`"),
    "datasets-torch": ("datasets", "hf-datasets", '`with_format("torch")`, `shuffle`, `iter(16)`'),
    "datasets-numpy": ("datasets", "hf-datasets", '`with_format("numpy")`, `shuffle`, `iter(16)`'),
}
PEERS = tuple(name for name, (_, environment, _) in LOADERS.items() if environment)


def documents(parquet: Path, max_bytes: int) -> Iterator[np.ndarray]:
    """Yield the corpus's texts as ids: a byte each, behind the specials, between bos and eos."""
    seen = 0
    for batch in pq.ParquetFile(parquet).iter_batches(256, columns=["text"]):
        for text in batch["text"].to_pylist():
            if seen >= max_bytes:
                return
            data = np.frombuffer(text.encode(), np.uint8)
            seen += len(data)
            ids = np.empty(len(data) + 2, np.uint16)
            ids[0], ids[1:-1], ids[-1] = 0, data.astype(np.uint16) + len(SPECIALS), 1
            yield ids


def write(path: Path, table: pa.Table) -> Facts:
    """Write an Arrow file; return how a run names it."""
    with ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {
        "uri": str(path),
        "sha256": digest,
        "rows": table.num_rows,
        "bytes": path.stat().st_size,
    }


def prepare(folder: Path, texts: list[np.ndarray], row_tokens: int) -> Facts:
    """Write our shards, plan and run, and the rows as an array for all others."""
    home = folder / "ours"
    home.mkdir(parents=True)
    shards, shard, document = [], [], []
    groups = [texts[k::SHARDS] for k in range(SHARDS)]
    ids = [hashlib.blake2b(text.tobytes(), digest_size=16).digest() for g in groups for text in g]
    for number, group in enumerate(groups):
        lengths = np.array([len(text) for text in group])
        table = token_table(
            pa.array(ids[len(shard) : len(shard) + len(group)], pa.binary(16)),
            pa.array(["text"] * len(group)),
            pa.array(["train"] * len(group)),
            lengths - 2,
            values=np.concatenate(group),
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
        )
        shards.append(write(home / f"shard-{number}.arrow", table))
        shard += [number] * len(group)
        document += list(range(len(group)))
    plan = pack(
        np.array([len(text) for group in groups for text in group]),
        np.ones(len(texts), np.int32),
        pa.array(ids, pa.binary(16)),
        shard=np.array(shard),
        document=np.array(document),
        source=np.zeros(len(texts), np.int16),
        row_tokens=row_tokens,
        seed=SEED,
    )
    tokenizer = home / "tokenizer.json"
    tokenizer.write_bytes(byte_tokenizer())
    run = {
        "format": 1,
        "id": "bench",
        "corpus": {},
        "tokenizer": {
            "uri": str(tokenizer),
            "sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
            "vocab_size": len(SPECIALS) + 256,
            "specials": {"bos": 0, "eos": 1, "pad": 2},
        },
        "sources": ["text"],
        "shards": shards,
        "plans": {"train": [write(home / "plan.arrow", plan)]},
        "row_tokens": row_tokens,
        "config": {},
        "seed": SEED,
        "phases": [{"first_row": 0, "plan": "train", "epoch": 0}],
    }
    (home / "run.json").write_text(json.dumps(run))
    store, num_rows = open_rows(home / "run.json"), plan.num_rows
    rows = np.lib.format.open_memmap(
        folder / "rows.npy", mode="w+", dtype=np.uint16, shape=(num_rows, row_tokens)
    )
    for start in range(0, num_rows, PIECE):
        stop = min(start + PIECE, num_rows)
        rows[start:stop] = store.tokens("train", range(start, stop))
    rows.flush()
    stats = pack_stats(plan, row_tokens)
    lengths = np.array([len(text) for text in texts])
    facts = {
        "rows": num_rows,
        "documents": len(texts),
        "tokens": stats.tokens,
        "waste": stats.waste_tokens / (num_rows * row_tokens),
        "median": int(np.median(lengths)),
    }
    (folder / "facts.json").write_text(json.dumps(facts))
    return facts


class Bench:
    """The loaders, their environments and what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.home, self.core, self.repeats = options.home.resolve(), options.core, options.repeats
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / ".gitignore").write_text("*\n")
        self.names = [name for name in LOADERS if options.only is None or name in options.only]
        self.corpus = corpora.prepare(
            self.home, size_mb=options.size_mb, seed=1, data=options.data, column=options.column
        )
        wanted = {LOADERS[name][1] for name in self.names} - {""}
        self.made = {
            name: environments.ensure(ENVIRONMENTS[name], self.home / "venvs") for name in wanted
        }
        self.max_bytes = int(options.tokens_m * 1e6)
        self.problems: dict[str, str] = {}

    def rows(self, row_tokens: int) -> tuple[Facts, dict[str, list[Facts]]]:
        """Measure all loaders in turns; return what the rows are and what was measured."""
        folder = self.home / f"loaders-{row_tokens}"
        shutil.rmtree(folder, ignore_errors=True)
        texts = list(documents(self.corpus.parquet, self.max_bytes))
        facts = prepare(folder, texts, row_tokens)
        del texts
        print(f"{facts['rows']:,} rows of {row_tokens:,} tokens", flush=True)
        runs: dict[str, list[Facts]] = {}
        for name in self.names:
            if LOADERS[name][0] != OURS_SCRIPT:
                self._run("prepare", name, folder)
        for _ in range(self.repeats):
            for name in self.names:
                if name in self.problems:
                    continue
                found = self._run("measure", name, folder)
                if found:
                    runs.setdefault(name, []).append(found)
                    speed = found["tokens_per_cpu_s"] / 1e6
                    print(
                        f"  {name}: {speed:.1f} million tokens/s, start {found['start_s']:.2f} s, "
                        f"a row {found['row_us']:.0f} us",
                        flush=True,
                    )
        return facts, runs

    def _run(self, task: str, name: str, folder: Path) -> Facts:
        script, environment, _ = LOADERS[name]
        made = self.made.get(environment)
        if made is not None and made.python is None:
            self.problems[name] = f"not installed: {made.reason}"
            return {}
        python = Path(sys.executable) if made is None else made.python
        command = [str(python), str(HERE / "peers" / f"{script}_rows.py"), task, str(folder), name]
        env = {"HF_HOME": str(self.home / "hf"), "LITDATA_DISABLE_VERSION_CHECK": "1"}
        if made is None:
            env["PYTHONPATH"] = str(ROOT)
        log = folder / f"{name}-{task}.log"
        used = measure.run(command, log=log, cwd=folder, env=env, core=self.core)
        lines = log.read_text(errors="replace").strip().splitlines()
        told = [line for line in lines if line.startswith("{")]
        if used.code == 0 and (told or task == "prepare"):
            return json.loads(told[-1]) if told else {}
        self.problems[name] = f"failed with status {used.code}: {(lines or ['nothing'])[-1][-200:]}"
        print(f"  {name}: {self.problems[name]} (see {log})", flush=True)
        return {}


def page(facts: Facts) -> str:
    """Return LOADERS.md."""
    parts = [
        "# Reading rows: measured",
        f"Written by `{facts['command']}` on {facts['date']}. {pages.machine()}; load average "
        f"{facts['load'][0]:.1f} at the start, {facts['load'][1]:.1f} at the end. One core, one "
        "process for each measurement, loaders in turns, medians (and extremes). Speeds are per "
        "CPU second of an epoch in shuffled order, read for the second time, in batches of 16 rows "
        "as int64 tensors; the start is wall time from open to the first batch, without imports; a "
        "row is one at a random place, as a tensor.",
    ]
    for row_tokens, (rows, runs) in facts["measured"].items():
        parts.append(f"## {rows['rows']:,} rows of {row_tokens} tokens")
        parts.append(
            f"{rows['documents']:,} documents (median {rows['median']:,} tokens), "
            f"{rows['tokens']:,} tokens; {100 * rows['waste']:.3f} % of the rows is padding."
        )
        head = ["loader", "million tokens/s", "start, s", "imports, s", "random row, us"]
        lines = []
        for name in LOADERS:
            if name in runs:
                of = {key: [one[key] for one in runs[name]] for key in runs[name][0]}
                speeds = [one / 1e6 for one in of["tokens_per_cpu_s"]]
                cells = [
                    pages.spread(speeds, "{:.1f}"),
                    pages.spread(of["start_s"], "{:.3f}"),
                    pages.spread(of["import_s"], "{:.1f}"),
                    pages.spread(of["row_us"], "{:.0f}"),
                ]
                lines.append([name, *cells])
        parts.append(pages.table(head, lines))
        parts.append(goal(runs))
    lines = [
        [name, facts["versions"].get(environment, "this tree"), what]
        for name, (_, environment, what) in LOADERS.items()
    ]
    parts.append("## What they do\n\n" + pages.table(["loader", "version", "how"], lines))
    if facts["problems"]:
        told = "\n".join(f"- {name}: {why}" for name, why in facts["problems"].items())
        parts.append(f"## Not measured\n\n{told}")
    return "\n\n".join(parts) + "\n"


def goal(runs: dict[str, list[Facts]]) -> str:
    """Return how many times as fast as the fastest of the others ours are."""
    speeds = {
        name: statistics.median(one["tokens_per_cpu_s"] for one in found)
        for name, found in runs.items()
    }
    others = {name: speed for name, speed in speeds.items() if name in PEERS}
    if not others or OURS not in speeds:
        return "Nothing to compare with."
    best = max(others, key=lambda name: others[name])
    ratio = speeds[OURS] / others[best]
    told = f"{OURS} {ratio:.1f}x ({pages.word(ratio >= AIM, ratio >= AIM)})"
    if "ours" in speeds:
        told += f", ours, which makes four such tensors, {speeds['ours'] / others[best]:.1f}x"
    floor = f"; the floor, {FLOOR}, {speeds[FLOOR] / others[best]:.1f}x" if FLOOR in speeds else ""
    return f"Against the fastest of the others, {best}: {told}{floor}. Aim: {AIM:g}x."


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens-m", type=float, default=0, help=f"millions ({TOKENS_M:g})")
    parser.add_argument("--data", type=Path, help="a folder of .txt, .jsonl or .parquet instead")
    parser.add_argument("--column", default="text", help="the column or key of the text in --data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=sorted(LOADERS))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_M:g} M tokens, one repeat")
    parser.add_argument("--core", type=int, help="the core to run on (default: the last)")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench")
    parser.add_argument("--results", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats = 1
    usual = not (options.quick or options.tokens_m or options.data) and options.only is None
    options.size_mb = QUICK_MB if options.quick else SIZE_MB
    options.tokens_m = options.tokens_m or (QUICK_M if options.quick else TOKENS_M)
    if options.core is None and hasattr(os, "sched_getaffinity"):
        options.core = max(os.sched_getaffinity(0))
    if options.results is None:
        options.results = (HERE if usual else options.home) / "LOADERS.md"
    return options


def main() -> int:
    """Measure and write the page."""
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    bench = Bench(options)
    measured = {row_tokens: bench.rows(row_tokens) for row_tokens in ROW_TOKENS}
    given = " ".join(sys.argv[1:])
    facts = {
        "command": "make bench-pack" + (f' ARGS="{given}"' if given else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "load": [load, os.getloadavg()[0]],
        "measured": measured,
        "problems": bench.problems,
        "versions": {name: made.version for name, made in bench.made.items()},
    }
    text = page(facts)
    options.results.write_text(text)
    print(text)
    print(f"Wrote {options.results}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
