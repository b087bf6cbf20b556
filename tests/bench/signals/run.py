"""Compare our signals, our decontamination and the passes up to `judge` with other tools.

`make bench-signals` takes the corpus of `make bench-dedup`, makes an environment for each tool,
runs all in turns (ours, a tool, ours, the next tool, ...) on one core, and writes RESULTS.md.
Everything it makes is under .bench/, which may be deleted.

    python tests/bench/signals/run.py [--quick] [--only TOOL ...] [--repeats N] [--size-mb N]
"""

import argparse
import json
import os
import random
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from math import ceil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import table
from neighbours import HERE, ROOT, corpora, environments, measure
from rows import ENVIRONMENTS, OURS_IN, PEERS, TITLES, Contender

SIZE_MB, QUICK_MB = 175.0, 10.0
SAMPLE_MB, QUICK_SAMPLE_MB = 6.0, 2.0
NUM_ITEMS, ITEM_WORDS, INSIDE_SHARE = 2_000, 100, 0.005
TINY_DOCS = 20
PIPELINE = "pipeline"
LOG_TAIL = 300


class Bench:
    """One benchmark: its texts, its environments and what was measured so far."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.home = options.home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / ".gitignore").write_text("*\n")
        self.out = self.home / "signals"
        self.out.mkdir(exist_ok=True)
        self.core, self.repeats = options.core, options.repeats
        self.corpus = corpora.prepare(
            self.home,
            size_mb=options.size_mb,
            seed=options.seed,
            data=options.data,
            column=options.column,
        )
        sample_mb = QUICK_SAMPLE_MB if options.quick else SAMPLE_MB
        _write_inputs(self.corpus, self.out, sample_mb)
        chosen = options.only
        self.peers = [one for one in PEERS if chosen is None or one.name in chosen]
        self.with_pipeline = chosen is None or PIPELINE in chosen
        needed = {one.environment for one in self.peers}
        self.made = {
            name: environments.ensure(one, self.home / "venvs")
            for name, one in ENVIRONMENTS.items()
            if name in needed
        }
        self.pairs: dict[str, list[dict[str, Any]]] = {}
        self.problems: dict[str, str] = {}

    def components(self) -> None:
        """Run ours and each of the others in turns."""
        for row in dict.fromkeys(one.row for one in self.peers):
            self._component(OURS_IN[row])  # compiles what is not compiled yet: thrown away
        for turn in range(self.repeats):
            for one in self.peers:
                if _key(one) in self.problems or turn >= (one.max_repeats or self.repeats):
                    continue
                mine, theirs = self._component(OURS_IN[one.row]), self._component(one)
                if mine and theirs:
                    self.pairs.setdefault(_key(one), []).append({"ours": mine, "theirs": theirs})
                    ratio = theirs["cpu_s"] / mine["cpu_s"]
                    print(f"  {TITLES[one.row]}, {one.name}: {ratio:.1f}x ours", flush=True)

    def pipeline(self) -> list[dict[str, Any]]:
        """Run our passes and a plain rewrite of the same file in turns, then on a few documents."""
        tiny = self.out / "tiny.parquet"
        self._whole("ours", tiny)  # compiles
        pairs = []
        for _ in range(self.repeats):
            pair = {what: self._whole(what, self.corpus.parquet) for what in ("rewrite", "ours")}
            pair |= {f"{what} start": self._whole(what, tiny) for what in ("rewrite", "ours")}
            if all(pair.values()):
                pairs.append(pair)
                cpu = {what: f"{facts['cpu_s']:.2f}" for what, facts in pair.items()}
                print(f"  whole processes, CPU s: {cpu}", flush=True)
        return pairs

    def _component(self, one: Contender) -> dict[str, Any]:
        made = self.made.get(one.environment)
        if made is not None and made.python is None:
            self.problems[_key(one)] = f"not installed: {made.reason}"
            return {}
        python = Path(sys.executable) if made is None else made.python
        command = one.command(python, self.out / "sample.json", self.out / "items.json")
        name = f"{one.row}-{one.name}".replace(" ", "-").replace(",", "")
        facts, _ = self._json(_key(one), name, command, ours=made is None)
        return facts

    def _whole(self, what: str, source: Path) -> dict[str, Any]:
        folder = self.out / what
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        script, items = str(HERE / "whole.py"), str(self.out / "items.parquet")
        command = [sys.executable, script, what, str(source), items, str(folder)]
        parts, used = self._json(f"{PIPELINE}/{what}", f"whole-{what}", command, ours=True)
        shutil.rmtree(folder, ignore_errors=True)
        return {**asdict(used), "log": "", "parts": parts} if parts else {}

    def _json(
        self, key: str, name: str, command: list[str], *, ours: bool
    ) -> tuple[dict[str, Any], Any]:
        """Run a command that prints JSON at its end; nothing where it failed."""
        log = self.out / f"{name}.log"
        env = {"XDG_CACHE_HOME": str(self.home / "cache"), "HF_HOME": str(self.out / "hf")}
        if ours:
            env["PYTHONPATH"] = str(ROOT)
        used = measure.run(command, log=log, cwd=self.out, env=env, core=self.core)
        lines = log.read_text(errors="replace").strip().splitlines() or ["no output"]
        if used.code == 0:
            for line in reversed(lines):  # a library may say goodbye behind it
                if line.startswith("{"):
                    return json.loads(line), used
        self.problems[key] = f"failed with status {used.code}: {lines[-1][-LOG_TAIL:]}"
        print(f"  {key}: {self.problems[key]} (see {log})", flush=True)
        return {}, used


def _key(one: Contender) -> str:
    return f"{one.row}/{one.name}"


def _write_inputs(corpus: Any, out: Path, sample_mb: float) -> None:
    """Write a sample of the corpus, benchmark items and a few documents.

    Items are passages of documents of the corpus that have no copies in it; `INSIDE_SHARE` of the
    sample's documents hold one, and the other items are of documents outside.
    """
    table = pq.read_table(corpus.parquet)
    truth = pq.read_table(corpus.truth, columns=["a", "b"])
    copied = {name for column in truth.columns for name in column.to_pylist()}
    rows = list(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    random.Random("bench-signals").shuffle(rows)
    size, end = 0, 0
    while end < len(rows) // 2 and size < sample_mb * 1e6:
        size += len(rows[end][1].encode())
        end += 1
    passages = (
        [text.split()[-ITEM_WORDS:] for name, text in part if name not in copied]
        for part in (rows[:end], rows[end:])
    )
    inside, outside = (
        [" ".join(words) for words in part if len(words) == ITEM_WORDS] for part in passages
    )
    items = [*inside[: ceil(INSIDE_SHARE * end)], *outside][:NUM_ITEMS]
    for name, values in (("sample", [text for _, text in rows[:end]]), ("items", items)):
        (out / f"{name}.json").write_text(json.dumps(values), encoding="utf-8")
        pq.write_table(
            pa.table({"text": pa.array(values, pa.large_string())}), out / f"{name}.parquet"
        )
    pq.write_table(table.slice(0, TINY_DOCS), out / "tiny.parquet")


def parse(arguments: list[str]) -> argparse.Namespace:
    """Return the options."""
    names = sorted({one.name for one in PEERS} | {PIPELINE})
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mb", type=float, default=0, help=f"of text (default {SIZE_MB:g})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a folder of .txt, .jsonl or .parquet instead")
    parser.add_argument("--column", default="text", help="the column or key of the text in --data")
    parser.add_argument("--repeats", type=int, default=3, help="of each but the slowest tools")
    parser.add_argument("--only", nargs="*", choices=names, help="these: " + ", ".join(names))
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MB:g} MB, one repeat")
    parser.add_argument("--core", type=int, default=_last_core(), help="the core to run on")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench")
    parser.add_argument("--results", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats = 1
    usual = not (options.quick or options.size_mb or options.data) and options.only is None
    options.size_mb = options.size_mb or (QUICK_MB if options.quick else SIZE_MB)
    if options.results is None:
        options.results = HERE / "RESULTS.md" if usual else options.home / "signals-RESULTS.md"
    return options


def _last_core() -> int | None:
    """Return a core to pin to: not the first one, which serves interrupts."""
    return max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def main() -> int:
    """Measure everything and write the results; 1 where what is asked at least is missed."""
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    bench = Bench(options)
    print("Components, in turns:", flush=True)
    bench.components()
    pipeline = []
    if bench.with_pipeline:
        print("Whole processes, in turns:", flush=True)
        pipeline = bench.pipeline()
    facts = {
        "command": "make bench-signals"
        + (f' ARGS="{" ".join(sys.argv[1:])}"' if sys.argv[1:] else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "load": [load, os.getloadavg()[0]],
        "corpus": bench.corpus.facts,
        "sample_bytes": sum(
            len(text.encode())
            for text in pq.read_table(bench.out / "sample.parquet")["text"].to_pylist()
        ),
        "items": pq.read_metadata(bench.out / "items.parquet").num_rows,
        "pairs": bench.pairs,
        "pipeline": pipeline,
        "problems": bench.problems,
        "versions": {name: made.version for name, made in bench.made.items()},
    }
    (bench.out / "results.json").write_text(json.dumps(facts, indent=1))
    options.results.write_text(table.page(facts))
    print(table.goals(facts))
    print(f"Wrote {options.results}")
    return 1 if table.missed(facts) else 0


if __name__ == "__main__":
    sys.exit(main())
