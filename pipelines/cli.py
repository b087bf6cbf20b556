"""The command line. Every import that costs time is inside the command that needs it."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from curate.corpus.errors import InputError, IntegrityError
from pipelines.asking import compare_rules, overlap
from pipelines.checks.command import DespiteOption, check
from pipelines.dedup import dedup
from pipelines.differing import diff
from pipelines.evaluating import evaluate
from pipelines.exchanging import export, import_
from pipelines.forgetting import forget
from pipelines.laddering import ladder
from pipelines.looking import runs, table, trace
from pipelines.options import (
    STORE,
    AllowOption,
    CorpusArgument,
    CorpusOption,
    DaskOption,
    LimitOption,
    RecipeArgument,
    SetOption,
    StoreOption,
    WorkersOption,
)
from pipelines.planning import plan
from pipelines.probing import probe
from pipelines.reporting import report
from pipelines.sampling import generate
from pipelines.teaching import classify

app = typer.Typer(
    name="preceptor",
    help="Engineer the corpus that teaches your model: curate, explain, version, pack, train.",
    epilog="A first try: `preceptor demo`. Your own data: `preceptor init FOLDER`, then "
    "`preceptor run FOLDER/recipe.yaml`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


_INTERRUPTED = 130


def main() -> None:
    """Run the command line; refusals end with one or two lines and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except (InputError, IntegrityError) as error:
        _refuse(str(error), *getattr(error, "__notes__", []))
    except (KeyboardInterrupt, typer.Abort):
        code = _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        about = f"{error.filename}: " if error.filename is not None else ""
        _refuse(f"{about}{error.strerror or error}")
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        _usage(error)
    if code == _INTERRUPTED:  # typer turns the interrupt of a command into this exit code
        sys.stderr.write("interrupted; what is finished is kept, run the same command to go on\n")
    raise SystemExit(code)


def _refuse(*lines: str) -> NoReturn:
    first, *more = (_plain(line) for line in lines)
    sys.stderr.write("".join([f"error: {first}\n", *(f"  {line}\n" for line in more)]))
    raise SystemExit(2)


def _usage(error: Any) -> NoReturn:
    """Tell what typer found wrong with the command line, in two lines instead of a box."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        raise SystemExit(2)
    path = error.ctx.command_path if getattr(error, "ctx", None) else "preceptor"
    _refuse(error.format_message().replace("\n", " "), f"`{path} --help` shows how it is used")


def _plain(text: str) -> str:
    """Return text that cannot command a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else "?" for c in text)


def _overrides(pairs: list[str] | None) -> dict[str, Any]:
    from pipelines.recipe import parse_override

    return dict(parse_override(pair) for pair in pairs or [])


@app.command(epilog="Example: preceptor init data/ && preceptor run data/recipe.yaml")
def init(
    folder: Annotated[Path, typer.Argument(help="The folder that holds the data.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a recipe that is there.")] = False,
) -> None:
    """Write a first recipe for the files found in a folder."""
    from pipelines.console import say
    from pipelines.starter import write_recipe

    path, sources, problems = write_recipe(folder, force=force)
    say(
        f"{path}: {len(sources)} source{'s' * (len(sources) != 1)}: "
        f"{', '.join(s['name'] for s in sources[:10])}"
        + (f" and {len(sources) - 10} more" if len(sources) > 10 else "")
    )
    for problem in problems[:10]:
        say(f"  left out: {problem['path']}: {problem['why']}")
    if len(problems) > 10:
        say(f"  ... and {len(problems) - 10} more files left out")
    say(f"next: preceptor run {path}")


@app.command(
    epilog="Example: preceptor run recipe.yaml --set rules.add.long='num_words >= 50' --workers 2"
)
def run(
    recipe: RecipeArgument,
    store: StoreOption = STORE,
    workers: WorkersOption = None,
    dask: DaskOption = None,
    set_: SetOption = None,
    limit: LimitOption = None,
    allow: AllowOption = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Stop after this pass; no version is made.")
    ] = None,
    refit: Annotated[
        bool,
        typer.Option("--refit", help="Fit the tokenizer and the signals' models again."),
    ] = False,
) -> None:
    """Curate a corpus: from raw data to a version in the store."""
    from pipelines.build import run as build
    from pipelines.console import Watch, show_outcome
    from pipelines.engine import engine_for
    from pipelines.paths import lasting

    store = lasting(store)
    with engine_for(workers, dask=dask, store=store) as engine, Watch() as watch:
        outcome = build(
            recipe,
            store=store,
            engine=engine,
            until=until,
            refit=refit,
            observe=watch.observe,
            overrides=_overrides(set_),
            limit=limit,
            allow=allow or (),
        )
    show_outcome(outcome, store)
    if not all(one["passed"] for one in outcome.checks):
        raise SystemExit(1)


@app.command(
    epilog="Example: preceptor demo, and the same again: the second time every pass is found done."
)
def demo(
    store: StoreOption = STORE,
    workers: WorkersOption = None,
    minutes: Annotated[float, typer.Option("--minutes", help="Training time.")] = 1.25,
) -> None:
    """Curate the text this Python environment holds, report on it, train a small model."""
    from pipelines.demo import run_demo

    run_demo(store, workers=workers, minutes=minutes)


app.command(epilog="Example: preceptor plan recipe.yaml --forecast --workers 4")(plan)


@app.command("list", epilog="Examples: preceptor list; preceptor list signals")
def list_(
    what: Annotated[
        str, typer.Argument(help="corpora, receipts, readers, signals, rules or objectives.")
    ] = "corpora",
    store: StoreOption = STORE,
) -> None:
    """List corpora and their versions, or the readers, signals, rules or objectives there are."""
    from pipelines.listing import show

    show(what, store)


app.command(
    epilog="Examples: preceptor table demo verdicts --where 'NOT kept' --out dropped.csv; "
    "preceptor table demo feedback --with signals,verdicts --where 'bits_per_byte > 3'"
)(table)


app.command(epilog="Examples: preceptor trace 3f2a 100; preceptor trace 3f2a --document 8c01")(
    trace
)


app.command(epilog="Examples: preceptor runs; preceptor runs demo@2")(runs)


@app.command(epilog="Example: preceptor why demo 3f2a  (the first digits of an id will do)")
def why(
    corpus: CorpusArgument,
    doc_id: Annotated[str, typer.Argument(help="The document's id, or its first digits.")],
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Explain the whole life of one document."""
    from pipelines.explain import explain

    explain(corpus, doc_id, store=store, as_json=as_json)


@app.command(epilog="Example: preceptor verify demo")
def verify(corpus: CorpusArgument, store: StoreOption = STORE) -> None:
    """Re-hash every file, re-count every row, check the conservation laws."""
    from pipelines.console import say
    from pipelines.corpus import open_corpus
    from pipelines.verify import verify as check

    opened = open_corpus(corpus, store=store)
    files: list[str] = []
    problems = check(opened, files.append)
    for problem in problems:
        say(f"wrong: {problem}")
    if problems:
        raise SystemExit(1)
    counts = opened.manifest("judge").counts
    say(
        f"{opened.version} is whole: {len(files)} files, {counts['documents']:,} documents = "
        f"{counts['kept']:,} kept + {counts['dropped']:,} dropped"
    )


app.command(
    epilog="Examples: preceptor report demo --out demo.html; preceptor report --run 3f2a; "
    "preceptor report --serve"
)(report)


@app.command(
    epilog="Example: preceptor train config.yaml --corpus demo  (`depth: 4` is a whole config)"
)
def train(
    config: Annotated[
        Path, typer.Argument(help="A file, or a shipped config's name.", metavar="CONFIG")
    ],
    corpus: CorpusOption,
    runs: Annotated[
        Path | None,
        typer.Option("--runs", help="Where runs go (default: in the store).", metavar="DIR"),
    ] = None,
    processes: Annotated[
        int, typer.Option("--processes", help="Processes, one for each device (torchrun).", min=1)
    ] = 1,
    despite: DespiteOption = None,
    store: StoreOption = STORE,
) -> None:
    """Train a model on a corpus; the same command goes on after an interruption."""
    from pipelines.corpus import open_corpus
    from pipelines.training import load_config, prepare_run
    from pipelines.watching import show_training

    opened = open_corpus(corpus, store=store)
    run_json = prepare_run(opened, load_config(config), runs, despite)
    show_training(run_json, store=store, processes=processes)


app.command(epilog="Example: preceptor generate 3f2a 'def open('")(generate)


app.command(epilog="Examples: preceptor evaluate 3f2a; preceptor evaluate 3f2a --split test")(
    evaluate
)


app.command(
    epilog="Examples: preceptor probe 3f2a --labels digits.csv; preceptor probe 3f2a --labels "
    "meta:topic --group source"
)(probe)


app.command(epilog="Example: preceptor ladder config.yaml --corpus demo --depths 1,2,3,4")(ladder)


app.command(
    "compare-rules",
    epilog="Example: preceptor compare-rules gopher_quality@datatrove gopher_quality@dolma "
    "--corpus demo",
)(compare_rules)


app.command(epilog="Example: preceptor overlap demo archive@3")(overlap)


app.command(epilog="Example: preceptor forget demo --url 'https://example.org/*' --dry-run")(forget)


app.command(epilog="Example: preceptor check demo --recipe stricter.yaml")(check)


app.command(
    epilog="Example: preceptor classify demo --good good.txt --bad-where 'NOT kept' "
    "--name quality --out models/quality.arrow"
)(classify)


app.command(epilog="Example: preceptor dedup crawl/*.parquet --out crawl-unique")(dedup)


app.command(
    epilog="Examples: preceptor diff demo@1 demo@2; preceptor diff demo archive --html diff.html"
)(diff)


app.command(
    epilog="Examples: preceptor export demo --format parquet --out demo-parquet; "
    "preceptor export demo --format megatron --what drawn --out demo-megatron"
)(export)


app.command(
    "import",
    epilog="Example: preceptor import demo --format dolma --from attributes/toxicity "
    "--name toxicity --out scores/toxicity.arrow",
)(import_)


@app.command(epilog="Example: preceptor schema > recipe.schema.json; preceptor schema train")
def schema(what: Annotated[str, typer.Argument(help="recipe or train.")] = "recipe") -> None:
    """Print the JSON schema of the recipe or of the training config."""
    import json

    from curate.corpus.errors import one_of

    if what == "recipe":
        from pipelines.recipe import Recipe

        data = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **Recipe.model_json_schema(),
        }
    elif what == "train":
        from train.config import TrainConfig

        data = TrainConfig.json_schema()
    else:
        raise InputError(one_of("schema", what, ["recipe", "train"]))
    typer.echo(json.dumps(data, indent=2))


@app.command(epilog="Example: preceptor doctor")
def doctor(store: StoreOption = STORE) -> None:
    """Check versions, disk, device and scheduler."""
    from pipelines.console import show_findings
    from pipelines.doctor import checkup

    if show_findings(checkup(store)):
        raise SystemExit(1)


@app.command(epilog="Example: preceptor serve recipe.yaml --cron '0 3 * * *' --train config.yaml")
def serve(
    recipe: RecipeArgument,
    store: StoreOption = STORE,
    cron: Annotated[str, typer.Option("--cron", help="When to curate.")] = "0 3 * * *",
    config: Annotated[
        Path | None,
        typer.Option(
            "--train", help="Train with this config when a corpus is ready.", metavar="CONFIG.yaml"
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Worker processes of a curating run (default: 1).", min=1),
    ] = None,
    dask: DaskOption = None,
) -> None:
    """Schedule curating and pretraining with Prefect, on this machine."""
    import importlib  # flows stands above this package, so it is named and not imported

    from pipelines.engine import engine_for
    from pipelines.recipe import load_recipe
    from pipelines.training import load_config

    engine_for(workers, dask=dask, store=store)
    load_recipe(recipe)
    load_config(config)
    importlib.import_module("flows.serve").serve(
        str(recipe.absolute()),
        store=store,
        cron=cron,
        train_config=str(config.absolute()) if config else None,
        workers=workers,
        dask=dask,
    )


if __name__ == "__main__":
    main()
