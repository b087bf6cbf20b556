"""Time each pass, in one process, on the text of this Python environment.

One JSON line per pass and one for the whole: seconds and MB of cleaned text per second. The
corpus differs from machine to machine, so compare numbers of one machine only.
"""

import argparse
import json
import os
import platform
import tempfile

import polars as pl

import pipelines
from pipelines.passes.base import Event
from pipelines.recipe import parse_recipe

SOURCES = ("stdlib", "readmes", "licenses", "topics", "packages")

RECIPE = """
name: bench
sources:
{sources}
tokenize: {{tokenizer: {{train: bpe, vocab_size: 4096}}}}
"""


def main() -> None:
    """Run a whole recipe in a store that is thrown away, and print what each pass took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", nargs="+", choices=SOURCES, default=SOURCES)
    parser.add_argument("--limit", type=int, help="read so many records of each source only")
    options = parser.parse_args()
    lines = (f"  - {{name: {one}, paths: [{one}], format: python-env}}" for one in options.sources)
    recipe = parse_recipe(RECIPE.format(sources="\n".join(lines)), limit=options.limit)
    seconds: dict[str, float] = {}

    def observe(event: Event) -> None:
        if event.kind == "done":
            seconds[event.name] = event.seconds

    with tempfile.TemporaryDirectory(prefix="preceptor-bench-") as store:
        outcome = pipelines.run(recipe, store=store, observe=observe)
        documents = pipelines.open_corpus("bench", store=store).table("documents")
        size = documents.select(n=pl.len(), text=pl.col("text").str.len_bytes().sum()).collect()
    num_docs, num_bytes = size.row(0)
    for name, taken in [*seconds.items(), ("all", outcome.seconds)]:
        speed = num_bytes / 1e6 / max(taken, 1e-9)
        print(json.dumps({"pass": name, "seconds": round(taken, 3), "mb_per_s": round(speed, 2)}))
    machine = {
        "python": platform.python_version(),
        "cpu": platform.machine(),
        "cpus": os.cpu_count(),
    }
    print(json.dumps({"documents": num_docs, "mb": round(num_bytes / 1e6, 2), **machine}))


if __name__ == "__main__":
    main()
