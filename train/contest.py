"""A trained model against counting and compressing, domain by domain, on the same held-out bytes.

Every document is scored alone: its first token is context only, and one that is longer than a row
is read in windows that advance by half a row, so that every target beyond the first window has at
least half a row before it. Model and n-grams predict the same targets (the text's tokens and the
end of the document) and are divided by the same bytes. Whatever is said to be better is better by
a paired difference with its standard error over documents.
"""

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curate.corpus.errors import InputError
from train.card import write_card
from train.compressors import GROUPS, sizes
from train.evaluate import LN2, fit, ratio_difference, sources_of, sums, thinned
from train.huggingface import read_folder
from train.initial import digest_of, model_folder, same_ids
from train.model import Model
from train.objectives import Rows
from train.rows import IGNORE, Store
from train.runfile import Run, load_run, write_json
from train.shards import Shards
from train.tasks import run_tasks

__all__ = ["alone", "contest", "jackknife", "main", "windows"]

Array = np.ndarray[Any, np.dtype[Any]]
ORDERS = {"5-gram": 5, "bigram": 2, "unigram": 1}
BATCH_TOKENS = 1 << 14


def windows(num_targets: int, longest: int) -> list[tuple[int, int, int]]:
    """Return (start, first to score, end) of the windows of a document, as places of its inputs.

    >>> windows(10, 4)
    [(0, 0, 4), (2, 4, 6), (4, 6, 8), (6, 8, 10)]
    """
    found, start, scored = [], 0, 0
    while scored < num_targets:
        end = min(start + longest, num_targets)
        found.append((start, scored, end))
        start, scored = start + max(1, longest // 2), end
    return found


@torch.no_grad()
def alone(model: Model, shards: Shards, ordinals: Array) -> Array:
    """Return the nats of documents, each scored alone, float64 [n]."""
    todo = [
        (end - start, i, start, first, end)
        for i, length in enumerate(shards.lengths[ordinals].tolist())
        for start, first, end in windows(length - 1, model.spec.row_tokens)
    ]
    todo.sort(reverse=True)
    device = next(model.parameters()).device
    found = np.zeros(len(ordinals))
    while todo:
        width = todo[0][0]
        count = max(1, BATCH_TOKENS // width)
        batch, todo = todo[:count], todo[count:]
        tokens = np.zeros((len(batch), width), dtype=np.int64)
        targets = np.full((len(batch), width), IGNORE, dtype=np.int64)
        for row, (size, i, start, first, end) in enumerate(batch):
            text = shards.tokens(int(ordinals[i]))[start : end + 1]
            tokens[row, :size] = text[:-1]
            targets[row, first - start : size] = text[first - start + 1 :]
        top = int(max(tokens.max(), targets.max()))
        if top >= model.spec.vocab_size:
            raise InputError(f"token id {top} in the shards; the model's are fewer")
        units = model(_rows(tokens, targets).to(device)).units.double().sum(1)
        np.add.at(found, [i for _, i, *_ in batch], units.cpu().numpy())
    return found


def _rows(tokens: Array, targets: Array) -> Rows:
    zeros = torch.zeros(tokens.shape, dtype=torch.int64)
    return Rows(
        tokens=torch.from_numpy(tokens),
        targets=torch.from_numpy(targets),
        sources=zeros,
        documents=zeros,
        keys=zeros[:, :1].expand(-1, 3),
    )


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Documents of a split with what every scorer needs for them.

    Attributes:
        sources, targets, num_bytes: [n], by source.
        bits: scorer -> float64 [n].
        streams: compressor -> bytes [num_sources, 1 + GROUPS], see `train.compressors.sizes`.
    """

    sources: Array
    targets: Array
    num_bytes: Array
    bits: dict[str, Array]
    streams: dict[str, Array]

    def part(self, codes: Sequence[int]) -> dict[str, Any]:
        """Return every scorer's bits per byte over some sources, and the model's lead over it."""
        chosen = np.isin(self.sources, codes)
        num_bytes, model = self.num_bytes[chosen], self.bits["model"][chosen]
        found: dict[str, Any] = {
            "documents": int(chosen.sum()),
            "targets": int(self.targets[chosen].sum()),
            "bytes": int(num_bytes.sum()),
        }
        for name, bits in self.bits.items():
            found[name] = {"bits_per_byte": float(bits[chosen].sum() / num_bytes.sum())}
            if name != "model":
                lead = ratio_difference(model - bits[chosen], num_bytes)
                found[name] |= dict(zip(("difference", "standard_error"), lead, strict=True))
        numbers = np.concatenate([np.arange((self.sources == code).sum()) for code in codes])
        for name, stream in self.streams.items():
            bits = 8 * stream[list(codes)].sum(0)
            lead = jackknife(model, num_bytes, numbers % GROUPS, bits)
            found[name] = {"bits_per_byte": float(bits[0] / num_bytes.sum())}
            found[name] |= dict(zip(("difference", "standard_error"), lead, strict=True))
        return found


def jackknife(
    bits: Array, num_bytes: Array, groups: Array, stream: Array
) -> tuple[float, float | None]:
    """Return (sum(bits) - stream) / sum(bytes) and its standard error, by leaving groups out.

    A stream is compressed as a whole, so a document has no size of its own in it: the stream is
    made again without each group (the delete-a-group jackknife; Shao and Tu 1995, section 2.3).

    Args:
        bits, num_bytes, groups: [n], the group of each document from 0.
        stream: [1 + GROUPS] bits of all documents, then without those of group 0, 1, ...
    """
    difference = float((bits.sum() - stream[0]) / num_bytes.sum())
    left = [groups != group for group in range(int(groups.max()) + 1)]
    if len(left) < 2:
        return difference, None
    without = np.array(
        [(bits[kept].sum() - stream[1 + i]) / num_bytes[kept].sum() for i, kept in enumerate(left)]
    )
    spread = ((without - without.mean()) ** 2).sum()
    return difference, math.sqrt((len(left) - 1) / len(left) * spread)


def contest(
    run: Run,
    split: str = "validation",
    *,
    model: str | Path | None = None,
    max_tokens: int = 1_000_000,
    fit_tokens: int = 20_000_000,
    compress: bool = True,
    tell: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measure a run's model, or another one of the same tokenizer, on a split.

    Args:
        run: whose documents, tokenizer and training text are meant.
        split: name of a plan.
        model: folder of another model; by default what the run handed off.
        max_tokens, fit_tokens: about how many tokens are scored, and n-grams fitted on; documents
            beyond are left out evenly, in scoring for each source.
        compress: measure the compressors too, which takes longest.
        tell: called with a line about what is done next.

    Raises:
        InputError: no such split, nothing in it, no model, or one of another tokenizer.
    """
    if run.config.threads:
        torch.set_num_threads(run.config.threads)
    store, folder = Store(run), model_folder(run.folder if model is None else model)
    if run.media or run.tokenizer is None or run.config.objective != "next_token":
        raise InputError(
            f"run {run.id} was trained with {run.config.objective}, which predicts no bytes of "
            "text; its result.json tells its own loss, and `preceptor probe` what its vectors are "
            "good for"
        )
    same_ids(folder, run.tokenizer)
    shards = store.shards
    ordinals, sources = _documents(store, split, max_tokens)
    targets, num_bytes = shards.lengths[ordinals] - 1, shards.num_bytes[ordinals]
    tell(f"scoring {len(ordinals):,} documents, {targets.sum():,} tokens, with the model")
    loaded = _load(folder).to(_device(run))
    nats = {"model": alone(loaded, shards, ordinals)}
    training = [store.plans[phase.plan] for phase in run.phases]
    for name, order in ORDERS.items():
        tell(f"fitting a Kneser-Ney {name} on the training text")
        counted = fit(
            shards, training, vocab_size=run.vocab_size, max_tokens=fit_tokens, order=order
        )
        nats[name] = sums(counted, shards, ordinals)
    texts, why_not = _texts(run, shards, ordinals, sources) if compress else (None, None)
    if compress:
        tell(why_not or "compressing the same text")
    scored = Scored(
        sources=sources,
        targets=targets,
        num_bytes=num_bytes,
        bits={name: values / LN2 for name, values in nats.items()},
        streams={} if texts is None else sizes(texts, threads=torch.get_num_threads()),
    )
    codes = np.unique(sources).tolist()
    return {
        "format": 1,
        "run": run.id,
        "corpus": dict(run.corpus),
        "split": split,
        "model": str(folder),
        "weights_sha256": digest_of(folder),
        "documents_planned": len(store.plan(split).documents()),
        "protocol": _protocol(loaded.spec.row_tokens, fit_tokens, bool(scored.streams)),
        "left_out": why_not,
        "scorers": [*scored.bits, *scored.streams],
        "all": scored.part(codes),
        "sources": {run.sources[code]: scored.part([code]) for code in codes},
    }


def _documents(store: Store, split: str, max_tokens: int) -> tuple[Array, Array]:
    """Return a split's documents, by source, and their sources; thinned in each source."""
    shards, plan = store.shards, store.plan(split)
    ordinals = plan.documents()
    ordinals = ordinals[~shards.withdrawn[ordinals] & (shards.lengths[ordinals] > 1)]
    if not len(ordinals):
        raise InputError(f"plan {split!r} of run {store.run.id} has no documents to score")
    sources = sources_of(plan, ordinals)
    share = max_tokens / int(shards.lengths[ordinals].sum())
    codes, chosen = np.unique(sources), []
    for code in codes:
        mine = ordinals[sources == code]
        chosen.append(thinned(shards, mine, int(share * shards.lengths[mine].sum())))
    return np.concatenate(chosen), np.repeat(codes, [len(part) for part in chosen])


def _device(run: Run) -> str:
    return "cuda" if run.config.device != "cpu" and torch.cuda.is_available() else "cpu"


def _load(folder: Path) -> Model:
    spec, weights = read_folder(folder)
    model = Model(replace(spec, document_mask=False))  # a row holds one document
    model.load_state_dict(weights)
    return model.eval()


def _texts(
    run: Run, shards: Shards, ordinals: Array, sources: Array
) -> tuple[list[list[bytes]] | None, str | None]:
    """Return the text of each source's documents, from their tokens, or None and why not."""
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return None, "no compressors: they need the package tokenizers (pip install tokenizers)"
    tokenizer = Tokenizer.from_file(str(run.tokenizer))
    texts: list[list[bytes]] = [[] for _ in run.sources]
    for ordinal, code in zip(ordinals.tolist(), sources.tolist(), strict=True):
        ids = shards.tokens(ordinal).tolist()
        texts[code].append(tokenizer.decode(ids, skip_special_tokens=True).encode())
        if len(texts[code][-1]) != shards.num_bytes[ordinal]:
            return None, "no compressors: this tokenizer does not give back a text's own bytes"
    return texts, None


def _protocol(row_tokens: int, fit_tokens: int, compressed: bool) -> str:
    text = (
        "Each document alone, bos first, in float32; beyond the first "
        f"{row_tokens:,} tokens with at least {row_tokens // 2:,} tokens of context. Same targets "
        "(text tokens and eos) and same bytes for all. n-grams: modified Kneser-Ney over tokens, "
        f"fitted on at most about {fit_tokens:,} tokens of the training text, within the document."
    )
    if compressed:
        text += (
            " xz -9e, zstd -19, zlib -9: all documents of a source in one stream, without the "
            "training text and without marking where a document ends."
        )
    return text


def main(arguments: list[str] | None = None) -> int:
    """`python -m train evaluate RUN.json`: measure, save beside the run, tell."""
    parser = argparse.ArgumentParser(prog="python -m train evaluate", description=__doc__)
    parser.add_argument("run", help="path of run.json")
    parser.add_argument("--split", default="validation", help="name of a plan")
    parser.add_argument("--model", help="folder of another model of the same tokenizer")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="about how many to score")
    parser.add_argument("--fit-tokens", type=int, default=20_000_000, help="for the n-grams")
    parser.add_argument("--no-compress", action="store_true", help="leave the compressors out")
    parser.add_argument("--tasks", default="", help="of lm-eval, with commas between")
    parser.add_argument("--tasks-dir", help="folder of YAML files with tasks of one's own")
    parser.add_argument("--limit", type=int, help="examples of each task")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON line")
    given = parser.parse_args(arguments)
    run, names = load_run(given.run), [name for name in given.tasks.split(",") if name]
    if names:  # first: a name or data that is not there is found before anything is measured
        print("... asking lm-eval", flush=True)
        folder = model_folder(run.folder if given.model is None else given.model)
        tasks = run_tasks(
            folder, names, tasks_dir=given.tasks_dir, limit=given.limit, device=_device(run)
        )
    result = contest(
        run,
        given.split,
        model=given.model,
        max_tokens=given.tokens,
        fit_tokens=given.fit_tokens,
        compress=not given.no_compress,
        tell=lambda text: print(f"... {text}", flush=True),
    )
    if names:
        result["tasks"] = tasks
    if given.model is None:
        write_json(run.folder / f"evaluation-{given.split}.json", result)
        write_card(run.folder / "model")
    if given.json:
        print(json.dumps(result))
    else:
        for name in result["scorers"]:
            print(f"{name:>8}: {result['all'][name]['bits_per_byte']:.4f} bits per byte")
    return 0
