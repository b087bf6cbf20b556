"""A token shard: every kept document once, its tokens in one list, its text's size beside it.

Shards hold documents and know nothing of the mixture: a plan refers to them by row. Lengths come
from the list's offsets; nobody ever searches for an end token.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.schema import tagged

__all__ = ["media_schema", "token_lengths", "token_schema", "token_table"]


def token_schema(dtype: Any) -> Any:
    """Return the schema of a token shard whose ids are uint16 or uint32.

    >>> token_schema(np.uint16).field("tokens").type
    LargeListType(large_list<item: uint16 not null>)
    """
    ids = pa.from_numpy_dtype(np.dtype(dtype))
    assert ids in (pa.uint16(), pa.uint32()), f"token ids are uint16 or uint32, not {ids}"
    fields: list[Any] = [
        pa.field("doc_id", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("tokens", pa.large_list(pa.field("item", ids, nullable=False)), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),
    ]
    return tagged(pa.schema(fields), "tokens")


def media_schema(of: Mapping[str, Any], captions: Any = None) -> Any:
    """Return the schema of a shard of images, sounds or, with captions, pairs.

    Args:
        of: `kind` image with `channels` and `size`, or `kind` audio.
        captions: the dtype of their ids, None where there are none.

    >>> media_schema({"kind": "image", "channels": 1, "size": 2}).field("pixels").type
    FixedSizeListType(fixed_size_list<item: uint8 not null>[4])
    """

    def item(dtype: Any) -> Any:
        return pa.field("item", pa.from_numpy_dtype(np.dtype(dtype)), nullable=False)

    fields: list[Any] = [
        pa.field("doc_id", pa.binary(16), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("num_bytes", pa.int64(), nullable=False),  # of the file; 0 after a takedown
        pa.field("units", pa.int64(), nullable=False),  # patches, frames, or 1 pair
    ]
    if of["kind"] == "image":  # channel by channel, row by row
        pixels = pa.list_(item(np.uint8), of["channels"] * of["size"] ** 2)
        fields.append(pa.field("pixels", pixels, nullable=False))
    else:
        fields.append(pa.field("samples", pa.large_list(item(np.int16)), nullable=False))
    if captions is not None:
        fields.append(pa.field("caption", pa.large_list(item(captions)), nullable=False))
    return tagged(pa.schema(fields), "tokens")


def token_table(
    doc_ids: Any,
    sources: Any,
    splits: Any,
    num_bytes: np.ndarray,
    *,
    values: np.ndarray,
    offsets: np.ndarray,
) -> Any:
    """Build the `tokens` table, without copying the tokens.

    Args:
        doc_ids: `binary(16)` array [n].
        sources: string array [n].
        splits: string array [n]: train, validation or test.
        num_bytes: int64 [n], UTF-8 bytes of the text that was encoded.
        values: uint16 or uint32 [total], the documents' ids end to end.
        offsets: int64 [n + 1].
    """
    schema = token_schema(values.dtype)
    assert len(offsets) == len(doc_ids) + 1, "one offset more than documents"
    assert int(offsets[0]) == 0, "offsets start at 0"
    assert int(offsets[-1]) == len(values), "offsets end at the number of tokens"
    tokens = pa.LargeListArray.from_arrays(
        pa.array(offsets, pa.int64()), pa.array(values), type=schema.field("tokens").type
    )
    return pa.table([doc_ids, sources, splits, tokens, pa.array(num_bytes)], schema=schema)


def token_lengths(table: Any) -> np.ndarray:
    """Return int64 [n]: the tokens of every document of a token table, also of a slice.

    A table of something else than text has no `tokens` but an int64 column `units` (patches,
    frames, pairs): these are its lengths.

    >>> token_lengths(pa.table({"units": pa.array([3, 5], pa.int64())})).tolist()
    [3, 5]
    """
    if "tokens" not in table.column_names:
        assert "units" in table.column_names, f"no tokens and no units in {table.column_names}"
        return np.asarray(table.column("units").to_numpy(), dtype=np.int64)
    column: Any = table.column("tokens")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    lengths = [np.diff(chunk.offsets.to_numpy(zero_copy_only=False)) for chunk in chunks]
    return np.concatenate(lengths) if lengths else np.empty(0, dtype=np.int64)
