"""A compact trainer: a corpus version goes in, weights and losses per source come out.

It reads the `run.json` that the command line resolves and nothing else of the house but files
and `curate.corpus`. Importing this package loads no torch, so that `train.config` stays light.
"""

import os
import sys
from collections.abc import Callable
from os import PathLike
from typing import Any

__all__ = ["run"]


def run(
    run_json_path: str | PathLike[str],
    progress: Callable[[int, int, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Train what `run.json` describes, resuming what is there; return `result.json`'s content.

    Started by `torchrun`, each process calls this, and all but the first get {}.

    Args:
        run_json_path: the run file; everything is written into its folder.
        progress: called with (step, steps, metrics) after each logged interval; plain lines are
            printed without it.

    Raises:
        curate.corpus.errors.InputError: the run cannot start or go on as it stands.
    """
    if "torch" not in sys.modules:
        # Threads that spin while they wait make a shared machine crawl: with two threads on two
        # busy cores, waiting asleep was measured 3 to 7 times faster. Read when torch is loaded.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from train.loop import train
    from train.runfile import load_run

    return train(load_run(run_json_path, verify=None), progress=progress)
