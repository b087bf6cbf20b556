"""A folder that is there whole or not at all: built beside its name, renamed at the end."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

from curate.corpus.errors import InputError

__all__ = ["new_folder"]


@contextlib.contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Yield a folder to fill; it gets the name `out` when the block ends without an error.

    What a killed process leaves behind is hidden and called `.NAME.partial-...`; the next folder of
    that name on the same host removes it. A lock, which ends with its process, says who is alive.

    Raises:
        InputError: `out` exists and is not an empty folder, or cannot be made.
    """
    target = Path(out).absolute()
    target = target.resolve() if target.is_symlink() else target
    _check_free(target, out)
    _remove_left_behind(target)
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"cannot make a folder beside {out}: {error.strerror}") from None
    with contextlib.ExitStack() as held:
        if _locked(partial, held):  # only then a name that others may remove
            with contextlib.suppress(OSError):  # too long a name: one that stays does as well
                partial = partial.rename(_own_name(target))
        held.callback(shutil.rmtree, partial, ignore_errors=True)
        yield partial
        _check_free(target, out)
        try:
            partial.rename(target)  # takes the place of an empty folder, of nothing else
        except OSError as error:
            raise InputError(f"cannot name the finished folder {out}: {error.strerror}") from None


def _own_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial-{_host()}-{uuid.uuid4().hex}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())[:64]


def _locked(folder: Path, held: contextlib.ExitStack) -> bool:
    """Lock a folder until `held` is closed or the process ends; False where that cannot be done."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        held.callback(os.close, number)
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # it is held, is none, or the file system has no locks
        return False
    return True


def _remove_left_behind(target: Path) -> None:
    """Remove what processes of this host that are gone left of a folder of this name."""
    prefix = re.escape(f".{target.name}.partial-{_host()}-")
    try:
        beside = list(target.parent.iterdir())
    except OSError:
        return
    for path in beside:
        if re.fullmatch(prefix + "[0-9a-f]{32}", path.name):
            with contextlib.ExitStack() as held:
                if _locked(path, held):
                    shutil.rmtree(path, ignore_errors=True)


def _check_free(target: Path, shown: str | Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{shown} exists and is not an empty folder; name another one")
