"""OLMo's `.npy` and `.csv.gz`: tokens as they lie in memory, and who they belong to.

The `.npy` has no NumPy header: it is mapped as raw uint16 or uint32. Beside it stands a table
without a head, one line a document: start, end (tokens), id, source, place (allenai/dolma, the
tokens command; read by allenai/OLMo-core, `iter_document_indices`).
"""

import gzip
from pathlib import Path

import numpy as np
import polars as pl

from curate.tokens.exporters.base import Documents, TokenFormat, TokenWriter, Told, columns_of
from curate.tokens.exporters.files import RolledWriter

__all__ = ["FORMAT"]


def _open(folder: Path, told: Told) -> TokenWriter:
    del told
    return RolledWriter(folder, "part-{:05d}.npy", _table)


def _table(path: Path, inside: list[Documents]) -> list[str]:
    """Write start, end, id, source and place in the file."""
    told = [columns_of(one) for one in inside]
    lengths = np.concatenate([one["tokens"] for one in told])
    ends = np.cumsum(lengths)
    frame = pl.DataFrame(
        {
            "start": ends - lengths,
            "end": ends,
            "id": [doc_id for one in told for doc_id in one["doc_id"]],
            "src": [source for one in told for source in one["source"].to_pylist()],
            "loc": np.arange(len(lengths)),
        }
    )
    name = path.with_suffix(".csv.gz")
    with name.open("wb") as raw, gzip.GzipFile("", "wb", mtime=0, fileobj=raw) as stream:
        stream.write(frame.write_csv(include_header=False).encode())
    return [name.name]


FORMAT = TokenFormat(
    name="olmo",
    description="OLMo: part-*.npy and part-*.csv.gz for each split",
    open=_open,
    reads="paths: [{folder}/part-*.npy]",
)
