"""`preceptor generate`: a run's model goes on from a prompt."""

import json
import math
from typing import Annotated

import typer

from curate.corpus.errors import InputError
from pipelines.options import STORE, StoreOption

__all__ = ["generate"]


def generate(
    run: Annotated[
        str,
        typer.Argument(
            help="A run's folder, its run.json, or the beginning of its id.", metavar="RUN"
        ),
    ],
    prompt: Annotated[str, typer.Argument(help="What the text begins with.")] = "",
    tokens: Annotated[int, typer.Option("--tokens", help="New tokens at most.", min=1)] = 128,
    temperature: Annotated[
        float, typer.Option("--temperature", help="0 takes the likeliest each time.", min=0)
    ] = 0.8,
    top_k: Annotated[
        int, typer.Option("--top-k", help="Draw among so many; 0: among all.", min=0)
    ] = 50,
    seed: Annotated[int, typer.Option("--seed", help="Of the draws.", min=0)] = 0,
    store: StoreOption = STORE,
) -> None:
    """Let a run's model go on from a prompt."""
    from pipelines.console import plain, say
    from pipelines.runs import find_run
    from pipelines.store import Store
    from pipelines.trainer import call

    if not math.isfinite(temperature):
        raise InputError(f"--temperature is {temperature}; give a finite number")
    found = find_run(run, store=Store(store))
    options = {"tokens": tokens, "temperature": temperature, "top-k": top_k, "seed": seed}
    given = [f"--{name}={value}" for name, value in options.items()]
    lines: list[str] = []
    call(["generate", *given, "--", str(found.path.parent), prompt], on_line=lines.append)
    say(prompt + plain(json.loads(lines[-1])))
