"""The knobs of a training run: torch-free, checked where they are made, refused when unknown.

One dial, `depth`, sizes the model (width, heads) and the batch; every derived number can be set by
hand. The defaults are the best of those tried for about a minute on two CPU cores: there a shallow
model that reads more text beats a deeper one. The command line turns the recipe's `train:` section
into this.

>>> TrainConfig(depth=12).model_width
768
>>> TrainConfig.from_mapping({"dpeth": 4})
Traceback (most recent call last):
curate.corpus.errors.InputError: train has no setting 'dpeth'. Did you mean 'depth'?
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError, did_you_mean, one_of

__all__ = ["DEFAULT_MINUTES", "TrainConfig", "parts_of"]

#: Training time when neither `steps` nor `max_minutes` is given.
DEFAULT_MINUTES = 1.25

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16")
COMPILE = ("auto", "on", "off")
ARCHITECTURES = ("nanochat", "qwen3", "llama")
ATTENTIONS = ("auto", "dense", "blocks", "fused", "flash", "cudnn", "varlen")
PARALLEL = ("ddp", "fsdp")
OPTIMIZERS = ("auto", "muon", "adamw")
SCHEDULES = ("wsd", "cosine")


def _knob(default: Any, help_: str, **bounds: Any) -> Any:
    """A dataclass field with its help, and its bounds under JSON Schema's own names."""
    return field(default=default, metadata={"description": help_, **bounds})


def _task(help_: str, **bounds: Any) -> Any:
    """A knob of pretext tasks; None: the task's own default."""
    return field(default=None, metadata={"description": help_, "task": True, **bounds})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training run; a bad value raises `InputError` that shows it."""

    objective: str = _knob(
        "next_token",
        "the pretext task, a file of train/objectives; or a mix with a weight for each target, "
        "masked_token + 20 * sentence_order",
    )
    depth: int = _knob(2, "number of blocks; sizes everything else", minimum=1, maximum=1000)
    width: int | None = _knob(
        None, "channels (default 64 x depth in whole 128s, at least 256)", minimum=16
    )
    heads: int | None = _knob(None, "attention heads (default from the width)", minimum=1)
    architecture: str = _knob(
        "nanochat",
        "nanochat: ReLU^2, norms without weights, capped logits; qwen3: SwiGLU, learned norms of "
        "heads too; llama: SwiGLU, learned norms",
        enum=ARCHITECTURES,
    )
    kv_heads: int | None = _knob(None, "key and value heads (default: as many as heads)", minimum=1)
    mlp_width: int | None = _knob(
        None, "hidden channels (default 4 x width, or 8/3 x with SwiGLU)", minimum=1
    )
    tied: bool = _knob(False, "the output head is the embedding")
    rope_base: float = _knob(10_000.0, "RoPE's base", exclusiveMinimum=1)
    document_mask: bool = _knob(True, "documents packed into a row do not see one another")
    attention: str = _knob(
        "auto", "the form of attention; auto times what runs here, once", enum=ATTENTIONS
    )
    # Knobs of pretext tasks: None is the task's own default, which its file tells (`knobs`).
    mask_rate: float | None = _task("share of tokens, patches or frames", exclusiveMinimum=0)
    mask_span: int | None = _task(
        "mean length of what is hidden together", minimum=1, maximum=1 << 20
    )
    fim_rate: float | None = _task(
        "share of documents whose middle is moved to the end", minimum=0, maximum=1
    )
    spm_rate: float | None = _task("share of those with the suffix first", minimum=0, maximum=1)
    temperature: float | None = _task(
        "by which similarities are divided", minimum=1e-4, maximum=1e4
    )
    teacher_momentum: float | None = _task("of the teacher's moving average", minimum=0, maximum=1)
    queue_size: int | None = _task("keys kept from earlier steps", minimum=1, maximum=1 << 24)
    negatives: int | None = _task("wrong answers beside the right one", minimum=1, maximum=1 << 16)
    steps_ahead: int | None = _task("frames that are looked ahead", minimum=1, maximum=1 << 16)
    jitter: int | None = _task(
        "pixels by which patches are moved at random", minimum=0, maximum=1 << 12
    )
    dropout: float | None = _task(
        "share of what branches add that is left out", minimum=0, exclusiveMaximum=1
    )
    codes: int | None = _task("entries of a codebook, or prototypes", minimum=2, maximum=1 << 20)
    projection: int | None = _task(
        "channels of the space where views are compared", minimum=2, maximum=1 << 16
    )
    segment: int | None = _task("tokens of a passage, about", minimum=1)
    variant: str | None = _task("which form of the task; its file names them")
    views: str | None = _task("views: digits, photos or none (default: by the channels)")
    batch_rows: int | None = _knob(
        None, "rows of the plan in one step (default about 256 x depth^2 tokens)", minimum=1
    )
    steps: int | None = _knob(None, "number of updates; excludes max_minutes", minimum=1)
    max_minutes: float | None = _knob(
        None,
        "training time (evaluation excluded) turned into steps once, by a short calibration",
        exclusiveMinimum=0,
    )
    optimizer: str = _knob(
        "auto",
        "of block matrices; AdamW takes the rest. auto is muon from 20 x width tokens a step on: "
        "below, its own products cost more than they save",
        enum=OPTIMIZERS,
    )
    muon_lr: float = _knob(0.02, "Muon's peak for block matrices", exclusiveMinimum=0, maximum=100)
    muon_momentum: float = _knob(0.95, "of Nesterov's form", minimum=0, exclusiveMaximum=1)
    muon_weight_decay: float = _knob(0.05, "decoupled, of Muon's matrices", minimum=0)
    learning_rate: float = _knob(
        0.0008, "AdamW's peak for block matrices", exclusiveMinimum=0, maximum=100
    )
    embedding_lr: float = _knob(0.2, "its peak for the embedding", exclusiveMinimum=0, maximum=100)
    head_lr: float = _knob(0.004, "its peak for the output head", exclusiveMinimum=0, maximum=100)
    vector_lr: float = _knob(0.004, "its peak for vectors", exclusiveMinimum=0, maximum=100)
    weight_decay: float = _knob(0.1, "decoupled, of AdamW's block matrices", minimum=0)
    beta1: float = _knob(0.9, "AdamW first moment", minimum=0, exclusiveMaximum=1)
    beta2: float = _knob(0.99, "AdamW second moment", minimum=0, exclusiveMaximum=1)
    schedule: str = _knob("wsd", "warm-up, then stable and linear, or cosine", enum=SCHEDULES)
    warmup_fraction: float = _knob(0.05, "share of the steps", minimum=0, maximum=1)
    cooldown_fraction: float = _knob(0.6, "share of the steps, linear", minimum=0, maximum=1)
    final_lr_fraction: float = _knob(
        0.0, "of the peak; what one step after the last would have", minimum=0, maximum=1
    )
    grad_clip: float = _knob(1.0, "largest gradient norm; 0 switches it off", minimum=0)
    seed: int | None = _knob(None, "default: the run's seed", minimum=0, maximum=2**63 - 1)
    log_every: int = _knob(10, "steps between lines of metrics.jsonl reaching disk", minimum=1)
    eval_every: int = _knob(0, "steps between held-out glances; 0: only at the end", minimum=0)
    eval_rows: int = _knob(32, "rows of a glance", minimum=1)
    eval_max_rows: int = _knob(2048, "rows of the final held-out measurement", minimum=1)
    feedback_every: int = _knob(1, "steps between losses per document; 0: none", minimum=0)
    alarms: bool = _knob(True, "stop a run that is not worth going on with")
    max_skipped: int = _knob(
        10, "updates left out in a row, not being finite; ten times as many in all", minimum=0
    )
    chance_margin: float = _knob(
        0.01,
        "of the loss of knowing nothing: a loss so near to it long after the warm-up stops",
        minimum=0,
        exclusiveMaximum=1,
    )
    spike_deviations: float = _knob(
        7.0, "robust standard deviations above the usual loss (7: OLMo 2)", exclusiveMinimum=0
    )
    spike_steps: int = _knob(100, "steps that a loss stays so high before the run stops", minimum=2)
    max_starved: float = _knob(
        0.9, "share of the time spent waiting for rows; half of it is told", exclusiveMinimum=0
    )
    checkpoint_every: int = _knob(200, "steps; 0: only at the end", minimum=0)
    keep_checkpoints: int = _knob(2, "newest ones to keep", minimum=1)
    baseline_max_tokens: int = _knob(
        20_000_000, "tokens of text that the bigram is fitted on, about", minimum=1000
    )
    device: str = _knob("auto", "cuda where there is one", enum=DEVICES)
    dtype: str = _knob("auto", "of activations; weights stay float32", enum=DTYPES)
    compile: str = _knob("auto", "torch.compile; auto is off on a CPU", enum=COMPILE)
    threads: int | None = _knob(
        None, "CPU threads of a machine's processes together (default: torch's)", minimum=1
    )
    micro_rows: int | None = _knob(
        None, "rows a device takes at once; a step's others accumulate (default: all)", minimum=1
    )
    parallel: str = _knob("ddp", "several processes: copies (ddp) or pieces (fsdp)", enum=PARALLEL)
    deterministic: bool = _knob(False, "the same bits from the same start on CUDA too; slower")
    init_from: str | None = _knob(None, "folder of a model or run whose weights are the start")
    rewarm: float | None = _knob(
        None, "of the peak rates, when going on from weights", exclusiveMinimum=0, maximum=1
    )
    replay: float = _knob(
        0.0, "share of the rows that come from replay_corpus", minimum=0, exclusiveMaximum=1
    )
    replay_corpus: str | None = _knob(
        None, "NAME@VERSION whose held-out text is measured too (default: the start's corpus)"
    )

    def __post_init__(self) -> None:
        """Check types and bounds; integers are accepted where a float is wanted."""
        hints = typing.get_type_hints(type(self))
        for knob in dataclasses.fields(self):
            value = _checked(knob.name, getattr(self, knob.name), hints[knob.name])
            _check_bounds(knob.name, value, knob.metadata)
            object.__setattr__(self, knob.name, value)
        parts_of(self.objective)
        if self.steps is not None and self.max_minutes is not None:
            raise InputError(
                f"train: steps ({self.steps}) and max_minutes ({self.max_minutes}) exclude "
                "each other; give one of them"
            )
        if self.model_width % self.model_heads or (self.model_width // self.model_heads) % 2:
            raise InputError(
                f"train: width {self.model_width} does not split into {self.model_heads} heads "
                "of an even number of channels; change width or heads"
            )
        if self.kv_heads is not None and self.model_heads % self.kv_heads:
            raise InputError(
                f"train: {self.model_heads} heads cannot share {self.kv_heads} kv_heads; give a "
                "divisor of heads"
            )
        if self.rewarm is not None and self.init_from is None:
            raise InputError(
                "train.rewarm goes with init_from: new weights have no rates to regain"
            )
        if self.replay and not (self.init_from or self.replay_corpus):
            raise InputError("train.replay needs replay_corpus: NAME@VERSION, or init_from: a run")
        # Cosine falls from the warm-up to the end and reads no cooldown_fraction.
        if self.schedule == "wsd" and self.warmup_fraction + self.cooldown_fraction > 1:
            raise InputError(
                f"train: warmup_fraction {self.warmup_fraction} + cooldown_fraction "
                f"{self.cooldown_fraction} is more than the whole run; make them sum to at most 1"
            )

    @property
    def model_width(self) -> int:
        """Channels of the residual stream."""
        return self.width if self.width is not None else max(256, 128 * -(-self.depth // 2))

    @property
    def model_heads(self) -> int:
        """Attention heads: 128 channels each from width 256 on, 64 below."""
        if self.heads is not None:
            return self.heads
        per_head = 128 if self.model_width % 128 == 0 and self.model_width >= 256 else 64
        return max(1, self.model_width // per_head)

    def task(self) -> dict[str, Any]:
        """Return the knobs of the pretext task that are set."""
        knobs = (knob.name for knob in dataclasses.fields(self) if "task" in knob.metadata)
        return {name: value for name in knobs if (value := getattr(self, name)) is not None}

    def rows_per_step(self, row_tokens: int) -> int:
        """Return the batch in rows of `row_tokens` tokens."""
        return self.batch_rows or max(1, 256 * self.depth**2 // row_tokens)

    def matrix_optimizer(self, row_tokens: int) -> str:
        """Return "muon" or "adamw".

        Muon's products are 25 x width operations per weight, a step's are 6 x tokens: from
        20 x width tokens on they are a fifth of it at most.
        """
        if self.optimizer != "auto":
            return self.optimizer
        tokens = self.rows_per_step(row_tokens) * row_tokens
        return "muon" if tokens >= 20 * self.model_width else "adamw"

    def matrix_rate(self, row_tokens: int) -> str:
        """Return the setting that is the peak rate of block matrices."""
        return "muon_lr" if self.matrix_optimizer(row_tokens) == "muon" else "learning_rate"

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> "TrainConfig":
        """Build from plain data; an unknown key is an error that names the nearest key."""
        names = [knob.name for knob in dataclasses.fields(cls)]
        for key in settings:
            if key not in names:
                hint = did_you_mean(str(key), names) or " `preceptor schema train` lists them."
                raise InputError(f"train has no setting {str(key)!r}.{hint}")
        return cls(**settings)

    def to_mapping(self) -> dict[str, Any]:
        """Return every setting as plain data, in order."""
        return dataclasses.asdict(self)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """Return a JSON Schema (2020-12) of the settings."""
        hints = typing.get_type_hints(cls)
        properties: dict[str, Any] = {}
        for knob in dataclasses.fields(cls):
            kinds = [_JSON_NAMES[kind] for kind in _kinds(hints[knob.name])]
            told = {k: v for k, v in knob.metadata.items() if k != "task"}
            extra = {k: list(v) if k == "enum" else v for k, v in told.items()}
            kind: Any = kinds[0] if len(kinds) == 1 else kinds
            properties[knob.name] = {"type": kind, "default": knob.default, **extra}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "TrainConfig",
            "type": "object",
            "additionalProperties": False,
            "properties": properties,
        }


_JSON_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    types.NoneType: "null",
}


def _objectives() -> list[str]:
    """Return the names of the pretext tasks without importing them, which would load torch."""
    files = (Path(__file__).parent / "objectives").glob("*.py")
    return sorted({file.stem for file in files} - {"__init__", "base"})


def parts_of(objective: str) -> dict[str, float]:
    """Return name -> weight of a pretext task, or of each of a mix.

    >>> parts_of("masked_token + 0.5 * next_token")
    {'masked_token': 1.0, 'next_token': 0.5}

    Raises:
        InputError: no such task, or something else than names, weights and signs.
    """
    found: dict[str, float] = {}
    known = _objectives()
    for term in objective.split("+"):
        weight, star, name = (part.strip() for part in term.rpartition("*"))
        if name not in known:
            raise InputError(
                one_of("objective", name, known)
                if name.isidentifier()
                else f"train.objective is {objective!r}; give a name, or a mix such as "
                "'masked_token + 20 * sentence_order'"
            )
        if star and not (_WEIGHT.fullmatch(weight) and 1e-9 <= float(weight) <= 1e9):
            raise InputError(
                f"train.objective: the weight of {name} is {weight!r}; give 1e-9 to 1e9"
            )
        if name in found:
            raise InputError(f"train.objective names {name} twice; give it one weight")
        found[name] = float(weight) if star else 1.0
    return found


_WEIGHT = re.compile(r"\d+(\.\d+)?([eE][+-]?\d{1,3})?|\.\d+")


def _kinds(hint: Any) -> tuple[type, ...]:
    """Split `int | None` into its parts."""
    return typing.get_args(hint) or (hint,)


def _checked(name: str, value: Any, hint: Any) -> Any:
    """Return `value` in the declared type, or raise; True is not a number here."""
    kinds = _kinds(hint)
    if float in kinds and type(value) is int:
        value = float(value)
    if type(value) not in kinds:
        wanted = " or ".join(_JSON_NAMES[kind] for kind in kinds)
        raise InputError(f"train.{name} is {value!r} ({type(value).__name__}); give {wanted}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"train.{name} is {value!r}; give a finite number")
    return value


def _check_bounds(name: str, value: Any, bounds: Mapping[str, Any]) -> None:
    if value is None:
        return
    if "enum" in bounds and value not in bounds["enum"]:
        hint = did_you_mean(value, bounds["enum"])
        raise InputError(f"train.{name} is {value!r}; it is one of {list(bounds['enum'])}.{hint}")
    wrong = [
        text
        for key, text, good in (
            ("minimum", "at least", lambda limit: value >= limit),
            ("maximum", "at most", lambda limit: value <= limit),
            ("exclusiveMinimum", "above", lambda limit: value > limit),
            ("exclusiveMaximum", "below", lambda limit: value < limit),
        )
        if key in bounds and not good(bounds[key])
        for text in [f"{text} {bounds[key]}"]
    ]
    if wrong:
        raise InputError(f"train.{name} is {value!r}; it must be {' and '.join(wrong)}")
