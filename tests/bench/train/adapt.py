"""Going on with a model on an archive of one's own: what is gained there, what is lost elsewhere.

Both corpora are text that every Python environment holds. A small model learns prose (READMEs,
licences, help topics) and then code (the standard library), with and without a share of the old
rows, against a model that sees the code alone for as many steps. Every arm is measured on the same
held-out text of both.

    python tests/bench/train/adapt.py [--store DIR] [--steps 150] [--threads 2]

The same as commands: `preceptor run` two recipes, `preceptor train` four configs.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from pipelines.build import run
from pipelines.corpus import Corpus, open_corpus
from pipelines.recipe import parse_recipe
from pipelines.training import prepare_run, train_run

PROSE = """\
name: prose
seed: 7
sources:
  - {name: readmes,  format: python-env, paths: [readmes]}
  - {name: licenses, format: python-env, paths: [licenses]}
  - {name: topics,   format: python-env, paths: [topics]}
rules: {add: {long_enough: "num_words >= 20"}}
deduplicate: {near: {shingle: 5 words, bands: 16, rows: 7, threshold: 0.8}}
split: {validation: 0.1}
tokenize: {tokenizer: {train: bpe, vocab_size: 2048, sample_bytes: 2000000}}
pack: {row_tokens: 128}
"""
CODE = """\
name: code
seed: 7
sources:
  - {name: stdlib, format: python-env, paths: [stdlib]}
rules: {add: {long_enough: "num_words >= 20"}}
split: {validation: 0.01}
tokenize: {tokenizer: {path: MODEL/tokenizer.json}}
mix: {budget: 500K tokens}
pack: {row_tokens: 128}
"""


def main() -> None:
    """Build, train, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", default=".preceptor-adapt")
    parser.add_argument("--steps", type=int, default=150, help="of every arm; the base has twice")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    sizes = {"depth": 2, "width": 128}
    shared = {"batch_rows": 16, "threads": given.threads, "device": "cpu", "eval_max_rows": 4096}

    prose = corpus_of(PROSE, given.store)
    base = trained(prose, {**shared, **sizes, "steps": 2 * given.steps})
    code = corpus_of(CODE.replace("MODEL", base["model"]), given.store)
    start = {**shared, "init_from": base["model"], "steps": given.steps}
    arms = {
        "base (prose only)": {**start, "steps": 1, "rewarm": 1e-9},  # one step of no length
        "continued, no replay": start,
        "continued, replay 0.2": {**start, "replay": 0.2},
        "continued, replay 0.2, half the rates": {**start, "replay": 0.2, "rewarm": 0.5},
        "from scratch": {
            **shared, **sizes, "steps": given.steps, "replay_corpus": str(prose.version)
        },
    }  # fmt: skip
    print("| model | code: bits/byte | prose: bits/byte |")
    print("|---|---|---|")
    for name, config in arms.items():
        sources = trained(code, config)["held_out"]["sources"]
        prose_text = {k: v for k, v in sources.items() if k.startswith("prose:")}
        print(f"| {name} | {over({'': sources['stdlib']}):.3f} | {over(prose_text):.3f} |")


def corpus_of(recipe: str, store: str) -> Corpus:
    """Curate a recipe into the store and open its corpus."""
    parsed = parse_recipe(recipe, where="the example's recipe")
    run(parsed, store=store)
    return open_corpus(parsed.name, store=store)


def trained(corpus: Corpus, config: Mapping[str, Any]) -> dict[str, Any]:
    """Train, or find it done; return the result."""
    result = train_run(prepare_run(corpus, config))
    print(f"{result['run']}: {result['training_seconds']:.0f} s", file=sys.stderr)
    return result


def over(sources: Mapping[str, Any]) -> float:
    """Return bits per byte over several sources."""
    num_bytes = sum(one["bytes"] for one in sources.values())
    bits = sum(one["model"]["bits_per_byte"] * one["bytes"] for one in sources.values())
    return float(bits / num_bytes)


if __name__ == "__main__":
    main()
