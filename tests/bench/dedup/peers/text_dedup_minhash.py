"""text-dedup: its own command line, on a config.toml; option `verified` turns its check on."""

import os
import runpy
import sys
from pathlib import Path

import shared

CONFIG = """
[input]
input_type = "local_files"
file_type = "parquet"

[input.read_arguments]
path = "parquet"
data_files = "{source}"
split = "train"

[algorithm]
algorithm_name = "minhash"
text_column = "text"
ngram_size = {width}
num_perm = {num_perm}
bands = {bands}
rows = {rows}
threshold = 0.8
num_proc = 1
check_false_positive = {verified}

[output]
output_dir = "{out}/survivors"

[debug]
enable_profiling = false
"""


def whole(source: Path, out: Path, option: str) -> None:
    """Run `python -m text_dedup.minhash` in the output's folder."""
    config = CONFIG.format(
        source=source.resolve(),
        out=out.resolve(),
        width=shared.WIDTH,
        num_perm=shared.BANDS * shared.ROWS,
        bands=shared.BANDS,
        rows=shared.ROWS,
        verified=str(option == "verified").lower(),
    )
    (out / "config.toml").write_text(config)
    os.chdir(out)
    sys.argv = ["text_dedup.minhash"]
    runpy.run_module("text_dedup.minhash", run_name="__main__")


def signatures(texts: list[str]) -> None:
    """Call the function that its stage maps over the documents."""
    from text_dedup.config import MinHashAlgorithmConfig

    algorithm = MinHashAlgorithmConfig(
        algorithm_name="minhash",
        text_column="text",
        ngram_size=shared.WIDTH,
        num_perm=shared.BANDS * shared.ROWS,
        bands=shared.BANDS,
        rows=shared.ROWS,
        threshold=0.8,
    )
    embed = algorithm.get_embed_func()
    for row, text in enumerate(texts):
        embed([text], [row])


if __name__ == "__main__":
    shared.main(whole, signatures)
