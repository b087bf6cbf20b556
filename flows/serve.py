"""`preceptor serve`: both flows as deployments, one on a schedule, the other on an event.

Schedules and triggers live in Prefect's server. Where PREFECT_API_URL names none, one is started
here, on the loopback interface with SQLite in the store, and ended with everything else: cron
never fires on the server that Prefect embeds in a process.
"""

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import IO, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings
from prefect.states import Crashed
from prefect.types.entrypoint import EntrypointType

from curate.corpus.errors import InputError
from flows.curate import curate_corpus
from flows.events import when_ready
from flows.pretrain import pretrain
from pipelines.leash import leashed
from pipelines.recipe import load_recipe
from pipelines.store import Store

__all__ = ["declare_crashed", "deployments", "prefect_server", "serve"]

_HOST = "127.0.0.1"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_START_SECONDS = 120.0


def serve(
    recipe: str,
    store: str = ".preceptor",
    cron: str = "0 3 * * *",
    train_config: str | None = None,
    *,
    workers: int | None = None,
    dask: str | None = None,
    timezone: str = "UTC",
    runs: str | None = None,
    port: int = 4200,
    say: Callable[[str], object] = print,
) -> None:
    """Serve `curate_corpus` on a schedule and `pretrain` on its result, until interrupted.

    Args:
        recipe: path of the recipe.
        store: folder or uri.
        cron: when to curate: minute, hour, day of the month, month, day of the week.
        train_config: path of a training configuration; by default the trainer's own settings.
        workers: processes of a curation; 1 by default.
        dask: address of a running Dask cluster's scheduler, instead of `workers`.
        timezone: of the schedule, such as Europe/Berlin.
        runs: folder of training runs; by default in the store, which must then be local.
        port: of the server that is started here; any other one if it is taken.
        say: told where things are.

    Raises:
        InputError: the recipe, the configuration or the schedule is wrong, or another `serve`
            has its server on this store.
    """
    place = Store(store)
    offered = deployments(
        recipe,
        place,
        cron,
        train_config,
        workers=workers,
        dask=dask,
        timezone=timezone,
        runs=runs,
    )
    home = _home(place)
    with _interruptible(), contextlib.ExitStack() as stack:
        given = get_current_settings().api.url
        url = given or stack.enter_context(prefect_server(home, port=port))
        stack.enter_context(_isolated(url))
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        runner = Runner(pause_on_shutdown=False)  # paused schedules would stay paused for ever
        say(f"Prefect: {url.removesuffix('/api')}")
        for deployment in offered:
            identity = cast(UUID, runner.add_deployment(deployment))  # not a coroutine: no loop
            if given is None:
                declare_crashed(identity)
            say(f"  {_full(deployment)}: {deployment.description}")
        say(f"To curate now: PREFECT_API_URL={url} prefect deployment run {_full(offered[0])}")
        asyncio.run(_run(runner))


def declare_crashed(deployment: UUID) -> None:
    """Declare crashed what an earlier `serve` left running.

    Such a run would hold the deployment's only slot for ever: Prefect keeps slots in the database,
    and who holds them in memory (3.8.8).
    """
    unfinished = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                state=FlowRunFilterState(type=FlowRunFilterStateType(any_=unfinished))
            ),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=[deployment])),
        )
        for run in runs:
            client.set_flow_run_state(run.id, Crashed(message="`preceptor serve` was stopped"))


async def _run(runner: Runner) -> None:
    """Run until a signal comes; then end the runs' processes before ourselves.

    The runner's own handler of SIGTERM leaves them alone (3.8.8: a coroutine is never awaited), so
    it is replaced as soon as it is there.
    """
    serving = asyncio.create_task(runner.start())
    await asyncio.sleep(0)
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(
            number, lambda: serving.cancelling() or serving.cancel()
        )
    with contextlib.suppress(asyncio.CancelledError):
        await serving


def deployments(
    recipe: str,
    store: Store,
    cron: str,
    train_config: str | None,
    *,
    workers: int | None = None,
    dask: str | None = None,
    timezone: str = "UTC",
    runs: str | None = None,
) -> tuple[RunnerDeployment, RunnerDeployment]:
    """Return the two deployments, named after the corpus, with absolute paths in their parameters.

    Raises:
        InputError: the recipe, the configuration or the schedule is wrong.
    """
    name = load_recipe(recipe).name
    if train_config is not None and not Path(train_config).is_file():
        raise InputError(f"there is no training configuration {train_config}")
    try:
        CronSchedule(cron=cron, timezone=timezone)
    except ValueError as error:
        raise InputError(
            f"--cron {cron!r} in the time zone {timezone!r} is no schedule; five fields such as "
            "'0 3 * * *' mean every day at 3:00"
        ) from error
    # One at a time: a second run of the same waits, and then finds the work done.
    alone = ConcurrencyLimitConfig(limit=1)
    curation = RunnerDeployment.from_flow(
        curate_corpus,
        name,
        description=f"curate {recipe} at '{cron}' {timezone}",
        parameters={
            "recipe": str(Path(recipe).absolute()),
            "store": store.uri,
            "workers": workers,
            "dask": dask,
        },
        schedule=Cron(cron, timezone=timezone),
        concurrency_limit=alone,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    fixed = {"store": store.uri}
    if train_config is not None:
        fixed["config"] = str(Path(train_config).absolute())
    if runs is not None:
        fixed["runs"] = str(Path(runs).absolute())
    training = RunnerDeployment.from_flow(
        pretrain,
        name,
        description=f"pretrain when {name} is ready",
        parameters={**fixed, "corpus": name},
        triggers=[when_ready(name, store, fixed)],
        concurrency_limit=alone,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    return curation, training


def _full(deployment: RunnerDeployment) -> str:
    return f"{deployment.flow_name}/{deployment.name}"


def _home(store: Store) -> Path:
    """Return where Prefect keeps its database: PREFECT_HOME, else in the store if that is local."""
    if "PREFECT_HOME" not in os.environ and store.storage.is_local:
        return Path(store.storage.root) / ".prefect"
    return Path(get_current_settings().home)


@contextlib.contextmanager
def prefect_server(home: Path, *, port: int = 4200) -> Iterator[str]:
    """Run Prefect's server on the loopback interface; yield its API's address once it answers.

    Args:
        home: folder of its SQLite database and its log, `server.log`.
        port: the port to take; any other one if it is taken, 0 for any.

    Raises:
        InputError: another process runs the server of this folder.
        RuntimeError: the server ended, or did not answer in time.
    """
    home.mkdir(parents=True, exist_ok=True)
    with (home / "serve.lock").open("a+") as lock:
        port = _free_port(port)
        url = f"http://{_HOST}:{port}/api"
        _take(lock, url)
        with (home / "server.log").open("wb") as log:
            process = subprocess.Popen(
                leashed(
                    [
                        *(sys.executable, "-P", "-m", "prefect", "server", "start"),
                        *("--host", _HOST, "--port", str(port)),
                    ]
                ),
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": url},
                start_new_session=True,  # Ctrl-C ends our work first, the server after it
            )
        try:
            _wait(process, url, home / "server.log")
            yield url
        finally:
            process.communicate()  # lets go of the leash and waits


def _take(lock: IO[str], url: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.seek(0)
        other = lock.read().strip()
        raise InputError(
            f"another `preceptor serve` has its server on this store; to share it, set "
            f"PREFECT_API_URL={other}"
        ) from None
    lock.seek(0)
    lock.truncate()
    print(url, file=lock, flush=True)


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((_HOST, port))
            return int(probe.getsockname()[1])
    raise RuntimeError(f"no free port on {_HOST}")


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the server answers; a proxy named in the environment is not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with opener.open(f"{url}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    last = log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
    raise RuntimeError("\n".join([f"Prefect's server did not start; {log} ends with:", *last]))


@contextlib.contextmanager
def _isolated(url: str) -> Iterator[None]:
    """Give the runs' processes an empty working folder and a safe path.

    Prefect puts the working folder first on their path, where any `train.py` would win.
    """
    paths = [Path(path).absolute() for path in _entries(os.environ.get("PYTHONPATH"))]
    values = {
        "PREFECT_API_URL": url,
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "PYTHONSAFEPATH": "1",
    }
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="preceptor-") as folder, contextlib.chdir(folder):
        os.environ.update(values)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _entries(paths: str | None) -> list[str]:
    return [] if not paths else paths.split(os.pathsep)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Make signals end this process by an exception, so that nothing outlives it."""

    def leave(number: int, frame: FrameType | None) -> None:
        del frame
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, leave) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
