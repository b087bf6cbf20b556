"""What is taken from the benchmark next door: its corpus, its environments, its stopwatch."""

import importlib
import sys
from pathlib import Path

__all__ = ["DEDUP", "HERE", "ROOT", "corpora", "environments", "measure"]

HERE = Path(__file__).resolve().parent
DEDUP = HERE.parent / "dedup"
ROOT = HERE.parents[2]

sys.path.append(str(DEDUP))
corpora = importlib.import_module("corpus")
environments = importlib.import_module("environments")
measure = importlib.import_module("measure")
