"""What surrounds a run's steps: no search for garbage, a stop that loses nothing, the same bits."""

import contextlib
import gc
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import torch

from train.config import TrainConfig
from train.parallel import Ranks

__all__ = ["determined", "no_collection", "stoppable"]


@contextlib.contextmanager
def determined(config: TrainConfig, ranks: Ranks) -> Iterator[None]:
    """Let CUDA use only what gives the same bits each time, if asked; as it was, afterwards."""
    if not config.deterministic or ranks.device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read by the first product
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Look for garbage only where the caller does: a search may stop a step for half a second."""
    enabled = gc.isenabled()
    gc.collect(1)  # the young: what settling the run left; the rest is modules, which stay
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()


@contextlib.contextmanager
def stoppable(ranks: Ranks) -> Iterator[list[int]]:
    """Give a list that Ctrl-C or SIGTERM is put into, so that the step is finished and kept.

    Another one more than a second later stops at once (a terminal and whoever started the trainer
    may both send one). Of several ranks each would end at another step: these stop at
    once, and go on from their last checkpoint.
    """
    asked: list[int] = []
    first = 0.0
    if ranks.world > 1 or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, frame: Any) -> None:
        nonlocal first
        del frame
        if asked and time.monotonic() - first > 1:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
