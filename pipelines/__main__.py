"""`python -m pipelines`, or `python -P /path/to/pipelines/__main__.py`: the command line."""

import sys
from pathlib import Path

if not __package__:  # run by path: nothing else has put this repository on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipelines.cli import main

if __name__ == "__main__":
    main()
