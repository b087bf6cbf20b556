"""The flow that pretrains on a corpus version, in a process of its own.

A run's identity follows from the corpus and the configuration, so that the same event twice trains
once, and a run that was interrupted goes on from its newest checkpoint.
"""

import importlib.util
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from prefect import flow, get_run_logger

import pipelines
from curate.corpus.errors import InputError
from flows.failures import CommandFailedError, in_short
from flows.leash import leashed
from pipelines.corpus import open_corpus
from pipelines.training import finished, load_config, prepare_run

__all__ = ["pretrain", "stream", "training_command"]

_LAST_LINES = 12
_MAX_LINE_CHARS = 4000


def training_command(run: Path) -> list[str]:
    """Return the command that trains a run file.

    An absolute file and `-P`: no module of the folder we happen to be in may win.

    >>> training_command(Path("run.json"))[1:]  # doctest: +ELLIPSIS
    ['-P', '.../train/__main__.py', 'run.json']
    """
    main = Path(pipelines.__file__).resolve().parents[1] / "train" / "__main__.py"
    return [sys.executable, "-P", str(main), str(run)]


def stream(command: list[str], log: Callable[[str], object]) -> None:
    """Run a command, handing on what it prints line by line.

    However this ends, the command has ended too.

    Raises:
        CommandFailedError: the command's exit status is not 0.
    """
    last: deque[str] = deque(maxlen=_LAST_LINES)
    with subprocess.Popen(
        leashed(command),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        env=os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
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
) -> str:
    """Train on a corpus version unless that is done already; return the run's folder.

    Args:
        corpus: NAME@VERSION, or NAME for its current version.
        config: path of a training configuration (YAML); by default the trainer's own settings.
        store: folder or uri.
        runs: folder of runs; by default in the store, which must then be local.
        despite_checks: why to train although checks of the version fail.
    """
    logger = get_run_logger()
    if importlib.util.find_spec("torch") is None:
        raise InputError("training needs PyTorch: pip install 'preceptor[train]'")
    version = open_corpus(corpus, store=store)
    run = prepare_run(version, load_config(config), runs, despite_checks)
    if finished(run):
        logger.info("%s is already trained: %s", version.version, run.parent)
    else:
        stream(training_command(run), logger.info)
    return str(run.parent)
