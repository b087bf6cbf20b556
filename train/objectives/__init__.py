"""The registry of pretext tasks: every module of this folder that has an `OBJECTIVE`."""

import importlib
import pkgutil

from curate.corpus.errors import InputError, did_you_mean
from train.objectives.base import Batch, Loss, Objective, Rows, settled

__all__ = ["Batch", "Loss", "Objective", "Rows", "find", "names", "settled"]


def names() -> list[str]:
    """Return the names of all objectives, sorted: adding a file adds one."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.name != "base")


def find(name: str) -> type[Objective]:
    """Return the objective's class, or raise `InputError` with the names that exist.

    The class of a mix, such as `masked_token + 20 * sentence_order`, is made of its parts'.
    """
    if "+" in name or "*" in name:
        from train.mixing import mixed

        return mixed(name)
    if name not in names():
        hint = did_you_mean(name, names())
        raise InputError(f"no objective {name!r}; objectives are: {', '.join(names())}.{hint}")
    found: type[Objective] = importlib.import_module(f"{__name__}.{name}").OBJECTIVE
    return found
