"""The training loop: rows, loss, update, ledger, checkpoint; it reads top to bottom.

Everything that shapes the arithmetic (steps, type, threads) is settled once, before the first
step, and written to `resolved.json`, so that a run that was killed goes on with the same numbers.
Nothing inside a step waits for the device: losses stay there until a line is due.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from curate.corpus.errors import InputError
from train import checkpoint
from train.config import DEFAULT_MINUTES, TrainConfig
from train.data import Plan, Reader, Shards, Stream
from train.evaluate import fit_bigram, glance, measure, summary
from train.generate import generate
from train.handoff import hand_off
from train.ledger import Ledger, Progress
from train.model import Model, ModelSpec
from train.objectives import Loss, Rows
from train.optim import adamw, set_rate
from train.runfile import Run, write_json

__all__ = ["train"]


def train(run: Run, *, progress: Progress | None = None) -> dict[str, Any]:
    """Train `run`, resuming from its newest whole checkpoint; write and return the result."""
    config = run.config
    shards = Shards(run.shards)
    plans = {k: Plan(v, shards, num_sources=len(run.sources)) for k, v in run.plans.items()}
    for phase in run.phases:
        if not plans[phase.plan].num_rows:
            raise InputError(f"plan {phase.plan!r} of run {run.id} has no rows to train on")
    reader = Reader(
        shards,
        row_tokens=run.row_tokens,
        pad=run.specials["pad"],
        vocab_size=run.vocab_size,
        ends=(run.specials["bos"], run.specials["eos"]),
    )
    stream = Stream(plans, run.phases, reader, seed=run.seed)
    device = _device(config)
    settled, model, optimizer = _prepare(run, stream, device)
    steps: int = settled["steps"]

    ledger = Ledger(run, device, steps, _bytes_per_target(shards, plans, run), progress)
    start = _resume(run, model, optimizer, ledger)
    for step in range(start, steps):
        rows = stream.batch(step, run.batch_rows).to(device)
        fraction = set_rate(optimizer, config, step, steps)
        loss = _update(model, optimizer, rows, config.grad_clip)
        model.objective.after_step(step)
        ledger.add(rows, loss, fraction * config.learning_rate)

        done = step + 1
        held = _due(done, config.eval_every, steps) and done < steps and "validation" in plans
        keep = _due(done, config.checkpoint_every, steps)
        if _due(done, config.log_every, steps) or held or keep:
            ledger.flush(done)
        if held:
            nats = glance(model, reader, plans["validation"], device, config.eval_rows)
            ledger.held_out(done, nats)
        if keep:
            tensors = checkpoint.pack(model, optimizer, {"per_source": ledger.per_source})
            state = {
                "identity": run.identity,
                "data": stream.state(done * run.batch_rows),
                "seconds": ledger.seconds,
            }
            checkpoint.save(
                run.folder / "checkpoints", done, tensors, state, keep=config.keep_checkpoints
            )
    return _finish(run, model, ledger, settled, shards, plans, reader, device)


def _update(model: Model, optimizer: torch.optim.Optimizer, rows: Rows, grad_clip: float) -> Loss:
    """One step: the sum of losses over the batch, divided once by its number of targets."""
    loss: Loss = model(rows)
    (loss.total / loss.count.clamp(min=1)).backward()
    if grad_clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss


def _due(done: int, every: int, steps: int) -> bool:
    return done == steps or (every > 0 and done % every == 0)


def _device(config: TrainConfig) -> torch.device:
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device is 'cuda', but torch sees no CUDA device; use 'auto'")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def _prepare(
    run: Run, stream: Stream, device: torch.device
) -> tuple[dict[str, Any], Model, torch.optim.Optimizer]:
    """Settle what a resumed run must share, and build the model from the seed."""
    config, file = run.config, run.folder / "resolved.json"
    settled: dict[str, Any] = {}
    if file.exists():
        settled = json.loads(file.read_text(encoding="utf-8"))
        _same(run, settled["identity"], file)
    threads = settled.get("threads") or config.threads or torch.get_num_threads()
    torch.set_num_threads(threads)
    dtype = settled.get("dtype") or _dtype(config, device)
    torch.manual_seed(run.seed)
    spec = ModelSpec(
        objective=config.objective,
        vocab_size=run.vocab_size,
        depth=config.depth,
        width=config.model_width,
        heads=config.model_heads,
        row_tokens=run.row_tokens,
    )
    model = Model(spec, dtype=getattr(torch, dtype)).to(device)
    if config.compile == "on" or (config.compile == "auto" and device.type == "cuda"):
        model.backbone.compile()
    if not settled:
        settled = {
            "identity": run.identity,
            "steps": config.steps or _calibrate(run, model, stream, device),
            "dtype": dtype,
            "threads": threads,
        }
        write_json(file, settled)
    return settled, model, adamw(model, config, device)


def _same(run: Run, before: dict[str, Any], file: Path) -> None:
    """Refuse to go on with a run whose arithmetic has changed."""
    now = json.loads(json.dumps(run.identity))
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
        seconds[name] = min(_seconds(torch.mm, a, b) for _ in range(12))
    return "bfloat16" if seconds["bfloat16"] < 0.75 * seconds["float32"] else "float32"


def _seconds(call: Callable[..., Any], *arguments: Any) -> float:
    begin = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begin


def _calibrate(run: Run, model: Model, stream: Stream, device: torch.device) -> int:
    """Turn minutes into a number of steps: time a few updates, then undo them."""
    minutes = run.config.max_minutes or DEFAULT_MINUTES
    before = {k: v.clone() for k, v in model.state_dict().items()}
    optimizer = adamw(model, run.config, device)
    taken = []
    for step in range(9):
        begin = time.perf_counter()
        rows = stream.batch(step, run.batch_rows).to(device)
        _update(model, optimizer, rows, run.config.grad_clip)
        if device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - begin)
        if step >= 4 and sum(taken) > 0.05 * minutes * 60:
            break
    model.load_state_dict(before)
    return max(1, int(minutes * 60 / sorted(taken[2:])[len(taken[2:]) // 2]))


def _bytes_per_target(shards: Shards, plans: dict[str, Plan], run: Run) -> float:
    """Return text bytes per predicted token over the first phase's documents."""
    documents = plans[run.phases[0].plan].documents()
    documents = documents[~shards.withdrawn[documents]]
    targets = int((shards.lengths[documents] - 1).sum())
    return float(shards.num_bytes[documents].sum()) / max(targets, 1)


def _resume(run: Run, model: Model, optimizer: torch.optim.Optimizer, ledger: Ledger) -> int:
    """Load the newest whole checkpoint, cut the metrics to it, and return its step."""
    found = checkpoint.load_latest(run.folder / "checkpoints", ledger.say)
    start = 0
    if found is not None:
        tensors, state = found
        _same(run, state["identity"], run.folder / "checkpoints")
        extra = checkpoint.unpack(tensors, model, optimizer)
        ledger.per_source.copy_(extra["per_source"])
        ledger.seconds = state["seconds"]
        start = int(state["step"])
        ledger.say(f"resuming after step {start}")
    ledger.rewind(start)
    return start


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
    config = run.config
    held_out: dict[str, Any] | None = None
    if "validation" in plans and plans["validation"].num_rows:
        bigram = fit_bigram(
            shards,
            plans[run.phases[-1].plan],
            vocab_size=run.vocab_size,
            max_tokens=config.baseline_max_tokens,
        )
        scores = measure(
            model,
            reader,
            plans["validation"],
            device,
            bigram=bigram,
            max_rows=config.eval_max_rows,
        )
        held_out = summary(scores, run.sources)
        ledger.say(held_out["text"])
    else:
        ledger.say("held-out: the run has no validation plan; nothing was measured")
    nats, counts = ledger.per_source.cpu().tolist()
    result: dict[str, Any] = {
        "format": 1,
        "run": run.id,
        "corpus": dict(run.corpus),
        "steps": settled["steps"],
        "rows": settled["steps"] * run.batch_rows,
        "parameters": sum(p.numel() for p in model.parameters()),
        "chance_nats": model.objective.chance(),
        "dtype": settled["dtype"],
        "device": device.type,
        "training_seconds": round(ledger.seconds, 3),
        "train_sources": {
            name: {"targets": int(count), "mean_nats": total / count if count else None}
            for name, total, count in zip(run.sources, nats, counts, strict=True)
        },
        "held_out": held_out,
    }
    keys = ("steps", "rows", "train_sources", "held_out")
    folder = hand_off(run, model, {k: result[k] for k in keys})
    result["model"] = str(folder)
    result["sample"] = _sample(run, ledger)
    write_json(run.folder / "result.json", result)
    return result


def _sample(run: Run, ledger: Ledger) -> str | None:
    try:
        return generate(run.folder, "", 160, seed=run.seed)
    except InputError as error:
        ledger.say(f"no sample: {error}")
        return None
