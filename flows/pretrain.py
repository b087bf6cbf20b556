"""The flow that pretrains on a corpus version, in a process of its own.

A run's identity follows from the corpus and the configuration, so that the same event twice trains
once, and a run that was interrupted goes on from its newest checkpoint.
"""

import importlib.util
import os
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact

from curate.corpus.errors import InputError
from flows.failures import CommandFailedError, in_short
from pipelines.corpus import Corpus, open_corpus
from pipelines.leash import leashed
from pipelines.trainer import command
from pipelines.training import finished, load_config, prepare_run

__all__ = ["pretrain", "stream"]

_LAST_LINES = 12
_MAX_LINE_CHARS = 4000


def stream(arguments: list[str], log: Callable[[str], object]) -> None:
    """Run a command, handing on what it prints line by line.

    However this ends, the command has ended too.

    Raises:
        CommandFailedError: the command's exit status is not 0.
    """
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        leashed(arguments),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=os.environ
        | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8", "PYTHONSAFEPATH": "1"},
    ) as process:
        assert process.stdout is not None, "it is a pipe"
        try:
            for line in process.stdout:
                if text := line.rstrip()[:_MAX_LINE_CHARS]:
                    last.append(text)
                    log(text)
        finally:
            assert process.stdin is not None, "it is a pipe"
            process.stdin.close()  # lets go of the leash
    if process.returncode:
        said = "\n".join(last) or "it printed nothing"
        raise CommandFailedError(f"training ended with exit status {process.returncode}:\n{said}")


@flow(name="pretrain", flow_run_name="pretrain on {corpus}", persist_result=False)
@in_short
def pretrain(
    corpus: str,
    config: str | None = None,
    store: str = ".preceptor",
    runs: str | None = None,
    despite_checks: str | None = None,
    processes: int = 1,
) -> str:
    """Train on a corpus version unless that is done already; report it; return the run's folder.

    Args:
        corpus: NAME@VERSION, or NAME for its current version.
        config: path of a training configuration (YAML); by default the trainer's own settings.
        store: folder or uri.
        runs: folder of runs; by default in the store, which must then be local.
        despite_checks: why to train although checks of the version fail.
        processes: how many share the work on this machine (torchrun), one for each device.
    """
    logger = get_run_logger()
    if importlib.util.find_spec("torch") is None:
        raise InputError("training needs PyTorch: pip install 'preceptor[train]'")
    version = open_corpus(corpus, store=store)
    run = prepare_run(version, load_config(config), runs, despite_checks)
    if finished(run):
        logger.info("%s is already trained: %s", version.version, run.parent)
    else:
        stream(command([str(run)], processes=processes), logger.info)
    _report(version, run)
    return str(run.parent)


def _report(corpus: Corpus, run: Path) -> None:
    """Write the run's page and show its address as an artifact."""
    from pipelines.report.run import write_run_report
    from pipelines.runs import find_run

    found = find_run(str(run), store=corpus.store)
    page = write_run_report(found, corpus.store)
    create_link_artifact(
        page.as_uri(),
        link_text=f"Run {found.id} on {corpus.version}",
        key=f"run-{found.id}",
        description=str(page),
    )
