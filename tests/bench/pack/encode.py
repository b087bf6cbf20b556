"""Compare the pass `tokenize` with gigatoken used directly, and with `tokenizers`.

The first part of `make bench-pack`. It takes the corpus of `make bench-dedup`, writes it as `clean`
and `judge` would, trains a tokenizer, and runs all in turns on one core, each in a process of its
own (see encode_one.py). Writes ENCODE.md. Everything it makes is under .bench/, which may be
deleted.

    python tests/bench/pack/encode.py [--quick] [--repeats N] [--size-mb N]
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from next_door import HERE, ROOT, corpora, measure, pages

from curate.corpus.identity import fingerprint
from curate.corpus.schema import SCHEMAS
from curate.tokens.tokenizer import train_bpe
from pipelines.passes.base import Workspace
from pipelines.store import Store

SIZE_MB, QUICK_MB = 175.0, 10.0
VOCAB_SIZE, SAMPLE_BYTES = 32_768, 16_000_000
SHARD_BYTES = 64 << 20
FEW = 20  # documents before the clock starts
FIRST_BYTES = 10_000_000  # what `tokenizers` gets: it is slow, and equally so for any more
OURS = "ours"
# What each does, and how many times as fast we must be; 0 where it is told for orientation.
PEERS = {
    "gigatoken with pyarrow": (
        "Parquet with `read_table`, `encode_batch` without a copy, ids as an Arrow file",
        0.8,
    ),
    "gigatoken, its own Parquet reader": ("`encode_files`, ids as an Arrow file", 0.8),
    "gigatoken in memory": ("`encode_batch` on one list of texts; reads and writes nothing", 0.0),
    "tokenizers": ("`encode_batch_fast` on lists of 1,000 texts; reads and writes nothing", 5.0),
}
NOTE = """\
Each measurement is a process on one core with one thread; ours runs directly before each run of
another, and the ratios are those of such pairs. CPU is user + system time without imports and the
loading of the tokenizer; gigatoken, which remembers words, has seen 20 documents. MB = 10^6 bytes
of UTF-8 text. Ours reads Parquet, adds the ends of documents, compares a thousandth of them with
`tokenizers`, and writes, hashes and syncs shards with ids, sources and splits: all in these
seconds."""
Facts = dict[str, Any]


def prepare(folder: Path, corpus: Any) -> Facts:
    """Write documents, verdicts and the tokenizer, unless they are there; return inputs.json."""
    told = folder / "inputs.json"
    if told.is_file():
        return dict(json.loads(told.read_text()))
    shutil.rmtree(folder, ignore_errors=True)
    workspace = Workspace(Store(str(folder / "store")), "in")
    texts = pq.read_table(corpus.parquet, columns=["text"])["text"].combine_chunks()
    texts = texts.cast(pa.large_string())
    ends = np.cumsum(pc.binary_length(texts).to_numpy())
    edges = [0, *(np.flatnonzero(np.diff(ends // SHARD_BYTES)) + 1).tolist(), len(texts)]
    shards = [
        [write(workspace, name, texts[low:high], low) for name in ("documents", "verdicts")]
        for low, high in pairwise(edges)
    ]
    few = [write(workspace, name, texts[:FEW], 0) for name in ("documents", "verdicts")]
    step = int(ends[-1]) // SAMPLE_BYTES + 1
    sample = texts.take(pa.array(np.arange(0, len(texts), step))).to_pylist()
    data = train_bpe(sample, vocab_size=VOCAB_SIZE)
    for name in ("tokenizer.json", "store/tokenizer.json"):
        (folder / name).write_bytes(data)
    first = max(1, int(np.searchsorted(ends, FIRST_BYTES, side="right")))
    inputs = {
        "shards": shards,
        "few": [few],
        "first_documents": first,
        "first_bytes": int(ends[first - 1]),
        "text_bytes": int(ends[-1]),
    }
    told.write_text(json.dumps(inputs))
    return inputs


def write(workspace: Workspace, name: str, texts: Any, first: int) -> Facts:
    """Write one shard of a table; of its columns those that `tokenize` reads have content."""
    count = len(texts)
    ids = [bytes.fromhex(fingerprint(str(first + i))) for i in range(count)]
    columns = {
        "doc_id": pa.array(ids, pa.binary(16)),
        "text": texts,
        "source": pa.array(["bench"] * count),
        "path": pa.array(["documents.parquet"] * count),
        "split": pa.array(["train"] * count),
        "kept": pa.array([True] * count),
        "position": pa.array(range(count), pa.int64()),
        "num_bytes": pc.binary_length(texts).cast(pa.int64()),
        "reasons": pa.array([[]] * count, pa.list_(pa.string())),
    }
    columns |= dict.fromkeys(("raw_hash", "text_hash", "cluster_id"), columns["doc_id"])
    with workspace.writer(name) as writer:
        fields = SCHEMAS[name]
        for start in range(0, count, 4096):
            rows = min(4096, count - start)
            writer.write(
                pa.table(
                    [
                        columns[field.name].slice(start, rows)
                        if field.name in columns
                        else pa.nulls(rows, field.type)
                        for field in fields
                    ],
                    schema=fields,
                )
            )
        return dict(writer.commit().to_dict())


def run(name: str, folder: Path, core: int | None) -> Facts:
    """Run one encoder in a process of its own; return what it tells and its peak memory."""
    log = folder / f"{name.replace(' ', '-').replace(',', '')}.log"
    command = [sys.executable, str(HERE / "encode_one.py"), name, str(folder)]
    used = measure.run(command, log=log, cwd=folder, env={"PYTHONPATH": str(ROOT)}, core=core)
    lines = log.read_text(errors="replace").strip().splitlines()
    if used.code != 0:
        raise SystemExit(f"{name} failed with status {used.code}: {lines[-1:]} (see {log})")
    facts = dict(json.loads(lines[-1]))
    facts["rate"] = facts["text_bytes"] / 1e6 / facts["cpu_s"]
    return {**facts, "peak_mib": used.peak_mib}


def compare(folder: Path, repeats: int, core: int | None) -> dict[str, list[tuple[Facts, Facts]]]:
    """Run ours directly before each of the others; return the pairs."""
    run(OURS, folder, core)  # compiles what is not compiled yet: thrown away
    pairs: dict[str, list[tuple[Facts, Facts]]] = {name: [] for name in PEERS}
    for _ in range(repeats):
        for name in PEERS:
            pair = run(OURS, folder, core), run(name, folder, core)
            pairs[name].append(pair)
            rates = [f"{one['rate']:.1f}" for one in pair]
            print(f"  MB / CPU s: ours {rates[0]}, {name} {rates[1]}", flush=True)
    return pairs


def same(pairs: dict[str, list[tuple[Facts, Facts]]]) -> dict[str, bool]:
    """Whether ours and each other gave the same ids: of all texts, or of the first."""
    return {
        name: all(theirs["digests"].items() <= mine["digests"].items() for mine, theirs in found)
        for name, found in pairs.items()
    }


def page(facts: Facts) -> str:
    """Return the page of results."""
    pairs, corpus = facts["pairs"], facts["corpus"]
    mine = [one for found in pairs.values() for one, _ in found]
    goals, rows = [], [[OURS, "Parquet shards to committed Arrow shards", *figures(mine), ""]]
    for name, (settings, must) in PEERS.items():
        found = [one["rate"] / other["rate"] for one, other in pairs[name]]
        told = "the same" if facts["same"][name] else "OTHERS"
        rows.append([name, settings, *figures([other for _, other in pairs[name]]), told])
        word = pages.word(statistics.median(found) >= must, False) if must else ""
        goal = f"{must:g}x" if must else ""
        goals.append([f"speed, against {name}", goal, pages.spread(found, "{:.2f}x"), word])
    versions = [f"{name} {importlib.metadata.version(name)}" for name in facts["libraries"]]
    return (
        "\n\n".join(
            [
                "# Encoding: measured",
                f"Written by `{facts['command']}` on {facts['date']}. {pages.machine()}; load "
                f"average {facts['load'][0]:.1f} at the start, {facts['load'][1]:.1f} at the end.",
                f"Corpus: {corpus['documents']:,} documents, {facts['text_bytes'] / 1e6:.1f} MB of "
                f"text: {corpus['origin']} (seed {corpus['seed']}). `tokenizers` gets the first "
                f"{facts['first_bytes'] / 1e6:.0f} MB. The tokenizer has {VOCAB_SIZE:,} ids and is "
                f"trained on a sample of the same text. {', '.join(versions)}.",
                NOTE,
                pages.table(["", "at least", "measured", ""], goals),
                pages.table(["", "", "MB / CPU s", "CPU s", "peak MiB", "ids"], rows),
            ]
        )
        + "\n"
    )


def figures(runs: list[Facts]) -> list[str]:
    """Return the columns of one encoder."""
    rates = [one["rate"] for one in runs]
    return [
        pages.spread(rates, "{:.0f}" if min(rates) >= 20 else "{:.1f}"),
        pages.spread([one["cpu_s"] for one in runs], "{:.2f}"),
        f"{max(one['peak_mib'] for one in runs):,.0f}",
    ]


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--size-mb", type=float, help=f"text to encode ({SIZE_MB:g})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--data", type=Path, help="a folder of Parquet files to use instead")
    parser.add_argument("--column", default="text", help="column of the text in --data")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of ours and each other")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_MB:g} MB, one repeat")
    parser.add_argument("--core", type=int, help="the core to run on (the last)")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench")
    parser.add_argument("--results", type=Path, help="the file to write")
    options = parser.parse_args(arguments)
    if options.quick:
        options.repeats = 1
    usual = not (options.quick or options.size_mb or options.data)
    options.size_mb = options.size_mb or (QUICK_MB if options.quick else SIZE_MB)
    if options.core is None and hasattr(os, "sched_getaffinity"):
        options.core = max(os.sched_getaffinity(0))
    if options.results is None:
        options.results = (HERE if usual else options.home) / "ENCODE.md"
    return options


def main() -> int:
    """Measure and write the page; 1 where a goal is missed or ids differ."""
    options = parse(sys.argv[1:])
    load = os.getloadavg()[0]
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    (home / ".gitignore").write_text("*\n")
    corpus = corpora.prepare(
        home,
        size_mb=options.size_mb,
        seed=options.seed,
        data=options.data,
        column=options.column,
    )
    folder = home / f"encode-{corpus.folder.name}"
    inputs = prepare(folder, corpus)
    pairs = compare(folder, options.repeats, options.core)
    given = " ".join(sys.argv[1:])
    facts = {
        "command": "make bench-pack" + (f' ARGS="{given}"' if given else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "load": [load, os.getloadavg()[0]],
        "corpus": corpus.facts,
        "text_bytes": inputs["text_bytes"],
        "first_bytes": inputs["first_bytes"],
        "libraries": ("gigatoken", "tokenizers", "pyarrow"),
        "pairs": pairs,
        "same": same(pairs),
    }
    text = page(facts)
    options.results.write_text(text)
    print(text)
    print(f"Wrote {options.results}")
    return 1 if "MISSED" in text or "OTHERS" in text else 0


if __name__ == "__main__":
    sys.exit(main())
