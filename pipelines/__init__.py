"""How a recipe becomes a corpus version: recipe, store, engine, passes, report, command line.

>>> import pipelines
>>> outcome = pipelines.run("recipe.yaml", store=".preceptor")           # doctest: +SKIP
>>> pipelines.open_corpus("archive", store=".preceptor").table("verdicts")  # doctest: +SKIP
"""

from typing import Any

__all__ = ["open_corpus", "run"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that `preceptor --help` stays quick."""
    if name == "run":
        from pipelines.build import run

        return run
    if name == "open_corpus":
        from pipelines.corpus import open_corpus

        return open_corpus
    raise AttributeError(f"module 'pipelines' has no attribute {name!r}")
