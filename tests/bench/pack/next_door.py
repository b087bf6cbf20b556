"""What is taken from the benchmarks next door: a corpus, a stopwatch, the pages' tables."""

import importlib
import sys
from pathlib import Path

__all__ = ["HERE", "ROOT", "corpora", "measure", "pages"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]

sys.path += [str(HERE.parent / "dedup"), str(HERE.parent)]
corpora = importlib.import_module("corpus")
measure = importlib.import_module("measure")
pages = importlib.import_module("pages")
