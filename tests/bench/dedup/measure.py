"""Run a process from start to end: CPU seconds, wall seconds and peak memory of its whole tree."""

import json
import os
import subprocess
import sys
import threading
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
LAUNCHER = Path(__file__).with_name("launch.py")


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
    report = log.with_suffix(".usage.json")
    report.unlink(missing_ok=True)
    pinned = "" if core is None else str(core)
    launcher = [sys.executable, "-I", "-S", str(LAUNCHER), str(report), pinned]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*launcher, *command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**clean, **LIMITS, **env},
        )
        sampler = _Sampler(process.pid)
        process.wait()
        together = sampler.stop()
    if not report.is_file():
        tail = log.read_text(errors="replace").strip()[-300:]
        raise RuntimeError(f"{command[0]} could not be started: {tail}")
    facts = json.loads(report.read_text())
    return Usage(
        cpu_s=facts["cpu_s"],
        wall_s=facts["wall_s"],
        peak_mib=max(facts["peak_bytes"], together) / 2**20,
        code=facts["code"],
        log=log,
    )


class _Sampler(threading.Thread):
    """Sums the resident memory of a process's descendants every now and then."""

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
                tree = psutil.Process(self._pid).children(recursive=True)
                if len(tree) > 1:
                    self._peak = max(self._peak, sum(one.memory_info().rss for one in tree))
            except psutil.Error:
                continue

    def stop(self) -> int:
        """Return the largest sum seen, in bytes."""
        self._done.set()
        self.join()
        return self._peak
