"""One Prefect server for the session, a small corpus, and an ear for every connection."""

import json
import os
import random
import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import flows

assert flows.environment, "imported before anything imports Prefect"

HOOK = """
import os, sys

heard = os.environ["PRECEPTOR_TEST_EAR"]

def note(event, arguments, file=os.open(heard, os.O_WRONLY | os.O_APPEND | os.O_CREAT)):
    if event in ("socket.connect", "socket.sendto"):
        os.write(file, f"{arguments[1]!r}\\n".encode())
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        os.write(file, f"{arguments[:1]!r}\\n".encode())

sys.addaudithook(note)
"""
RECIPE = """
name: tiny
sources:
  - {name: one, paths: one.jsonl}
  - {name: two, paths: two.jsonl}
split: {validation: 0.05, test: 0.05}
tokenize:
  tokenizer: {train: bpe, vocab_size: 512, sample_bytes: 100000}
pack: {row_tokens: 64}
"""
# A model that is trained in the blink of an eye.
TRAINING = "{depth: 1, steps: 2, batch_rows: 2, eval_max_rows: 8}\n"


@pytest.fixture(scope="session")
def abroad(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., set[str]]]:
    """Tells the hosts elsewhere that this process, or any Python process it started, asked for."""
    folder = tmp_path_factory.mktemp("ear")
    (folder / "sitecustomize.py").write_text(HOOK, encoding="utf-8")
    heard = folder / "heard"
    paths = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRECEPTOR_TEST_EAR", str(heard))
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        runpy.run_path(str(folder / "sitecustomize.py"))

        def tell(file: Path = heard) -> set[str]:
            return set(filter(_is_abroad, file.read_text(encoding="utf-8").splitlines()))

        yield tell


def _is_abroad(address: str) -> bool:
    """Say whether an address as the hook writes it lies beyond this machine."""
    home = ("('127.0.0.1'", "('localhost'", "('::1'", "(b'127.0.0.1'", "(b'localhost'", "(None")
    is_path = address.startswith(("'", "b'"))
    return not is_path and not address.startswith(home)


@pytest.fixture(scope="session")
def prefect_api(abroad: Callable[..., set[str]]) -> Iterator[str]:
    """The address of a throw-away Prefect server that flows of this process use."""
    del abroad  # the ear must be open before the server starts
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    # Without heartbeats a flow run need not wait for the thread that sends them.
    with (
        prefect_test_harness(server_startup_timeout=120),
        temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}),
    ):
        url = PREFECT_API_URL.value()
        assert url is not None
        yield url


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe for two files of nonsense, enough for all passes to have something to do."""
    letters = random.Random(1)
    words = ["the", "be", "to", "of", "and", "that", "have", "with"]
    words += ["".join(letters.choices("aeiounrstlm", k=5)) for _ in range(120)]
    for name in ("one", "two"):
        with (tmp_path / f"{name}.jsonl").open("w", encoding="utf-8") as file:
            for _ in range(60):
                lines = [" ".join(letters.choices(words, k=9)).capitalize() for _ in range(14)]
                print(json.dumps({"text": ". ".join(lines) + "."}), file=file)
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A training configuration."""
    path = tmp_path / "training.yaml"
    path.write_text(TRAINING, encoding="utf-8")
    return path


@pytest.fixture
def until() -> Callable[..., Any]:
    """Asks until there is an answer, or the deadline has come."""

    def ask(find: Callable[[], Any], *, what: str, seconds: float = 30) -> Any:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if found := find():
                return found
            time.sleep(0.2)
        raise AssertionError(f"no {what} within {seconds} s")

    return ask
