"""What is taken from next door: the corpus, the environments, the stopwatch, the pages' tables."""

import importlib
import sys
from pathlib import Path

__all__ = ["DEDUP", "HERE", "ROOT", "corpora", "environments", "measure", "pages"]

HERE = Path(__file__).resolve().parent
DEDUP = HERE.parent / "dedup"
ROOT = HERE.parents[2]

sys.path += [str(DEDUP), str(HERE.parent)]
corpora = importlib.import_module("corpus")
environments = importlib.import_module("environments")
measure = importlib.import_module("measure")
pages = importlib.import_module("pages")
