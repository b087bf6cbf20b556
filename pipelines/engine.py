"""The engine: where jobs run. One seam, `submit` of concurrent.futures, behind `run_all`.

Jobs are plain functions with small picklable arguments; bulk data travels through files. The same
jobs give the same bytes on every engine, in any order of completion.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from curate.corpus.errors import InputError, IntegrityError

__all__ = ["DaskEngine", "Engine", "Job", "JobsFailedError", "SerialEngine", "engine_for"]

Job = tuple[Callable[..., Any], tuple[Any, ...]]
_IN_FLIGHT_PER_WORKER = 4
_WORKER_ENV = {
    "POLARS_MAX_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "RAYON_NUM_THREADS": "1",
}


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Let the processes started meanwhile ignore Ctrl-C: this one answers it, and ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class JobsFailedError(RuntimeError):
    """One or more jobs failed; the message tells the first few together."""


class Engine(Protocol):
    """Runs jobs and yields (index, result) as they finish."""

    def run_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        """Run every job; raise after all have ended if any failed."""
        ...


def _raise(failures: list[tuple[int, BaseException]]) -> None:
    if not failures:
        return
    failures.sort(key=lambda pair: pair[0])
    for _, error in failures:  # what a person can mend comes first, as it is
        if isinstance(error, InputError | IntegrityError):
            raise error
    if len(failures) == 1:
        raise failures[0][1]
    told = "\n".join(
        f"  job {index}: {type(error).__name__}: {error}" for index, error in failures[:5]
    )
    raise JobsFailedError(f"{len(failures)} jobs failed:\n{told}") from failures[0][1]


def _outcome(
    function: Callable[..., Any], arguments: tuple[Any, ...]
) -> tuple[Any, Exception | None]:
    """Run a job in a worker; an error travels as a value, or Dask would print its traceback."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


class SerialEngine:
    """Everything in this process, one job after another."""

    workers = 1

    def run_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        """Run the jobs in order; the first failure stops."""
        for index, (function, arguments) in enumerate(jobs):
            yield index, function(*arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None


class DaskEngine:
    """A Dask LocalCluster of single-threaded processes, started with the first job.

    `pure=False` always (equal jobs would run once, and a retry would return the old failure), only
    `submit`, and at most 4 jobs in flight per worker.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._cluster: Any = None
        self._client: Any = None
        self._environment: dict[str, str] = {}

    def _start(self) -> Any:
        if self._client is None:
            import dask
            from distributed import Client, LocalCluster

            # Dask writes what its workers need into *this* environment, and leaves it there.
            self._environment = dict(os.environ)
            settings = {
                "distributed.nanny.pre-spawn-environ": {**_WORKER_ENV},
                "distributed.worker.multiprocessing-method": "spawn",
                "distributed.logging.distributed": "error",
            }
            with dask.config.set(settings), _interrupts_ignored():
                self._cluster = LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,
                    silence_logs="ERROR",
                )
                self._client = Client(self._cluster)
        return self._client

    def run_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        """Run the jobs on the workers; yield results as they finish."""
        if not jobs:
            return
        from distributed import as_completed

        client = self._start()
        waiting = iter(enumerate(jobs))
        index_of: dict[Any, int] = {}

        def submit() -> Any:
            for index, (function, arguments) in waiting:
                future = client.submit(_outcome, function, arguments, pure=False)
                index_of[future.key] = index
                return future
            return None

        first = [
            f
            for f in (submit() for _ in range(_IN_FLIGHT_PER_WORKER * self.workers))
            if f is not None
        ]
        running = as_completed(first)
        failures: list[tuple[int, BaseException]] = []
        for future in running:
            index = index_of.pop(future.key)
            error = future.exception() if future.status != "finished" else None
            result = None
            if error is None:
                result, error = future.result()
            if error is None:
                yield index, result
            else:
                failures.append((index, error))
            if not failures and (following := submit()) is not None:
                running.add(following)
        _raise(failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                with contextlib.suppress(Exception):
                    part.close(timeout=10)
        if self._client is not None:
            for name in set(os.environ) - set(self._environment):
                del os.environ[name]
            os.environ.update(self._environment)
        self._client = self._cluster = None


def engine_for(workers: int | None) -> SerialEngine | DaskEngine:
    """Return the command line's engine: one process per core unless told otherwise."""
    workers = workers if workers is not None else (os.cpu_count() or 1)
    if workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    return SerialEngine() if workers == 1 else DaskEngine(workers)
