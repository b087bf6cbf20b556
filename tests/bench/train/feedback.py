"""What telling costs: steps with the whole ledger, in turns with steps that tell nothing.

Told are losses per source and document, metrics, curves, alarms and files of feedback, flushed
every 10 steps (large: 2) and written every 50 (large: 10); the other steps only update the weights.
Both kinds are made in one process, in turns (A B, B A ...), of the same rows of a made-up corpus.

    python tests/bench/train/feedback.py [--repeats 7] [--threads 1] [--sizes small,large]

Two numbers are printed, each with a 95 % interval (Student's t over repeats): the difference in
time between the kinds (of the medians of a repeat, plus what was flushed), and the time inside the
ledger's calls over that of the updates, which on a CPU is all of the cost but caches, and far less
noisy. On a CPU the clock is the process's own CPU time, so that others on the machine disturb less.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import torch

from train.data import Reader, Stream
from train.ledger import Ledger
from train.loop import _update
from train.model import Model, ModelSpec
from train.objectives import Rows
from train.optim import make_optimizer, set_rate
from train.parallel import Ranks
from train.runfile import Run, load_run
from train.shards import Plan, Shards

#: name: (settings, pairs of steps in a repeat)
SIZES: dict[str, tuple[dict[str, int], int]] = {
    "small": (
        {"depth": 2, "batch_rows": 4, "checkpoint_every": 50},
        20,
    ),  # 1,024 tokens a step: the defaults
    "large": ({"depth": 4, "batch_rows": 64, "checkpoint_every": 10}, 2),  # 16,384 tokens a step
}
ROW_TOKENS, VOCAB_SIZE, STEPS = 256, 4096, 100_000
SPAN = ("shard", "document", "start", "length", "source")
#: Student's t, two-sided 95 %, by degrees of freedom (2 for more than 30).
STUDENT = {4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 14: 2.145}


def _write(path: Path, columns: dict[str, Any]) -> dict[str, Any]:
    table = pa.table(columns)
    with pa.ipc.new_file(str(path), table.schema) as sink:
        sink.write_table(table, max_chunksize=4096)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return {"uri": str(path), "sha256": digest, "rows": len(table), "bytes": len(content)}


def make_run(folder: Path, settings: dict[str, Any], num_docs: int = 20_000) -> Path:
    """Write a corpus of random tokens, its plan and run.json; documents have 20 to 2,000 tokens."""
    random = np.random.default_rng(1)
    lengths = np.exp(random.normal(5, 0.9, num_docs)).clip(20, 2000).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(4, VOCAB_SIZE, starts[-1]).astype(np.uint16)
    tokens = pa.LargeListArray.from_arrays(pa.array(starts, pa.int64()), pa.array(ids))
    names = pa.array([i.to_bytes(16, "big") for i in range(num_docs)], pa.binary(16))
    shard = {"doc_id": names, "tokens": tokens, "num_bytes": pa.array(lengths * 4)}
    edges = np.union1d(starts, np.arange(0, starts[-1], ROW_TOKENS))[:-1]
    ends = np.append(edges[1:], starts[-1])
    document = np.searchsorted(starts, edges, side="right") - 1
    columns = (np.zeros_like(edges), document, edges - starts[document], ends - edges, document % 3)
    spans = pa.StructArray.from_arrays(list(map(pa.array, columns)), list(SPAN))
    rows = np.append(np.searchsorted(edges, np.arange(0, starts[-1], ROW_TOKENS)), len(edges))
    plan = {"spans": pa.ListArray.from_arrays(pa.array(rows, pa.int32()), spans)}
    sizes = {"num_bytes": np.r_[np.zeros(4, np.int64), np.full(VOCAB_SIZE - 4, 4)]}
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_text(json.dumps({"model": {"vocab": {str(i): i for i in range(VOCAB_SIZE)}}}))
    run = {
        "format": 1,
        "id": "bench",
        "corpus": {"name": "bench", "version": 1},
        "tokenizer": {
            "uri": str(tokenizer),
            "sha256": hashlib.sha256(tokenizer.read_bytes()).hexdigest(),
            "vocab_size": VOCAB_SIZE,
            "specials": {"bos": 0, "eos": 1, "pad": 2, "mask": 3},
            "num_bytes": _write(folder / "token_bytes.arrow", sizes),
        },
        "sources": ["books", "code", "web"],
        "shards": [_write(folder / "shard.arrow", shard)],
        "plans": {"train": [_write(folder / "plan.arrow", plan)]},
        "row_tokens": ROW_TOKENS,
        "config": {"steps": STEPS, "warmup_fraction": 1e-4, **settings},
        "seed": 1,
    }
    (folder / "run.json").write_text(json.dumps(run))
    return folder / "run.json"


class Bench:
    """A model in training, whose steps can be told of or not."""

    def __init__(self, run: Run, log_every: int) -> None:
        self.run, self.ranks, self.log_every = run, Ranks.start(run.config), log_every
        shards = Shards(run.shards)
        plans = {k: Plan(v, shards, num_sources=len(run.sources)) for k, v in run.plans.items()}
        reader = Reader(
            shards, row_tokens=run.row_tokens, pad=2, vocab_size=run.vocab_size, ends=(0, 1)
        )
        self.stream = Stream(plans, run.phases, reader, seed=run.seed)
        spec = ModelSpec.of(run.config, vocab_size=run.vocab_size, row_tokens=run.row_tokens)
        cuda = self.ranks.device.type == "cuda"
        dtype = torch.bfloat16 if cuda else torch.float32
        self.model = Model(spec, dtype=dtype).to(self.ranks.device)
        self.optimizer = make_optimizer(self.model, run.config, self.ranks.device)
        self.ledger = Ledger(
            run,
            shards=shards,
            plans=plans,
            spec=spec,
            ranks=self.ranks,
            device=self.ranks.device,
            steps=STEPS,
            progress=lambda *_: None,
            objective=self.model.objective,
        )
        self.ledger.rewind(0)
        self.done, self.inside, self.flushing = 0, 0.0, 0.0
        self.clock = time.perf_counter if cuda else time.process_time

    def _timed(self, call: Any, *arguments: Any, **options: Any) -> None:
        begin = self.clock()
        call(*arguments, **options)
        self.inside += self.clock() - begin

    def pair(self, *, told_first: bool) -> dict[bool, float]:
        """Make a step of either kind, of the same rows; return their seconds, flushes excluded."""
        rows = self.stream.batch(self.done, self.run.batch_rows).to(self.ranks.device)
        seconds = {}
        for told in (told_first, not told_first):
            self._wait()
            begin = self.clock()
            self._step(rows, told=told)
            self._wait()
            seconds[told] = self.clock() - begin
        self.done += 1
        begin = self.clock()
        if self.done % self.log_every == 0:
            self._timed(self.ledger.flush, self.done)
        self.flushing += self.clock() - begin
        return seconds

    def _step(self, rows: Rows, *, told: bool) -> None:
        rate = set_rate(self.optimizer, self.run.config, self.done, STEPS)
        norm, bad = _update(
            self.model,
            self.optimizer,
            [rows],
            self.run.config.grad_clip,
            self.ranks,
            partial(self._timed, self.ledger.observe) if told else None,
        )
        if told:
            close = self.ledger.close_step
            self._timed(close, self.done, rate=rate, skipped=bad, grad_norm=norm)

    def _wait(self) -> None:
        if self.ranks.device.type == "cuda":
            torch.cuda.synchronize()


def interval(values: list[float]) -> str:
    """Return the mean and its 95 % interval as per cent."""
    t = STUDENT.get(len(values) - 1, 2.0 if len(values) > 30 else 2.776)
    half = t * statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return f"{mean:+.2%} [{mean - half:+.2%}, {mean + half:+.2%}]"


def main() -> None:
    """Measure each size and print a line for it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7, help="at least 5")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", default=",".join(SIZES))
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    for size in given.sizes.split(","):
        settings, pairs = SIZES[size]
        with tempfile.TemporaryDirectory() as folder:
            bench = Bench(load_run(make_run(Path(folder), settings)), min(10, pairs))
            bench.pair(told_first=True)  # allocators and caches settle
            difference, inside, taken = [], [], []
            for _ in range(max(5, given.repeats)):
                bench.inside = bench.flushing = 0.0
                found = [bench.pair(told_first=bool(i % 2)) for i in range(pairs)]
                told, plain = (statistics.median(one[k] for one in found) for k in (True, False))
                difference.append((told + bench.flushing / pairs) / plain - 1)
                inside.append(bench.inside / pairs / plain)
                taken.append(plain)
        print(
            f"{size}: depth {settings['depth']}, {settings['batch_rows'] * ROW_TOKENS:,} tokens a "
            f"step of {statistics.median(taken) * 1e3:,.1f} ms on {bench.ranks.device.type}, "
            f"{len(taken)} repeats of {pairs} steps of each kind\n"
            f"  difference {interval(difference)}; inside the ledger {interval(inside)}",
            flush=True,
        )


if __name__ == "__main__":
    main()
