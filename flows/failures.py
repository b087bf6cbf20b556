"""Which failures are worth another try, and how the others are told.

A file system or a network may be better in a minute: retry. A wrong recipe or an altered store
will not: the run ends as Failed with the error's own one or two lines and no traceback.
"""

import errno
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Failed
from prefect.tasks import Task

from curate.corpus.errors import InputError, IntegrityError
from pipelines.engine import JobsFailedError

__all__ = ["CommandFailedError", "in_short", "is_transient", "retry_if_transient"]

P = ParamSpec("P")
R = TypeVar("R")

_LASTING = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


class CommandFailedError(RuntimeError):
    """A process ended with an error; the message has its last lines."""


def is_transient(error: object) -> bool:
    """Say whether doing the same again may succeed.

    >>> is_transient(ConnectionResetError()), is_transient(OSError(errno.EIO, "i/o error"))
    (True, True)
    >>> is_transient(OSError(errno.ENOSPC, "disk full")), is_transient(InputError("no such key"))
    (False, False)
    """
    if isinstance(error, JobsFailedError):  # several jobs: the first failure speaks for them
        return is_transient(error.__cause__)
    if isinstance(error, InputError | IntegrityError) or not isinstance(error, OSError):
        return False
    return error.errno not in _LASTING


def retry_if_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Decide as `retry_condition_fn` of a task."""
    del task, run
    return is_transient(state.result(raise_on_failure=False))


def in_short(step: Callable[P, R]) -> Callable[P, R]:
    """Make a flow end as Failed, with the message alone, on what a person can mend.

    Prefect takes the state that a flow returns for its run's own, and raises the error for whoever
    called the flow. (Not so for a task: its caller would get the state.)
    """

    @functools.wraps(step)
    def told(*arguments: P.args, **named: P.kwargs) -> R:
        try:
            return step(*arguments, **named)
        except (InputError, IntegrityError, CommandFailedError) as error:
            return Failed(message=str(error), data=error)  # type: ignore[return-value]

    return told
