"""Compare the trainer with nanoGPT's step and with transformers' GPT-2: `make bench-train`.

All arms are in one process and take turns: each makes update s of the same rows before any makes
update s + 1, so a machine that is slow for a while is slow for all. The corpus is the demo's, the
text of this Python environment; held-out rows are of its validation split. nanoGPT's rates are
those it publishes for the size, transformers' arm has the same ones (it publishes none), ours are
its defaults: nothing is tuned here. Each arm's peak memory is that of a process of its own.
Writes nothing but .bench/train.

    python tests/bench/train/run.py [--quick] [--steps N] [--only ARM ...] [--store DIR]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent))

from arms import ARMS, Arm, Size

import pipelines
from pipelines.demo import RECIPE
from pipelines.recipe import parse_recipe
from pipelines.training import prepare_run
from train.data import Plan, Reader, Shards, Stream, cu_seqlens
from train.ledger import peak_flops
from train.model import padded_size
from train.objectives.base import Rows
from train.parallel import Ranks
from train.runfile import load_run

ROOT = Path(__file__).resolve().parents[3]
STORE = ROOT / ".bench" / "train"
BASELINE = "nanoGPT restated"
WARM_STEPS = 3
#: The table's columns and how their numbers are written.
FORMS = {
    "tokens/s": "{:,.0f}",
    "x": "{:.2f}",
    "x, CPU time": "{:.2f}",
    "MFU": "{:.1%}",
    "peak GB": "{:.2f}",
    "held-out": "{:.4f}",
    "tokens to": "{:.0%}",
    "s to": "{:,.0f}",
    "sooner": "{:.2f}x",
}


class Data:
    """The rows of training and those held out, as the trainer reads them."""

    def __init__(self, store: Path, cuda: bool) -> None:
        recipe = RECIPE
        if cuda:  # more text, longer rows, nanoGPT's number of ids
            more = "  - {name: packages, format: python-env, paths: [packages]}\nrules:"
            for old, new in (
                ("rules:", more),
                ("vocab_size: 4096", "vocab_size: 50304"),
                ("row_tokens: 256", "row_tokens: 1024"),
                ("name: demo", "name: bench-train"),
            ):
                assert old in recipe
                recipe = recipe.replace(old, new, 1)
        limit = 8000 if cuda else None  # files of a source: about 60 MB of shards
        pipelines.run(parse_recipe(recipe, limit=limit), store=str(store))
        name = "bench-train" if cuda else "demo"
        corpus = pipelines.open_corpus(name, store=str(store))
        run = load_run(prepare_run(corpus, {"steps": 1}))
        shards = Shards(run.shards)
        plans = {k: Plan(v, shards, num_sources=len(run.sources)) for k, v in run.plans.items()}
        self.reader = Reader(
            shards,
            row_tokens=run.row_tokens,
            pad=run.specials["pad"],
            vocab_size=run.vocab_size,
            ends=(run.specials["bos"], run.specials["eos"]),
        )
        self.stream = Stream(plans, run.phases, self.reader, seed=run.seed)
        self.plan, self.vocab_size = plans["validation"], run.vocab_size
        self.megabytes = sum(Path(s).stat().st_size for s in run.shards) / 1e6
        self.tokens = int(shards.lengths.sum())

    def batches(self, steps: int, size: Size, device: torch.device) -> Iterator[list[Rows]]:
        """Yield each update's micro-batches on the device, as the trainer's loop gets them."""
        feed = self.stream.feed(
            range(steps),
            size.batch_rows,
            Ranks(device=device),
            micro_rows=size.micro_rows,
            documents=True,
        )
        return (batch for batch, _ in feed)

    def held_out(self, num_rows: int, size: Size, device: torch.device) -> list[Rows]:
        """Return rows of the validation split, on the device."""
        chosen = np.linspace(0, self.plan.num_rows - 1, min(num_rows, self.plan.num_rows))
        parts = np.array_split(np.unique(chosen.astype(np.int64)), -(-num_rows // size.micro_rows))
        return [self.reader.rows(self.plan, part).to(device) for part in parts if len(part)]


class Turn:
    """One arm's share of the comparison: seconds of its updates, its held-out losses."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.curve: list[tuple[int, float]] = []  # updates, nats per token

    def update(self, step: int, batch: Sequence[Rows]) -> None:
        """Make one update and time it, to the end of the device's work."""
        begin, cpu = time.perf_counter(), time.process_time()
        self.arm.update(step, batch)
        if self.arm.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - begin)
        self.cpu_seconds.append(time.process_time() - cpu)

    @property
    def step_seconds(self) -> float:
        """The median of updates after the first ones."""
        return _median(self.seconds)

    def against(self, other: "Turn") -> tuple[float, float]:
        """Return how much faster than another's its updates are, by the clock and in CPU time."""
        pairs = ((self.seconds, other.seconds), (self.cpu_seconds, other.cpu_seconds))
        clock, cpu = ([b / a for a, b in zip(*pair, strict=True)] for pair in pairs)
        return _median(clock), _median(cpu)

    @torch.no_grad()
    def look(self, done: int, rows: Sequence[Rows], count: int) -> None:
        """Measure on held-out rows; not timed."""
        nats = sum(self.arm.nats(part) for part in rows) / count
        self.curve.append((done, nats))

    def reaches(self, loss: float) -> float | None:
        """Return the updates after which the held-out loss is down to `loss`, between two looks."""
        for (first, high), (second, low) in pairwise(self.curve):
            if low <= loss < high:
                return first + (high - loss) / (high - low) * (second - first)
        return None


def _median(values: Sequence[float]) -> float:
    return statistics.median(values[WARM_STEPS:] or values)


def memory(name: str, size: Size) -> float | None:
    """Return the GB that two updates of an arm take at most, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name, json.dumps(asdict(size))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return float(done.stdout.split()[-1]) if done.returncode == 0 else None


def resident() -> float:
    """Return the most memory that this process has had, in GB; getrusage would count the parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9


def peak(name: str, size: Size, device: torch.device) -> float:
    """Make two updates of one micro-batch of random rows; return the GB that they took."""
    shape = (size.micro_rows, size.row_tokens)
    ids = torch.randint(0, size.vocab_size, shape, device=device)
    zeros = torch.zeros_like(ids)
    spans = zeros.clone()
    spans[:, size.row_tokens // 2 :] = 1  # two documents in a row
    # As the loader gives it on CUDA, so that an arm with the mask takes the path of its training.
    ends = cu_seqlens(spans.cpu(), 64 * len(ids)).to(device) if device.type == "cuda" else None
    rows = Rows(
        tokens=ids,
        targets=ids,
        sources=zeros,
        documents=spans,
        spans=spans,
        keys=zeros[:, :3],
        cu_seqlens=ends,
    )
    before = resident()
    arm = ARMS[name](size, device, 10)
    for step in range(2):
        arm.update(step, [rows])
    cuda = device.type == "cuda"
    return torch.cuda.max_memory_allocated() / 1e9 if cuda else resident() - before


def compare(data: Data, size: Size, device: torch.device, options: Any) -> dict[str, Turn]:
    """Let the arms train in turns."""
    turns = {}
    for name in options.only:
        torch.manual_seed(0)
        try:
            turns[name] = Turn(ARMS[name](size, device, options.steps))
        except ImportError as error:
            print(f"{name} is left out: {error}")
    held = data.held_out(options.held_rows, size, device)
    count = sum(int((part.targets >= 0).sum()) for part in held)
    looks = {round(k * options.steps / options.looks) for k in range(1, options.looks + 1)}
    begin = time.perf_counter()
    for step, batch in enumerate(data.batches(options.steps, size, device)):
        order = [*turns.values()]
        for turn in order[step % len(order) :] + order[: step % len(order)]:
            turn.update(step, batch)
            if step + 1 in looks:
                turn.look(step + 1, held, count)
        if step + 1 in looks:
            losses = ", ".join(f"{k} {t.curve[-1][1]:.3f}" for k, t in turns.items())
            print(f"{step + 1:5} {time.perf_counter() - begin:6.0f} s  {losses}", flush=True)
    return turns


def loader_speed(data: Data, size: Size, device: torch.device) -> float:
    """Return tokens per second of all that makes a step's batches, on one core.

    That is what `Stream.feed` does for a step: rows, micro-batches and, on CUDA, where documents
    begin and the copy to pinned memory. The shards lie in the page cache.
    """
    torch.set_num_threads(1)
    taken = []
    for step in range(20):
        begin = time.perf_counter()
        data.stream.make(
            step,
            size.batch_rows,
            Ranks(device=device),
            micro_rows=size.micro_rows,
            documents=True,
        )
        taken.append(time.perf_counter() - begin)
    return size.batch_rows * size.row_tokens / statistics.median(taken)


def show(turns: dict[str, Turn], size: Size, device: torch.device) -> list[dict[str, Any]]:
    """Print the table; return its rows as plain data."""
    tokens, best = size.batch_rows * size.row_tokens, None
    if device.type == "cuda":
        best = peak_flops(torch.cuda.get_device_name())
    base = turns.get(BASELINE)
    table = Table(box=None, pad_edge=False)
    for column in ("", *FORMS):
        table.add_column(column, justify="right" if column else "left")
    facts = []
    for name, turn in turns.items():
        speed, (done, loss) = tokens / turn.step_seconds, turn.curve[-1]
        row: dict[str, float | None] = dict.fromkeys(FORMS)
        row |= {"tokens/s": speed, "peak GB": memory(name, size), "held-out": loss}
        if best:
            row["MFU"] = speed * size.flops_per_token / best
        if base:
            faster, in_cpu_time = turn.against(base)
            row |= {"x": faster, "x, CPU time": in_cpu_time}
            goal = done if turn is base else turn.reaches(base.curve[-1][1])
            if goal:
                row["tokens to"], row["s to"] = goal / done, goal * turn.step_seconds
                row["sooner"] = faster * done / goal
        if device.type == "cuda":
            row["x, CPU time"] = None
        shown = ("-" if v is None else FORMS[k].format(v) for k, v in row.items())
        table.add_row(name, *shown)
        facts.append({"arm": name, **row, "curve": turn.curve, "seconds": turn.seconds})
    Console(width=130).print(table)
    print("tokens to, s to, sooner: until the held-out loss is what the first arm ends with")
    return facts


def sizes(cuda: bool, vocab_size: int, quick: bool) -> Size:
    """nanoGPT's own sizes: its GPT-2 on CUDA, the small character model's on a CPU."""
    if cuda:
        return Size(
            vocab_size=vocab_size, depth=12, width=768, heads=12, row_tokens=1024,
            batch_rows=512, micro_rows=32, rate=6e-4, beta2=0.95,
        )  # fmt: skip
    return Size(
        vocab_size=vocab_size, depth=6, width=384, heads=6, row_tokens=256,
        batch_rows=16 if quick else 64, micro_rows=16, rate=1e-3, beta2=0.99,
    )  # fmt: skip


def main() -> None:
    """Build the corpus, run the comparison, print it, keep it in .bench/train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the batch, 30 steps")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--only", nargs="+", choices=[*ARMS], default=[*ARMS], metavar="ARM")
    parser.add_argument("--looks", type=int, default=20, help="held-out measurements")
    parser.add_argument("--held-rows", type=int, default=256)
    parser.add_argument("--threads", type=int, help="CPU threads (default: torch's)")
    parser.add_argument("--store", type=Path, default=STORE, help="of the corpus (%(default)s)")
    parser.add_argument("--peak", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    torch.set_float32_matmul_precision("high")  # as nanoGPT has it
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.peak:
        name, size = options.peak
        print(peak(name, Size(**json.loads(size)), device))
        return
    options.steps = options.steps or (30 if options.quick else 300 if cuda else 120)
    data = Data(options.store, cuda)
    size = sizes(cuda, padded_size(data.vocab_size), options.quick)
    machine = torch.cuda.get_device_name() if cuda else f"{os.cpu_count()} cores of {_processor()}"
    tokens = size.batch_rows * size.row_tokens
    print(
        f"{machine}, torch {torch.__version__}; {size.depth} layers, d = {size.width}, "
        f"T = {size.row_tokens}, {tokens:,} tokens per update, {options.steps} updates, "
        f"{size.vocab_size:,} ids; shards of {data.megabytes:.0f} MB, "
        f"{data.tokens / 1e6:.1f} M tokens",
        flush=True,
    )
    turns = compare(data, size, device, options)
    facts = show(turns, size, device)
    fastest = max(fact["tokens/s"] for fact in facts)
    alone = loader_speed(data, size, device)
    print(
        f"making batches alone (one core, warm page cache): {alone:,.0f} tokens/s, "
        f"{alone / fastest:,.0f}x what the fastest eats"
    )
    STORE.mkdir(parents=True, exist_ok=True)
    (STORE / "result.json").write_text(json.dumps({"machine": machine, "arms": facts}, indent=1))


def _processor() -> str:
    """Return the processor's name, as Linux tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    main()
