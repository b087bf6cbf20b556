"""How many planted test items each method finds, how many documents it accuses wrongly, how fast.

Items of at least 30 words are planted in real documents: as they are, with words edited, with the
sentences in another order, in other words (a few by hand). Beside each rate stands (1 - p)^n, the
chance that one n-gram survives when a share p of the words is edited. Wrongly accused are documents
about an item's passage, and real files that hold none of the items.

    python tests/bench/contamination.py [--data FOLDER] [--items 1000]
"""

import argparse
import bz2
import gzip
import json
import re
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.contamination.index import BenchmarkIndex
from curate.contamination.methods import Decon, Llama3, Method, Ngram, required

HERE = Path(__file__).resolve().parents[2]
BENCHMARKS = {  # question, answer
    "gsm8k_test": ("question", "answer"),
    "HumanEval": ("prompt", "canonical_solution"),
    "arc_validation": ("question", "choices"),
    "bbh": ("input", "target"),
    "mmlu_test": ("question", "choices"),
}
METHODS: dict[str, tuple[Method, float]] = {
    "ngram": (Ngram(), 0.5),
    "llama3": (Llama3(), 0.3),
    "decon": (Decon(), 0.8),
}
LONG = 30  # words

# Questions of GSM8K's test set (by record number) in our own words; the numbers stay.
PARAPHRASES = {
    0: "Every day Janet's 16 ducks each give her an egg. Three go into her breakfast, four into "
    "muffins for friends; whatever remains she takes to the farmers' market at $2 apiece. What "
    "does she earn there daily?",
    1: "To make one robe you need 2 bolts of blue fiber, plus white fiber amounting to half of "
    "that. What is the total number of bolts?",
    2: "Josh buys a house for $80,000, hoping to resell it, and spends another $50,000 on repairs, "
    "which raises its value by 150%. How much money did he make?",
    3: "Three times a week James runs 3 sprints, each of them 60 meters long. Over a week, how "
    "many meters is that?",
    7: "Carla has a 200 GB file to fetch at 2 GB per minute. After 40% of it Windows restarts to "
    "update, which costs 20 minutes, and she must begin again. How long until it is done?",
}


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def flat(value: object) -> str:
    """Return what a column holds as text."""
    if isinstance(value, dict):
        return flat(value["text"])
    return "\n".join(map(flat, value)) if isinstance(value, list) else str(value)


def read_items(data: Path) -> pl.DataFrame:
    """Return the benchmarks' items: benchmark, item, text, question, answer."""
    rows = []
    for name, (question, answer) in BENCHMARKS.items():
        for number, record in enumerate(lines(data / f"benchmarks/{name}.jsonl.gz")):
            parts = flat(record[question]), flat(record[answer])
            rows.append((name, str(number), "\n".join(parts), *parts))
    return pl.DataFrame(
        rows, schema=["benchmark", "item", "text", "question", "answer"], orient="row"
    )


def read_texts(data: Path) -> dict[str, Any]:
    """Return real documents by file."""
    speeches = [row["text"] for row in lines(data / "text/gov_speeches_us.jsonl.gz")]
    tldr = [row["text"] for row in lines(data / "text/docs_tldr.jsonl.gz")]
    with bz2.open(data / "text/enwiki_sample.xml.bz2") as stream:
        pages = [e.text for e in ET.parse(stream).iter() if e.tag.endswith("}text")]
    code = pq.read_table(data / "text/code_python.parquet")["text"].to_pylist()
    peps = pq.read_table(data / "text/docs_peps.parquet")["text"].to_pylist()
    found = {"speeches": speeches, "enwiki": pages, "code": code, "peps": peps, "tldr": tldr}
    return {name: pa.array(texts, pa.large_string()) for name, texts in found.items()}


def edited(words: list[str], share: float, vocabulary: list[str], rng: Any) -> str:
    """Replace each word with this chance by a random one."""
    draws = rng.random(len(words))
    others = rng.integers(0, len(vocabulary), len(words))
    changed = [
        vocabulary[o] if d < share else w for w, d, o in zip(words, draws, others, strict=True)
    ]
    return " ".join(changed)


def plant(texts: list[str], hosts: Any, rng: Any) -> Any:
    """Put each text into the middle of some 500 words of a real document."""
    places = rng.integers(0, len(hosts), len(texts))
    planted = []
    for text, place in zip(texts, places.tolist(), strict=True):
        words = hosts[place].as_py().split()
        cut = int(rng.integers(0, max(1, len(words) - 500)))
        window = words[cut : cut + 500]
        planted.append(" ".join([*window[:250], "\n\n" + text + "\n\n", *window[250:]]))
    return pa.array(planted, pa.large_string())


def accused(index: BenchmarkIndex, texts: Any, threshold: float) -> set[tuple[int, str, str]]:
    """Return (document, benchmark, item) of what reaches the threshold."""
    found = index.match(texts)
    enough = np.round(found["overlap"].to_numpy(), 9) >= required(threshold, found["strictness"])
    return set(found.filter(pl.Series(enough)).select("document", "benchmark", "item").rows())


def share_found(index: BenchmarkIndex, texts: Any, items: pl.DataFrame, threshold: float) -> float:
    """Return the share of planted items that are found where they were planted."""
    found = accused(index, texts, threshold)
    wanted = [(i, *row) for i, row in enumerate(items.select("benchmark", "item").rows())]
    return float(np.mean([row in found for row in wanted]))


def variants(items: pl.DataFrame, vocabulary: list[str], rng: Any) -> dict[str, list[str]]:
    """Return the planted forms of the items."""
    words = [text.split() for text in items["text"]]
    found = {"verbatim": list(items["text"])}
    for percent in (5, 10, 20):
        name = f"{percent} % edited"
        found[name] = [edited(w, percent / 100, vocabulary, rng) for w in words]
    found["without the answer"] = list(items["question"])
    shuffled = []
    for text in items["text"]:
        sentences = re.split(r"(?<=[.?!\n])\s+", text)
        rng.shuffle(sentences)
        shuffled.append(" ".join(sentences))
    found["sentences in another order"] = shuffled
    return found


def plants(items: pl.DataFrame, texts: dict[str, Any], number: int) -> None:
    """Print the rate of each method for each form."""
    rng = np.random.default_rng(1)
    long = items.filter(pl.col("text").str.count_matches(r"\w+") >= LONG)
    chosen = long.sample(min(number, long.height), seed=1)
    hosts = texts["peps"]
    vocabulary = sorted({w for text in hosts.slice(0, 40).to_pylist() for w in text.split()})
    print(f"{chosen.height} items of at least {LONG} words, planted in real documents: share found")
    planted = {n: plant(t, hosts, rng) for n, t in variants(chosen, vocabulary, rng).items()}
    gsm = items.filter(benchmark="gsm8k_test")
    told = gsm.filter(pl.col("item").is_in([str(n) for n in PARAPHRASES]))
    told = told.sort(pl.col("item").cast(pl.Int64))
    others = plant([PARAPHRASES[int(n)] for n in told["item"]], hosts, rng)
    for name, (method, threshold) in METHODS.items():
        index = BenchmarkIndex.build(items, methods=[method])
        print(f"\n{name}, {method.words} words, threshold {threshold}")
        for form, documents in planted.items():
            rate = share_found(index, documents, chosen, threshold)
            match = re.match(r"(\d+) %", form)
            beside = f"   (1-p)^n {(1 - int(match[1]) / 100) ** method.words:.3f}" if match else ""
            print(f"  {form:<28} {rate:.3f}{beside}")
        rate = share_found(index, others, told, threshold)
        print(f"  {'in other words (by hand)':<28} {rate:.3f}   of {told.height}")
        covered = index.coverage().select(pl.col("^.*items$").sum()).row(0)
        print(
            f"  items {covered[0]}: by n-grams {covered[1]}, whole {covered[2]}, not {covered[3]}"
        )


def negatives(items: pl.DataFrame, texts: dict[str, Any]) -> None:
    """Print how many documents are accused that hold a passage, or nothing, of the items."""
    rng = np.random.default_rng(2)
    hosts = [t for name in ("speeches", "enwiki", "peps") for t in texts[name].to_pylist() if t]
    passages, documents = [], []
    for text in [t for t in hosts if len(t.split()) > 900][:300]:
        words = text.split()
        cut = int(rng.integers(300, len(words) - 400))
        passages.append(" ".join(words[cut : cut + 120]))
        documents.append(" ".join(words[cut - 300 : cut + 400]))
    chosen = items.filter(benchmark="gsm8k_test").head(len(passages))
    asked = chosen.with_columns(
        passage=pl.Series(passages[: chosen.height]), benchmark=pl.lit("reading")
    )
    about = pa.array(documents[: chosen.height], pa.large_string())
    print("\nwrongly accused: documents around an item's passage; real files (documents: items)")
    for name, (method, threshold) in METHODS.items():
        index = BenchmarkIndex.build(asked, methods=[method])
        rate = len({row[0] for row in accused(index, about, threshold)}) / len(about)
        print(f"  {name:<8} {rate:.3f} of {len(about)} source passages", end="")
        index = BenchmarkIndex.build(items, methods=[method])
        for file, documents_of in texts.items():
            found = accused(index, documents_of, threshold)
            wrong = f"{len({r[0] for r in found})}: {len({r[1:] for r in found})}"
            print(f"; {file} {wrong}", end="")
        print()


def speed(items: pl.DataFrame, texts: dict[str, Any]) -> None:
    """Print MB of text per CPU second of one core."""
    print("\nMB/s of one core, text to hits (best of 3)")
    for name in ("code", "speeches", "peps"):
        row = []
        for methods in (["ngram"], ["llama3"], ["decon"], ["ngram", "llama3", "decon"]):
            index = BenchmarkIndex.build(items, methods=[METHODS[m][0] for m in methods])
            index.match(texts[name])
            best = min(_seconds(index, texts[name]) for _ in range(3))
            row.append(f"{'+'.join(methods)} {texts[name].nbytes / 1e6 / best:.0f}")
        print(f"  {name:<9}", "  ".join(row))


def _seconds(index: BenchmarkIndex, texts: Any) -> float:
    begin = time.process_time()
    index.match(texts)
    return time.process_time() - begin


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, default=HERE.parent / "shared" / "data")
    parser.add_argument("--items", type=int, default=1000)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"{asked.data} is not there; name the shared data with --data FOLDER")
    items, texts = read_items(asked.data), read_texts(asked.data)
    plants(items, texts, asked.items)
    negatives(items, texts)
    speed(items, texts)


if __name__ == "__main__":
    main()
