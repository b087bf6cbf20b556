"""Compile kernels with numba: without the GIL, once per machine, and never before they are needed.

numba keeps machine code between runs, but beside the sources, and it does not notice an edit in
another module whose functions a kernel has swallowed. So ours goes to `curate.kernels.cache`, where
any edit makes another folder. Where that cannot be written, every process compiles anew.

Importing numba takes half a second, and decorating a function needs it. So a module that decorates
is imported inside the function that calls its kernels, never at the top of a module that the
command line reaches; `curate.kernels.shingles` is an example:

    def shingle_sets(texts, shingling):
        from curate.kernels import hashing  # numba: half a second

(`pipelines.digest` finds imports anywhere in a file: lazy ones count for a pass's code digest.)

A kernel is one function from arrays to arrays: machine integers wrap, divisions are numpy's, and
there is no boundary check; whoever calls it has checked. `@compiled` is for what Python calls and
`@part_of_kernels` for what only kernels call: it is swallowed by its callers, not kept on its own.
"""

import importlib
import importlib.util
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numba.core.config

from curate.kernels.cache import cache_folder

__all__ = ["compiled", "part_of_kernels"]

F = TypeVar("F", bound=Callable[..., Any])

_SETTINGS = ("CACHE_DIR", "CACHE_LOCATOR_CLASSES")
_LOCK = threading.Lock()


def _spare_scipy() -> None:
    """Load numba's array functions without scipy.linalg, which they import to see if it is there.

    That import is half of numba's start. What it would have found is told afterwards; functions
    that call BLAS import scipy themselves when they are compiled.
    """
    linalg = importlib.import_module("numba.np.linalg")
    ensure = getattr(linalg, "ensure_blas", None)

    def absent() -> None:
        raise ImportError

    try:
        linalg.ensure_blas = absent  # type: ignore[attr-defined]
        arrays = importlib.import_module("numba.np.arraymath")
    finally:
        linalg.ensure_blas = ensure  # type: ignore[attr-defined]
    arrays._HAVE_BLAS = importlib.util.find_spec("scipy") is not None  # type: ignore[attr-defined]


_spare_scipy()


def compiled(function: F) -> F:
    """Compile `function` on its first call, or load what an earlier process has compiled."""
    dispatcher = numba.njit(nogil=True, error_model="numpy")(function)
    folder = cache_folder()
    if folder is None or not hasattr(dispatcher, "enable_caching"):  # NUMBA_DISABLE_JIT=1
        return cast(F, dispatcher)
    config = numba.core.config
    # numba knows one folder for the whole process, and its other users have their own.
    with _LOCK:
        before = {name: getattr(config, name, "") for name in _SETTINGS}
        try:
            config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = str(folder), ""
            dispatcher.enable_caching()
        except (OSError, RuntimeError):
            return cast(F, dispatcher)
        finally:
            for name, value in before.items():
                setattr(config, name, value)
    dispatcher._cache = _Forgiving(dispatcher._cache)
    return cast(F, dispatcher)


def part_of_kernels(function: F) -> F:
    """Compile `function` as a part of the kernels that call it."""
    return cast(F, numba.njit(nogil=True, error_model="numpy")(function))


class _Forgiving:
    """A cache that never stops the work: what it cannot read is compiled again."""

    def __init__(self, cache: Any) -> None:
        self._cache = cache

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cache, name)

    def load_overload(self, signature: Any, context: Any) -> Any:
        try:
            return self._cache.load_overload(signature, context)
        except Exception:  # a file cut short may fail in any way while it is read
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            self._cache.save_overload(signature, data)
        except Exception:  # a full disk, an index cut short
            return
