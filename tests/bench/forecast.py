"""Forecast three corpora, run them, and print forecast against actual for every pass.

Shapes: many short documents, few giant ones, many near-duplicates; the words are those of the
packages installed here. The target is 1.5x, either way, for the time, memory and disk of the whole
and of every pass that takes a second or more. Times are processor seconds: the neighbours of this
machine do not count.

    python tests/bench/forecast.py [--mb 48] [--shapes short giant near]
"""

import argparse
import json
import random
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.build import PASSES
from pipelines.engine import SerialEngine
from pipelines.forecast.model import Forecast, forecast
from pipelines.forecast.trial import Meter, table_bytes
from pipelines.passes.base import Context
from pipelines.recipe import Recipe, parse_recipe
from pipelines.store import Store

RECIPE = """
name: {name}
sources:
  - {{name: one, paths: ["one-*.jsonl"]}}
  - {{name: two, paths: ["two.jsonl"]}}
rules: {{use: [gopher_quality@paper], exempt: {{one: [gopher_quality@paper]}}}}
tokenize: {{tokenizer: {{train: bpe, vocab_size: 4096, sample_bytes: 4000000}}}}
pack: {{row_tokens: 512}}
deduplicate: {{guardrails: {{source_loss: null, cluster_size: null}}}}
"""
TARGET = 1.5
MIN_SECONDS = 1.0


def words_here(num_bytes: int) -> Iterator[str]:
    """Yield the sources of installed packages, paragraph by paragraph."""
    folder = Path(sysconfig.get_path("purelib"))
    files = sorted(folder.rglob("*.py"), key=lambda path: path.as_posix())
    random.Random(1).shuffle(files)
    taken = 0
    for path in files:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        for paragraph in text.split("\n\n"):
            if len(paragraph) > 80:
                taken += len(paragraph)
                yield paragraph
        if taken > num_bytes:
            return
    raise SystemExit(f"the packages here hold only {taken:,} bytes; ask for fewer")


def short_documents(num_bytes: int) -> Iterator[str]:
    """Yield documents of a few hundred bytes."""
    yield from words_here(num_bytes)


def giant_documents(num_bytes: int) -> Iterator[str]:
    """Yield documents of a megabyte or so."""
    sizes = random.Random(2)
    held: list[str] = []
    left = 1_000_000
    for paragraph in words_here(num_bytes):
        held.append(paragraph)
        left -= len(paragraph)
        if left < 0:
            yield "\n\n".join(held)
            held, left = [], sizes.randrange(400_000, 1_600_000)


def near_duplicates(num_bytes: int) -> Iterator[str]:
    """Yield documents of 2 KB, most of them in groups of 2 to 20 that differ in a few words."""
    changes = random.Random(3)
    held: list[str] = []
    made: list[str] = []
    for paragraph in words_here(num_bytes // 5):
        held.append(paragraph)
        if sum(map(len, held)) > 2000:
            text = "\n\n".join(held)
            made.append(text)
            for _ in range(changes.choice([0, 0, 1, 2, 4, 8, 19])):
                words = text.split(" ")
                for _ in range(2):
                    words[changes.randrange(len(words))] = f"w{changes.randrange(10**6)}"
                made.append(" ".join(words))
            held = []
    changes.shuffle(made)
    yield from made


SHAPES = {"short": short_documents, "giant": giant_documents, "near": near_duplicates}


def write(folder: Path, shape: str, num_bytes: int) -> Recipe:
    """Write a corpus of a shape in four files and return its recipe."""
    names = ["one-0.jsonl", "one-1.jsonl", "one-2.jsonl", "two.jsonl"]
    files = [(folder / name).open("w", encoding="utf-8") for name in names]
    for number, text in enumerate(SHAPES[shape](num_bytes)):
        files[number % len(files)].write(json.dumps({"text": text}) + "\n")
    for file in files:
        file.close()
    return parse_recipe(RECIPE.format(name=shape), base=str(folder))


def run_whole(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Run the recipe in this process and return what each pass took."""
    meter = Meter()
    store = Store(str(folder / "store"))
    context = Context(store=store, engine=SerialEngine(), recipe=recipe, observe=meter.observe)
    for name, step in PASSES.items():
        meter.begin()
        step(context)
        meter.end(name)
        meter.passes[name]["disk_bytes"] = sum(table_bytes(folder / "store" / name).values())
    return meter.passes


def compare(told: Forecast, actual: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """Print a table; return (pass, what, forecast, actual) of everything that is held to 1.5x."""
    rows = []
    print(f"  {'pass':<14}{'CPU s':>16}{'x':>7}{'MiB':>16}{'x':>7}{'disk MB':>18}{'x':>7}")
    for one in told.passes:
        found = actual[one.name]
        cpu = sum(spent[1] for spent in found["stages"].values())
        pairs = {
            "time": (one.cpu_s, cpu),
            "memory": (one.memory_bytes / 2**20, found["peak_bytes"] / 2**20),
            "disk": (one.disk_bytes / 1e6, found["disk_bytes"] / 1e6),
        }
        cells = "".join(f"{a:>9.1f} {b:>6.1f}{a / max(b, 1e-9):>7.2f}" for a, b in pairs.values())
        print(f"  {one.name:<14}{cells}")
        if cpu >= MIN_SECONDS:
            rows.append((one.name, "time", *pairs["time"]))
        rows.append((one.name, "memory", *pairs["memory"]))
        if found["disk_bytes"] > 1e6:
            rows.append((one.name, "disk", *pairs["disk"]))
    for what in ("time", "disk"):
        whole = [
            (one.cpu_s, sum(s[1] for s in actual[one.name]["stages"].values()))
            if what == "time"
            else (one.disk_bytes / 1e6, actual[one.name]["disk_bytes"] / 1e6)
            for one in told.passes
        ]
        a, b = sum(x for x, _ in whole), sum(y for _, y in whole)
        print(f"  all: {what} forecast {a:.1f}, actual {b:.1f}: {a / b:.2f}")
        rows.append(("all", what, a, b))
    return rows


def main() -> None:
    """Forecast and run every shape; exit with 1 when a whole run is off by more than the target."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--mb", type=int, default=48)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--dump", help="write everything measured to this JSON file")
    options = parser.parse_args()
    failed = False
    dump: dict[str, Any] = {}
    for shape in options.shapes:
        with tempfile.TemporaryDirectory(prefix="preceptor-forecast-") as name:
            folder = Path(name)
            recipe = write(folder, shape, options.mb * 1_000_000)
            began = time.monotonic()
            told = forecast(recipe, workers=1)
            took = time.monotonic() - began
            child = folder / "actual.json"
            request = json.dumps({"base": str(folder), "shape": shape, "out": str(child)})
            run_child(request)
            actual = json.loads(child.read_text(encoding="utf-8"))
        print(f"{shape}: {options.mb} MB; forecast in {took:.1f} s")
        for note in told.notes:
            print(f"  note: {note}")
        rows = compare(told, actual)
        off = [row for row in rows if not 1 / TARGET <= row[2] / max(row[3], 1e-9) <= TARGET]
        print(f"  {len(rows) - len(off)} of {len(rows)} within {TARGET}x")
        for row in off:
            print(f"  off: {row[0]} {row[1]}: {row[2]:.1f} for {row[3]:.1f}")
        failed |= any(row[0] == "all" for row in off)
        dump[shape] = {"trials": told.trials, "actual": actual}
    if options.dump:
        Path(options.dump).write_text(json.dumps(dump, indent=1), encoding="utf-8")
    raise SystemExit(failed)


def run_child(request: str) -> None:
    """Run the whole recipe in a fresh process, as a person would."""
    import subprocess

    subprocess.run([sys.executable, str(Path(__file__).resolve()), "--child", request], check=True)


def answer(request: str) -> None:
    """Do what `run_child` asks."""
    asked = json.loads(request)
    folder = Path(asked["base"])
    recipe = parse_recipe(RECIPE.format(name=asked["shape"]), base=str(folder))
    Path(asked["out"]).write_text(json.dumps(run_whole(recipe, folder)), encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        answer(sys.argv[2])
    else:
        main()
