"""Our signatures alone: text in memory -> band keys, with one thread and with two, in turns.

Prints JSON: MB of text per CPU second with one thread, and how many times faster two are by the
clock. The first pass, which loads the kernels, is not counted.
"""

import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curate.dedup.minhash import MinHashScheme, sketch

NUM_CHUNKS = 64
MIN_SECONDS = 1.0


def main() -> None:
    """Take turns."""
    rounds = int(sys.argv[2])
    column = pq.read_table(Path(sys.argv[1]), columns=["text"])["text"].combine_chunks()
    texts = column.cast(pa.large_string())
    size_mb = sum(len(one) for one in texts.cast(pa.large_binary()).to_pylist()) / 1e6
    step = -(-len(texts) // NUM_CHUNKS)
    chunks = [texts.slice(start, step) for start in range(0, len(texts), step)]
    scheme = MinHashScheme(bands=16, rows=7)

    def once(pool: ThreadPoolExecutor) -> None:
        for _ in pool.map(lambda chunk: sketch(chunk, scheme), chunks):
            pass

    rates: dict[str, list[float]] = {"cpu": [], "one": [], "two": []}
    with ThreadPoolExecutor(1) as alone, ThreadPoolExecutor(2) as both:
        start = time.perf_counter()
        once(both)
        repeats = max(1, round(MIN_SECONDS / (time.perf_counter() - start)))
        for _ in range(rounds):
            for name, pool in (("one", alone), ("two", both)):
                wall, cpu = time.perf_counter(), time.process_time()
                for _ in range(repeats):
                    once(pool)
                rates[name].append(repeats * size_mb / (time.perf_counter() - wall))
                if name == "one":
                    rates["cpu"].append(repeats * size_mb / (time.process_time() - cpu))
    gain = [two / one for one, two in zip(rates["one"], rates["two"], strict=True)]
    print(
        json.dumps(
            {
                "mb_per_cpu_s": statistics.median(rates["cpu"]),
                "one_mb_per_s": statistics.median(rates["one"]),
                "two_mb_per_s": statistics.median(rates["two"]),
                "second_core": statistics.median(gain),
            }
        )
    )


if __name__ == "__main__":
    main()
