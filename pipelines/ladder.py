"""A ladder of sizes: a few small trainings, and the law that their losses follow.

Each rung is an ordinary run of the same config at another depth, so a rung that was trained is
found done, and an interrupted ladder goes on. What the law says of the next rung is told with its
interval, and what it would have said of the largest one without having seen it.

Losses are final ones. A loss in mid-run is measured at a high rate and on fewer rows, and would
bend the law (Hoffmann et al. 2022, appendix B: a schedule that does not end where it is measured
overestimates the loss): glances (`eval_every`) are told as curves and not fitted.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from curate.corpus.errors import InputError
from curate.corpus.identity import canonical_json, fingerprint
from pipelines.corpus import Corpus
from pipelines.ladder_fit import KINDS, MIN_POINTS, Law, Point, fit
from pipelines.packing import num_rows
from pipelines.trainer import call
from pipelines.training import prepare_run, train_run
from train.config import TrainConfig

__all__ = ["Rung", "climb", "conclude", "plan_rungs"]

_CURVE_POINTS = 40
Progress = Callable[[int, int, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class Rung:
    """A size to train, or trained.

    Attributes:
        depth: the dial.
        size: weights of its matrix products, the head's among them: N.
        parameters: all of them.
        steps: of the run; None: as the config says.
    """

    depth: int
    size: int
    parameters: int
    steps: int | None

    def config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the config of its run."""
        rest = {name: value for name, value in config.items() if name != "max_minutes"}
        if self.steps is None:
            return {**config, "depth": self.depth}
        return {**rest, "depth": self.depth, "steps": self.steps}


def plan_rungs(
    corpus: Corpus,
    config: Mapping[str, Any],
    depths: Sequence[int],
    *,
    steps: Sequence[int] = (),
    tokens_per_parameter: Sequence[float] = (),
) -> tuple[list[Rung], Rung]:
    """Return the rungs to train, and the one above the highest.

    Args:
        depths: at least three.
        steps: of each rung; with several, each depth is trained for each of them.
        tokens_per_parameter: in the place of steps: targets for each weight of a matrix product.

    Raises:
        InputError: too few sizes, or both ways to say how long.
    """
    depths = sorted(set(depths))
    if len(depths) < MIN_POINTS:
        raise InputError(
            f"a ladder has at least {MIN_POINTS} depths, and {KINDS['size'][1]} to tell a floor of "
            f"the loss; got {', '.join(map(str, depths)) or 'none'}"
        )
    if steps and tokens_per_parameter:
        raise InputError("--steps and --tokens-per-parameter exclude each other; give one of them")
    for name in ("init_from", "width"):
        if config.get(name) is not None:
            raise InputError(f"a ladder sets the size, so its config has no {name}; leave it out")
    if config.get("objective", "next_token") != "next_token":
        raise InputError(
            f"a ladder's law is one of bits per byte, which {config['objective']} does not have; "
            "climb it with next_token"
        )
    above = 2 * depths[-1] - depths[-2]
    configs = [{**config, "depth": depth} for depth in (*depths, above)]
    row_tokens = corpus.manifest("pack").settings["row_tokens"]
    vocab_size = corpus.tokenizer.get("vocab_size", 0)
    lines: list[str] = []
    asked = {"configs": configs, "vocab_size": vocab_size, "row_tokens": row_tokens}
    call(["sizes", json.dumps(asked)], on_line=lines.append)
    sizes = dict(zip((*depths, above), json.loads(lines[-1]), strict=True))

    def rung(depth: int, count: int | None, ratio: float | None) -> Rung:
        size = sizes[depth]
        if ratio is not None:
            rows = TrainConfig.from_mapping({**config, "depth": depth}).rows_per_step(row_tokens)
            count = max(1, math.ceil(ratio * size["matmul_parameters"] / (rows * row_tokens)))
        return Rung(
            depth=depth,
            size=size["matmul_parameters"],
            parameters=size["parameters"],
            steps=count,
        )

    counts: list[int | None] = [*steps] or [None]
    ratios: list[float | None] = [*tokens_per_parameter] or [None]
    rungs = [rung(*one) for one in product(depths, counts, ratios)]
    return rungs, rung(above, counts[-1], ratios[-1])


def climb(
    corpus: Corpus,
    config: Mapping[str, Any],
    rungs: Sequence[Rung],
    *,
    runs: Path | None = None,
    despite: str | None = None,
    processes: int = 1,
    watch: Callable[[Rung], Progress] | None = None,
) -> list[dict[str, Any]]:
    """Train every rung, or find it done; return what each came to.

    Raises:
        InputError: a run fails, or the corpus has no held-out text.
    """
    if not corpus.manifest("pack").counts.get("validation_rows"):
        raise InputError(f"{corpus.version} has no held-out text; give its recipe a split")
    climbed = []
    for rung in rungs:
        path = prepare_run(corpus, rung.config(config), runs, despite)
        told = None if watch is None else watch(rung)
        climbed.append(_measured(rung, path, train_run(path, told, processes=processes), corpus))
    return climbed


def _measured(rung: Rung, path: Path, result: Mapping[str, Any], corpus: Corpus) -> dict[str, Any]:
    model = (result["held_out"] or {}).get("model")
    if model is None:
        raise InputError(
            f"the run in {path.parent} measured no held-out document whole; raise eval_max_rows in "
            "the config, or split.validation in the recipe"
        )
    return {
        **asdict(rung),
        "steps": result["steps"],
        "tokens": sum(one["targets"] for one in result["train_sources"].values()),
        "epochs": result["rows"] / num_rows(corpus.manifest("pack")),
        "nats": model["nats_per_target"],
        "bits_per_byte": model["bits_per_byte"],
        "seconds": result["training_seconds"],
        "run": str(path.parent),
        "glances": _glances(path.parent / "metrics.jsonl"),
    }


def _glances(metrics: Path) -> list[list[float]]:
    """Return [step, held-out nats] of a run's glances at held-out rows."""
    found = []
    if metrics.is_file():
        for line in metrics.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            if row.get("held_out_nats") is not None:
                found.append([row["step"], row["held_out_nats"]])
    return found


def conclude(
    corpus: Corpus, config: Mapping[str, Any], climbed: Sequence[Mapping[str, Any]], above: Rung
) -> dict[str, Any]:
    """Fit the law; return all there is to tell, as JSON values.

    Keys: id, corpus, config, rungs, law, next, held_back, curve ([size, nats, low, high], with as
    many tokens as the longest run of a size, and between sizes as many as lie between).
    """
    law = fit([_point(one) for one in climbed])
    largest = max(climbed, key=lambda one: (one["size"], one["tokens"]))
    steps = above.steps or largest["steps"]
    per_step = largest["tokens"] / largest["steps"] * _batch(corpus, config, above.depth)
    tokens = steps * per_step / _batch(corpus, config, largest["depth"])
    nats, low, high = law.predict(above.size, tokens)
    longest = {one["size"]: one["tokens"] for one in sorted(climbed, key=lambda r: r["tokens"])}
    return {
        "format": 1,
        "id": fingerprint(canonical_json([one["run"] for one in climbed]))[:16],
        "corpus": str(corpus.version),
        "config": dict(config),
        "rungs": [dict(one) for one in climbed],
        "law": {
            "kind": law.kind,
            "values": law.values,
            "standard_errors": law.errors,
            "residual": law.scale,
            "freedom": law.freedom,
            "floor_at_zero": law.at_bound,
            "text": law.told(),
        },
        "next": {
            **{name: getattr(above, name) for name in ("depth", "size", "parameters")},
            "steps": steps,
            "tokens": round(tokens),
            "nats": nats,
            "low": low,
            "high": high,
        },
        "held_back": _held_back(climbed, largest),
        "curve": _curve(law, {**longest, above.size: tokens}),
    }


def _curve(law: Law, tokens: Mapping[int, float]) -> list[list[float]]:
    sizes = sorted(tokens)
    known = np.log(sizes), np.log([tokens[size] for size in sizes])
    places = np.linspace(known[0][0], known[0][-1], _CURVE_POINTS)
    between = np.exp(np.interp(places, *known))
    at = zip(np.exp(places).tolist(), between.tolist(), strict=True)
    return [[size, *law.predict(size, count)] for size, count in at]


def _point(one: Mapping[str, Any]) -> Point:
    return Point(size=one["size"], tokens=one["tokens"], nats=one["nats"])


def _batch(corpus: Corpus, config: Mapping[str, Any], depth: int) -> int:
    row_tokens = corpus.manifest("pack").settings["row_tokens"]
    return TrainConfig.from_mapping({**config, "depth": depth}).rows_per_step(row_tokens)


def _held_back(
    climbed: Sequence[Mapping[str, Any]], largest: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return what the law of the smaller sizes says of the largest; None where they are too few."""
    smaller = [_point(one) for one in climbed if one["size"] < largest["size"]]
    if len({point.size for point in smaller}) < MIN_POINTS:
        return None
    law: Law = fit(smaller)
    nats, low, high = law.predict(largest["size"], largest["tokens"])
    return {
        "depth": largest["depth"],
        "kind": law.kind,
        "nats": nats,
        "low": low,
        "high": high,
        "measured": largest["nats"],
    }
