"""Prefect's environment is set before Prefect is there; prefect.yaml names what exists."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOOK = """
import json, os, sys
import flows
print(json.dumps([sorted({name.partition(".")[0] for name in sys.modules}), dict(os.environ)]))
"""


def fresh(**environment: str) -> tuple[set[str], dict[str, str]]:
    """Import flows in a new process; return the loaded packages and the environment."""
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "DO_NOT"))}
    run = subprocess.run(
        [sys.executable, "-c", LOOK],
        cwd=ROOT,
        env=bare | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded, variables = json.loads(run.stdout)
    return set(loaded), variables


def test_importing_flows_silences_prefect_without_loading_it() -> None:
    loaded, variables = fresh()
    assert not loaded & {"prefect", "polars", "torch", "dask"}
    assert variables["DO_NOT_TRACK"] == "1"
    assert variables["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"


def test_what_the_user_set_stands() -> None:
    _, variables = fresh(PREFECT_SERVER_UI_V2_ENABLED="true", DO_NOT_TRACK="0")
    assert variables["PREFECT_SERVER_UI_V2_ENABLED"] == "true"
    assert variables["DO_NOT_TRACK"] == "0"


def test_prefect_understands_what_is_set() -> None:
    from flows.environment import SETTINGS

    with pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        from prefect.settings import Settings

        settings = Settings()
    assert settings.server.analytics_enabled is False
    assert settings.server.ui.v2_enabled is False
    assert settings.server.ui.show_promotional_content is False
    assert settings.server.ephemeral.startup_timeout_seconds == 120
    assert "flow_runs" in settings.server.services.db_vacuum.enabled_vacuum_types


def test_the_ear_hears_processes_and_knows_home_from_abroad(
    abroad: Callable[..., set[str]], tmp_path: Path
) -> None:
    heard = tmp_path / "heard"
    code = "import socket as s; [s.getaddrinfo(h, 80) for h in ('127.0.0.1', '192.0.2.7')]"
    environment = os.environ | {"PRECEPTOR_TEST_EAR": str(heard)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert abroad(heard) == {"('192.0.2.7',)"}
    assert "127.0.0.1" in heard.read_text()


def test_prefect_yaml_names_flows_parameters_and_events_that_exist() -> None:
    from prefect.flows import load_flow_from_entrypoint

    from flows.events import READY

    content = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))
    assert len(content["deployments"]) == 2
    for deployment in content["deployments"]:
        flow = load_flow_from_entrypoint(deployment["entrypoint"])
        flow.validate_parameters(deployment["parameters"])
        for trigger in deployment.get("triggers", []):
            assert trigger["expect"] == [READY]
            flow.validate_parameters(trigger["parameters"])
