"""The flow that curates a corpus: one task per pass; what travels between tasks is fingerprints.

Prefect sees names, retries, events and artifacts. The data stays in the store, where a repeated
call finds its work done.
"""

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from prefect import flow, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

from curate.corpus.errors import InputError, IntegrityError
from flows.events import COMMITTED, READY, emit
from flows.failures import in_short, retry_if_transient
from pipelines import build
from pipelines.checks.records import listed, settle
from pipelines.corpus import Corpus, open_corpus
from pipelines.engine import Engine, engine_for
from pipelines.recipe import Recipe, load_recipe
from pipelines.store import Store

__all__ = ["RETRY_DELAYS_SECONDS", "curate_corpus"]

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_SECONDS = (1.0, 10.0, 60.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What the tasks of a run share inside its process; their arguments are strings."""

    recipe: Recipe  # read once: an edit during the run must not split it
    store: Store
    engine: Engine  # one for all passes: starting workers costs seconds


_work: ContextVar[_Work] = ContextVar("work")


def _step(function: Callable[P, R]) -> Task[P, R]:
    """Make a task that tries again what may succeed."""
    return task(
        name=function.__name__,
        task_run_name=function.__name__,
        retries=len(RETRY_DELAYS_SECONDS),
        retry_delay_seconds=list(RETRY_DELAYS_SECONDS),
        retry_condition_fn=retry_if_transient,
        cache_policy=NO_CACHE,  # what is done, the store knows
        persist_result=False,
    )(function)


@_step
def run_pass(name: str, parents: Mapping[str, str]) -> str:
    """Run a pass on manifests named by fingerprint; return its manifest's fingerprint."""
    work = _work.get()
    return build.run_pass(name, work.recipe, store=work.store, parents=parents, engine=work.engine)


@_step
def publish(manifests: Mapping[str, str]) -> str:
    """Make these manifests the corpus's current version; return NAME@VERSION."""
    work = _work.get()
    return str(build.publish_version(work.recipe, store=work.store, manifests=manifests))


@_step
def verify(corpus: str) -> str:
    """Re-hash and re-count the version; return NAME@VERSION.

    Raises:
        IntegrityError: it is not what its manifests say.
    """
    from pipelines.verify import verify as find_problems

    problems = find_problems(open_corpus(corpus, store=_work.get().store))
    if problems:
        raise IntegrityError(
            f"{corpus} is published but does not verify: {'; '.join(problems[:3])}"
        )
    return corpus


@_step
def check(corpus: str) -> list[str]:
    """Run the recipe's checks on the version; return the names of those that fail."""
    work = _work.get()
    results = settle(open_corpus(corpus, store=work.store), work.recipe.checks)
    return [result["name"] for result in results if not result["passed"]]


@_step
def report(corpus: str) -> str:
    """Show a table and the address of the report as artifacts; return the report's path.

    In a remote store there is no place for a page: only the table is shown, and the path is empty.
    """
    from pipelines.paths import report_path
    from pipelines.report import write_report

    opened = open_corpus(corpus, store=_work.get().store)
    page = write_report(opened, report_path(opened)) if opened.store.storage.is_local else None
    key = re.sub(r"[^a-z0-9]+", "-", opened.version.name.lower()).strip("-")
    create_markdown_artifact(
        _summary(opened), key=f"corpus-{key}", description=f"What became of {corpus}"
    )
    if page is None:
        return ""
    create_link_artifact(
        page.as_uri(), link_text=f"Report of {corpus}", key=f"report-{key}", description=str(page)
    )
    return str(page)


def _summary(corpus: Corpus) -> str:
    """Return a table of what each pass counted, in markdown that both of Prefect's UIs draw."""
    lines = [
        f"# {_cell(str(corpus.version))}",
        "",
        f"Fingerprint `{corpus.version.fingerprint}`, store `{corpus.store.uri}`",
        "",
        "| Pass | Counts |",
        "|:--|:--|",
    ]
    for name in build.PASSES:
        counts = corpus.manifest(name).counts
        told = ", ".join(f"{_cell(what)} {count:,}" for what, count in counts.items())
        lines.append(f"| {name} | {told} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    for mark in "\\|<`*_[":
        text = text.replace(mark, f"\\{mark}")
    return text


@flow(name="curate_corpus", persist_result=False)
@in_short
def curate_corpus(
    recipe: str, store: str = ".preceptor", workers: int | None = None, dask: str | None = None
) -> str:
    """Curate what a recipe describes, publish it, check it, report it; return NAME@VERSION.

    Emits `preceptor.corpus.committed` once the version is current, changed or not, and
    `preceptor.corpus.ready` once it verifies and passed its checks. When checks fail, the version
    is there and reported, and the flow fails.

    Args:
        recipe: path of the recipe's YAML file.
        store: folder or uri.
        workers: processes; 1, the default, runs everything in this one.
        dask: address of a running Dask cluster's scheduler, instead of `workers`.
    """
    workers = 1 if workers is None and dask is None else workers
    with engine_for(workers, dask=dask, store=store) as engine:
        work = _Work(recipe=load_recipe(recipe), store=Store(store), engine=engine)
        work.store.storage.sweep()
        token = _work.set(work)
        try:
            return _curate(work)
        finally:
            _work.reset(token)


def _curate(work: _Work) -> str:
    manifests: dict[str, str] = {}
    for name in build.PASSES:
        step = run_pass.with_options(name=name, task_run_name=name)
        manifests[name] = step(name, dict(manifests))
    corpus = publish(manifests)
    version = work.store.find(corpus)
    emit(COMMITTED, version, work.store)
    verify(corpus)
    failed = check(corpus)
    if not failed:
        emit(READY, version, work.store)
    report(corpus)
    if failed:
        raise InputError(
            f"{corpus} is published but not ready, its checks fail: {listed(failed)}; "
            f"`preceptor check {corpus}` shows them"
        )
    return corpus
