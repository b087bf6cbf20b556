"""Our signatures alone: text in memory -> band keys, with one thread and with two, in turns.

Prints JSON: MB of text per CPU second with one thread, how many times faster two are by the clock,
and how many times faster two are at plain SHA-256, which shares nothing: where that is not 2, the
second core was not free. The first pass, which loads the kernels, is not counted.
"""

import hashlib
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.dedup.minhash import MinHashScheme, sketch

NUM_CHUNKS = 64
MIN_SECONDS = 1.0
SHA_PIECES, SHA_BYTES = 20, 16 << 20


def timed(
    pool: ThreadPoolExecutor, function: Callable[[object], object], items: Iterable[object]
) -> tuple[float, float]:
    """Return the wall and CPU seconds that the pool takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in pool.map(function, items):
        pass
    return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    """Take turns."""
    rounds = int(sys.argv[2])
    column = pq.read_table(Path(sys.argv[1]), columns=["text"])["text"].combine_chunks()
    texts = column.cast(pa.large_string())
    size_mb = pc.sum(pc.binary_length(texts)).as_py() / 1e6
    step = -(-len(texts) // NUM_CHUNKS)
    chunks = [texts.slice(start, step) for start in range(0, len(texts), step)]
    scheme = MinHashScheme(bands=16, rows=7)
    plain = [bytes(SHA_BYTES)] * SHA_PIECES
    rates: list[float] = []
    gains: list[float] = []
    controls: list[float] = []
    with ThreadPoolExecutor(1) as alone, ThreadPoolExecutor(2) as both:
        timed(both, lambda chunk: sketch(chunk, scheme), chunks)
        first, _ = timed(alone, lambda chunk: sketch(chunk, scheme), chunks)
        repeats = max(1, round(MIN_SECONDS / first))
        for _ in range(rounds):
            one, cpu = timed(alone, lambda chunk: sketch(chunk, scheme), chunks * repeats)
            two, _ = timed(both, lambda chunk: sketch(chunk, scheme), chunks * repeats)
            rates.append(repeats * size_mb / cpu)
            gains.append(one / two)
            sha_one, _ = timed(alone, hashlib.sha256, plain)
            sha_two, _ = timed(both, hashlib.sha256, plain)
            controls.append(sha_one / sha_two)
    print(
        json.dumps(
            {
                "mb_per_cpu_s": statistics.median(rates),
                "second_core": statistics.median(gains),
                "second_core_sha256": statistics.median(controls),
            }
        )
    )


if __name__ == "__main__":
    main()
