"""The demo: the text that every Python environment already holds, from raw files to a small model.

Real text, no download, and none of it in this repository: the standard library's sources, the
installed distributions' READMEs, their licence files (natural near-duplicates), and `pydoc` topics.
"""

import time
from pathlib import Path

from pipelines.console import Watch, console, say, show_summary
from pipelines.corpus import Corpus
from pipelines.engine import engine_for
from pipelines.paths import command_name, report_path, shown
from pipelines.recipe import parse_recipe
from pipelines.store import Store
from pipelines.watching import show_training

__all__ = ["RECIPE", "run_demo"]

RECIPE = """\
name: demo
seed: 7
sources:
  - {name: stdlib,   format: python-env, paths: [stdlib]}
  - {name: readmes,  format: python-env, paths: [readmes]}
  - {name: licenses, format: python-env, paths: [licenses]}
  - {name: topics,   format: python-env, paths: [topics]}
rules:
  use:    [gopher_quality@paper]
  add:    {long_enough: "num_words >= 20"}
  exempt: {stdlib: [gopher_quality@paper], licenses: [gopher_quality@paper]}
deduplicate:
  near: {shingle: 5 words, bands: 16, rows: 7, threshold: 0.8}
  keep: "num_words DESC, doc_id"
split: {validation: 0.03, test: 0.01}
tokenize: {tokenizer: {train: bpe, vocab_size: 4096, sample_bytes: 4000000}}
pack: {row_tokens: 256}
"""


def run_demo(store: str, *, workers: int | None, minutes: float) -> None:
    """Curate, report, train, and say what to try next."""
    from pipelines.build import run
    from pipelines.report import summary, write_report
    from pipelines.training import prepare_run

    began = time.monotonic()
    recipe = parse_recipe(RECIPE, where="the demo's recipe")
    console.print(
        "[bold]1. Curate[/] the text of this Python environment: sources, READMEs, licences, "
        "help topics"
    )
    with engine_for(workers) as engine, Watch() as watch:
        outcome = run(recipe, store=store, engine=engine, observe=watch.observe)
    assert outcome.version is not None, "a whole run makes a version"
    corpus = Corpus(Store(store), outcome.version)
    console.print()
    show_summary(summary(corpus))
    console.print("[bold]2. Report[/]")
    report = report_path(corpus)
    if outcome.executed or not report.exists():
        write_report(corpus, report)
    say(f"report: {shown(report)}")
    console.print("\n[bold]3. Train[/] a small model on the rows of this corpus")
    show_training(prepare_run(corpus, {"max_minutes": minutes}), store=store)
    _next(corpus, store, began)


def _next(corpus: Corpus, store: str, began: float) -> None:
    import polars as pl

    dropped = (
        corpus.table("verdicts")
        .filter(~pl.col("kept") & pl.col("kept_id").is_not_null())
        .head(1)
        .collect()
    )
    doc_id = (
        dropped["doc_id"][0][:8]
        if dropped.height
        else corpus.table("verdicts").head(1).collect()["doc_id"][0][:8]
    )
    option = "" if Path(store) == Path(".preceptor") else f" --store {store}"
    console.print(
        f"\n[bold]Done[/] in {time.monotonic() - began:.0f} s. Three commands to try next:"
    )
    name = command_name()
    say(f"  {name} why demo {doc_id}{option}")
    say(f"  {name} table demo duplicates{option}")
    say(f"  {name} init FOLDER   # a first recipe for your own data")
