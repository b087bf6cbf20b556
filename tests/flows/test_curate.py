"""The curating flow against a real Prefect server."""

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from curate.corpus.errors import InputError, IntegrityError
from flows import curate
from flows.curate import curate_corpus
from flows.events import COMMITTED, READY
from flows.failures import is_transient
from pipelines import build
from pipelines.corpus import open_corpus
from pipelines.engine import JobsFailedError

STEPS = [*build.PASSES, "publish", "verify", "check", "report"]


def ask(api: str, what: str, **filters: Any) -> list[dict[str, Any]]:
    answer = httpx.post(f"{api}/{what}/filter", json=filters, trust_env=False)
    answer.raise_for_status()
    found = answer.json()
    return found["events"] if what == "events" else found


def ended_tasks(api: str, state: Any) -> dict[str, str]:
    """Return name -> state of a flow's task runs that ended; the server hears of it a bit later."""
    run = str(state.state_details.flow_run_id)
    found = ask(api, "task_runs", task_runs={"flow_run_id": {"any_": [run]}})
    return {task["name"]: task["state_type"] for task in found if task["end_time"]}


@pytest.mark.prefect
def test_a_flow_makes_a_corpus_its_report_and_its_events_and_calls_nobody(
    prefect_api: str,
    recipe: Path,
    abroad: Callable[[], set[str]],
    until: Callable[..., Any],
) -> None:
    store = str(recipe.parent / "store")
    first = curate_corpus(str(recipe), store, return_state=True)
    assert first.result() == "tiny@1"
    assert curate_corpus(str(recipe), store) == "tiny@1", "the same work makes no new version"

    opened = open_corpus("tiny", store=store)
    expected = dict.fromkeys(STEPS, "COMPLETED")
    until(lambda: ended_tasks(prefect_api, first) == expected, what="tasks")

    artifacts = {found["key"]: found for found in ask(prefect_api, "artifacts")}
    assert sorted(artifacts) == ["corpus-tiny", "report-tiny"]
    table = artifacts["corpus-tiny"]["data"]
    assert opened.version.fingerprint in table
    assert f"documents {opened.manifest('collect').counts['documents']}" in table
    (page,) = Path(store, "reports").glob("*.html")
    assert page.as_uri() in artifacts["report-tiny"]["data"]

    def events() -> list[dict[str, Any]]:
        wanted = {"event": {"prefix": ["preceptor."]}}
        found = ask(prefect_api, "events", filter=wanted)
        return found if len(found) == 4 else []

    told = until(events, what="events")
    assert sorted(event["event"] for event in told) == [
        *["preceptor.corpus.committed"] * 2,
        *["preceptor.corpus.ready"] * 2,
    ]
    for event in told:
        assert event["resource"]["prefect.resource.id"] == "preceptor.corpus.tiny"
        assert event["payload"] == {
            "corpus": "tiny@1",
            "fingerprint": opened.version.fingerprint,
            "store": store,
        }
    assert abroad() == set()


@pytest.mark.prefect
def test_a_wrong_recipe_ends_as_failed_with_the_line_that_is_wrong(
    prefect_api: str, recipe: Path
) -> None:
    recipe.write_text(recipe.read_text().replace("train: bpe", "trian: bpe"))
    store = recipe.parent / "store"
    state = curate_corpus(str(recipe), str(store), return_state=True)
    assert state.is_failed()
    assert state.message.startswith(f"{recipe}:8: unknown key `tokenize.tokenizer.trian`")
    assert "Traceback" not in state.message
    with pytest.raises(InputError, match="trian"):
        curate_corpus(str(recipe), str(store))
    assert not store.exists()
    assert ended_tasks(prefect_api, state) == {}


@pytest.mark.prefect
def test_a_corpus_whose_checks_fail_is_committed_and_not_ready(
    prefect_api: str, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del prefect_api
    store = str(recipe.parent / "store")
    told: list[str] = []
    monkeypatch.setattr(curate, "emit", lambda event, *about: told.append(event))
    text = recipe.read_text() + "deduplicate: {near: null}\n"
    recipe.write_text(text + "checks: {many: {use: documents, above: 1000000}}\n")
    state = curate_corpus(str(recipe), store, return_state=True)
    assert state.is_failed()
    assert state.message.startswith("tiny@1 is published but not ready, its checks fail: many;")
    assert told == [COMMITTED]
    assert list(Path(store, "reports").glob("*.html")), "it is reported all the same"

    recipe.write_text(text + "checks: {some: {use: documents, above: 1}}\n")
    assert curate_corpus(str(recipe), store) == "tiny@1"
    assert told == [COMMITTED, COMMITTED, READY]


@pytest.mark.prefect
def test_what_may_pass_is_tried_again_and_what_is_wrong_is_not(
    prefect_api: str,
    recipe: Path,
    monkeypatch: pytest.MonkeyPatch,
    until: Callable[..., Any],
) -> None:
    tried: list[str] = []

    def run_pass(name: str, *arguments: Any, **named: Any) -> str:
        del arguments, named
        tried.append(name)
        if name == "collect" and len(tried) == 1:
            raise ConnectionResetError("the network went away")
        if name == "clean":
            raise InputError("source 'two' lost 80 % of its documents")
        return f"fingerprint of {name}"

    monkeypatch.setattr(build, "run_pass", run_pass)
    state = curate_corpus(str(recipe), str(recipe.parent / "store"), return_state=True)
    assert tried == ["collect", "collect", "clean"]
    assert state.is_failed()
    assert state.message == "source 'two' lost 80 % of its documents"
    expected = {"collect": "COMPLETED", "clean": "FAILED"}
    until(lambda: ended_tasks(prefect_api, state) == expected, what="tasks")


def jobs_failed(cause: Exception) -> JobsFailedError:
    error = JobsFailedError("2 jobs failed")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "transient"),
    [
        (TimeoutError(), True),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), True),
        (OSError(errno.EIO, "input/output error"), True),
        (OSError("503 Slow Down"), True),
        (jobs_failed(OSError(errno.ESTALE, "stale file handle")), True),
        (jobs_failed(ValueError("a bug")), False),
        (FileNotFoundError(errno.ENOENT, "no such file"), False),
        (PermissionError(errno.EACCES, "denied"), False),
        (OSError(errno.ENOSPC, "disk full"), False),
        (InputError("no such key"), False),
        (IntegrityError("altered"), False),
        (ValueError("a bug"), False),
        (None, False),
    ],
)
def test_only_trouble_that_may_pass_is_transient(error: object, transient: bool) -> None:
    assert is_transient(error) is transient
