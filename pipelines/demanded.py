"""Which signals a recipe wants: what its rules and `keep:` read, and what it names itself."""

import importlib.metadata
from collections.abc import Iterable
from pathlib import Path

from curate.corpus.errors import InputError, one_of
from curate.rules.order import parse_order
from curate.rules.ruleset import readable_columns
from curate.signals.base import Family
from curate.signals.registry import families, families_giving, makers, units
from pipelines.mixing import mixture_reads
from pipelines.passes.judge import rules_of
from pipelines.recipe import Recipe

__all__ = ["check_measures", "families_of", "signals_read"]


def signals_read(recipe: Recipe) -> frozenset[str]:
    """Return the columns that the rules, `deduplicate.keep`, the mixture and the checks read.

    Raises:
        InputError: a rule, `keep:`, domains or a quality curve that do not parse.
    """
    rules = rules_of(recipe)
    order = parse_order(recipe.deduplicate.keep, readable_columns(recipe.measure.asked))
    return (
        frozenset(name for rule in rules.rules for name in rule.columns)
        | {name for name, _ in order}
        | mixture_reads(recipe)
        | {name for check in recipe.checks.values() for name in check.signals}
    )


def families_of(recipe: Recipe, read: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the families that every such run measures, and those that this recipe wants besides.

    Args:
        recipe: its `measure.families` are wanted.
        read: signals that something reads.

    Raises:
        InputError: `measure.families` names an unknown family; a rule reads a signal of media that
            the corpus does not hold.
    """
    known = families()
    for name in recipe.measure.families:
        if name not in known:
            raise InputError(f"measure.families: {one_of('signal family', name, known)}")
    always = [name for name, family in known.items() if _is_usual(family, recipe)]
    named = {*recipe.measure.families, *(family.name for family in families_giving(read))}
    wanted = [name for name in known if name in named and name not in always]
    for name in wanted:
        if known[name].media:
            signals = sorted(set(read) & set(known[name].signals))
            raise InputError(
                f"{', '.join(signals) or f'the family {name}'} is measured on corpora with "
                f"schema: {' or '.join(known[name].media)}, and this one has schema: {recipe.kind}"
            )
    return always, wanted


def _is_usual(family: Family, recipe: Recipe) -> bool:
    """Say whether every run on such a corpus measures a family; captions are texts."""
    if recipe.kind in family.media:
        return family.name in (recipe.kind, recipe.media_of)
    if recipe.kind in ("image", "audio"):
        return family.name == "document"  # its num_bytes becomes the file's
    return family.default


def check_measures(recipe: Recipe) -> None:
    """Refuse, before any work, what `measure` could only find out later.

    Raises:
        InputError: an unknown family, a package that is not installed, a function that is not
            allowed or not there, a word list or classifier that cannot be read, a reference set
            without files.
    """
    from pipelines.passes.fitting import file_contents, reference_files

    always, wanted = families_of(recipe, signals_read(recipe))
    for name in [*always, *wanted]:
        for package in families()[name].needs:
            _check_package(name, package)
    for unit in units(recipe.measure.asked):
        maker = makers()[unit.maker]
        if maker.code is not None:
            check_allowed(recipe)
            maker.code(unit.settings)
        if maker.adopt is not None:
            maker.adopt(unit.settings, Path(recipe.base) / unit.settings["path"])
        contents = file_contents(recipe.base, unit)
        if contents is not None and maker.load is not None:
            maker.load(unit.settings, contents)
        reference = maker.fit.reference(unit.settings) if maker.fit else None
        if reference is not None:
            reference_files(recipe.base, unit, reference)


def check_allowed(recipe: Recipe) -> None:
    """Refuse functions that the command line does not allow: a recipe is data, code is not.

    Raises:
        InputError: a function of `measure.functions` is not allowed.
    """
    for name, path in sorted(recipe.measure.functions.items()):
        if path not in recipe.allowed:
            raise InputError(
                f"measure.functions.{name} would run the Python function {path}; allow it with "
                f"--allow {path}, if you trust whoever wrote the recipe"
            )


def _check_package(family: str, package: str) -> None:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"the signals of the family {family} need the package {package}: pip install {package}"
        ) from None
