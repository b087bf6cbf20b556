"""Where the documents of the benchmark come from: this Python environment, or a folder of text."""

import json
import random
import sysconfig
from collections.abc import Iterator
from hashlib import blake2b
from importlib import metadata
from math import log
from pathlib import Path

import pyarrow.parquet as pq

KINDS = {
    *(".py", ".pyi", ".pyx", ".pxd", ".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp"),
    *(".md", ".rst", ".txt"),
}
MEAN_CHARS, SIGMA = 2_700, 0.8
MIN_CHARS, MAX_CHARS = 200, 64_000


def of_environment() -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every source and prose file of the environment, sorted by path."""
    paths = sysconfig.get_paths()
    site = sorted({Path(paths["purelib"]), Path(paths["platlib"])})
    for root in (*site, Path(paths["stdlib"])):
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if root not in site and inside.parts[0] in ("site-packages", "dist-packages"):
                continue
            if (path.suffix in KINDS or path.name == "METADATA") and path.is_file():
                text = _decoded(path)
                if text:
                    yield str(inside), text


def of_folder(folder: Path, column: str) -> Iterator[tuple[str, str]]:
    """Yield (name, text) of every .txt file and of every row of .jsonl and .parquet files."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.suffix == ".txt":
            yield name, _decoded(path)
        elif path.suffix == ".jsonl":
            with path.open(encoding="utf-8") as lines:
                for number, line in enumerate(lines):
                    yield f"{name}:{number}", json.loads(line)[column] or ""
        elif path.suffix == ".parquet":
            number = 0
            for batch in pq.ParquetFile(path).iter_batches(columns=[column]):
                for value in batch.column(0):
                    yield f"{name}:{number}", value.as_py() or ""
                    number += 1


def documents(files: Iterator[tuple[str, str]], seed: int) -> Iterator[str]:
    """Cut texts at line ends into documents of log-normal length, of `MEAN_CHARS` on average."""
    mu = log(MEAN_CHARS) - SIGMA * SIGMA / 2
    for name, text in files:
        lengths = random.Random(f"{seed}/{name}")
        start = 0
        while start < len(text):
            wanted = start + max(MIN_CHARS, int(lengths.lognormvariate(mu, SIGMA)))
            stop = text.find("\n", wanted) + 1
            if stop == 0 or len(text) - stop < MIN_CHARS:
                stop = len(text)
            if MIN_CHARS <= stop - start <= MAX_CHARS:
                yield text[start:stop]
            start = stop


def environment_digest() -> str:
    """Return a digest of what is installed, so that a corpus is made anew after an upgrade."""
    names = {f"{one.metadata['Name']}=={one.version}" for one in metadata.distributions()}
    return _digest([sysconfig.get_python_version(), *sorted(names)])


def folder_digest(folder: Path, column: str) -> str:
    """Return a digest of the names, sizes and times of a folder's files."""
    stats = [(path, path.stat()) for path in sorted(folder.rglob("*")) if path.is_file()]
    return _digest([column, *(f"{path} {one.st_size} {one.st_mtime_ns}" for path, one in stats)])


def _digest(lines: list[str]) -> str:
    return blake2b("\n".join(lines).encode(), digest_size=8).hexdigest()


def _decoded(path: Path) -> str:
    """Return a file's text, or nothing where it is not UTF-8 or holds zero bytes."""
    try:
        text = path.read_bytes().decode("utf-8")
    except (UnicodeDecodeError, OSError):
        return ""
    return "" if "\0" in text else text
