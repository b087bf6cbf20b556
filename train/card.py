"""The model card: what `lineage.json` and the evaluations beside a run hold, for people.

It repeats numbers and adds none. Names from a recipe are escaped: a card is shown as Markdown.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from train.runfile import read_json

__all__ = ["card", "write_card"]


def write_card(folder: Path) -> None:
    """Write `README.md` into a handed-off folder, from its lineage and its run's evaluations."""
    evaluations = [read_json(path) for path in sorted(folder.parent.glob("evaluation-*.json"))]
    lineage, config = (read_json(folder / f"{name}.json") for name in ("lineage", "config"))
    mine = [e for e in evaluations if e.get("weights_sha256") == lineage["weights_sha256"]]
    (folder / "README.md").write_text(card(lineage, config, mine), encoding="utf-8")


def card(
    lineage: Mapping[str, Any],
    config: Mapping[str, Any],
    evaluations: Sequence[Mapping[str, Any]] = (),
) -> str:
    """Return the card of a model in Markdown.

    Args:
        lineage: the content of `lineage.json`.
        config: that of `config.json`.
        evaluations: of these weights, as `preceptor evaluate` saves them.
    """
    corpus = lineage["corpus"]
    name = f"{_plain(corpus['name'])}@{corpus['version']}"
    if "num_hidden_layers" not in config:
        return _of_own_format(name, lineage, config)
    parts = [
        "---\nlibrary_name: transformers\npipeline_tag: text-generation\ntags: [preceptor]\n---",
        f"# A model of {name}",
        f"{lineage['parameters']:,} parameters ({config['model_type']}, "
        f"{config['num_hidden_layers']} layers of {config['hidden_size']} channels), trained by "
        f"Preceptor on the corpus {name}. It continues text; nobody has tuned it to follow "
        "instructions or to be safe.",
        _USE,
        "## Where it came from",
        _table(("", ""), _origin(lineage)),
        "## What it was trained on",
        _sources(lineage),
        "## How well it predicts held-out text",
        *(_evaluation(evaluation) for evaluation in evaluations),
        *([] if evaluations else [_held_out(lineage.get("held_out"))]),
        "## Limits",
        _limits(lineage, config),
    ]
    return "\n\n".join(parts) + "\n"


def _of_own_format(name: str, lineage: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Return the card of a model that no family of `transformers` is."""
    spec = config["preceptor"]["spec"]
    media = spec["media"].get("kind", "text")
    parts = [
        "---\nlibrary_name: preceptor\npipeline_tag: feature-extraction\ntags: [preceptor]\n---",
        f"# A model of {name}",
        f"{lineage['parameters']:,} parameters ({spec['architecture']} blocks, {spec['depth']} of "
        f"{spec['width']} channels), trained by Preceptor on the corpus {name} ({media}) with the "
        f"objective `{_plain(spec['objective'])}`. It makes vectors of what it reads; it does not "
        "continue text.",
        _USE_OWN,
        "## Where it came from",
        _table(("", ""), _origin(lineage)),
        "## What it was trained on",
        _sources(lineage),
        "## What it loses on held-out rows",
        _loss_held_out(lineage),
        "## Limits",
        "- Its loss is its own task's: it says little about what its vectors are good for. "
        "Measure that with a probe, on labels of yours.\n"
        f"- It never saw more than {spec['row_tokens']:,} tokens, patches or frames at once.",
    ]
    return "\n\n".join(parts) + "\n"


def _loss_held_out(lineage: Mapping[str, Any]) -> str:
    held_out = lineage.get("held_out")
    if not held_out or held_out.get("loss") is None:
        return "Nothing was measured: no row was held out for it."
    rows = [
        (_plain(name), f"{part['rows']:,}", f"{part['targets']:,}", _with_error(part))
        for name, part in [*held_out["sources"].items(), ("all", held_out)]
    ]
    told = [
        f"{_plain(k.replace('_', ' '))} {v:.3f}"
        for k, v in held_out["metrics"].items()
        if v is not None
    ]
    chance = held_out["chance"]
    known = "" if chance is None else f" Knowing nothing loses {chance:.4f}."
    return (
        f"Per target, in {held_out['unit']}, with the standard error over rows.{known}"
        + (f" Beside it: {', '.join(told)}." if told else "")
        + "\n\n"
        + _table(("source", "rows", "targets", "loss"), rows)
    )


def _with_error(part: Mapping[str, Any]) -> str:
    if part["loss"] is None:
        return "-"
    error = part["standard_error"]
    return f"{part['loss']:.4f}" + ("" if error is None else f" +- {error:.4f}")


_USE_OWN = """```python
from pathlib import Path
from train.generate import load_model

model, specials = load_model(Path(folder))  # model.objective.encode(model.backbone, rows): [B, D]
```"""

_USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer("Once", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs)[0], skip_special_tokens=True))
```

Every document began with the token bos and ended with eos. The tokenizer puts bos first by itself;
eos is for you to add where a document ends. The text of a special token inside a document is read
as text (`split_special_tokens`), as it was for training."""


def _origin(lineage: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    corpus, identity, checks = lineage["corpus"], lineage["identity"], lineage.get("checks") or {}
    yield "corpus", f"{_plain(corpus['name'])}@{corpus['version']}, `{corpus['fingerprint']}`"
    if corpus.get("recipe"):
        yield "recipe", f"`{corpus['recipe']}`"
    if not checks:
        yield "checks of the corpus", "none were in force"
    else:
        failed = ", ".join(map(_plain, checks["failed"]))
        why = f"FAILED: {failed}; trained despite that: {_plain(str(checks['despite']))}"
        yield "checks of the corpus", (why if failed else "all passed") + f", `{checks['digest']}`"
    if identity["tokenizer"]:
        yield "tokenizer", f"`{identity['tokenizer']}`"
    for plan, digest in identity["plans"].items():
        yield f"plan of rows, {plan}", f"`{digest}`"
    initial = lineage.get("initial")
    if initial:
        yield (
            "weights at the start",
            f"of {_plain(Path(initial['folder']).name)}, `{initial['sha256']}`",
        )
    yield "run", f"`{_plain(lineage['run'])}`, seed {identity['seed']}"
    yield (
        "steps",
        f"{lineage['steps']:,}, {lineage['rows']:,} rows of {lineage['row_tokens']:,} tokens",
    )
    yield (
        "arithmetic",
        f"activations {lineage.get('dtype', 'as lineage.json says')}, weights float32",
    )
    yield "weights", f"`{lineage['weights_sha256']}`"


def _sources(lineage: Mapping[str, Any]) -> str:
    sources = lineage["train_sources"]
    total = sum(entry["targets"] for entry in sources.values()) or 1
    rows = [
        (_plain(name), f"{entry['targets']:,}", f"{entry['targets'] / total:.1%}")
        for name, entry in sources.items()
    ]
    return _table(("source", "tokens predicted", "share"), [*rows, ("all", f"{total:,}", "")])


def _held_out(held_out: Mapping[str, Any] | None) -> str:
    if not held_out or "model" not in held_out:
        return "Nothing was measured: no whole document was held out, or read, for it."
    scorers = [key for key in ("model", "bigram", "unigram") if key in held_out]
    rows = [
        (_plain(name), f"{part['documents']:,}", *(_bits(part, scorer) for scorer in scorers))
        for name, part in [*held_out["sources"].items(), ("all", held_out)]
    ]
    return (
        "Bits per byte on the validation split at the end of training, beside models that count "
        "tokens (Kneser-Ney, fitted on the training split); lower is better.\n\n"
        + _table(("source", "documents", *scorers), rows)
    )


def _evaluation(evaluation: Mapping[str, Any]) -> str:
    scorers = evaluation["scorers"]
    rows = [
        (_plain(name), f"{part['documents']:,}", *(_bits(part, scorer) for scorer in scorers))
        for name, part in [*evaluation["sources"].items(), ("all", evaluation["all"])]
    ]
    return (
        f"Bits per byte on the {_plain(evaluation['split'])} split; lower is better. "
        f"{evaluation['protocol']}\n\n" + _table(("source", "documents", *scorers), rows)
    )


def _bits(part: Mapping[str, Any], scorer: str) -> str:
    found = part.get(scorer)
    return f"{found['bits_per_byte']:.3f}" if found else "-"


def _limits(lineage: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    targets = sum(entry["targets"] for entry in lineage["train_sources"].values())
    masked = config["preceptor"]["document_mask"]
    lines = [
        f"It was trained on {targets:,} tokens, "
        f"{targets / max(lineage['parameters'], 1):.2g} for each parameter.",
        f"It never saw more than {lineage['row_tokens']:,} tokens at once.",
        "In training, documents that shared a row "
        + ("did not see one another." if masked else "saw one another: nothing hid them."),
        "It repeats what its corpus says, true or not; held-out text is of the same sources, so "
        "the numbers above say little about others.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return text that means nothing to Markdown or HTML, on one line."""
    shown = "".join(c if c.isprintable() else "?" for c in text)
    for mark in "\\`*_{}[]()#+!|<>&":
        shown = shown.replace(mark, f"\\{mark}")
    return shown
