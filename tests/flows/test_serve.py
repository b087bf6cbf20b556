"""Serving for real: a cron tick curates, the event trains, and nothing is left behind."""

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.states import Pending

from curate.corpus.errors import InputError
from flows.serve import declare_crashed, deployments, prefect_server
from pipelines.store import Store

SERVE = """
import sys
from flows.serve import serve
recipe, store, training = sys.argv[1:]
serve(recipe, store, "* * * * *", training, port=0)
"""


def flow_runs(api: str) -> list[dict[str, Any]]:
    answer = httpx.post(f"{api}/flow_runs/filter", json={}, trust_env=False)
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found


@pytest.mark.prefect
@pytest.mark.slow
def test_a_cron_tick_curates_and_the_event_starts_training(
    recipe: Path,
    training: Path,
    abroad: Callable[[], set[str]],
    until: Callable[..., Any],
) -> None:
    folder = recipe.parent
    for name in ("train", "curate", "pipelines", "flows", "prefect", "polars"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    environment = {k: v for k, v in os.environ.items() if k != "PREFECT_HOME"}
    environment["PREFECT_RUNNER_POLL_FREQUENCY"] = "1"  # seconds; 10 by default
    log = folder / "serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-P", "-u", "-c", SERVE, "recipe.yaml", "store", "training.yaml"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        api = until(lambda: _address(folder, server, log), what="server", seconds=120)
        done = until(lambda: _trained(api), what="training", seconds=150)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    assert done["created_by"]["type"] == "AUTOMATION"
    assert done["parameters"]["corpus"] == "tiny@1"
    (result,) = Path(folder, "store", "runs").glob("*/result.json")
    assert result.is_file()
    said = log.read_text(encoding="utf-8", errors="replace")
    assert "wrong module" not in said
    assert "never awaited" not in said
    assert abroad() == set()
    with pytest.raises(httpx.ConnectError):
        flow_runs(api)


def _address(folder: Path, server: subprocess.Popen[bytes], log: Path) -> str:
    assert server.poll() is None, log.read_text(encoding="utf-8", errors="replace")
    lock = folder / "store" / ".prefect" / "serve.lock"
    return lock.read_text(encoding="utf-8").strip() if "To curate" in log.read_text() else ""


def _trained(api: str) -> dict[str, Any] | None:
    """Return the run that trained; fail at once when any run failed."""
    runs = flow_runs(api)
    bad = [run["state"]["message"] for run in runs if run["state_type"] in ("FAILED", "CRASHED")]
    assert not bad, bad
    finished = (run for run in runs if run["state_type"] == "COMPLETED")
    return next((run for run in finished if "corpus" in run["parameters"]), None)


@pytest.mark.prefect
def test_a_run_that_was_killed_does_not_hold_its_slot_for_ever(
    prefect_api: str, recipe: Path, tmp_path: Path
) -> None:
    """It would: Prefect keeps slots in its database, and who holds them in memory."""
    _, pretraining = deployments(str(recipe), Store(str(tmp_path)), "0 3 * * *", None)
    identity = pretraining.apply()
    with get_client(sync_client=True) as client:
        first, second = (client.create_flow_run_from_deployment(identity) for _ in range(2))
        assert client.set_flow_run_state(first.id, Pending()).state.is_pending()
        assert client.set_flow_run_state(second.id, Pending()).state.is_scheduled(), "one at a time"
        declare_crashed(identity)
        assert client.read_flow_run(first.id).state.is_crashed()
        assert client.set_flow_run_state(second.id, Pending()).state.is_pending()
    assert prefect_api


def test_a_second_server_on_the_same_store_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "serve.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print("http://127.0.0.1:4200/api", file=lock, flush=True)
        with (
            pytest.raises(InputError, match="PREFECT_API_URL=http://127.0.0.1:4200/api"),
            prefect_server(tmp_path),
        ):
            pass


def test_a_schedule_that_is_none_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'every day'.* is no schedule"):
        deployments(str(recipe), Store(str(tmp_path)), "every day", None)
    with pytest.raises(InputError, match="'Mars/Olympus'.* is no schedule"):
        deployments(str(recipe), Store(str(tmp_path)), "0 3 * * *", None, timezone="Mars/Olympus")


def test_a_missing_training_configuration_is_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no training configuration nowhere"):
        deployments(str(recipe), Store(str(tmp_path)), "0 3 * * *", "nowhere.yaml")


def test_deployments_name_everything_absolutely(
    recipe: Path, training: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("store")
    curation, pretraining = deployments("recipe.yaml", store, "0 3 * * *", "training.yaml")
    assert curation.parameters["recipe"] == str(recipe)
    assert curation.parameters["store"] == str(tmp_path / "store")
    (trigger,) = pretraining.triggers
    assert trigger.parameters == {
        "corpus": "{{ event.payload.corpus }}",
        "config": str(training),
        "store": str(tmp_path / "store"),
    }
    assert curation.entrypoint == "flows.curate.curate_corpus"
