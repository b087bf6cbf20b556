"""The engine: where jobs run. One seam, `submit` of concurrent.futures, behind `run_all`.

Jobs are plain functions with small picklable arguments; bulk data travels through files. The same
jobs give the same bytes on every engine, in any order of completion.
"""

import contextlib
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from curate.corpus.errors import InputError, IntegrityError

__all__ = [
    "DaskEngine",
    "Engine",
    "FuturesEngine",
    "Job",
    "JobsFailedError",
    "SerialEngine",
    "engine_for",
    "outcome",
]

Job = tuple[Callable[..., Any], tuple[Any, ...]]
_IN_FLIGHT_PER_WORKER = 4
_FETCH_SECONDS = 10  # a result is a small record; this is how long nobody may answer
_WORKER_ENV = {
    "POLARS_MAX_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    # Give memory back at once: allocators that keep it cost a worker a third of its peak.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_MMAP_THRESHOLD_": "1048576",
    "_RJEM_MALLOC_CONF": "dirty_decay_ms:0,muzzy_decay_ms:0",
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


def outcome(
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


class FuturesEngine:
    """What every engine on Dask shares: how jobs are handed out, and what their ends mean.

    `pure=False` always (equal jobs would run once, and a retry would return the old failure), only
    `submit`, and at most 4 jobs in flight per worker. A job whose worker dies is run again by Dask
    on another one, until it has taken `distributed.scheduler.allowed-failures` + 1 with it.
    """

    def _start(self) -> Any:
        """Return the client, connected with the first call."""
        raise NotImplementedError

    def _stop(self) -> None:
        """End what `_start` began."""
        raise NotImplementedError

    def _num_workers(self) -> int:
        """Return how many jobs can run at once now."""
        raise NotImplementedError

    def _watch(self) -> None:
        """Look after the cluster while nothing finishes; raise if nothing ever will."""

    def _call(self, job: Job) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Return what a worker calls for a job; it returns (result, error)."""
        return outcome, job

    def _lost(self) -> InputError:
        """Return the error for a cluster that has left."""
        return InputError("the workers' scheduler has ended; run the same command again to go on")

    def run_all(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        """Run the jobs on the workers; yield results as they finish."""
        if not jobs:
            return
        from distributed import CancelledError, as_completed

        client = self._start()
        waiting = iter(enumerate(jobs))
        index_of: dict[Any, int] = {}
        running = as_completed(loop=client.loop)
        failures: list[tuple[int, BaseException]] = []

        def top_up() -> None:
            workers = max(self._num_workers(), 1)  # with none, one job waits for the first
            room = _IN_FLIGHT_PER_WORKER * workers - len(index_of)
            while room > 0 and (following := next(waiting, None)) is not None:
                index, job = following
                function, arguments = self._call(job)
                future = client.submit(function, *arguments, pure=False)
                index_of[future.key] = index
                running.add(future)
                room -= 1

        top_up()
        while index_of:
            future = self._next(running)
            if future.status in ("lost", "pending"):  # its worker died before it was fetched
                running.add(future)
                continue
            if future.status == "cancelled":
                raise self._lost()
            index = index_of.pop(future.key)
            try:
                result, error = future.result(timeout=_FETCH_SECONDS)
            except CancelledError:
                raise self._lost() from None
            except TimeoutError:  # its worker died while it was fetched, and Dask waits for another
                self._watch()
                index_of[future.key] = index
                running.add(future)
                continue
            except Exception as ended:
                result, error = None, _ended(ended, jobs[index])
            del future  # its result is let go of there, too
            if error is None:
                yield index, result
            else:
                failures.append((index, error))
            if not failures:
                top_up()
        _raise(failures)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _next(self, running: Any) -> Any:
        while not running.has_ready():
            self._watch()
            with running.thread_condition:
                running.thread_condition.wait(0.1)
        return next(running)


def _ended(error: BaseException, job: Job) -> BaseException:
    """Return what to say of a job that ended without an outcome."""
    from distributed.scheduler import KilledWorker

    if isinstance(error, KilledWorker):
        told = InputError(
            f"{_told(job)} ended {error.allowed_failures + 1} workers one after another, most "
            "likely for want of memory; what is finished is kept"
        )
        told.add_note(
            "give each worker more memory (or use fewer --workers), or lower collect.part_bytes"
        )
        return told
    if isinstance(error, ImportError):
        return InputError(f"a worker cannot run this: {error}; install the same preceptor there")
    return error


def _told(job: Job) -> str:
    """Name a job: its function, and the file it reads if one is among its arguments.

    >>> _told((print, ("deduplicate", len)))
    'the job len of deduplicate'
    """
    function, arguments = job
    inner = next((a for a in arguments if callable(a)), function)
    of = next((a for a in arguments if isinstance(a, str)), None)
    nested = [b for a in arguments if isinstance(a, list | tuple) for b in a]
    paths = [p for a in (*arguments, *nested) if isinstance(p := getattr(a, "path", None), str)]
    name = f"the job {getattr(inner, '__name__', repr(inner))}"
    return name + (f" of {of}" if of else "") + (f" on {paths[0]}" if paths else "")


class DaskEngine(FuturesEngine):
    """A Dask LocalCluster of single-threaded processes, started with the first job.

    A process that dies is replaced.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._cluster: Any = None
        self._client: Any = None
        self._environment: dict[str, str] = {}

    def _num_workers(self) -> int:
        return self.workers

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
                # It samples our frames from another thread, where the objects of some libraries
                # (an HTML tree) must not be let go.
                "distributed.worker.profile.enabled": False,
            }
            with (
                dask.config.set(settings),
                _interrupts_ignored(),
                warnings.catch_warnings(action="ignore"),  # a second run finds a port taken
            ):
                self._cluster = LocalCluster(
                    n_workers=self.workers,
                    threads_per_worker=1,
                    processes=True,
                    dashboard_address=None,
                    memory_limit=0,
                    silence_logs="CRITICAL",
                )
                self._client = Client(self._cluster, set_as_default=False)
        return self._client

    def _stop(self) -> None:
        for part in (self._client, self._cluster):
            if part is not None:
                with contextlib.suppress(Exception):
                    part.close(timeout=10)
        if self._client is not None:
            for name in set(os.environ) - set(self._environment):
                del os.environ[name]
            os.environ.update(self._environment)
        self._client = self._cluster = None


def engine_for(
    workers: int | None = None, *, dask: str | None = None, store: str = ".preceptor"
) -> SerialEngine | FuturesEngine:
    """Return the command line's engine: one process per core unless told otherwise.

    Args:
        workers: processes of this machine; 1 runs everything in this one.
        dask: address of a running Dask scheduler, such as `tcp://HOST:8786`, instead.
        store: where its workers will write.

    Raises:
        InputError: both are given, or what is given cannot be.
    """
    if dask is not None:
        if workers is not None:
            raise InputError("--dask names a cluster that has its workers; leave out --workers")
        from pipelines.cluster import ClusterEngine

        return ClusterEngine(dask, store)
    workers = workers if workers is not None else (os.cpu_count() or 1)
    if workers < 1:
        raise InputError(f"--workers must be at least 1, got {workers}")
    return SerialEngine() if workers == 1 else DaskEngine(workers)
