"""`python -m train RUN.json`, or `python -P /path/to/train/__main__.py RUN.json`.

`python -m train evaluate RUN.json` measures what a run left. Several processes share a run through
`torchrun`: `python -m torch.distributed.run --standalone --nproc-per-node 2 -m train RUN.json`.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path
from typing import Any

if not __package__:  # run by path: this file's folder is no place to import from, its parent is
    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(p for p in sys.path if Path(p).resolve() != here)]

from curate.corpus.errors import InputError, IntegrityError

#: Besides `train`: modules of this package with a `main` of their own.
_COMMANDS = ("evaluate", "generate", "initial", "probe", "sizes")


def main(arguments: list[str] | None = None) -> int:
    """Run a subcommand, `train` if none is named; return 0, or 2 where it refuses."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        if given and given[0] in _COMMANDS:
            code: int = importlib.import_module(f"train.{given[0]}").main(given[1:])
            return code
        return _train(given[1:] if given[:1] == ["train"] else given)
    except (InputError, IntegrityError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        print(f"error: {what}; the same command goes on when that is mended", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stopped:
        print(f"interrupted: {stopped or 'what is finished is kept'}", file=sys.stderr)
        return 130


def _train(arguments: list[str]) -> int:
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
    from train import run

    result = run(given.run, _tell if given.json else None)
    if result and not given.json:
        print(f"model: {result['model']}")
    return 0


def _tell(step: int, steps: int, metrics: dict[str, Any]) -> None:
    print(json.dumps({"step": step, "steps": steps, **metrics}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
