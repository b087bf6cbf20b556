"""Run a command that ends when whoever started it does, however that happens.

    python -P /path/to/leash.py COMMAND ...

The starter holds the other end of standard input. When that closes, at the latest with the
starter's death by any cause, the command's process group is asked to end, and after a while made
to. Nobody else would: Prefect's runner, for one, kills the processes of its runs outright (3.8.8),
which leaves what these started to themselves. SIGQUIT ends it at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

__all__ = ["leashed", "main"]

GRACE_SECONDS = 60.0  # a trainer finishes its step and keeps it


def leashed(command: list[str]) -> list[str]:
    """Return the command on a leash: start it with `stdin=PIPE`, close that to end it."""
    return [sys.executable, "-P", str(Path(__file__).resolve()), *command]


def main(command: list[str]) -> int:
    """Run the command; return its exit status, 128 + n when signal n ended it."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def end(number: int = 0, frame: FrameType | None = None) -> None:
        del number, frame
        _signal(process, signal.SIGTERM)
        last = threading.Timer(GRACE_SECONDS, _signal, (process, signal.SIGKILL))
        last.daemon = True
        last.start()

    def end_at_once(number: int, frame: FrameType | None) -> None:
        del number, frame
        _signal(process, signal.SIGKILL)

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            pass
        end()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
    signal.signal(signal.SIGQUIT, end_at_once)
    threading.Thread(target=watch, daemon=True).start()
    status = process.wait()
    _signal(process, signal.SIGKILL)  # what it started and did not wait for
    return status if status >= 0 else 128 - status


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
