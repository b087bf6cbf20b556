"""datatrove's `.ds`: raw tokens, `.ds.index` with the ends of documents, `.ds.metadata`.

Layout (huggingface/datatrove, pipeline/tokens/tokenizer.py): uint16 or uint32; uint64 ends in
tokens; three lines of text: `tokenizer|bytes of a token`, tokens, tokens for people.
"""

import functools
from pathlib import Path

import numpy as np

from curate.tokens.exporters.base import Documents, TokenFormat, TokenWriter, Told
from curate.tokens.exporters.files import RolledWriter

__all__ = ["FORMAT"]


def _open(folder: Path, told: Told) -> TokenWriter:
    return RolledWriter(folder, "{:05d}_tokens.ds", functools.partial(_sides, told))


def _sides(told: Told, path: Path, inside: list[Documents]) -> list[str]:
    ends = np.cumsum(np.concatenate([one.lengths for one in inside])).astype("<u8")
    index, metadata = path.with_name(f"{path.name}.index"), path.with_name(f"{path.name}.metadata")
    index.write_bytes(ends.tobytes())
    total = int(ends[-1])
    lines = [f"{told.tokenizer}|{told.dtype.itemsize}", str(total), f"{total / 1e6:.3g} MT"]
    metadata.write_text("\n".join(lines), encoding="utf-8")
    return [index.name, metadata.name]


FORMAT = TokenFormat(
    name="datatrove",
    description="datatrove and nanotron: *.ds with its index and metadata for each split",
    open=_open,
    reads="DatatroveFolderDataset('{folder}', seq_len, token_size=...)",
)
