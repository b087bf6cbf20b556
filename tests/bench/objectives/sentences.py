"""Sentence order and contrast of sentences, on sources and documents that training did not see.

Order: the control is a logistic regression on the words of each passage (scikit-learn), trained on
the same examples: what it reaches is topic and wording, not order. For NSP it does well, which is
why SOP took its place.

Contrast: the first part of a held-out passage looks for its second part among all of them. The
control is the mean pool of the model of masked tokens that the run starts from, untouched.
"""

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from runs import held_out_rows, load, rows, text_run, train
from table import Asked, Row
from torch import Tensor

from train.initial import describe
from train.model import Model
from train.objectives import Rows
from train.runfile import load_run
from train.shards import Plan, Shards

__all__ = ["CHECKS"]

#: Rows of a step: small steps, so that there are many.
BATCH = 8
MINUTES = {"sop": 3.0, "nsp": 0.7, "permutation": 1.0}
Example = tuple[list[str], int]


def wrapped(data: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return texts in lines of about 72 letters: to learn from, and sources held out.

    Four of five proposals are learnt from; the fifth, and licences, one of a kind, are asked for.
    """
    import zstandard

    table = pq.read_table(data / "text" / "docs_peps.parquet").to_pylist()
    proposals = [row["text"] for row in table]
    kinds: dict[str, str] = {}
    with (data / "neardup" / "licenses.jsonl.zst").open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            row = json.loads(line)
            kinds.setdefault(row["label"], row["text"])
    learnt = [text for i, text in enumerate(proposals) if i % 5]
    return {"proposals": learnt}, {"licences": list(kinds.values()), "others": proposals[::5]}


def pages(data: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return short English pages on commands: to learn from, and two platforms held out."""
    found: dict[str, list[str]] = {}
    with gzip.open(data / "text" / "docs_tldr.jsonl.gz", "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            _, language, platform, _ = row["id"].split("/", 3)
            if language == "pages":
                found.setdefault(platform, []).append(row["text"])
    held = {platform: found.pop(platform) for platform in ("osx", "windows")}
    return found, held


def order(asked: Asked) -> list[Row]:
    """Train SOP, NSP and permutation; each against the words alone.

    NSP gets short documents, several to a row.
    """
    told = []
    for variant in ("sop",) if asked.quick else ("sop", "nsp", "permutation"):
        learnt, held = (pages if variant == "nsp" else wrapped)(asked.data)
        path = text_run(
            asked.work / f"sentence_order-{variant}-{asked.seed}",
            learnt,
            row_tokens=1024 if variant == "nsp" else 256,
            held_out=held,
            seed=asked.seed,
            objective="sentence_order",
            variant=variant,
            segment=48 if variant == "nsp" else 16,
            depth=2,
            width=64,
            heads=2,
            batch_rows=BATCH,
            optimizer="adamw",
            learning_rate=0.001,
            embedding_lr=0.05,
            max_minutes=0.8 if asked.quick else MINUTES[variant],
            threads=asked.threads,
        )
        result = train(path)
        taken = result["steps"] * BATCH
        told += _order_rows(variant, path, taken)
    return told


def _order_rows(variant: str, path: Path, taken: int) -> list[Row]:
    model, _ = load(path)
    learnt = told_by(model, _some(path, "train", min(taken, 4000)))
    plan, names = _some(path, "validation", 3000), load_run(path).sources
    told = []
    for code in plan.sources[:, 0].unique().tolist():
        some = _chosen(plan, plan.sources[:, 0] == code)
        right, examples = answered(model, some)
        words, nsp = words_alone(learnt, examples), variant == "nsp"
        labels = np.bincount([label for _, label in examples])
        chance = float(labels.max() / labels.sum())  # of always telling the commonest
        gain, count = right - words, len(right)
        sigma, error = (chance * (1 - chance) / count) ** 0.5, float(gain.std()) / count**0.5
        # The rest of the source that is learnt from, and NSP's topic, promise nothing.
        asked = not nsp and names[code] != "others"
        usual: dict[str, Any] = {
            "objective": "sentence_order",
            "what": f"{variant}: accuracy on {names[code]}",
            "ours": float(right.mean()),
        }
        told += [
            Row(
                **usual,
                control="the commonest",
                against=chance,
                standard_error=sigma,
                passed=float(right.mean()) > chance + 5 * sigma if asked else None,
                note=f"{count} examples",
            ),
            Row(
                **usual,
                control="words alone",
                against=float(words.mean()),
                standard_error=error,
                passed=float(gain.mean()) > 2 * error if asked else None,
                note="the topic leaks, so the words alone tell" if nsp else "",
            ),
        ]
    return told


def _some(path: Path, plan: str, most: int) -> Rows:
    """Return rows that are spread over a plan."""
    run = load_run(path)
    count = Plan(run.plans[plan], Shards(run.shards), num_sources=len(run.sources)).num_rows
    return rows(path, plan, np.unique(np.linspace(0, count - 1, most).astype(int)))


@torch.no_grad()
def answered(model: Model, some: Rows) -> tuple[np.ndarray, list[Example]]:
    """Return which examples of rows the model tells, [n] float, and the examples as text."""
    objective, right = model.objective, []
    for part in _parts(some, 64):
        batch = objective.manufacture(part)
        logits = objective.head(model.backbone(batch.inputs, batch.more["pieces"]))
        asked = batch.targets >= 0
        right.append((logits.argmax(-1) == batch.targets)[asked].float().numpy())
    return np.concatenate(right), told_by(model, some)


def told_by(model: Model, some: Rows) -> list[Example]:
    """Return the passages, in the order that was fed, and the class of every example of rows."""
    objective, found = model.objective, []
    batch = objective.manufacture(some)
    for ids, targets in zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True):
        passage: list[int] = []
        for token, target in zip(ids, targets, strict=True):
            if token in (objective.cls, objective.sep):
                text = bytes(passage).decode("utf-8", "replace")
                passage = []
                if token == objective.cls:
                    found.append(([text], target))
                else:
                    found[-1][0].append(text)
            elif token != objective.pad:
                passage.append(max(0, token - 25))
    return found


def words_alone(learnt: list[Example], asked: list[Example]) -> np.ndarray:
    """Return which of the examples a logistic regression on each passage's words tells, [n].

    How strongly it is regularised is chosen on a fifth of what it learns from.
    """
    import scipy.sparse
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    words = CountVectorizer(lowercase=False, token_pattern=r"\w+|[^\w\s]", min_df=2)
    words.fit([text for passages, _ in learnt for text in passages])

    def counts(examples: list[Example]) -> Any:
        each = range(len(examples[0][0]))
        columns = [words.transform([passages[i] for passages, _ in examples]) for i in each]
        return scipy.sparse.hstack(columns).tocsr()

    known, labels = counts(learnt), np.array([label for _, label in learnt])
    slice_ = len(labels) // 5
    fits = {
        c: LogisticRegression(C=c, max_iter=300)
        .fit(known[slice_:], labels[slice_:])
        .score(known[:slice_], labels[:slice_])
        for c in (0.003, 0.03, 0.3)
    }
    best = LogisticRegression(C=max(fits, key=fits.__getitem__), max_iter=300).fit(known, labels)
    right: np.ndarray = best.predict(counts(asked)) == np.array([label for _, label in asked])
    return right.astype(np.float64)


def _chosen(some: Rows, which: Any) -> Rows:
    kept = {k: v for k, v in vars(some).items() if v is not None and k != "cu_seqlens"}
    return Rows(**{name: value[which] for name, value in kept.items()})


def _parts(some: Rows, size: int) -> Iterator[Rows]:
    for first in range(0, len(some.tokens), size):
        yield _chosen(some, slice(first, first + size))


def passages(data: Path, size: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return pieces of whole sentences, of novels and of proposals: to learn from, and held out.

    Every fifth novel and proposal is held out; of each document at most 40 pieces are taken.
    """
    import zstandard

    texts: dict[str, list[tuple[str, str]]] = {"novels": [], "proposals": []}
    with (data / "text" / "prose_eltec_eng.jsonl.zst").open("rb") as file:
        reader = zstandard.ZstdDecompressor(max_window_size=2**31).stream_reader(file)
        for line in io.TextIOWrapper(reader, encoding="utf-8"):
            row = json.loads(line)
            texts["novels"].append((row["id"].split("/")[1], row["text"]))
    for row in pq.read_table(data / "text" / "docs_peps.parquet").to_pylist():
        texts["proposals"].append((row["id"], row["text"]))
    learnt: dict[str, list[str]] = {}
    held: dict[str, list[str]] = {}
    for source, named in texts.items():
        away = set(sorted({name for name, _ in named})[::5])
        for name, text in named:
            into = held if name in away else learnt
            cut = [text[i : i + size] for i in range(200, len(text) - size, size)][:40]
            into.setdefault(source, []).extend(" ".join(piece.split()) for piece in cut)
    return learnt, held


def contrast(asked: Asked) -> list[Row]:
    """Train on masked tokens, then SimCSE from there; ask for adjacent passages."""
    learnt, held = passages(asked.data, 240)
    random = np.random.default_rng(asked.seed)
    few = {
        source: [texts[i] for i in random.permutation(len(texts))[:250]]
        for source, texts in held.items()
    }
    usual: dict[str, Any] = {
        "row_tokens": 80,
        "layout": "document",
        "held_out": few,
        "seed": asked.seed,
        "depth": 2,
        "width": 64 if asked.quick else 128,
        "heads": 2,
        "optimizer": "adamw",
        "threads": asked.threads,
    }
    minutes = 0.4 if asked.quick else 1.2
    start = text_run(
        asked.work / f"sentence_contrast-start-{asked.seed}",
        learnt,
        **usual,
        tokenizer=2048,
        objective="masked_token",
        batch_rows=32,
        max_minutes=minutes,
        learning_rate=0.002,
        embedding_lr=0.05,
    )
    train(start)
    tokenizer = (start.parent / "tokenizer.json").read_bytes()
    arms: dict[str, dict[str, Any]] = {
        "unsupervised": {"variant": "unsupervised"},
        "adjacent": {"variant": "adjacent"},
        "unsupervised, dropout 0": {"variant": "unsupervised", "dropout": 0.0},
    }
    found = {"start": _hits(start)}
    for name, knobs in arms.items():
        path = text_run(
            asked.work / f"sentence_contrast-{name.replace(', ', '-')}-{asked.seed}",
            learnt,
            **usual,
            tokenizer=tokenizer,
            objective="sentence_contrast",
            batch_rows=32 if asked.quick else 64,
            steps=40 if asked.quick else 120,
            init_from=str(start.parent),
            learning_rate=0.001,
            embedding_lr=0.02,
            **knobs,
        )
        content = json.loads(path.read_text(encoding="utf-8"))
        content["initial"] = describe(start.parent, path.parent / "tokenizer.json")
        path.write_text(json.dumps(content), encoding="utf-8")
        train(path)
        found[name] = _hits(path)
    return [_contrast_row(name, found[name], found["start"]) for name in arms]


def _contrast_row(name: str, ours: Tensor, start: Tensor) -> Row:
    gain = ours - start
    error = float(gain.std()) / len(gain) ** 0.5
    control = name.endswith("dropout 0")
    return Row(
        objective="sentence_contrast",
        what=f"{name}: R@1 of the adjacent passage",
        ours=float(ours.mean()),
        control="mean pool of the start",
        against=float(start.mean()),
        standard_error=error,
        passed=None if control else float(gain.mean()) > 2 * error,
        note="a control: without dropout both views are the same"
        if control
        else f"{len(gain)} held-out passages; chance {1 / len(gain):.2g}",
    )


@torch.no_grad()
def _hits(path: Path) -> Tensor:
    """Return [N] float: whether each first part is nearest to its own second part."""
    model, _ = load(path)
    asking = replace(
        model.spec,
        objective="sentence_contrast",
        task={"variant": "adjacent", "dropout": 0.0},
    )
    other = Model(asking).eval()
    other.backbone.load_state_dict(model.backbone.state_dict())
    task = other.objective
    found = [
        task.embed(other.backbone, task.manufacture(part))
        for part in _parts(held_out_rows(path), 64)
    ]
    a, b = torch.nn.functional.normalize(torch.cat(found), dim=-1).unbind(1)
    return ((a @ b.T).argmax(1) == torch.arange(len(a))).float()


CHECKS = {"sentence_order": order, "sentence_contrast": contrast}
