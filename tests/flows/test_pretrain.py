"""Training as a process: what it runs, how its words and its end arrive, and that it runs once."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import flows.pretrain
import pipelines
from flows.failures import CommandFailedError
from flows.pretrain import pretrain, stream
from pipelines.trainer import command


@pytest.mark.prefect
def test_a_model_is_trained_once_for_a_corpus_and_a_configuration(
    prefect_api: str, recipe: Path, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del prefect_api
    store = str(recipe.parent / "store")
    pipelines.run(recipe, store=store)
    run = Path(pretrain("tiny", str(training), store))
    assert run.parent == Path(store, "runs")
    assert (run / "result.json").is_file()
    assert (run / "model" / "model.safetensors").is_file()
    assert (run / "report.html").is_file()

    def again(command: list[str], log: Callable[[str], object]) -> None:
        raise AssertionError(f"{command} trains again")

    monkeypatch.setattr(flows.pretrain, "stream", again)
    assert pretrain("tiny@1", str(training), store) == str(run)


def test_no_module_of_the_working_folder_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("train", "curate", "pipelines", "torch", "argparse"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandFailedError, match="exit status 2:\nerror: .*none.json") as failure:
        stream(command(["none.json"]), lambda line: None)
    assert "wrong module" not in str(failure.value)


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_lines_arrive_while_the_command_runs() -> None:
    heard: list[str] = []
    code = "import sys\nfor i in range(3): print('step', i)\nprint('done', file=sys.stderr)"
    stream(python(code), heard.append)
    assert sorted(heard) == ["done", "step 0", "step 1", "step 2"]


def test_a_failure_is_told_with_the_last_lines() -> None:
    code = "for i in range(100): print('step', i)\nraise SystemExit(3)"
    with pytest.raises(CommandFailedError) as failure:
        stream(python(code), lambda line: None)
    first, *lines = str(failure.value).splitlines()
    assert "exit status 3" in first
    assert lines[-1] == "step 99"
    assert len(lines) <= 15


def test_bytes_that_are_no_text_do_not_stop_the_log() -> None:
    heard: list[str] = []
    stream(python(r"import os; os.write(1, b'caf\xe9\n')"), heard.append)
    assert heard == ["caf\N{REPLACEMENT CHARACTER}"]


def test_the_command_ends_with_us(tmp_path: Path) -> None:
    """As when Prefect cancels a run: the exception comes while we wait for a line."""
    ended = tmp_path / "ended"
    code = f"""
import pathlib, signal, sys, time
def end(*_):
    pathlib.Path({str(ended)!r}).touch()
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""

    def cancelled(line: str) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(python(code), cancelled)
    assert ended.exists()


def test_the_command_ends_even_when_we_are_killed(
    tmp_path: Path, until: Callable[..., Any]
) -> None:
    """As when Prefect's runner ends: it kills the processes of its runs."""
    pids = tmp_path / "pids"
    inner = f"import os, time; open({str(pids)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    outer = f"from flows.pretrain import stream; stream({python(inner)!r}, print)"
    starter = subprocess.Popen(python(outer))
    pid = int(until(lambda: pids.exists() and pids.read_text(), what="process", seconds=60))
    starter.kill()
    starter.wait()
    until(lambda: not is_running(pid), what="end of the process", seconds=10)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")  # nobody may be there to bury it
    return not (status.exists() and ") Z " in status.read_text())
