"""The corpus of the benchmark: real text without near-duplicates, then seeded ones put in.

    .bench/corpus-DIGEST/documents.parquet   id, text (zstd); ids are in the order of the rows
                        /truth.parquet       every pair inside a group: a, b, jaccard, ...
                        /corpus.json         what it is

A document is left out when more than a fifth of its word 5-grams occur in an earlier one, so the
injected pairs are the only ones a tool may find.
"""

import itertools
import json
import random
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sources
import truth

from curate.kernels.words import shingle_sets

FORMAT = 3
COPIES = 0.15
FULL_COPIES = 7_700  # the smallest number of copies that fills every bin of `truth.BINS`
FULL_MB = 150
MAX_SEEN = 0.2
MIN_SHINGLES = 30
BLOCK_DOCS = 4_000
GROUP_ROWS = 4_000
PARTS = 16


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Where the files of a corpus are, and its facts (`corpus.json`)."""

    folder: Path
    facts: dict[str, Any]

    @property
    def parquet(self) -> Path:
        """The documents: id, text."""
        return self.folder / "documents.parquet"

    @property
    def truth(self) -> Path:
        """The pairs inside the injected groups."""
        return self.folder / "truth.parquet"

    @property
    def num_mb(self) -> float:
        """Megabytes (10^6) of UTF-8 text."""
        return float(self.facts["text_bytes"]) / 1e6


def prepare(home: Path, *, size_mb: float, seed: int, data: Path | None, column: str) -> Corpus:
    """Return the corpus of these settings, made under `home` unless it is there already."""
    digest = sources.folder_digest(data, column) if data else sources.environment_digest()
    name = f"corpus-{digest}-{FORMAT}-{size_mb:g}mb-seed{seed}"
    folder = home / name
    if not (folder / "corpus.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        partial = home / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        _build(partial, size_mb=size_mb, seed=seed, data=data, column=column)
        partial.rename(folder)
    return Corpus(folder=folder, facts=json.loads((folder / "corpus.json").read_text()))


def _build(folder: Path, *, size_mb: float, seed: int, data: Path | None, column: str) -> None:
    """Write the files of a corpus."""
    origin = f"text under {data}" if data else "the text of this Python environment"
    print(f"Making a corpus of {size_mb:g} MB from {origin} ...", flush=True)
    draw = random.Random(f"corpus/{seed}")
    files = sources.of_folder(data, column) if data else sources.of_environment()
    texts = list(sources.documents(files, seed))
    raw_bytes = sum(len(text.encode()) for text in texts)
    draw.shuffle(texts)
    fresh = _without_near_duplicates(texts)
    base = _first(fresh, size_mb * 1e6 / (1 + COPIES))
    num_copies = round(COPIES * len(base))
    if size_mb >= FULL_MB:
        num_copies = max(num_copies, FULL_COPIES)
    groups = list(_groups(base, num_copies, draw))
    placed = [(group, member, text) for group, members in groups for member, text in members]
    injected = {group for group, _ in groups}
    placed += [(index, 0, text) for index, text in enumerate(base) if index not in injected]
    draw.shuffle(placed)
    ids = {(group, member): f"d{at:07d}" for at, (group, member, _) in enumerate(placed)}
    _write_documents(folder, [text for _, _, text in placed])
    counts = _write_truth(folder, groups, ids)
    facts = {
        "origin": origin,
        "seed": seed,
        "documents": len(placed),
        "text_bytes": sum(len(text.encode()) for _, _, text in placed),
        "originals": len(base),
        "copies": sum(len(members) - 1 for _, members in groups),
        "pairs": counts,
        "raw_bytes_before": raw_bytes,
        "documents_before": len(texts),
        "documents_without_near_duplicates": len(fresh),
    }
    short = facts["text_bytes"] / 1e6 < 0.97 * size_mb
    facts["shortfall"] = f"there is no more: {size_mb:g} MB were asked for" if short else ""
    (folder / "corpus.json").write_text(json.dumps(facts, indent=1))


def _without_near_duplicates(texts: list[str]) -> list[str]:
    """Keep the documents of which at most `MAX_SEEN` of the shingles occur in an earlier one."""
    values, owners = [], []
    sizes = np.empty(len(texts), dtype=np.int64)
    for start in range(0, len(texts), BLOCK_DOCS):
        block = pa.array(texts[start : start + BLOCK_DOCS], pa.large_string())
        found, offsets = shingle_sets(block, truth.WIDTH)
        counts = np.diff(offsets)
        sizes[start : start + counts.size] = counts
        values.append(found)
        owners.append(np.repeat(np.arange(start, start + counts.size, dtype=np.int32), counts))
    seen = np.zeros(len(texts), dtype=np.int64)
    hashes, docs = np.concatenate(values), np.concatenate(owners)
    prefixes = hashes >> np.uint64(60)
    for part in range(PARTS):
        here = np.flatnonzero(prefixes == part)
        here = here[np.argsort(hashes[here], kind="stable")]  # documents stay in order in a run
        again = hashes[here[1:]] == hashes[here[:-1]]
        seen += np.bincount(docs[here[1:][again]], minlength=len(texts))
    kept = (sizes >= MIN_SHINGLES) & (seen <= MAX_SEEN * sizes)
    return [texts[index] for index in np.flatnonzero(kept)]


def _first(texts: list[str], max_bytes: float) -> list[str]:
    """Return as many of the first texts as fit."""
    sizes = itertools.accumulate(len(text.encode()) for text in texts)
    return [text for text, size in zip(texts, sizes, strict=True) if size <= max_bytes]


def _groups(
    base: list[str], num_copies: int, draw: random.Random
) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """Yield (index of the original, its members): of one in eight several copies, else one.

    A decoy stays alone with its original, so that whoever removes either of them is wrong.
    """
    words = {word for text in base[:2_000] for word in truth.LETTERS.findall(text)}
    vocabulary = sorted(word for word in words if truth.has_spaces(word))
    wanted = [one for one in truth.BINS for _ in range(ceil(num_copies * one.share))]
    draw.shuffle(wanted)
    originals = iter(draw.sample(range(len(base)), len(base)))
    while wanted:
        index = next(originals, None)
        if index is None:
            raise SystemExit(f"{len(wanted)} copies do not fit: the corpus has too few documents")
        num_members = draw.randint(3, 5) if draw.random() < 0.125 else 2
        members = [(0, base[index])]
        while wanted and len(members) < num_members:
            is_decoy = wanted[-1] is truth.DECOY
            if is_decoy and len(members) > 1:
                break
            copy = truth.copy_of(base[index], wanted[-1], vocabulary, draw)
            if copy is None:
                break
            wanted.pop()
            members.append((len(members), copy))
            if is_decoy:
                break
        if len(members) > 1:
            yield index, members


def _write_documents(folder: Path, texts: list[str]) -> None:
    """Write the documents."""
    ids = [f"d{at:07d}" for at in range(len(texts))]
    table = pa.table({"id": pa.array(ids), "text": pa.array(texts, pa.large_string())})
    pq.write_table(
        table, folder / "documents.parquet", compression="zstd", row_group_size=GROUP_ROWS
    )


def _write_truth(
    folder: Path,
    groups: list[tuple[int, list[tuple[int, str]]]],
    ids: dict[tuple[int, int], str],
) -> dict[str, int]:
    """Write the exact similarity of every pair inside a group; return the pairs of each bin.

    `injected` marks the pairs (original, copy). A pair is in `exact copy` if the texts are equal.
    """
    rows: dict[str, list[Any]] = defaultdict(list)
    counts = dict.fromkeys((one.name for one in truth.BINS), 0)
    for group, members in groups:
        words = [truth.shingles(text) for _, text in members]
        identifiers = [truth.shingles(text, truth.IDENTIFIERS) for _, text in members]
        spaces = [truth.shingles(text, truth.SPACES) for _, text in members]
        for (a, text_a), (b, text_b) in itertools.combinations(members, 2):
            similarity = truth.jaccard(words[a], words[b])
            kind = truth.EXACT.name if text_a == text_b else _bin_of(similarity)
            rows["a"].append(ids[group, a])
            rows["b"].append(ids[group, b])
            rows["jaccard"].append(similarity)
            rows["jaccard_identifiers"].append(truth.jaccard(identifiers[a], identifiers[b]))
            rows["jaccard_spaces"].append(truth.jaccard(spaces[a], spaces[b]))
            rows["bin"].append(kind)
            rows["injected"].append(a == 0)
            if a == 0:
                counts[kind] += 1
    pq.write_table(pa.table(dict(rows)), folder / "truth.parquet", compression="zstd")
    return counts


def _bin_of(similarity: float) -> str:
    """Return the name of the bin, or an empty one for a pair of copies that lies below all."""
    for one in truth.BINS[:-1]:
        if one.low <= similarity < one.high or (one.high == 1.0 and similarity == 1.0):
            return one.name
    return ""
