"""Starting the trainer: a process of its own, or several through torchrun; torch stays out of here.

The trainer is started by its absolute file with `-P`, so that a `train.py` in the user's folder
cannot win. What it says last, when it fails, is what people are told.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from curate.corpus.errors import InputError
from pipelines.leash import leashed

__all__ = ["StoppedError", "call", "command"]

_TRAINER = Path(__file__).resolve().parents[1] / "train" / "__main__.py"
_PATIENCE_S = 60
_SIGNAL = 128
_REFUSED = 2  # the exit code of a refusal, which is told in its own words
# What torchrun and the ranks say around a refusal, which has one line or two.
_OTHERS = re.compile(r"\[rank|[EIW]\d{4} |Traceback|error: |\S+Warning: |\*{5}|={5}")


class StoppedError(InputError):
    """The trainer ended without having refused: killed, out of memory, or a fault of ours."""


def command(arguments: Sequence[str], *, processes: int = 1) -> list[str]:
    """Return the command that starts the trainer.

    >>> command(["run.json"])[1:]  # doctest: +ELLIPSIS
    ['-P', '.../train/__main__.py', 'run.json']
    >>> command(["run.json"], processes=2)[1:7]
    ['-P', '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node', '2']
    """
    if processes == 1:
        return [sys.executable, "-P", str(_TRAINER), *arguments]
    ranks = ["--standalone", "--nproc-per-node", str(processes)]
    run = [sys.executable, "-P", "-m", "torch.distributed.run", *ranks]
    return [*run, str(_TRAINER), *arguments]


def call(
    arguments: Sequence[str],
    *,
    processes: int = 1,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run the trainer to its end; however this ends, it has ended too.

    Args:
        arguments: of `python -m train`.
        processes: how many share the work, on this machine; one for each device.
        on_line: gets each line of its standard output.

    Raises:
        InputError: it refused; the message is its own.
        StoppedError: it ended in another way.
    """
    if processes < 1:
        raise InputError(f"processes is {processes}; ask for at least 1")
    # Python's own `-P` is not handed on by torchrun to its ranks; this is.
    environment = os.environ | {"PYTHONSAFEPATH": "1"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        with subprocess.Popen(
            leashed(command(arguments, processes=processes)),
            stdin=subprocess.PIPE,  # the leash: should we be killed, it closes
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            errors="replace",
            env=environment,
        ) as process:
            assert process.stdout is not None, "asked for a pipe"
            try:
                with _terminable():
                    for line in process.stdout:
                        if on_line is not None:
                            on_line(line.rstrip("\n"))
                    code = process.wait()
            finally:
                if process.poll() is None:
                    _end(process)
        errors.seek(0)
        said = errors.read().strip()
    if code:
        _fail(code, said, processes)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Take SIGTERM as Ctrl-C is taken, where signals can be: in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: "subprocess.Popen[str]") -> None:
    """Let the trainer finish its step and keep it; a second Ctrl-C or a minute ends it at once."""
    try:
        process.terminate()
        process.wait(timeout=_PATIENCE_S)
    except (KeyboardInterrupt, subprocess.TimeoutExpired):
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _fail(code: int, said: str, processes: int) -> None:
    """Raise what the trainer said last, for people."""
    refused = _refusal(said) if code == _REFUSED or processes > 1 else None
    if refused:
        raise InputError(refused)
    if "No module named 'torch'" in said or "No module named 'safetensors'" in said:
        raise InputError("training needs torch and safetensors: pip install 'preceptor[train]'")
    last = said.splitlines()[-1] if said else "it said nothing"
    how = f"exit code {code}"
    if code > _SIGNAL:  # as the leash tells it
        with contextlib.suppress(ValueError):
            how = f"signal {signal.Signals(code - _SIGNAL).name}"
    raise StoppedError(f"training stopped with {how}: {last}")


def _refusal(said: str) -> str | None:
    r"""Return the refusal among the lines; under torchrun other things are said around it.

    >>> _refusal("W1122 launched\nerror: no such plan\ntry another\nTraceback")
    'no such plan\ntry another'
    """
    lines = said.splitlines()
    for first, line in enumerate(lines):
        if line.startswith("error: "):
            told = [line.removeprefix("error: ")]
            for more in lines[first + 1 :]:
                if not more.strip() or _OTHERS.match(more):
                    break
                told.append(more)
            return "\n".join(told)
    return None
