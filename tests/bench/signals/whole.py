"""A whole process of ours, and reading and writing the same Parquet file alone.

`whole.py ours SOURCE ITEMS OUT` runs collect, clean, measure, decontaminate and judge in this
process; `whole.py rewrite SOURCE ITEMS OUT` copies the file batch by batch with pyarrow, with the
compression that our shards have. Prints JSON: the CPU seconds of each part.
"""

import json
import sys
import time
from pathlib import Path

# No duplicates are looked for: the row is about evidence and rules.
RECIPE = """
name: bench
sources:
  - {{name: documents, paths: [{source}]}}
clean: {{unicode: NFC}}
rules: {{use: [gopher_quality@paper, gopher_repetition_lines@paper]}}
deduplicate: {{exact: false, near: null}}
decontaminate:
  against: [{{name: items, paths: [{items}], columns: [text]}}]
  method: {{ngram: {{words: 13, overlap: 0.5}}}}
"""
COMPRESSION, LEVEL = "zstd", 1


def ours(source: Path, items: Path, out: Path) -> dict[str, float]:
    """Run the passes up to `judge`; return the CPU seconds of each."""
    from pipelines.build import run
    from pipelines.passes.base import Event
    from pipelines.recipe import parse_recipe

    seconds: dict[str, float] = {}
    last = time.process_time()

    def observe(event: Event) -> None:
        nonlocal last
        if event.kind == "done":
            seconds[event.name] = time.process_time() - last
            last = time.process_time()

    text = RECIPE.format(source=json.dumps(str(source)), items=json.dumps(str(items)))
    run(parse_recipe(text), store=str(out / "store"), until="judge", observe=observe)
    return seconds


def rewrite(source: Path, items: Path, out: Path) -> dict[str, float]:
    """Read the file and write it."""
    del items
    import pyarrow.parquet as pq

    start = time.process_time()
    file = pq.ParquetFile(source)
    with pq.ParquetWriter(
        out / "copy.parquet", file.schema_arrow, compression=COMPRESSION, compression_level=LEVEL
    ) as writer:
        for group in range(file.num_row_groups):
            writer.write_table(file.read_row_group(group, use_threads=False))
    return {"rewrite": time.process_time() - start}


def main() -> None:
    """Do what the first argument says."""
    what, source, items, out = sys.argv[1], *map(Path, sys.argv[2:5])
    print(json.dumps({"ours": ours, "rewrite": rewrite}[what](source, items, out)))


if __name__ == "__main__":
    main()
