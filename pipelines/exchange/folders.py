"""A folder that is there whole or not at all: built beside its name, renamed at the end."""

import contextlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from curate.corpus.errors import InputError

__all__ = ["new_folder"]


@contextlib.contextmanager
def new_folder(out: str | Path) -> Iterator[Path]:
    """Yield a folder to fill; it gets the name `out` when the block ends without an error.

    What a killed process leaves behind is hidden and called `.NAME.partial-...`.

    Raises:
        InputError: `out` exists and is not an empty folder, or cannot be made.
    """
    target = Path(out).absolute()
    target = target.resolve() if target.is_symlink() else target
    _check_free(target, out)
    partial = target.with_name(f".{target.name}.partial-{uuid.uuid4().hex}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.mkdir()
    except OSError as error:
        raise InputError(f"cannot make a folder beside {out}: {error.strerror}") from None
    try:
        yield partial
        _check_free(target, out)
        try:
            partial.rename(target)  # takes the place of an empty folder, of nothing else
        except OSError as error:
            raise InputError(f"cannot name the finished folder {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_free(target: Path, shown: str | Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InputError(f"{shown} exists and is not an empty folder; name another one")
