"""The options that several commands share: what they are called, and what they refuse."""

import re
from pathlib import Path
from typing import Annotated

import typer

from curate.corpus.errors import InputError

__all__ = [
    "STORE",
    "AllowOption",
    "CorpusArgument",
    "CorpusOption",
    "DaskOption",
    "LimitOption",
    "OptionalCorpusArgument",
    "RecipeArgument",
    "SetOption",
    "StoreOption",
    "WorkersOption",
]

_CORPUS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _store_name(value: str) -> str:
    if not value.strip():
        raise InputError("--store is empty; name a folder or an fsspec uri")
    return value


def _corpus_name(value: str) -> str:
    """Refuse what no corpus can be called, before it becomes a path."""
    name, _, version = value.partition("@")
    if not _CORPUS.fullmatch(name) or len(version) > 9 or not version.isascii():
        shown = repr(value if len(value) <= 60 else value[:57] + "...")
        raise InputError(
            f"CORPUS is NAME or NAME@VERSION (`preceptor list` shows them), got {shown}"
        )
    return value


def _corpus_name_if_any(value: str | None) -> str | None:
    return None if value is None else _corpus_name(value)


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="PRECEPTOR_STORE",
        callback=_store_name,
        help="The store: a folder or any fsspec uri.",
        metavar="DIR",
    ),
]
RecipeArgument = Annotated[Path, typer.Argument(help="The recipe.", metavar="RECIPE.yaml")]
CorpusArgument = Annotated[
    str,
    typer.Argument(
        help="NAME (its current version) or NAME@VERSION.", metavar="CORPUS", callback=_corpus_name
    ),
]
OptionalCorpusArgument = Annotated[
    str | None,
    typer.Argument(
        help="NAME (its current version) or NAME@VERSION.",
        metavar="CORPUS",
        callback=_corpus_name_if_any,
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", help="Override a key of the recipe: path.to.key=value.", metavar="KEY=VALUE"
    ),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", help="Read at most this many records of each source.")
]
CorpusOption = Annotated[
    str,
    typer.Option("--corpus", help="NAME or NAME@VERSION.", metavar="CORPUS", callback=_corpus_name),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow",
        help="Let the recipe run this function of your own as a signal. Repeatable.",
        metavar="MODULE:FUNCTION",
    ),
]
DaskOption = Annotated[
    str | None,
    typer.Option(
        "--dask",
        help="Run on this Dask cluster instead of --workers here.",
        metavar="tcp://HOST:PORT",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers", help="Worker processes (default: one per core; 1: none beside this one)."
    ),
]
STORE = ".preceptor"
