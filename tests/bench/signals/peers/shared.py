"""What every runner does alike: `RUNNER.py SAMPLE.json ITEMS.json OPTION`.

Both files are lists of texts. The tool loads and warms up on a few texts; then the CPU seconds of
this process for all of them are taken, again and again until they are long enough to be timed.
Prints JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MIN_SECONDS = 1.0
WARM_UP = 20


def option() -> str:
    """Return the last argument."""
    return sys.argv[3] if len(sys.argv) > 3 else ""


def texts() -> list[str]:
    """Return the sample."""
    return _column(Path(sys.argv[1]))


def items() -> list[str]:
    """Return the benchmark items."""
    return _column(Path(sys.argv[2]))


def _column(path: Path) -> list[str]:
    values: list[str] = json.loads(path.read_text(encoding="utf-8"))
    return values


def report(work: Callable[[list[str]], int], sample: list[str] | None = None) -> None:
    """Time `work`, which returns how many texts it found something about."""
    sample = texts() if sample is None else sample
    timed(work, sample, sample[:WARM_UP], sum(len(text.encode()) for text in sample))


def timed(work: Callable[[Any], int], sample: Any, warm_up: Any, num_bytes: int) -> None:
    """Do `report` for texts of any form."""
    work(warm_up)
    start = time.process_time()
    found, rounds = work(sample), 1
    while time.process_time() - start < MIN_SECONDS:
        work(sample)
        rounds += 1
    seconds = (time.process_time() - start) / rounds
    print(json.dumps({"cpu_s": seconds, "text_bytes": num_bytes, "found": found}))
