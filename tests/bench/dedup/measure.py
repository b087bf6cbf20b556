"""Run a process from start to end: CPU seconds, wall seconds and peak memory of its whole tree."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

# One thread each, so that "one core" means the same to all; no hub may be asked for anything.
LIMITS = {
    **dict.fromkeys(
        (
            "ARROW_IO_THREADS",
            "MKL_NUM_THREADS",
            "NUMBA_NUM_THREADS",
            "NUMEXPR_NUM_THREADS",
            "OMP_NUM_THREADS",
            "OPENBLAS_NUM_THREADS",
            "POLARS_MAX_THREADS",
            "RAYON_NUM_THREADS",
        ),
        "1",
    ),
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONHASHSEED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}
SAMPLE_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a process took.

    Attributes:
        cpu_s: user and system time, with that of every descendant it waited for.
        wall_s: from start to end.
        peak_mib: the largest resident set of one process, or of the tree where it is larger.
        code: exit status.
        log: what it printed.
    """

    cpu_s: float
    wall_s: float
    peak_mib: float
    code: int
    log: Path


def run(
    command: list[str], *, log: Path, cwd: Path, env: Mapping[str, str], core: int | None
) -> Usage:
    """Run a command, on one core where the system can do that and `core` names one."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    before = _pin(core)
    try:
        start = time.perf_counter()
        with log.open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**clean, **LIMITS, **env},
            )
    finally:
        _unpin(before)
    sampler = _Sampler(process.pid)
    _, status, used = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)  # it is gone: spare Popen the wait
    largest = used.ru_maxrss * (1 if os.uname().sysname == "Darwin" else 1024)
    return Usage(
        cpu_s=used.ru_utime + used.ru_stime,
        wall_s=wall,
        peak_mib=max(largest, sampler.stop()) / 2**20,
        code=process.returncode,
        log=log,
    )


class _Sampler(threading.Thread):
    """Sums the resident memory of a process and its descendants every now and then."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._done = threading.Event()
        self._peak = 0
        self.start()

    def run(self) -> None:
        """Sample until told to stop; a single process is left to its own `ru_maxrss`."""
        while not self._done.wait(SAMPLE_S):
            try:
                root = psutil.Process(self._pid)
                tree = [root, *root.children(recursive=True)]
                if len(tree) > 1:
                    self._peak = max(self._peak, sum(one.memory_info().rss for one in tree))
            except psutil.Error:
                continue

    def stop(self) -> int:
        """Return the largest sum seen, in bytes."""
        self._done.set()
        self.join()
        return self._peak


def _pin(core: int | None) -> set[int]:
    """Put this process on one core for as long as a child is born; return where it was."""
    if core is None or not hasattr(os, "sched_setaffinity"):
        return set()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    return before


def _unpin(before: set[int]) -> None:
    if before:
        os.sched_setaffinity(0, before)
