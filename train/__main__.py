"""`python -m train RUN.json`, or `python -P /path/to/train/__main__.py RUN.json`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run by path: nothing else has put this repository on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from curate.corpus.errors import InputError, IntegrityError


def main(arguments: list[str] | None = None) -> int:
    """Train; return 0, or 2 with a line or two when the run cannot go on as it stands."""
    parser = argparse.ArgumentParser(
        prog="python -m train", description="Train what a run.json describes, or resume it."
    )
    parser.add_argument("run", help="path of run.json; everything is written beside it")
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object a line on standard output, for programs",
    )
    given = parser.parse_args(arguments)
    try:
        from train import run

        result = run(given.run, _tell if given.json else None)
    except (InputError, IntegrityError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not given.json:
        print(f"model: {result['model']}")
    return 0


def _tell(step: int, steps: int, metrics: dict[str, Any]) -> None:
    print(json.dumps({"step": step, "steps": steps, **metrics}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
