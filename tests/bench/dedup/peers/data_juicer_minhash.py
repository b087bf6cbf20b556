"""Data-Juicer: its own dj-process with document_minhash_deduplicator alone in the recipe."""

import sys
from pathlib import Path

import shared

RECIPE = """
project_name: bench
dataset_path: {source}
export_path: {out}/survivors/0.parquet
work_dir: {out}/work
np: 1
use_cache: false
open_monitor: false
auto_op_parallelism: false
text_keys: text
process:
  - document_minhash_deduplicator:
      tokenization: space
      window_size: {width}
      lowercase: true
      num_permutations: {num_perm}
      jaccard_threshold: 0.8
      num_bands: {bands}
      num_rows_per_band: {rows}
"""


def whole(source: Path, out: Path, option: str) -> None:
    """Run `dj-process --config RECIPE`."""
    recipe = RECIPE.format(
        source=source.resolve(),
        out=out.resolve(),
        width=shared.WIDTH,
        num_perm=shared.BANDS * shared.ROWS,
        bands=shared.BANDS,
        rows=shared.ROWS,
    )
    (out / "recipe.yaml").write_text(recipe)
    from data_juicer.tools.process_data import main

    sys.argv = ["dj-process", "--config", str(out / "recipe.yaml")]
    main()


def signatures(texts: list[str]) -> None:
    """Call the operator's function on each document."""
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import (
        DocumentMinhashDeduplicator,
    )

    operator = DocumentMinhashDeduplicator(
        num_permutations=shared.BANDS * shared.ROWS,
        num_bands=shared.BANDS,
        num_rows_per_band=shared.ROWS,
    )
    for text in texts:
        operator.compute_hash({"text": text})


if __name__ == "__main__":
    shared.main(whole, signatures)
