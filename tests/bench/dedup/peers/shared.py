"""What every runner does alike. Imports nothing that a peer's environment may lack at the start.

A runner is `python RUNNER.py MODE INPUT.parquet OUT_DIR [OPTION]`. Modes: `whole` reads the file,
removes near-duplicates and writes the survivors under OUT_DIR/survivors; `signatures` prints, as
JSON, the CPU seconds that the signatures alone of the first OPTION megabytes of text take.
"""

import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

BANDS, ROWS, WIDTH = 14, 8, 5
BLOCK_DOCS = 1_000
# The words of the benchmark's truth: what a person would write who calls a library from Python.
WORD = re.compile(r"[^\W_]+")


def main(
    whole: Callable[[Path, Path, str], None],
    signatures: Callable[[list[str]], object] | None = None,
) -> None:
    """Do what the command line says."""
    mode, source, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    option = sys.argv[4] if len(sys.argv) > 4 else ""
    if mode == "whole":
        whole(source, out, option)
        return
    if signatures is None:
        raise SystemExit("this peer has no separate stage of signatures")
    texts = first_texts(source, float(option) * 1e6)
    signatures(texts[:20])  # what is loaded or built on first use is not the stage's
    start = time.process_time()
    signatures(texts)
    seconds = time.process_time() - start
    size = sum(len(text.encode()) for text in texts)
    print(json.dumps({"cpu_s": seconds, "text_bytes": size}))


def batches(source: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Yield (ids, texts) of `BLOCK_DOCS` documents."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(source).iter_batches(batch_size=BLOCK_DOCS):
        yield batch.column("id").to_pylist(), batch.column("text").to_pylist()


def first_texts(source: Path, max_bytes: float) -> list[str]:
    """Return the first texts up to this size."""
    texts: list[str] = []
    size = 0
    for _, block in batches(source):
        for text in block:
            size += len(text.encode())
            if size > max_bytes:
                return texts
            texts.append(text)
    return texts


def shingles(text: str) -> Iterator[str]:
    """Yield the runs of `WIDTH` words, joined: of several ways to write this, the fastest."""
    words = WORD.findall(text.lower())
    return map(" ".join, zip(*(words[k:] for k in range(WIDTH)), strict=False))


def write_survivors(out: Path, blocks: Iterable[tuple[list[str], list[str]]]) -> None:
    """Write (ids, texts) as Parquet with zstd."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([("id", pa.string()), ("text", pa.large_string())])
    folder = out / "survivors"
    folder.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(folder / "0.parquet", schema, compression="zstd") as writer:
        for ids, texts in blocks:
            writer.write_table(
                pa.table([pa.array(ids), pa.array(texts, pa.large_string())], schema=schema)
            )


def write_kept(source: Path, out: Path, kept: set[str]) -> None:
    """Read the documents again and write those whose id is in `kept`, as Parquet with zstd."""

    def chosen() -> Iterator[tuple[list[str], list[str]]]:
        for ids, texts in batches(source):
            rows = [row for row, name in enumerate(ids) if name in kept]
            yield [ids[row] for row in rows], [texts[row] for row in rows]

    write_survivors(out, chosen())
