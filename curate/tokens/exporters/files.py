"""Formats that cut a split into files of so many tokens: one open file, and what ended in it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curate.tokens.exporters.base import Documents, pieces

__all__ = ["FILE_TOKENS", "RolledWriter"]

FILE_TOKENS = 1 << 30  # 2 GB of uint16: few files, and none that is awkward to move

Sidecars = Callable[[Path, list[Documents]], list[str]]


class RolledWriter:
    """Writes raw little-endian tokens into numbered files, and calls `finish` for each.

    Args:
        folder: where.
        pattern: name of a file, with one number, such as `part-{:05d}.npy`.
        finish: (the file, its documents without their tokens) -> names of the files beside it.
        file_tokens: a file is full when the next document would make it longer.
    """

    def __init__(
        self, folder: Path, pattern: str, finish: Sidecars, file_tokens: int | None = None
    ) -> None:
        self._folder, self._pattern, self._finish = folder, pattern, finish
        self._size = file_tokens or FILE_TOKENS
        self._stream: Any = None
        self._room = self._size
        self._inside: list[Documents] = []
        self._names: list[str] = []
        self._number = 0

    @property
    def _path(self) -> Path:
        return self._folder / self._pattern.format(self._number)

    def write(self, documents: Documents) -> None:
        """Append documents, in as many files as they fill."""
        for part, full in pieces(documents, self._room, self._size):
            if len(part.doc_ids):
                if self._stream is None:
                    self._stream = self._path.open("wb")
                data = part.values.astype(part.values.dtype.newbyteorder("<"), copy=False)
                np.ascontiguousarray(data).tofile(self._stream)
                self._room -= len(part.values)
                self._inside.append(
                    Documents(
                        doc_ids=part.doc_ids,
                        sources=part.sources,
                        values=part.values[:0],
                        offsets=part.offsets,
                    )
                )
            if full:
                self._roll()

    def _roll(self) -> None:
        if self._stream is not None:
            self._stream.close()
            self._names += [self._path.name, *self._finish(self._path, self._inside)]
            self._number += 1
        self._stream, self._inside, self._room = None, [], self._size

    def close(self) -> list[str]:
        """Finish the last file."""
        self._roll()
        return self._names
