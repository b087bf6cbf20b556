"""Our components, measured as the peers' runners are: see peers/shared.py."""

import sys
from pathlib import Path

import polars as pl
import pyarrow as pa

from curate.contamination.index import BenchmarkIndex
from curate.signals.registry import measure

sys.path.append(str(Path(__file__).resolve().parent / "peers"))

FAMILIES = ("document", "gopher", "repetition")


def gopher(texts: pa.LargeStringArray) -> int:
    """Return how many texts were measured."""
    return int(measure(texts, FAMILIES).num_rows)


def main() -> None:
    """Time what the option names."""
    import shared

    sample, items = shared.texts(), shared.items()
    num_bytes = sum(len(text.encode()) for text in sample)
    texts = pa.array(sample, pa.large_string())
    warm_up = texts.slice(0, shared.WARM_UP)
    if shared.option() == "gopher":
        shared.timed(gopher, texts, warm_up, num_bytes)
        return
    names = [str(number) for number in range(len(items))]
    frame = pl.DataFrame({"benchmark": "bench", "item": names, "text": items})
    index = BenchmarkIndex.build(frame)

    def ngrams(texts: pa.LargeStringArray) -> int:
        return int(index.match(texts, record_above=0).get_column("document").n_unique())

    shared.timed(ngrams, texts, warm_up, num_bytes)


if __name__ == "__main__":
    main()
