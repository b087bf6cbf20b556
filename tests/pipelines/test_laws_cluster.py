"""On a Dask cluster whose workers die, differ or know nothing: the same bytes, or no work."""

import contextlib
import importlib
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curate.corpus.errors import InputError
from pipelines import cluster
from pipelines.build import run
from pipelines.cluster import ClusterEngine
from pipelines.engine import DaskEngine, engine_for

pytestmark = pytest.mark.dask

_KILL_AT = 30  # the part after which a worker is killed; the archive has well over 100
_LONE = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0")


class Cluster:
    """A scheduler and workers, each a process of its own, on the loopback interface."""

    def __init__(self, lab: Any, folder: Path) -> None:
        self._lab, self._folder = lab, folder
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self._drains: list[threading.Thread] = []
        self.address = self._start(
            "scheduler", "dask_scheduler", "--port", "0", "--no-dashboard", says=r"(tcp://\S+)"
        )

    def _start(self, name: str, command: str, *options: str, says: str) -> str:
        """Start a process; wait for a line that it prints, and return what matched."""
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{command}", *options, "--host", "127.0.0.1"],
            cwd=self._folder,
            env=self._lab.environment(POLARS_MAX_THREADS="1", DASK_LOGGING__DISTRIBUTED="info"),
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self._processes[name] = process
        lines = []
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if found := re.search(says, line):
                drain = threading.Thread(target=process.stderr.read, daemon=True)
                drain.start()  # a full pipe would stop the process
                self._drains.append(drain)
                return found[1]
        process.wait()  # it closed its end
        raise AssertionError("".join(lines))

    def worker(self, name: str, *options: str) -> None:
        """Start a worker; wait until it is registered."""
        folder = str(self._folder / name)
        options = (self.address, "--name", name, "--local-directory", folder, *_LONE, *options)
        self._start(name, "dask_worker", *options, says="(Registered) to:")

    def kill(self, name: str) -> None:
        """Kill a process at once."""
        self._processes[name].kill()
        self._processes[name].wait()

    def threads(self) -> dict[str, int]:
        """Return the workers that the scheduler knows."""
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            return dict(client.nthreads())

    def close(self) -> None:
        """End everything that was started here."""
        for name in self._processes:
            self.kill(name)
        for drain in self._drains:
            drain.join()
        for process in self._processes.values():
            assert process.stderr is not None
            process.stderr.close()


@contextlib.contextmanager
def _cluster(lab: Any, folder: Path) -> Iterator[Cluster]:
    made = Cluster(lab, folder)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def pair(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of two honest workers."""
    with _cluster(lab, tmp_path_factory.mktemp("cluster")) as made:
        made.worker("one")
        made.worker("two")
        yield made


def _refusal(address: str, store: Path) -> str:
    """Return the message, of one line or two, with which a cluster is refused before any job."""
    before = _traces()
    with pytest.raises(InputError) as refused, ClusterEngine(address, str(store)) as engine:
        list(engine.run_all([(os._exit, (1,))]))
    assert _traces() == before
    assert not list(store.rglob("*.visible"))
    assert "\n" not in str(refused.value)
    notes = getattr(refused.value, "__notes__", [])
    assert len(notes) <= 1
    return "; ".join([str(refused.value), *notes])


def _traces() -> tuple[Any, ...]:
    importlib.import_module("distributed")  # which sets levels of its own
    levels = [logging.getLogger(name).level for name in ("distributed", "tornado")]
    return dict(os.environ), levels


def test_a_worker_killed_in_the_middle_leaves_the_bytes_of_a_serial_run(
    lab, archive, archive_store, tmp_path
):
    killed: list[int] = []
    parts: Counter[str] = Counter()
    before = _traces()
    with _cluster(lab, tmp_path) as made:
        made.worker("one")
        made.worker("two")

        def observe(event: Any) -> None:
            parts[event.name] += event.kind == "part"
            if parts.total() >= _KILL_AT and not killed:
                killed.append(parts.total())
                made.kill("two")

        store = tmp_path / "store"
        with ClusterEngine(made.address, str(store)) as engine:
            outcome = run(archive, store=str(store), engine=engine, observe=observe)
        assert list(made.threads().values()) == [1], "one worker is left, and the cluster stands"
    assert killed == [_KILL_AT]
    assert parts.total() == outcome.executed >= 100, "and each part is told once"
    assert lab.snapshot(store) == lab.snapshot(archive_store)
    assert not list(store.rglob("*.visible"))
    assert _traces() == before


def test_a_killed_process_of_the_local_cluster_is_replaced_and_leaves_the_same_bytes(
    lab, archive, archive_store, tmp_path, capfd
):
    before, killed = dict(os.environ), []
    parts: Counter[str] = Counter()
    with DaskEngine(2) as engine:

        def observe(event: Any) -> None:
            parts[event.name] += event.kind == "part"
            if parts.total() >= _KILL_AT and not killed:
                processes = engine._client.run(os.getpid)
                killed.append(processes[min(processes)])
                os.kill(killed[0], signal.SIGKILL)

        run(archive, store=str(tmp_path / "store"), engine=engine, observe=observe)
        engine._client.wait_for_workers(2, timeout=30)
        assert killed[0] not in engine._client.run(os.getpid).values()
    assert lab.snapshot(tmp_path / "store") == lab.snapshot(archive_store)
    assert dict(os.environ) == before
    assert "Traceback" not in capfd.readouterr().err


def test_a_job_that_kills_its_workers_is_named_and_stops_the_run(lab):
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        DaskEngine(1) as engine,
        pytest.raises(InputError, match=r"the job _exit ended 1 workers one after .* memory"),
    ):
        list(engine.run_all([(os._exit, (1,))]))


def test_a_cluster_whose_scheduler_leaves_ends_the_run_with_a_line(lab, tmp_path):
    with _cluster(lab, tmp_path) as made:
        made.worker("one")
        with ClusterEngine(made.address, str(tmp_path / "store")) as engine:
            finished = engine.run_all([(len, ("abc",))] * 50)
            assert next(finished)[1] == 3
            made.kill("scheduler")
            with pytest.raises(InputError, match="has left; what is finished is kept"):
                list(finished)


def test_workers_that_come_later_show_their_ticket_and_none_at_all_ends_the_run(lab, tmp_path):
    (tmp_path / "before.py").write_text("import polars; polars.__version__ = '0.1'")
    store = tmp_path / "store"
    with _cluster(lab, tmp_path) as made:
        with lab.patched(cluster, "_WORKERS_SECONDS", 0.3):
            assert "has no workers; start some with `dask worker" in _refusal(made.address, store)
        made.worker("one")
        with ClusterEngine(made.address, str(store)) as engine:
            finished = engine.run_all([(len, ("abc",))] * 50)
            assert next(finished)[1] == 3
            made.worker("late", "--preload", str(tmp_path / "before.py"))
            made.kill("one")
            with pytest.raises(InputError, match="which joined, has polars 0.1, not"):
                list(finished)
        made.kill("late")
        made.worker("two")
        with (
            lab.patched(cluster, "_DESERTED_SECONDS", 1.0),
            ClusterEngine(made.address, str(store)) as engine,
        ):
            finished = engine.run_all([(len, ("abc",))] * 50)
            assert next(finished)[1] == 3
            made.kill("two")
            with pytest.raises(InputError, match="has had no worker for [0-9]+ s; start some"):
                list(finished)


def test_jobs_in_flight_are_bounded_by_the_threads_there_are(pair, tmp_path):
    with ClusterEngine(pair.address, str(tmp_path)) as engine:
        futures = []
        client = engine._start()
        submit = client.submit

        def count(*arguments: Any, **options: Any) -> Any:
            futures.append(submit(*arguments, **options))
            return futures[-1]

        client.submit = count
        finished = engine.run_all([(len, ("abc",))] * 100)
        next(finished)
        assert len(futures) == 4 * 2
        assert len(list(finished)) == 99
        assert len(futures) == 100


def test_errors_of_jobs_travel_and_what_a_person_can_mend_comes_first(pair, tmp_path):
    with (
        ClusterEngine(pair.address, str(tmp_path)) as engine,
        pytest.raises(InputError, match="--workers must be at least 1"),
    ):
        list(engine.run_all([(int, ("x",)), (engine_for, (0,))]))


@pytest.mark.parametrize(
    ("kind", "preload", "told"),
    [
        (
            "a worker without the package",
            "import sys\nsys.modules['pipelines'] = None",
            "has no preceptor, or another one",
        ),
        (
            "a worker with another library",
            "import polars\npolars.__version__ = '0.1'",
            r"has polars 0\.1, not \d",
        ),
        (
            "a worker with other code",
            "import pipelines.digest\npipelines.digest.code_digest = lambda *names: '0'",
            "has another version of preceptor; install the same one and restart",
        ),
        (
            "a worker on another disk",
            "import curate.corpus.storage as s\ns.Storage.read = lambda self, name: None",
            "does not see the store",
        ),
        (
            "a worker that may not write",
            "import curate.corpus.storage as s\n"
            "def refuse(self): raise PermissionError(13, 'Permission denied')\n"
            "s.Storage.temporary = refuse",
            "cannot use the store .*Permission denied",
        ),
    ],
)
def test_one_process_that_cannot_do_the_work_is_named_before_any_job(
    pair, tmp_path, kind, preload, told
):
    (tmp_path / "before.py").write_text(preload + "\n")
    name = kind.replace(" ", "-")
    pair.worker(name, "--preload", str(tmp_path / "before.py"))
    try:
        message = _refusal(pair.address, tmp_path / "store")
    finally:
        pair.kill(name)
    assert re.search(rf"the worker tcp://127\.0\.0\.1:\d+ .*{told}", message)


def test_an_address_where_no_scheduler_answers_is_told_in_a_line(lab, tmp_path):
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        taken = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with lab.patched(cluster, "_KNOCK_SECONDS", 0.3):
            assert f"no Dask scheduler answers at {taken} (timed out)" in _refusal(taken, tmp_path)
    assert "(Connection refused)" in _refusal(taken, tmp_path)
    assert "an address is tcp://HOST:PORT" in _refusal("somewhere", tmp_path)


def test_what_cannot_be_meant_is_refused_without_a_connection(tmp_path):
    address = "tcp://127.0.0.1:8786"
    for told, arguments in {
        "leave out --workers": (2, address, str(tmp_path)),
        "lives in the memory": (None, address, "memory://x"),
        "wants a scheduler's address": (None, " ", str(tmp_path)),
    }.items():
        workers, dask, store = arguments
        with pytest.raises(InputError, match=told):
            engine_for(workers, dask=dask, store=store)
