"""Every export format, read back by the code of the project it is for.

`make check-exports` curates a small corpus from the text of this Python environment, exports it as
kept and as drawn, and lets each consumer read its format in an environment of its own under
.bench/venvs. What it read must be the documents of the store, token for token; a difference ends
with exit code 1, a consumer that cannot be installed is a line that says why.

A consumer is one file in peers/. At its top it imports the standard library only and says

    FORMAT = "megatron"                      # of `preceptor export`
    PACKAGE = "megatron-core"                # whose version the results name
    REQUIREMENTS = ("megatron-core==0.16.1",)
    NEEDS_TORCH = True

and one function, called in its environment with the folder of an export and facts about it
(`dtype`, `eos`), that yields the documents of the training split: lists of tokens, or texts.

    python tests/bench/exports/run.py [--only PEER ...] [--home DIR]
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent / "dedup"))
sys.path.insert(0, str(HERE))

from environments import Environment, ensure  # noqa: E402
from reading import digest_of  # noqa: E402

from curate.corpus.shard import read_shard  # noqa: E402
from pipelines.build import run as build  # noqa: E402
from pipelines.corpus import Corpus, open_corpus  # noqa: E402
from pipelines.exchange import export  # noqa: E402
from pipelines.recipe import parse_recipe  # noqa: E402

RECIPE = """
name: exports
seed: 7
sources:
  - {name: licenses, paths: [licenses], format: python-env}
  - {name: topics, paths: [topics], format: python-env}
tokenize: {tokenizer: {train: bpe, vocab_size: 1000}}
mix: {epochs: {licenses: 2.5, topics: 0.7}}
"""


def peers(only: list[str]) -> dict[str, Any]:
    """Return the modules of peers/ by name."""
    found = {}
    for path in sorted((HERE / "peers").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"peer_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not only or path.stem in only:
            found[path.stem] = module
    return found


def stored(corpus: Corpus, what: str, out: Path) -> Iterator[list[int]]:
    """Yield the training documents' tokens in the order the export says, from the store."""
    tokens = {}
    for shard in corpus.shards("tokens"):
        table = read_shard(corpus.store.storage, shard).select(["doc_id", "split", "tokens"])
        for row in table.to_pylist():
            if row["split"] == "train":
                tokens[row["doc_id"].hex()] = row["tokens"][1:]
    if what == "kept":
        yield from tokens.values()
        return
    import polars as pl

    for doc_id in pl.read_parquet(out / "documents-train.parquet")["doc_id"]:
        yield tokens[doc_id]


def texts(corpus: Corpus) -> Iterator[str]:
    """Yield the kept training texts in order (the recipe cuts nothing from them)."""
    kept = corpus.table("verdicts").filter("kept").select("doc_id", "split").collect()
    split = dict(kept.rows())
    for doc_id, text in corpus.table("documents").select("doc_id", "text").collect().rows():
        if split.get(doc_id) == "train":
            yield text


def main() -> None:
    """Export, install, read, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", default=[], metavar="PEER")
    parser.add_argument("--home", type=Path, default=ROOT / ".bench", metavar="DIR")
    options = parser.parse_args()
    work = options.home / "exports"
    shutil.rmtree(work, ignore_errors=True)
    recipe = parse_recipe(RECIPE, limit=200)
    build(recipe, store=str(work / "store"))
    corpus = open_corpus("exports", store=str(work / "store"))
    wrong = 0
    for name, peer in peers(options.only).items():
        asked = Environment(
            name=f"exports-{name}",
            package=peer.PACKAGE,
            requirements=peer.REQUIREMENTS,
            needs_torch=peer.NEEDS_TORCH,
        )
        made = ensure(asked, options.home / "venvs")
        if made.python is None:
            print(f"{name}: not installed: {made.reason}")
            continue
        for what in ("kept", "drawn") if peer.FORMAT != "parquet" else ("kept",):
            wrong += not check(corpus, name, peer.FORMAT, what, made, work)
    raise SystemExit(wrong > 0)


def check(corpus: Corpus, name: str, format_name: str, what: str, made: Any, work: Path) -> bool:
    """Export once, let one consumer read it, and say whether it read what is stored."""
    out = work / f"{name}-{what}"
    export(corpus, format_name, out, what=what)
    wanted = digest_of(texts(corpus) if format_name == "parquet" else stored(corpus, what, out))
    specials = corpus.manifest("tokenize").info["tokenizer"]["specials"]
    facts = json.dumps({"eos": specials["eos"], "dtype": "uint16"})
    command = [str(made.python), "-P", str(HERE / "reading.py"), name, str(out), facts]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=work)
    if done.returncode:
        print(f"{name} {what}: failed: {done.stderr.strip().splitlines()[-1][:200]}")
        return False
    found = json.loads(done.stdout.splitlines()[-1])
    same = found == wanted
    print(
        f"{name} {made.version}: {what}: read {found['documents']:,} documents, "
        f"{found['units']:,} units: {'the same as stored' if same else f'NOT {wanted}'}",
        flush=True,
    )
    return bool(same)


if __name__ == "__main__":
    main()
