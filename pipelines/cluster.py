"""An engine on somebody's Dask cluster: a client that looks before it works, and then leaves.

Other machines may hold another version of this code, or another disk under the same path; both
would end in wrong bytes or in files nobody finds. So every worker shows, before its first job, that
it reaches the store and runs the same code on the same libraries. Workers may come and go.
"""

import contextlib
import importlib
import logging
import os
import platform
import socket
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.corpus.storage import Storage
from pipelines.engine import FuturesEngine, Job, outcome

__all__ = ["ClusterEngine", "Ticket", "problem_of"]

_KNOCK_SECONDS = 4.0
_MOST_GREETING_BYTES = 1 << 16
_CONNECT_SECONDS = 5
_WORKERS_SECONDS = 10.0  # to wait for the first worker
_DESERTED_SECONDS = 60.0  # without any worker
_LOOK_SECONDS = 1.0  # between two questions to the scheduler
_LIBRARIES = ("numba", "numpy", "polars", "pyarrow")
# How jobs are sent and stored; the digest of the passes leaves these out.
_MACHINERY = ("pipelines.cluster", "pipelines.engine", "pipelines.store", "pipelines.passes.base")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a worker must agree with; small, for it travels with every job.

    Attributes:
        store: uri, empty to look at the code alone.
        marker: a file in a local store, empty where the store is remote.
        token: what the marker says.
        python: such as `3.11`.
        libraries: (name, version).
        code: digest of the passes and of what runs them.
    """

    store: str
    marker: str
    token: str
    python: str
    libraries: tuple[tuple[str, str], ...]
    code: str


@cache
def _ours() -> tuple[str, tuple[tuple[str, str], ...], str]:
    """Return Python, libraries and code as this process has them.

    The passes are imported first: from then on the process runs what it has digested, also when
    somebody edits the files.
    """
    import pipelines.build
    import pipelines.passes
    from pipelines.digest import code_digest
    from pipelines.passes.modules import submodules

    names = submodules(pipelines.passes)
    for name in names:
        importlib.import_module(name)
    sources = [importlib.import_module(name).__file__ for name in _MACHINERY]
    code = fingerprint(
        code_digest(*names),
        *(fingerprint(Path(source).read_bytes()) for source in sources if source),
    )
    versions = tuple(
        (name, str(getattr(importlib.import_module(name), "__version__", "")))
        for name in _LIBRARIES
    )
    return ".".join(platform.python_version_tuple()[:2]), versions, code


@cache
def problem_of(ticket: Ticket) -> str:
    """Say, in a worker, why it cannot take these jobs; an empty string if it can."""
    python, libraries, code = _ours()
    if python != ticket.python:
        return f"runs Python {python}, not {ticket.python}"
    for (name, found), (_, wanted) in zip(libraries, ticket.libraries, strict=True):
        if found != wanted:
            return f"has {name} {found}, not {wanted}"
    if code != ticket.code:
        return "has another version of preceptor; install the same one and restart the workers"
    return _store_problem(ticket) if ticket.store else ""


def _store_problem(ticket: Ticket) -> str:
    try:
        storage = Storage(ticket.store)
        if not ticket.marker:
            return ""
        if storage.read(ticket.marker) != ticket.token.encode():
            return (
                f"does not see the store {ticket.store}; put it on a disk that all machines "
                "mount under this path, or in an object store"
            )
        probe = storage.temporary()
        probe.write_bytes(b"")
        probe.unlink()
    except (OSError, InputError) as error:
        return f"cannot use the store {ticket.store}: {error}"
    return ""


def _run(ticket: Ticket, job: Job) -> tuple[Any, Exception | None]:
    """Run a job in a worker that has shown its ticket (one that joined later does so here)."""
    problem = problem_of(ticket)
    if problem:
        return None, InputError(f"the worker on {socket.gethostname()}, which joined, {problem}")
    return outcome(*job)


class ClusterEngine(FuturesEngine):
    """A running Dask cluster by its scheduler's address; only the client is ours.

    Args:
        address: such as `tcp://HOST:8786`.
        store: uri; what its workers must reach.
    """

    def __init__(self, address: str, store: str) -> None:
        if not address.strip() or address.startswith("inproc:"):
            raise InputError(
                f"--dask wants a scheduler's address, tcp://HOST:PORT; got {address!r}"
            )
        if store.startswith("memory:"):
            raise InputError(
                f"the store {store} lives in the memory of one process; the workers of {address} "
                "cannot share it"
            )
        self.address = address if "://" in address else f"tcp://{address}"
        self._storage = Storage(store)
        self._stack = contextlib.ExitStack()
        self._client: Any = None
        self._ticket: Ticket | None = None
        self._threads, self._looked, self._seen = 0, 0.0, 0.0

    def _start(self) -> Any:
        if self._client is None:
            self._stack.enter_context(_quiet())
            self._client = self._connect()
            self._ticket = self._write_ticket()
            self._check()
        return self._client

    def _connect(self) -> Any:
        from distributed import Client

        try:
            _knock(self.address)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about versions: they are checked, not wondered at
                client = Client(self.address, timeout=_CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # what answers may be anything
            raise InputError(
                f"no Dask scheduler answers at {self.address} ({_short(error)}); start one with "
                "`dask scheduler`, and give the address that it prints"
            ) from error
        self._stack.callback(_close, client)
        return client

    def _write_ticket(self) -> Ticket:
        """Leave a marker in a local store for the time of the run."""
        storage, marker, token = self._storage, "", uuid.uuid4().hex
        if storage.is_local:
            path = storage.temporary(".visible")
            path.write_text(token)
            self._stack.callback(path.unlink, missing_ok=True)
            marker = path.relative_to(storage.root).as_posix()
        return Ticket(storage.uri, marker, token, *_ours())

    def _check(self) -> None:
        """Refuse a cluster of which a process cannot do the work."""
        assert self._ticket is not None
        deadline = time.monotonic() + _WORKERS_SECONDS
        while not self._num_workers():
            if time.monotonic() > deadline:
                raise InputError(
                    f"the Dask cluster at {self.address} has no workers; start some with "
                    f"`dask worker {self.address}`"
                )
            time.sleep(0.1)
        found = self._client.run(problem_of, self._ticket, on_error="return")
        # The scheduler unpacks every job on its way, so it must know our modules, too.
        code_only = Ticket("", "", "", *_ours())
        try:
            scheduler = self._client.run_on_scheduler(problem_of, code_only)
        except Exception as error:
            scheduler = error
        problems = [f"the worker {name} {_tell(what)}" for name, what in found.items() if what]
        total = len(found)
        if scheduler:
            problems.insert(0, f"the scheduler {self.address} {_tell(scheduler)}")
            total += 1
        if problems:
            told = InputError(problems[0])
            if len(problems) > 1:
                told.add_note(
                    f"{len(problems)} of {total} processes of the cluster cannot take part"
                )
            raise told

    def _num_workers(self) -> int:
        """Return the workers' threads, as the scheduler has them now."""
        now = time.monotonic()
        if not self._threads or now - self._looked > _LOOK_SECONDS:
            self._looked = now
            try:
                self._threads = sum(self._client.nthreads().values())
            except Exception as error:
                raise self._lost() from error
            if self._threads:
                self._seen = now
        return self._threads

    def _watch(self) -> None:
        if time.monotonic() - self._looked > _LOOK_SECONDS and not self._num_workers():
            absent = time.monotonic() - self._seen
            if absent > _DESERTED_SECONDS:
                raise InputError(
                    f"the Dask cluster at {self.address} has had no worker for "
                    f"{absent:.0f} s; start some and run the same command again to go on"
                )

    def _call(self, job: Job) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return _run, (self._ticket, job)

    def _lost(self) -> InputError:
        return InputError(
            f"the Dask scheduler at {self.address} has left; what is finished is kept, run the "
            "same command again to go on"
        )

    def _stop(self) -> None:
        self._stack.close()
        self._client = self._ticket = None


def _knock(address: str) -> None:
    """Raise unless something answers that may be a scheduler.

    A client waits for ever where somebody listens and says nothing. A scheduler speaks first, and
    begins with the length of what it says: eight bytes, little-endian.
    """
    place = urlsplit(address)
    if place.hostname is None or place.port is None:
        raise ValueError("an address is tcp://HOST:PORT")
    with socket.create_connection((place.hostname, place.port), _KNOCK_SECONDS) as line:
        if place.scheme == "tcp":
            said = line.recv(8, socket.MSG_WAITALL)
            if len(said) < 8 or int.from_bytes(said, "little") > _MOST_GREETING_BYTES:
                raise ConnectionError("it is something else")


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        client.close(timeout=5)


def _short(error: BaseException) -> str:
    """Return the first line of an error, or its kind."""
    told = (getattr(error, "strerror", None) or str(error)).strip().splitlines()
    return told[0] if told else type(error).__name__


def _tell(problem: object) -> str:
    """Say what is wrong with a process that answered so."""
    if isinstance(problem, BaseException):
        if isinstance(problem, ImportError) or "ModuleNotFoundError" in str(problem):
            return (
                f"has no preceptor, or another one ({_short(problem)}); install the same one there"
            )
        return f"cannot take part: {type(problem).__name__}: {_short(problem)}"
    return str(problem)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let no library write about connections: what matters is an error of ours."""
    importlib.import_module("distributed")  # which sets levels of its own
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado")]
    before, environment = [logger.level for logger in loggers], dict(os.environ)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)
