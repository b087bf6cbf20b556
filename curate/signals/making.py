"""Makers: families that a recipe describes, because they need settings, a file or a fit.

A recipe's section `measure` names units: word lists, classifiers, reference sets. For each a maker
says which signals it gives, which bytes it is made of (the *artefact*, an Arrow table), and makes
the family. There are three kinds of artefact: none; one that is read from files of the recipe; and
one that is fitted by counting over the corpus, a reference set or both. A fit is `count`, once per
shard and in any order, and `merge`: integers that add up, so no split changes a bit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from curate.signals.base import Family, Signal

__all__ = ["CORPUS", "REFERENCE", "Fit", "Maker", "Reference", "Role"]

Role = Literal["corpus", "reference"]
CORPUS: Role = "corpus"
REFERENCE: Role = "reference"
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Where the texts of a reference set are: as in a recipe's source."""

    paths: tuple[str, ...]
    format: str | None = None
    columns: tuple[str, ...] = ("text",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How an artefact is fitted.

    Attributes:
        roles: settings -> whose texts are counted, `corpus` (the documents, cleaned), `reference`.
        reference: settings -> the reference set, where it is counted.
        count: (role, batches, settings) -> table of integers. A batch of the corpus has the
            columns text and text_hash, one of the reference text only.
        merge: (role -> tables in any order, settings) -> the artefact; adds integers.
        form: raised when an artefact comes to mean something else: what was pinned before is then
            fitted again.
    """

    roles: Callable[[Settings], Sequence[Role]]
    reference: Callable[[Settings], Reference | None]
    count: Callable[[Role, Iterable[Any], Settings], Any]
    merge: Callable[[Mapping[Role, Iterable[Any]], Settings], Any]
    form: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """A kind of made families; a module of this package publishes one as `MAKER`.

    Attributes:
        name: the key under `measure` in a recipe; the module's name.
        columns: pattern of its signals' names, for people, such as `words_<name>`.
        description: one sentence for people.
        units: (what the recipe says under the key) -> unit name -> canonical settings (JSON).
        signals: (unit, settings) -> name -> Signal.
        make: (unit, settings, artefact or None) -> the family; its `name` is `<maker>:<unit>`.
        fit: how the artefact is fitted, None where it is not.
        files: settings -> files of the recipe that the artefact is read from.
        load: (settings, contents of the files) -> the artefact, None where there is none.
        adopt: (settings, path) -> the artefact, memory-mapped from the one file that
            `settings["path"]` names, which may be larger than memory.
        code: settings -> digest of code outside the house that measures, "" where there is none.
    """

    name: str
    columns: str
    description: str
    units: Callable[[Any], Mapping[str, dict[str, Any]]]
    signals: Callable[[str, Settings], Mapping[str, Signal]]
    make: Callable[[str, Settings, Any], Family]
    fit: Fit | None = None
    files: Callable[[Settings], Sequence[str]] | None = None
    load: Callable[[Settings, Sequence[bytes]], Any] | None = None
    adopt: Callable[[Settings, Path], Any] | None = None
    code: Callable[[Settings], str] | None = None
