"""Checks of the tasks on code: middles that are filled in, names that are found."""

import keyword
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import runs
import torch
from table import Asked, Row
from text_data import Corpus
from text_runs import PART, by_document, compared, corpus, guesses, parts_of, trained

from curate.tokens.tokenizer import load_tokenizer
from train.model import Model
from train.objectives import Rows

__all__ = ["fill_in_the_middle", "masked_span"]

Array = np.ndarray[Any, np.dtype[Any]]


def _row(tokens: list[int], asked_at: range, row_tokens: int) -> tuple[list[int], list[int]]:
    """Return a row's tokens and next tokens, those asked for alone; -1 is padding."""
    tokens = tokens[:row_tokens]
    targets = [tokens[t + 1] if t + 1 in asked_at else -100 for t in range(len(tokens) - 1)]
    room = row_tokens - len(tokens)
    return tokens + [2] * room, [*targets, -100] + [-100] * room


@torch.no_grad()
def _nats(model: Model, rows: list[tuple[list[int], list[int]]]) -> Array:
    """Return each row's nats over its targets."""
    found = []
    for first in range(0, len(rows), PART):
        tokens, targets = (
            torch.tensor(part) for part in zip(*rows[first : first + PART], strict=True)
        )
        keys = torch.zeros(len(tokens), 3, dtype=torch.int64)
        pieces = torch.where(torch.arange(tokens.size(1)) < (tokens != 2).sum(1)[:, None], 0, -1)
        one = Rows(tokens=tokens, targets=targets, sources=0 * tokens, documents=pieces, keys=keys)
        found.append(model(one).units.sum(1).double().numpy())
    return np.concatenate(found)


def documents_of(path: Path, corpus_: Corpus) -> list[list[int]]:
    """Return the held-out documents as ids, without their ends."""
    tokenizer = load_tokenizer((path.parent / "tokenizer.json").read_bytes()).model
    texts = [text for some in corpus_.held_out.values() for text in some]
    encoded = tokenizer.encode_batch(texts, add_special_tokens=False)
    return [one.ids[: corpus_.row_tokens - 8] for one in encoded]


def fill_in_the_middle(asked: Asked) -> list[Row]:
    """The middle with the suffix against without it; left to right against a model without."""
    path = trained(asked, "code", "fill_in_the_middle")
    plain = trained(asked, "code", "fill_in_the_middle", fim_rate=0.0)
    (model, _), (other, _) = runs.load(path), runs.load(plain)
    specials = model.spec.specials
    bos, pre, suf, mid = (specials[k] for k in ("bos", "fim_prefix", "fim_suffix", "fim_middle"))
    data, random = corpus(asked, "code"), np.random.default_rng(asked.seed)
    forms: dict[str, list[Any]] = {"PSM": [], "SPM": [], "plain": [], "no suffix": []}
    lengths = []
    for ids in documents_of(path, data):
        if len(ids) < 48:
            continue
        length = int(random.integers(8, 25))
        start = int(random.integers(len(ids) // 4, len(ids) - length - 8))
        p, m, s = ids[:start], ids[start : start + length], ids[start + length :]
        made = {
            "PSM": [bos, pre, *p, suf, *s, mid],
            "SPM": [bos, pre, suf, *s, mid, *p],
            "plain": [bos, *p],
            "no suffix": [bos, pre, *p, suf, mid],
        }
        for name, context in made.items():
            asked_at = range(len(context), len(context) + length)
            forms[name].append(_row([*context, *m], asked_at, data.row_tokens))
        lengths.append(length)
    counts = np.array(lengths, dtype=np.float64)
    nats = {name: _nats(model, some) for name, some in forms.items()}
    nats["other"] = _nats(other, forms["plain"])
    what = "nats per token of a middle of 8 to 24"
    controls = {
        "plain": "prefix alone, left to right",
        "no suffix": "prefix alone, between the sentinels",
        "other": "prefix alone, of a model of rate 0",
    }
    found = [
        compared(
            "fill_in_the_middle",
            f"{what}, {form}",
            (nats[form], nats[control]),
            counts,
            told,
            sign=-1,
            **({} if control == "plain" else {"passed": None}),
        )
        for form, control, told in (
            ("PSM", "plain", controls["plain"]),
            ("SPM", "plain", controls["plain"]),
            ("PSM", "no suffix", controls["no suffix"]),
            ("PSM", "other", controls["other"]),
        )
    ]
    return [*found, _left_to_right(path, model, other)]


def _left_to_right(path: Path, model: Model, other: Model) -> Row:
    """Return the row that compares the left-to-right loss of two models on held-out code."""
    rows = runs.held_out_rows(path)
    count = int(rows.documents.max()) + 1
    sums = {name: np.zeros(count) for name in ("ours", "theirs", "count")}
    with torch.no_grad():
        for some in parts_of(rows):
            sums["ours"] += by_document(some, model(some).units, count)
            sums["theirs"] += by_document(some, other(some).units, count)
            sums["count"] += by_document(some, some.targets >= 0, count)
    row = compared(
        "fill_in_the_middle",
        "left-to-right nats per token",
        (sums["ours"], sums["theirs"]),
        sums["count"],
        "rate 0, as many tokens",
        sign=-1,
    )
    assert row.ours is not None
    assert row.against is not None
    share = row.ours / row.against - 1
    note = f"{share:+.2%}; promised: within 1 %"
    return replace(row, passed=share <= 0.01, note=note)


def masked_span(asked: Asked) -> list[Row]:
    """Hidden names of code, whole, against the names that are frequent at their length."""
    path = trained(asked, "code", "masked_span")
    model, _ = runs.load(path)
    data = corpus(asked, "code")
    tokenizer = load_tokenizer((path.parent / "tokenizer.json").read_bytes()).model
    frequent: dict[int, Counter[tuple[int, ...]]] = defaultdict(Counter)
    for some in data.train.values():
        for ids, places in _names(tokenizer, some):
            for a, b in places:
                frequent[b - a][tuple(ids[a:b])] += 1
    best = {length: counts.most_common(1)[0][0] for length, counts in frequent.items()}
    bos, eos, mask = (model.spec.specials[name] for name in ("bos", "eos", "mask"))
    random = np.random.default_rng(asked.seed)
    shown: list[tuple[list[int], int, int]] = []
    blocks: list[int] = []
    texts = [text for some in data.held_out.values() for text in some]
    for number, (ids, places) in enumerate(_names(tokenizer, texts)):
        inside = [(a, b) for a, b in places if b < data.row_tokens - 2]
        for i in random.permutation(len(inside))[:3].tolist():
            shown.append((ids, *inside[i]))
            blocks.append(number)
    right = np.zeros((2, len(shown)))
    for i, (ids, a, b) in enumerate(shown):
        right[1, i] = best.get(b - a) == tuple(ids[a:b])
        hole = [bos, *ids[:a], *[mask] * (b - a), *ids[b:], eos][: data.row_tokens]
        tokens = torch.tensor([hole])
        none = torch.zeros_like(tokens)
        row = Rows(tokens=tokens, targets=none, sources=none, documents=none, keys=none[:, :3])
        said = guesses(model, tokens, row)[0, a + 1 : b + 1].tolist()
        right[0, i] = said == ids[a:b]
    size = len(texts)
    sums = [np.bincount(blocks, weights=some, minlength=size) for some in right]
    return [
        compared(
            "masked_span",
            "hidden names of code that are found whole",
            (sums[0], sums[1]),
            np.bincount(blocks, minlength=size).astype(np.float64),
            "the likeliest name of as many tokens",
            note="held out by package; keywords are no names; one name is hidden at a time",
        )
    ]


def _names(tokenizer: Any, texts: list[str]) -> Iterator[tuple[list[int], list[tuple[int, int]]]]:
    """Yield each text's ids, and the places [a, b) of its names of three letters and more."""
    name = re.compile(r"[A-Za-z_][A-Za-z0-9_]{2,}")
    for text, one in zip(
        texts, tokenizer.encode_batch(texts, add_special_tokens=False), strict=True
    ):
        begins = {a: i for i, (a, _) in enumerate(one.offsets)}
        ends = {b: i for i, (_, b) in enumerate(one.offsets)}
        found = []
        for match in name.finditer(text):
            a, b = match.span()
            first = begins.get(a, begins.get(a - 1) if text[a - 1 : a] == " " else None)
            last = ends.get(b)
            if first is not None and last is not None and not keyword.iskeyword(match[0]):
                found.append((first, last + 1))
        yield one.ids, found
