"""Checks of the tasks on text, code and logs: trained here, asked of what no model has seen.

Differences are paired over documents, as ratios of sums with their linearised standard errors. A
difference is reached when it is more than two standard errors on the right side.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
import runs
import torch
from table import Asked, Row
from text_code import fill_in_the_middle, masked_span
from text_probe import probed
from text_runs import by_document, compared, corpus, counted, guesses, parts_of, steps_of, trained
from torch import Tensor

from curate.tokens.tokenizer import load_tokenizer
from train.baselines import KneserNey
from train.compressors import GROUPS, sizes
from train.objectives import Rows

__all__ = ["CHECKS"]

Array = np.ndarray[Any, np.dtype[Any]]
LN2 = float(np.log(2))


def masked_token(asked: Asked) -> list[Row]:
    """Masked bytes against the unigram and a model that sees what comes before, unhidden."""
    path, before = (trained(asked, "short", name) for name in ("masked_token", "next_token"))
    (model, _), (left, _) = runs.load(path), runs.load(before)
    rows, likeliest = runs.held_out_rows(path), int(counted(asked, path).argmax())
    count = int(rows.documents.max()) + 1
    sums: dict[str, Array] = defaultdict(lambda: np.zeros(count))
    for some in parts_of(rows):
        batch = model.objective.manufacture(some)
        asks = batch.targets >= 0
        follows = torch.full_like(some.tokens, likeliest)
        follows[:, 1:] = guesses(left, some.tokens, some)[:, :-1]
        first = torch.ones_like(asks)
        first[:, 1:] = some.pieces[:, 1:] != some.pieces[:, :-1]
        said = {
            "ours": guesses(model, batch.inputs, some),
            "left": torch.where(first, likeliest, follows),
            "unigram": torch.full_like(some.tokens, likeliest),
        }
        sums["count"] += by_document(some, asks, count)
        for name, ids in said.items():
            sums[name] += by_document(some, (ids == batch.targets) & asks, count)
    what = "accuracy of hidden bytes (15 %)"
    notes = {"unigram": "", "left": "the left model sees nothing hidden before the byte"}
    names = {"unigram": "the likeliest byte", "left": "next_token, same size and steps"}
    found = [
        compared(
            "masked_token", what, (sums["ours"], sums[k]), sums["count"], names[k], note=notes[k]
        )
        for k in ("unigram", "left")
    ]
    return [*found, *probed(asked, "masked_token", path)]


def next_token(asked: Asked) -> list[Row]:
    """Bits per byte against counting and compressing the same bytes."""
    long = 2 * steps_of(asked)
    path = trained(asked, "short", "next_token", steps=long)
    model, _ = runs.load(path)
    rows, data = runs.held_out_rows(path), corpus(asked, "short")
    texts = [text.encode() for some in data.held_out.values() for text in some]
    first = int(rows.documents[rows.documents >= 0].min())
    nats = np.zeros(first + len(texts))
    with torch.no_grad():
        for some in parts_of(rows):
            nats += by_document(some, model(some).units, len(nats))
    ours, num_bytes = nats[first:] / LN2, np.array([len(text) for text in texts])
    known = [_ids(text.encode()) for some in data.train.values() for text in some]
    what, found = "held-out bits per byte", []
    for order, name in ((1, "unigram"), (5, "5-gram, modified Kneser-Ney")):
        counting = KneserNey.fit(known, vocab_size=model.spec.vocab_size, order=order)
        asks = [_ids(text) for text in texts]
        ends = np.cumsum([len(ids) - 1 for ids in asks])
        theirs = np.add.reduceat(counting.nats(asks), np.append(0, ends[:-1])) / LN2
        found.append(compared("next_token", what, (ours, theirs), num_bytes, name, sign=-1))
    squeezed = 8 * sizes([texts], threads=asked.threads)["xz"][0]
    left = [np.arange(len(texts)) % GROUPS != group for group in range(GROUPS)]
    without = [
        float((ours[kept].sum() - bits) / num_bytes[kept].sum())
        for kept, bits in zip(left, squeezed[1:], strict=True)
    ]
    error = float(np.std(without) * np.sqrt(GROUPS - 1))  # jackknife
    mine, its = ours.sum() / num_bytes.sum(), squeezed[0] / num_bytes.sum()
    row = Row(
        objective="next_token",
        what=what,
        ours=float(mine),
        control="xz -9e",
        against=float(its),
        standard_error=error,
        passed=bool(mine - its < -2 * error),
        note="one stream of all held-out texts",
    )
    return [*found, row]


def _ids(text: bytes) -> Array:
    """Return the ids of the byte tokenizer with their ends."""
    return np.concatenate([[0], np.frombuffer(text, np.uint8).astype(np.int64) + 25, [1]])


def replaced_token(asked: Asked) -> list[Row]:
    """The discriminator on held-out text: its AUC against luck, and against how rare a byte is."""
    from sklearn.metrics import roc_auc_score

    path = trained(asked, "short", "replaced_token")
    model, _ = runs.load(path)
    rows, counts = runs.held_out_rows(path), counted(asked, path)
    scores: list[Array] = []
    with torch.no_grad():
        for some in parts_of(rows):
            batch = model.objective.manufacture(some)
            _, _, seen, _ = model.objective.generate(model.backbone, batch)
            logits = model.objective.suspect(model.backbone, seen, some)
            asks = batch.more["asked"]
            columns = (some.documents, seen != some.tokens, logits, -torch.tensor(counts)[seen])
            scores.append(np.stack([column[asks].double().numpy() for column in columns]))
    documents, replaced, ours, rare = np.concatenate(scores, axis=1)
    random, found = np.random.default_rng(asked.seed), []
    group = random.integers(0, 20, int(documents.max()) + 1)[documents.astype(int)]
    for control, theirs in (("luck", None), ("how rare the byte is", rare)):
        aucs = []
        for left_out in range(-1, 20):
            kept = group != left_out
            mine = roc_auc_score(replaced[kept], ours[kept])
            its = 0.5 if theirs is None else roc_auc_score(replaced[kept], theirs[kept])
            aucs.append((mine, its))
        pairs = np.array(aucs)
        error = float(np.std(pairs[1:, 0] - pairs[1:, 1]) * np.sqrt(19))  # jackknife over groups
        found.append(
            Row(
                objective="replaced_token",
                what="AUC of replaced bytes",
                ours=float(pairs[0, 0]),
                control=control,
                against=float(pairs[0, 1]),
                standard_error=error,
                passed=bool(pairs[0, 0] - pairs[0, 1] > 2 * error),
                starred=theirs is not None,
            )
        )
    return [*found, *probed(asked, "replaced_token", path, trained(asked, "short", "masked_token"))]


def event_fields(asked: Asked) -> list[Row]:
    """The fields of the next event of clients that were never seen, against counting."""
    steps = steps_of(asked) // 2  # of a small corpus: 25,000 tokens
    path = trained(asked, "logs", "event_fields", width=96, batch_rows=12, steps=steps)
    model, _ = runs.load(path)
    tokenizer = load_tokenizer((path.parent / "tokenizer.json").read_bytes()).model
    names = [tokenizer.id_to_token(i) or "" for i in range(model.spec.vocab_size)]
    kinds = torch.tensor([_kind(name) for name in names])
    seen, asks = (_events(rows, kinds) for rows in (runs.rows(path), runs.held_out_rows(path)))
    rows = runs.held_out_rows(path)
    with torch.no_grad():
        hidden = torch.cat(
            [
                model.backbone(some.tokens, some.pieces, causal=True).float()
                for some in parts_of(rows)
            ]
        )
        weight = model.objective._head(model.backbone)[: model.spec.vocab_size]
        scores = hidden @ weight.T
    unknown = names.index("<|unknown|>")
    found = []
    for kind, name in ((0, "path"), (1, "status"), (2, "method")):
        which = asks["kind"] == kind
        most = Counter(seen["value"][seen["kind"] == kind].tolist()).most_common(1)[0][0]
        pairs: dict[int, Counter[int]] = defaultdict(Counter)
        for value, before, is_kind in zip(
            seen["value"].tolist(), seen["before"].tolist(), seen["kind"] == kind, strict=True
        ):
            if is_kind:
                pairs[before][value] += 1
        truth = asks["value"][which]
        known = truth != unknown
        places = torch.tensor(asks["row"][which]), torch.tensor(asks["place"][which])
        said = scores[places].masked_fill(kinds != kind, -torch.inf).argmax(-1).numpy()
        right = {
            "ours": said == truth,
            "the likeliest": truth == most,
            "the likeliest after the same field of the event before": np.array(
                [
                    value == (pairs[b].most_common(1)[0][0] if b in pairs else most)
                    for value, b in zip(truth.tolist(), asks["before"][which].tolist(), strict=True)
                ]
            ),
        }
        numbers = asks["document"][which]
        counts = np.bincount(numbers).astype(np.float64)
        sums = {k: np.bincount(numbers, weights=v & known) for k, v in right.items()}
        for control in list(right)[1:]:
            promised = control == "the likeliest" and name == "path"
            found.append(
                compared(
                    "event_fields",
                    f"accuracy of the next {name}",
                    (sums["ours"], sums[control]),
                    counts,
                    control,
                    note="clients are held out; all know which field it is; unknown is wrong",
                    **({} if promised else {"passed": None}),
                )
            )
    return found


def _kind(value: str) -> int:
    """Return 0 of a path, 1 of a status, 2 of a method, else -1."""
    if value.startswith("/") or value == "<|unknown|>":
        return 0
    return 1 if value.isdigit() else 2 if value.isalpha() and value.isupper() else -1


def _events(rows: Rows, kinds: Tensor) -> dict[str, Array]:
    """Return columns of all targets: where, of which kind and value, and its kind's last value."""
    columns: dict[str, list[int]] = defaultdict(list)
    for row in range(len(rows.tokens)):
        last: dict[tuple[int, int], int] = {}
        for place in (rows.targets[row] >= 0).nonzero()[:, 0].tolist():
            value, document = int(rows.targets[row, place]), int(rows.documents[row, place])
            key = (document, int(kinds[value]))
            told = {
                "row": row,
                "place": place,
                "document": document,
                "kind": key[1],
                "value": value,
                "before": last.get(key, -1),
            }
            for name, number in told.items():
                columns[name].append(number)
            last[key] = value
    return {name: np.array(values) for name, values in columns.items()}


CHECKS: dict[str, Callable[[Asked], list[Row]]] = {
    "next_token": next_token,
    "masked_token": masked_token,
    "fill_in_the_middle": fill_in_the_middle,
    "masked_span": masked_span,
    "replaced_token": replaced_token,
    "event_fields": event_fields,
}
