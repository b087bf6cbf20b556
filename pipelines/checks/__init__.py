"""Checks: data tests of a corpus version, in SQL, that stand between it and training.

A check changes no corpus. What it found is stored beside the version, and found there again.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.corpus import Corpus

__all__ = ["results_of"]


def results_of(corpus: "Corpus") -> list[dict[str, Any]] | None:
    """Return what the version's checks found when they last ran, in the recipe's order.

    Each is a mapping of `name`, `sql`, `passed`, `found`, `wanted` and `message`. None where the
    version has no checks, or they have not run. Nothing is evaluated.
    """
    from pipelines.checks.records import stored

    return stored(corpus)
