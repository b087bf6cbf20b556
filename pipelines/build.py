"""A recipe becomes a corpus version: check everything first, then pass after pass, then publish."""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError, IntegrityError, UnreadableFileError, one_of
from curate.corpus.manifest import Manifest
from curate.media.decode import need_decoders
from curate.readers.base import InputFile, settings_of
from curate.readers.discover import expand, open_stream
from curate.readers.registry import reader_for, reader_named
from pipelines.chain import followers
from pipelines.checks.evaluate import check_columns
from pipelines.checks.records import settle
from pipelines.corpus import Corpus
from pipelines.demanded import check_measures
from pipelines.engine import Engine, SerialEngine
from pipelines.mixing import check_mixture
from pipelines.passes import (
    clean,
    collect,
    decontaminate,
    deduplicate,
    judge,
    measure,
    mix,
    pack,
    tokenize,
)
from pipelines.passes.base import Context, Event, PendingError
from pipelines.passes.canaries import asked_canaries
from pipelines.recipe import Recipe, load_recipe
from pipelines.sections import Source
from pipelines.store import Store, Version

__all__ = ["PASSES", "Outcome", "PassPlan", "plan", "preflight", "run", "run_pass"]

PASSES: dict[str, Callable[[Context], Manifest]] = {
    "collect": collect.run,
    "clean": clean.run,
    "measure": measure.run,
    "deduplicate": deduplicate.run,
    "decontaminate": decontaminate.run,
    "judge": judge.run,
    "tokenize": tokenize.run,
    "mix": mix.run,
    "pack": pack.run,
}
_PEEK_BYTES = 1 << 20
_MOST_BYTES_PER_COMPRESSED_BYTE = 1100  # deflate cannot do better than 1032


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run made.

    Attributes:
        version: the corpus version, None when the run stopped early (`until`).
        manifests: by pass.
        executed: parts that had to be computed; 0 means everything was found done.
        published: whether the current version changed.
        seconds: wall time.
        checks: what each check of the recipe found, see `pipelines.checks.results_of`.
    """

    version: Version | None
    manifests: Mapping[str, Manifest]
    executed: int
    published: bool
    seconds: float
    checks: Sequence[Mapping[str, Any]] = ()


def _recipe(recipe: Recipe | str | Path, **options: Any) -> Recipe:
    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe, **options)


def _store(store: Store | str) -> Store:
    return store if isinstance(store, Store) else Store(store)


@contextlib.contextmanager
def _about(what: str) -> Iterator[None]:
    """Say in which part of the recipe an error is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from None


def _look_at_columns(
    file: InputFile,
    format: str | None,
    columns: Mapping[str, Any] | None,
    delimiter: str | None,
    options: Mapping[str, Any],
    media: Mapping[str, Any] | None = None,
) -> None:
    """Read the first records: a column that is not there is told now and not after hours.

    What cannot be read is left to `collect` and its policy.
    """
    reader, compression = reader_for(file.path, format)
    if reader.one_document_per_file or reader.expand is not None:
        return
    settings = {
        "columns": columns or {},
        "delimiter": delimiter,
        "max_document_bytes": _PEEK_BYTES,
        "options": options,
        **(media or {}),
    }
    opener = functools.partial(open_stream, file, compression, None)
    read = reader.read if not media or reader.media is None else reader.media
    batches = read(reader.split(file, _PEEK_BYTES)[0], opener, settings)
    with contextlib.suppress(UnreadableFileError):
        next(batches, None)


def _check_options(files: Sequence[InputFile], source: Source) -> None:
    """Refuse an option that a format of the source does not have."""
    for name in sorted({reader_for(file.path, source.format)[0].name for file in files}):
        settings_of(reader_named(name).options, {"options": source.options})


def preflight(recipe: Recipe, store: Store) -> None:
    """Refuse, before any work, what could only fail later.

    Raises:
        InputError: sources or benchmarks without files, unknown presets, rules that do not parse,
            a corpus to compare against that is not there, a budget that the input cannot hold, a
            tokenizer that cannot be read, checks of columns that will not be there.
    """
    asked_canaries(judge.rules_of(recipe), recipe.rules.canaries)
    check_measures(recipe)
    check_columns(recipe)
    deduplicate.outside_version(store, recipe)
    most = 0
    if recipe.kind != "text":
        need_decoders(recipe.media_of)
    for source in recipe.sources:
        with _about(f"source {source.name!r}"):
            files = collect.files_of(source, recipe)
            if files:
                _check_options(files, source)
                _look_at_columns(
                    files[0],
                    source.format,
                    source.columns,
                    source.delimiter,
                    source.options,
                    collect.media_options(recipe),
                )
        for file in files:
            packed = reader_for(file.path, source.format)[1] is not None or file.path.endswith(
                (".parquet", ".arrow", ".feather")
            )
            most += file.size * (_MOST_BYTES_PER_COMPRESSED_BYTE if packed else 2) + 16
    for benchmark in recipe.decontaminate.against:
        with _about(f"benchmark {benchmark.name!r}"):
            for file in expand(benchmark.paths, recipe.base, benchmark.format):
                columns = {"text": benchmark.columns}
                _look_at_columns(file, benchmark.format, columns, benchmark.delimiter, {})
    if recipe.tokenize.tokenizer.path is not None:
        tokenize.read_tokenizer(recipe.tokenize.tokenizer, recipe.base)
    check_mixture(recipe, most)


def run(
    recipe: Recipe | str | Path,
    *,
    store: Store | str = ".preceptor",
    engine: Engine | None = None,
    until: str | None = None,
    refit: bool = False,
    observe: Callable[[Event], None] | None = None,
    **options: Any,
) -> Outcome:
    """Curate a corpus and publish its version.

    Args:
        recipe: a `Recipe`, or the path of a YAML file (then `options` are understood).
        store: a `Store` or its uri.
        engine: where jobs run; by default in this process.
        until: stop after this pass, publishing no version.
        refit: fit the tokenizer again instead of using the pinned one.
        observe: called with progress events.
        options: passed to `load_recipe`.

    Raises:
        InputError: nothing was started, or a policy of the recipe stopped the run.
        IntegrityError: something in the store is not what its manifest says.
    """
    began = time.monotonic()
    recipe, store = _recipe(recipe, **options), _store(store)
    if until is not None and until not in PASSES:
        raise InputError(one_of("pass", until, PASSES))
    preflight(recipe, store)
    store.storage.sweep()
    context = Context(store=store, engine=engine or SerialEngine(), recipe=recipe, refit=refit)
    if observe is not None:
        context.observe = observe
    for name, step in PASSES.items():
        if name == "clean":
            context.followers = followers(context, _until(until))
        step(context)
        if name == until:
            break
    version, published = None, False
    checks: Sequence[Mapping[str, Any]] = ()
    if until is None:
        version, published = publish(context)
        checks = settle(Corpus(store, version), recipe.checks)
        if recipe.limit is not None and published:
            context.note(
                "limit",
                f"{version} holds at most {recipe.limit} records of a source; it is current now",
            )
    return Outcome(
        version=version,
        manifests=context.manifests,
        executed=context.executed,
        published=published,
        seconds=time.monotonic() - began,
        checks=checks,
    )


def _until(last: str | None) -> tuple[str, ...]:
    """Return the names of the passes up to `last`, of all for None."""
    names = tuple(PASSES)
    return names if last is None else names[: names.index(last) + 1]


def publish(context: Context) -> tuple[Version, bool]:
    """Make the manifests of a finished run the corpus's current version."""
    manifests = {name: manifest.fingerprint for name, manifest in context.manifests.items()}
    return context.store.publish(
        context.recipe.name, manifests, context.recipe.model_dump(mode="json")
    )


def run_pass(
    name: str,
    recipe: Recipe | str | Path,
    *,
    store: Store | str,
    parents: Mapping[str, str],
    engine: Engine | None = None,
) -> str:
    """Run one pass on manifests named by fingerprint; return the new manifest's fingerprint.

    For schedulers: arguments and results are small strings; a repeated call finds its work done.
    """
    recipe, store = _recipe(recipe), _store(store)
    if name not in PASSES:
        raise InputError(one_of("pass", name, PASSES))
    if name == "collect":
        preflight(recipe, store)
    manifests = {parent: store.get_manifest(parent, digest) for parent, digest in parents.items()}
    context = Context(
        store=store, engine=engine or SerialEngine(), recipe=recipe, manifests=manifests
    )
    if name == "clean":
        context.followers = followers(context, PASSES)
    return PASSES[name](context).fingerprint


def publish_version(
    recipe: Recipe | str | Path, *, store: Store | str, manifests: Mapping[str, str]
) -> Version:
    """Publish the version that these manifests (one per pass) make."""
    recipe, store = _recipe(recipe), _store(store)
    missing = [name for name in PASSES if name not in manifests]
    if missing:
        raise IntegrityError(
            f"a version needs a manifest of every pass; missing: {', '.join(missing)}"
        )
    return store.publish(recipe.name, dict(manifests), recipe.model_dump(mode="json"))[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassPlan:
    """What a pass would do: `done`, `todo` (so many parts) or `unknown` (waits for another)."""

    name: str
    state: str
    todo: int = 0
    total: int = 0


def plan(
    recipe: Recipe | str | Path, *, store: Store | str = ".preceptor", **options: Any
) -> list[PassPlan]:
    """Say what a run would do and what is already done, without doing anything."""
    recipe, store = _recipe(recipe, **options), _store(store)
    preflight(recipe, store)
    counted = {"parts": 0}

    def observe(event: Event) -> None:
        if event.kind == "start":
            counted["parts"] += event.total

    context = Context(store=store, engine=SerialEngine(), recipe=recipe, observe=observe, peek=True)
    plans: list[PassPlan] = []
    for name, step in PASSES.items():
        if plans and plans[-1].state != "done":
            plans.append(PassPlan(name=name, state="unknown"))
            continue
        counted["parts"] = 0
        try:
            step(context)
        except PendingError as pending:
            plans.append(PassPlan(name=name, state="todo", todo=pending.todo, total=pending.total))
        else:
            plans.append(PassPlan(name=name, state="done", total=counted["parts"]))
    return plans
