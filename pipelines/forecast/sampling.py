"""A small sample of a recipe's input, as files of the same formats, from all over it.

Files are drawn by the hash of their names. A large file of lines gives records from places all over
it: the record *behind* a random byte, since the one that holds the byte is more often a long one. A
compressed or marked-up file can be read from its first byte only and gives its beginning; a Parquet
file gives some of its row groups. Two samples are drawn, and the smaller one is part of the larger.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec

from curate.corpus.identity import fingerprint
from curate.readers.base import InputFile
from curate.readers.registry import reader_for, reader_named
from pipelines.passes.collect import files_of
from pipelines.recipe import Recipe
from pipelines.sections import Source

__all__ = ["Sample", "draw"]

_LINES = {"jsonl", "csv"}  # formats whose records are lines (or nearly so)
_PIECE_BYTES = 4096  # the fewest bytes taken from one place
_MAX_FILES = 64  # large files of a source that are read from
_WHOLE_BYTES = 1 << 18  # smaller files are taken as they are
_PACKED = 3.0  # bytes of text behind a compressed byte, before anything is known
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Where a sample of every source lies, and how much of the source it is.

    Attributes:
        paths: source -> files, as a recipe names them.
        input_bytes: of the sample's files, all sources together.
        total_bytes: of all the recipe's files.
        jobs: parts that `collect` will read the whole input in.
        notes: what could not be sampled as it should.
    """

    paths: dict[str, list[str]]
    input_bytes: int
    total_bytes: int
    jobs: int
    notes: tuple[str, ...]


def draw(recipe: Recipe, folder: Path, sizes: Sequence[int]) -> list[Sample]:
    """Write samples of about so many bytes of text each, the first ones part of the later ones.

    Args:
        recipe: its sources are sampled in proportion to their bytes.
        folder: where copies of parts of files go.
        sizes: bytes, ascending.
    """
    found = {source.name: files_of(source, recipe) for source in recipe.sources}
    weights = [
        _text_bytes(file, source) for source in recipe.sources for file in found[source.name]
    ]
    total_bytes = sum(max(file.size, 0) for files in found.values() for file in files)
    jobs = max(1, round(sum(weights) / recipe.collect.part_bytes))
    samples = []
    for number, size in enumerate(sizes):
        share = min(1.0, size / max(sum(weights), 1.0))
        paths: dict[str, list[str]] = {}
        notes: list[str] = []
        taken = 0
        for source in recipe.sources:
            target = folder / str(number) / source.name
            target.mkdir(parents=True, exist_ok=True)
            files, num_bytes, note = _of_source(source, found[source.name], share, target)
            paths[source.name] = files
            taken += num_bytes
            notes += [f"source {source.name!r}: {note}"] if note else []
        samples.append(
            Sample(
                paths=paths,
                input_bytes=taken,
                total_bytes=total_bytes,
                jobs=jobs,
                notes=tuple(notes),
            )
        )
    return samples


def _text_bytes(file: InputFile, source: Source) -> float:
    packed = reader_for(file.path, source.format)[1] is not None or _is_columnar(file)
    return max(file.size, 0) * (_PACKED if packed else 1.0)


def _is_columnar(file: InputFile) -> bool:
    return file.path.endswith((".parquet", ".arrow", ".feather"))


def _of_source(
    source: Source, files: Sequence[InputFile], share: float, target: Path
) -> tuple[list[str], int, str]:
    """Return a source's sample: its files, their bytes of the input, and what is odd about it."""
    total = sum(max(file.size, 0) for file in files)
    reader = reader_named(source.format) if source.format else None
    if share >= 1 or (reader and (reader.expand or reader.arrange)):
        note = "" if share >= 1 else f"{source.format} is read whole, it cannot be sampled"
        return list(source.paths), total, note
    wanted = share * total
    ranked = sorted(files, key=lambda file: fingerprint(file.path))
    large = [file for file in ranked if file.size > max(_WHOLE_BYTES, wanted / 8)]
    small_bytes = total - sum(file.size for file in large)
    paths, taken = [], 0
    left = share * small_bytes
    for file in ranked:
        if left <= 0:
            break
        if file.size <= max(_WHOLE_BYTES, wanted / 8):
            paths.append(file.uri)
            taken += max(file.size, 0)
            left -= max(file.size, 1)
    chosen = large[:_MAX_FILES]
    each = share * (total - small_bytes) / max(sum(file.size for file in chosen), 1)
    notes = set()
    for number, file in enumerate(chosen):
        path = target / f"{number}-{Path(file.path).name}"
        num_bytes, note = _of_file(file, source, each, path)
        notes |= {note} - {""}
        if num_bytes:
            paths.append(str(path) if path.exists() else file.uri)
            taken += num_bytes
    return paths, taken, "; ".join(sorted(notes))


def _of_file(file: InputFile, source: Source, share: float, path: Path) -> tuple[int, str]:
    """Write a share of a large file; return how many of its bytes that stands for, and a note."""
    reader, compression = reader_for(file.path, source.format)
    wanted = max(1, int(share * file.size))
    with fsspec.open(file.uri, "rb") as stream:
        if compression is None and reader.name in _LINES:
            return _some_lines(stream, file, wanted, path, header=reader.name == "csv"), ""
        if compression is None and reader.name == "parquet":
            return _some_rows(stream, file, wanted, path), ""
        if reader.streams:
            return _beginning(stream, wanted, path), "only the beginnings of large files are read"
    return file.size, f"{reader.name} is read whole, it cannot be sampled"


def _some_lines(
    stream: IO[bytes], file: InputFile, wanted: int, path: Path, *, header: bool
) -> int:
    """Copy the lines behind random places, each once; return the bytes of the input they are."""
    places = random.Random(f"{fingerprint(file.path)} forecast")
    taken = 0
    with path.open("wb") as out:
        first = stream.readline() if header else b""
        out.write(first)
        seen = {0} if header else set[int]()
        tries = 100 + 4 * wanted // _PIECE_BYTES  # a file of few long lines is soon exhausted
        while taken < wanted and (tries := tries - 1):
            for line in _lines_behind(stream, places.randrange(file.size), seen):
                out.write(line)
                taken += len(line)
    return taken


def _lines_behind(stream: IO[bytes], place: int, seen: set[int]) -> Iterator[bytes]:
    """Yield the lines that begin behind a place, a few KB of them; behind the last is the first."""
    stream.seek(place)
    stream.readline()
    taken = 0
    while taken < _PIECE_BYTES:
        start = stream.tell()
        line = stream.readline()
        if not line:
            if not start:
                return
            stream.seek(0)
            continue
        if start in seen:
            return
        seen.add(start)
        taken += len(line)
        yield line if line.endswith(b"\n") else line + b"\n"


def _some_rows(stream: IO[bytes], file: InputFile, wanted: int, path: Path) -> int:
    """Copy some of a Parquet file's row groups, the last one in part."""
    import pyarrow.parquet as pq

    whole = pq.ParquetFile(stream)
    rows = int(whole.metadata.num_rows)
    left = max(1, round(rows * wanted / file.size))
    taken: int = 0
    order = sorted(range(whole.num_row_groups), key=lambda n: fingerprint(file.path, str(n)))
    with pq.ParquetWriter(path, whole.schema_arrow) as writer:
        for group in order:
            if left <= 0:
                break
            table: Any = whole.read_row_group(group).slice(0, left)
            writer.write_table(table)
            left -= int(table.num_rows)
            taken += int(table.num_rows)
    return round(file.size * taken / max(rows, 1))


def _beginning(stream: IO[bytes], wanted: int, path: Path) -> int:
    """Copy the first bytes of a file, cut off wherever that is."""
    taken = 0
    with path.open("wb") as out:
        while taken < wanted and (data := stream.read(min(_CHUNK, wanted - taken))):
            out.write(data)
            taken += len(data)
    return taken
