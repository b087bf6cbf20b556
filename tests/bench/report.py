"""Write the report of a corpus of a million documents, and open it in Chromium.

Small documents are curated in full; then the tables of that version are repeated under new ids, so
that what stands behind the page has the size of a real corpus and every number in it is known.
"""

import argparse
import json
import random
import resource
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

import pipelines
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import PARQUET, Shard, ShardWriter, read_shard
from pipelines.corpus import Corpus, open_corpus
from pipelines.recipe import parse_recipe
from pipelines.report import write_report

SOURCES, DOCUMENTS, WORDS = 20, 100, 4000
RECIPE = """
name: bench
sources:
{sources}
rules:
  use: [gopher_quality@paper, gopher_repetition@paper, c4@tfds]
  add: {{long_enough: "num_words >= 20", short: "num_words < 70"}}
deduplicate: {{near: null}}
clean: {{redact: [email]}}
tokenize: {{tokenizer: {{vocab_size: 2048}}}}
"""
REPEATED = {
    "clean": ("documents",),
    "measure": ("signals",),
    "judge": ("verdicts",),
    "tokenize": ("tokens",),
    "mix": ("draws",),
}


def main() -> None:
    """Build, write and open; one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--keep", type=Path, help="copy the page there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="preceptor-bench-") as folder:
        corpus = repeated(curated(Path(folder)), options.documents // (SOURCES * DOCUMENTS))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began = time.monotonic()
        page = write_report(corpus, Path(folder) / "report.html")
        told: dict[str, Any] = {
            "documents": corpus.table("verdicts").select(pl.len()).collect().item(),
            "rules": len(corpus.manifest("judge").settings["rules"]["rules"]),
            "sources": SOURCES,
            "seconds": round(time.monotonic() - began, 1),
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "peak_before_mb": before // 1024,
            "page_mb": round(page.stat().st_size / 1e6, 3),
        }
        print(json.dumps(told | opened(page)))
        if options.keep:
            shutil.copy(page, options.keep)
            shutil.copy(page.with_suffix(".json"), options.keep.with_suffix(".json"))


def curated(folder: Path) -> Corpus:
    """Run a recipe over small documents of many kinds."""
    chosen = random.Random(5)
    words = [
        "".join(chosen.choices("etaoinshrdlu", k=chosen.randint(1, 9))) for _ in range(WORDS)
    ] + ["the", "of", "and", "to", "with"] * 200
    lines = []
    for source in range(SOURCES):
        rows = []
        for i in range(DOCUMENTS):
            known = chosen.sample(words, chosen.choice([3, 20, 900]))
            text = [
                " ".join(chosen.choices(known, k=7)) + "." for _ in range(chosen.randint(1, 12))
            ]
            url = f"https://site{i % 30}.example/{source}/{i}"
            rows.append(json.dumps({"id": i, "text": "\n".join(text), "url": url}))
        (folder / f"s{source}.jsonl").write_text("\n".join(rows))
        lines.append(f"  - {{name: source-{source}, paths: [{folder}/s{source}.jsonl]}}")
    store = str(folder / "store")
    recipe = parse_recipe(RECIPE.format(sources="\n".join(lines)))
    pipelines.run(recipe, store=store)
    return open_corpus("bench", store=store)


def repeated(corpus: Corpus, copies: int) -> Corpus:
    """Return a version whose documents stand there so many times, each time under other ids."""
    store, made = corpus.store, {}
    for name in corpus.version.manifests:
        manifest = corpus.manifest(name)
        tables = dict(manifest.tables)
        for table in REPEATED.get(name, ()):
            tables[table] = tuple(
                _shard(corpus, name, table, shard, copies) for shard in tables[table]
            )
        if name == "judge":
            tables["whatif"] = tuple(
                _shard(corpus, name, "whatif", shard, copies) for shard in tables["whatif"]
            )
        counts = {key: count * copies for key, count in manifest.counts.items()}
        made[name] = replace(manifest, tables=tables, counts=counts)
    for manifest in made.values():
        store.put_manifest(manifest)
    prints = {name: manifest.fingerprint for name, manifest in made.items()}
    version, _ = store.publish("bench", prints, corpus.recipe)
    return Corpus(store, version)


def _shard(corpus: Corpus, name: str, table: str, shard: Shard, copies: int) -> Shard:
    found = read_shard(corpus.store.storage, shard)
    kind = PARQUET if shard.path.endswith(".parquet") else "arrow"
    schema = SCHEMAS[table] if table in SCHEMAS and table != "tokens" else found.schema
    with ShardWriter(corpus.store.storage, f"{name}/data", table, schema, kind=kind) as writer:
        every = range(1 if table == "whatif" else copies)
        for first in range(0, len(every), 100):
            block = [_copied(found, table, copy, copies) for copy in every[first : first + 100]]
            writer.write(pa.concat_tables(block).combine_chunks())
        return writer.commit()


def _copied(table: Any, name: str, copy: int, copies: int) -> Any:
    def put(column: str, values: Any) -> None:
        nonlocal table
        table = table.set_column(table.column_names.index(column), table.field(column), values)

    if name == "whatif":
        for column in ("documents", "num_bytes"):
            put(column, pc.multiply(table[column], copies))
        return table
    if not copy:
        return table
    ids = np.frombuffer(b"".join(table["doc_id"].to_pylist()), dtype=np.uint8).reshape(-1, 16)
    changed = np.concatenate([ids[:, :12], np.zeros((len(ids), 4), np.uint8)], axis=1)
    changed[:, 12:] = np.frombuffer(copy.to_bytes(4, "big"), dtype=np.uint8)
    put("doc_id", pa.Array.from_buffers(pa.binary(16), len(ids), [None, pa.py_buffer(changed)]))
    if name == "documents":  # the report reads the texts of its samples only
        put("text", pa.array([""] * len(table), table.field("text").type))
    return table


def opened(page: Path) -> dict[str, Any]:
    """Open the page in Chromium; return milliseconds until it is loaded and a handle has moved."""
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(page.as_uri())
        spent = tab.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
        moved = tab.evaluate(
            "() => { const i = document.querySelector('#whatif input'); const t = "
            "performance.now(); i.value = 0; i.dispatchEvent(new Event('input')); "
            "return performance.now() - t; }"
        )
        kept = tab.inner_text("#whatif [data-at=total] [data-at=documents]")
        browser.close()
    return {"open_ms": round(spent), "handle_ms": round(moved, 1), "kept_after": kept}


if __name__ == "__main__":
    main()
