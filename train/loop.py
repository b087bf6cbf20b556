"""The training loop: rows, loss, update, ledger, checkpoint; it reads top to bottom.

Everything that shapes the arithmetic (steps, type, threads, attention) is settled once, before the
first step, and written to `resolved.json`, so that a run that was killed goes on with the same
numbers. Nothing inside a step waits for the device: losses stay there until a line is due.

Losses and gradients are sums; the mean is taken once a step, over all its targets, whatever the
micro-batches and ranks. So these may change between two starts of a run: the rows of a step stay
the same, bit for bit, and its loss within rounding.
"""

import contextlib
import gc
import json
import os
import time
import timeit
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curate.corpus.errors import InputError
from train import checkpoint
from train.alarms import Alarm
from train.config import DEFAULT_MINUTES, DTYPES, TrainConfig
from train.coupled import backward_in_parts
from train.data import Reader, Stream
from train.evaluate import held_out_of
from train.generate import generate
from train.glance import glance
from train.guards import determined, no_collection, stoppable
from train.handoff import hand_off
from train.initial import parent_of, scaled, spec_of, start_from
from train.ledger import Ledger, Progress
from train.model import Model, ModelSpec
from train.models.attention import choose
from train.objectives import Loss, Rows
from train.optim import Optimizer, make_optimizer, set_rate
from train.parallel import Ranks, norm_of, shard, sum_gradients, whole
from train.rows import reader_of
from train.runfile import Run, locked, read_json, write_json
from train.shards import Plan, Shards

__all__ = ["train"]

_say = partial(print, flush=True)


def train(run: Run, *, progress: Progress | None = None) -> dict[str, Any]:
    """Train `run`, resuming from its newest whole checkpoint; write and return the result.

    Of several ranks, only the first one returns it; the others return {} when they are done.
    """
    ranks = Ranks.start(run.config)
    opened = _open(run, ranks)
    with contextlib.ExitStack() as stack:
        with ranks.agree():
            if ranks.first:
                stack.enter_context(locked(run.folder))
        stack.enter_context(determined(run.config, ranks))
        try:
            return _train(run, ranks, *opened, progress)
        except Alarm as alarm:
            if ranks.first:
                raise
            raise SystemExit(2) from alarm  # the first has said it


def _train(
    run: Run,
    ranks: Ranks,
    shards: Shards,
    plans: dict[str, Plan],
    reader: Reader,
    stream: Stream,
    progress: Progress | None,
) -> dict[str, Any]:
    config, folder = run.config, run.folder / "checkpoints"
    latest: dict[str, Any] | None = None
    with ranks.agree():
        if ranks.first:
            latest = checkpoint.find_latest(folder, _say)
    found = ranks.share(latest)
    settled, model, optimizer = _prepare(run, stream, ranks, found)
    steps: int = settled["steps"]

    ledger = Ledger(
        run,
        shards=shards,
        plans=plans,
        spec=model.spec,
        ranks=ranks,
        device=ranks.device,
        steps=steps,
        progress=progress,
        objective=model.objective,
    )
    peak: float = getattr(config, config.matrix_rate(model.spec.row_tokens))
    start = _resume(found, stream, model, optimizer, ledger)
    feed = _feed(run, model, stream, ranks, range(start, steps))
    with contextlib.closing(feed), no_collection(), stoppable(ranks) as asked:
        for step, (batch, waited) in enumerate(feed, start):
            rate = set_rate(optimizer, config, step, steps) * peak
            norm, bad, sums = _update(
                model, optimizer, batch, config.grad_clip, ranks, ledger.observe
            )
            model.after_step(step, steps)
            ledger.close_step(step, sums, rate=rate, skipped=bad, grad_norm=norm, waited=waited)

            done = step + 1
            held = _due(done, config.eval_every, steps) and done < steps and "validation" in plans
            keep = _due(done, config.checkpoint_every, steps) or bool(asked)
            stop: Alarm | None = None
            if told := _told(done, config.log_every, steps) or held or keep:
                stop = ledger.flush(done, keep=keep)
                gc.collect()
            if held:
                metrics: dict[str, float | None] = {}
                seen = glance(
                    model,
                    reader,
                    plans["validation"],
                    ranks.device,
                    config.eval_rows,
                    num_sources=len(run.sources),
                    ranks=ranks,
                    batch_rows=run.batch_rows,
                    metrics=metrics,
                )
                ledger.held_out(done, seen, metrics)
            if keep or stop:
                tensors = checkpoint.pack(model, optimizer, ledger.state(), ranks)
                state = {"identity": run.identity, "data": stream.state(done * run.batch_rows)}
                checkpoint.save(
                    folder, done, tensors, state, keep=config.keep_checkpoints, ranks=ranks
                )
            if stop:
                raise stop
            if asked and keep and done < steps:
                raise KeyboardInterrupt(f"stopped after step {done} of {steps}")
            if told:
                ledger.restart()
    model = _whole(model, ranks)
    ranks.stop()
    if not ranks.first:
        return {}
    return _finish(run, model, ledger, settled, shards, plans, reader, ranks.device)


def _open(run: Run, ranks: Ranks) -> tuple[Shards, dict[str, Plan], Reader, Stream]:
    """Map what the run reads; refuse what may not be trained on, or not be shared by ranks."""
    failed, despite = run.checks.get("failed"), run.checks.get("despite")
    if failed and not despite:
        raise InputError(
            f"the corpus of run {run.id} fails its checks ({', '.join(map(str, failed))}), and the "
            "run names no reason to train despite that; mend the recipe, or resolve the run with "
            '--despite-checks "the reason"'
        )
    if run.batch_rows % ranks.world:
        raise InputError(
            f"a step's {run.batch_rows} rows cannot be shared by {ranks.world} ranks; set "
            "train.batch_rows to a multiple of the number of ranks"
        )
    model = run.folder / "model"
    if os.path.lexists(model) and (model.is_symlink() or not model.is_dir()):
        what = "a link" if model.is_symlink() else "a file"
        raise InputError(
            f"{model} is {what}, but the trained model's folder goes there; move it elsewhere"
        )
    shards = Shards(run.shards)
    plans = {k: Plan(v, shards, num_sources=len(run.sources)) for k, v in run.plans.items()}
    for phase in run.phases:
        if not plans[phase.plan].num_rows:
            raise InputError(f"plan {phase.plan!r} of run {run.id} has no rows to train on")
        if ranks.first and run.batch_rows > plans[phase.plan].num_rows:
            _say(
                f"plan {phase.plan!r} has {plans[phase.plan].num_rows} rows: a step of "
                f"{run.batch_rows} (batch_rows) reads some of them more than once"
            )
    reader = reader_of(run, shards, Reader)
    return shards, plans, reader, Stream(plans, run.phases, reader, seed=run.seed)


def _feed(
    run: Run, model: Model, stream: Stream, ranks: Ranks, steps: range
) -> Generator[tuple[list[Rows], float]]:
    """Yield this rank's micro-batches of each step, and the seconds waited for them."""
    return stream.feed(
        steps,
        run.batch_rows,
        ranks,
        micro_rows=run.config.micro_rows,
        documents=model.backbone.form == "varlen" and not run.media,
    )


def _update(
    model: Model,
    optimizer: Optimizer,
    batch: list[Rows],
    grad_clip: float,
    ranks: Ranks,
    observe: Callable[[Rows, Loss], None] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """One step: gradients of sums over micro-batches and ranks, divided once by their targets.

    A step whose loss or gradient is not finite changes nothing.

    Returns:
        The gradient's norm before clipping, whether it was bad (1.0), and [2] nats and targets of
        all ranks; on the device.
    """
    sums = torch.zeros(2, dtype=torch.float64, device=ranks.device)
    if model.objective.batch_coupled and (len(batch) > 1 or ranks.world > 1):
        sums += backward_in_parts(model, batch, ranks, observe)
        batch = []
    for rows in batch:
        loss: Loss = model(rows)
        loss.total.backward()
        sums += torch.stack([loss.total.detach().double(), loss.count.double()])
        if observe is not None:
            observe(rows, loss)
    gradients = sum_gradients(model, ranks)
    total, count = ranks.sum_(sums)
    scale = 1 / torch.where(count > 0, count, 1)
    norm = norm_of(gradients, ranks) * scale
    bad = 1 - (norm.isfinite() & total.isfinite()).float()
    if grad_clip:
        scale = scale * (grad_clip / (norm + 1e-6)).clamp(max=1)
    torch._foreach_mul_(gradients, scale.float())
    optimizer.step(bad)
    optimizer.zero_grad(set_to_none=True)
    return norm, bad, sums


def _due(done: int, every: int, steps: int) -> bool:
    return done == steps or (every > 0 and done % every == 0)


def _told(done: int, every: int, steps: int) -> bool:
    """Return whether a line is due; the last one tells of a whole interval and what is left."""
    return done == steps or (done % every == 0 and steps - done >= every)


def _prepare(
    run: Run, stream: Stream, ranks: Ranks, found: dict[str, Any] | None
) -> tuple[dict[str, Any], Model, Optimizer]:
    """Settle what a resumed run must share, and build the model from the seed or its start."""
    config, file, device = run.config, run.folder / "resolved.json", ranks.device
    spec = spec_of(run)
    settled: dict[str, Any] = {}
    with ranks.agree():
        if ranks.first:
            settled = _settle(run, spec, file, ranks)
    settled = ranks.share(settled)
    if found is not None:
        _same(run, found["identity"], run.folder / "checkpoints", int(found["data"]["sample"]))
    torch.set_num_threads(max(1, settled["threads"] // ranks.local_world))
    torch.manual_seed(run.seed)
    model = Model(spec, dtype=getattr(torch, settled["dtype"]), attention=settled["attention"]).to(
        device
    )
    if found is None and run.initial is not None:
        said = start_from(model, run)
        if ranks.first:
            _say(said)
    if config.compile == "on" or (config.compile == "auto" and device.type == "cuda"):
        model.compile_(by_block=ranks.sharded)
    if ranks.sharded:
        shard(model, model.backbone.blocks)
    if "steps" not in settled:
        settled["steps"] = config.steps or _calibrate(run, model, stream, ranks)
    with ranks.agree():
        if ranks.first:
            write_json(file, settled)
    return settled, model, make_optimizer(model, config, device, scaled(run))


def _settle(run: Run, spec: ModelSpec, file: Path, ranks: Ranks) -> dict[str, Any]:
    """Read what was settled at the run's first start, or choose it now; steps come later."""
    config, device = run.config, ranks.device
    settled: dict[str, Any] = {}
    if file.exists():
        settled = read_json(file)
        kinds = {"identity": dict, "threads": int, "dtype": str, "device": str, "attention": str}
        wrong = [k for k, kind in kinds.items() if not isinstance(settled.get(k), kind)]
        if type(settled.get("steps")) is not int or settled.get("dtype") not in DTYPES:
            wrong.append("steps or dtype")
        if wrong:
            raise InputError(
                f"{file} is damaged ({', '.join(wrong)}); remove it and {file.parent}/checkpoints "
                "to begin this run anew"
            )
        _same(run, settled["identity"], file)
    settled.setdefault("identity", run.identity)
    settled.setdefault("threads", config.threads or torch.get_num_threads() * ranks.local_world)
    torch.set_num_threads(max(1, settled["threads"] // ranks.local_world))
    settled.setdefault("dtype", _dtype(config, device))
    if settled.get("device") != device.type:  # another kind of machine has other kernels
        dtype = getattr(torch, settled["dtype"])
        rows = min(run.batch_rows // ranks.world, config.micro_rows or run.batch_rows)
        settled["device"] = device.type
        settled["attention"], settled["attention_seconds"] = choose(
            spec, device, dtype, rows, config.attention
        )
    return settled


def _same(run: Run, before: dict[str, Any], file: Path, sample: int = 0) -> None:
    """Refuse to go on with a run whose arithmetic, or whose rows before `sample`, have changed."""
    now = json.loads(json.dumps(run.identity))
    now["plans"] = {k: v for k, v in now["plans"].items() if k in before["plans"]}
    begun = [phase for phase in before.get("phases", []) if phase[0] < sample]
    now["phases"], before = now["phases"][: len(begun)], {**before, "phases": begun}
    changed = sorted(k for k in {*now, *before} if now.get(k) != before.get(k))
    if changed:
        shown = ", ".join(f"{k}: {before.get(k)!r:.40} -> {now.get(k)!r:.40}" for k in changed)
        raise InputError(
            f"{file.parent} was begun with other settings ({shown}); "
            "start a new run, or restore them to go on with this one"
        )


def _dtype(config: TrainConfig, device: torch.device) -> str:
    """Choose the activations' type: bfloat16 where the machine is really faster with it."""
    if config.dtype != "auto":
        return config.dtype
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    seconds = {}
    for name in ("float32", "bfloat16"):
        a, b = (torch.ones(512, 512, dtype=getattr(torch, name)) for _ in range(2))
        seconds[name] = min(timeit.repeat(partial(torch.mm, a, b), number=1, repeat=12))
    return "bfloat16" if seconds["bfloat16"] < 0.75 * seconds["float32"] else "float32"


def _calibrate(run: Run, model: Model, stream: Stream, ranks: Ranks) -> int:
    """Turn minutes into a number of steps: time a few updates, then undo them."""
    config = run.config
    seconds = 60 * (config.max_minutes or DEFAULT_MINUTES)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = make_optimizer(model, config, ranks.device, scaled(run))
    taken: list[float] = []
    begin = time.perf_counter()
    for batch, _ in _feed(run, model, stream, ranks, range(9)):
        _update(model, optimizer, batch, config.grad_clip, ranks)
        if ranks.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
        begin += taken[-1]
        if ranks.share(len(taken) > 4 and sum(taken) > 0.05 * seconds):
            break
    model.load_state_dict(before)
    usual = sorted(taken[2:])[len(taken[2:]) // 2]
    steps: int = ranks.share(max(1, int(seconds / usual)))
    return steps


def _resume(
    found: dict[str, Any] | None, stream: Stream, model: Model, optimizer: Optimizer, ledger: Ledger
) -> int:
    """Load the checkpoint that was found, cut the metrics to it, and return its step."""
    start = 0
    if found is not None:
        stream.sample_of(found["data"])  # refuses phases that changed before it
        ledger.load(checkpoint.unpack(checkpoint.load(found), model, optimizer))
        start = int(found["step"])
        ledger.say(f"resuming after step {start}")
    ledger.rewind(start)
    return start


def _whole(model: Model, ranks: Ranks) -> Model:
    """Return the model with all of its tensors on the first rank; every rank must ask."""
    if not ranks.sharded:
        return model
    tensors = {}
    for name, piece in model.state_dict().items():
        tensor = whole(piece)
        if ranks.first:
            tensors[name] = tensor.cpu()
    if not ranks.first:
        return model
    joined = Model(model.spec, model.backbone.dtype, attention=model.backbone.form)
    joined.load_state_dict(tensors)
    return joined.to(ranks.device)


def _finish(
    run: Run,
    model: Model,
    ledger: Ledger,
    settled: dict[str, Any],
    shards: Shards,
    plans: dict[str, Plan],
    reader: Reader,
    device: torch.device,
) -> dict[str, Any]:
    """Measure on held-out text, hand the model off, draw a sample, write `result.json`."""
    chance = ledger.objective.chance()
    held_out = held_out_of(run, model, shards, plans, reader, device, chance=chance)
    ledger.say(
        "held-out: the run has no validation plan; nothing was measured"
        if held_out is None
        else held_out["text"]
    )
    result: dict[str, Any] = {
        "format": 1,
        "run": run.id,
        "corpus": dict(run.corpus),
        "initial": parent_of(run),
        "steps": settled["steps"],
        "rows": settled["steps"] * run.batch_rows,
        "parameters": sum(p.numel() for p in model.parameters()),
        "objective": run.config.objective,
        "unit": model.objective.unit,
        "chance_nats": chance,
        "dtype": settled["dtype"],
        "device": device.type,
        "skipped": ledger.skipped,
        "training_seconds": round(ledger.seconds, 3),
        "train_sources": ledger.train_sources(),
        "held_out": held_out,
    }
    keys = (
        *("initial", "steps", "rows", "skipped", "dtype", "train_sources", "held_out"),
        *("objective", "unit", "chance_nats"),
    )
    folder = hand_off(run, model, {k: result[k] for k in keys})
    result["model"] = str(folder)
    speaks = (folder / "generation_config.json").is_file()  # a decoder of text
    result["sample"] = _sample(run, ledger) if speaks else None
    write_json(run.folder / "result.json", result)
    return result


def _sample(run: Run, ledger: Ledger) -> str | None:
    try:
        return generate(run.folder, "", 160, seed=run.seed)
    except InputError as error:
        ledger.say(f"no sample: {error}")
        return None
