"""Decode: every kept image or sound once, into columns that a trainer maps.

`pixels` (uint8, channel by channel) or `samples` (int16), and of pairs the ids of the caption. What
the trainer derives (mel energies, patches, crops) is not here: another choice of it decodes
nothing again.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.errors import IntegrityError
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.media.decode import decode_image, decode_sound
from curate.tokens.encoding import Encoder, encode, encoder_of
from curate.tokens.shards import media_schema
from pipelines.passes.base import Parts, Workspace

__all__ = ["decode_shard", "decoded_by"]

_READ_ROWS = 64  # files in memory at a time
_BATCH_BYTES = 32 << 20  # of what they become
_KEPT = pa.schema([pa.field("doc_id", pa.binary(16), nullable=False)])
_SHAPING = {"image": ("size", "channels", "patch", "fit"), "audio": ("sample_rate", "hop")}


def decoded_by(media: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a recipe's `media` that decides what a shard holds."""
    of = media.get("of") or media
    told = {name: of[name] for name in ("kind", *_SHAPING[of["kind"]])}
    return {"of": told, **({"captions": media["caption_tokens"]} if "of" in media else {})}


def decode_shard(
    workspace: Workspace,
    shard: Shard,
    verdict: Shard,
    wanted: Mapping[str, Any],
    tokenizer: Mapping[str, Any] | None,
) -> Parts:
    """Job: decode one shard's kept documents, and encode their captions.

    Args:
        workspace: of the pass `tokenize`.
        shard: documents with media.
        verdict: of the same documents.
        wanted: as `decoded_by` gives it.
        tokenizer: as the manifest tells it; None where captions are not read.
    """
    of = wanted["of"]
    encoder = _encoder(workspace, tokenizer)
    schema = media_schema(of, encoder.tokenizer.dtype if encoder else None)
    judged = read_shard(workspace.storage, verdict, ["doc_id", "kept", "split"])
    num_units = num_bytes = 0
    with (
        workspace.writer("tokens", schema, kind="arrow") as writer,
        workspace.writer("kept", _KEPT) as ids,
    ):
        ids.write(judged.filter(judged["kept"]).select(["doc_id"]))
        for rows, decoded in _kept(workspace, shard, judged, of):
            names = ("doc_id", "source", "split")
            columns = {name: rows.column(name) for name in names}
            columns |= {"num_bytes": rows.column("media_bytes"), **_content(decoded, of, schema)}
            if encoder is not None:
                columns["units"] = pa.array([1] * len(decoded), pa.int64())
                caption = _captions(encoder, rows.column("text"), wanted["captions"])
                columns["caption"] = caption.cast(schema.field("caption").type)
            table = pa.table([columns[name] for name in schema.names], schema=schema)
            num_units += int(np.sum(table["units"].to_numpy()))
            num_bytes += int(np.sum(table["num_bytes"].to_numpy()))
            writer.write(table)
        written, listed = writer.commit(), ids.commit()
    counts = {"documents": written.rows, "tokens": num_units, "bytes": num_bytes}
    info = {}
    if encoder is not None:
        used = {"name": encoder.name, "version": encoder.version, "why": encoder.why}
        info = {"encoder": used}
    return Parts({"tokens": [written], "kept": [listed]}, counts, info)


def _encoder(workspace: Workspace, tokenizer: Mapping[str, Any] | None) -> Encoder | None:
    if tokenizer is None:
        return None
    data = workspace.storage.read(tokenizer["path"])
    assert data is not None, "a pinned tokenizer is in the store"
    return encoder_of(data, tuple(sorted(tokenizer.get("named", {}).items())))


def _kept(
    workspace: Workspace, shard: Shard, judged: Any, of: Mapping[str, Any]
) -> Iterator[tuple[Any, list[np.ndarray]]]:
    """Yield kept rows with their split, and what they become, a bounded number of bytes of it.

    Raises:
        IntegrityError: one cannot be decoded, though `collect` decoded it.
    """
    kept, splits = judged["kept"].combine_chunks(), judged["split"].combine_chunks()
    read = ["doc_id", "source", "text", "media", "media_bytes"]
    position = 0
    for batch in iter_batches(workspace.storage, shard, read, max_rows=_READ_ROWS):
        here = slice(position, position + batch.num_rows)
        position += batch.num_rows
        rows = pa.Table.from_batches([batch]).append_column("split", splits[here])
        rows = rows.filter(kept[here]).combine_chunks()
        first, decoded, size = 0, list[np.ndarray](), 0
        for row, data in enumerate(rows["media"]):
            decoded.append(_numbers(data.as_py(), of, rows["doc_id"][row].as_py()))
            size += decoded[-1].nbytes
            if size >= _BATCH_BYTES:
                yield rows.slice(first, len(decoded)), decoded
                first, decoded, size = row + 1, [], 0
        if decoded:
            yield rows.slice(first, len(decoded)), decoded


def _numbers(data: bytes, of: Mapping[str, Any], doc_id: bytes) -> np.ndarray:
    try:
        if of["kind"] == "image":
            return decode_image(data, of)
        return decode_sound(data, of["sample_rate"])
    except ValueError as error:
        raise IntegrityError(
            f"document {doc_id.hex()} was collected and cannot be decoded any more: {error}"
        ) from None


def _content(decoded: list[np.ndarray], of: Mapping[str, Any], schema: Any) -> dict[str, Any]:
    """Return the columns `units` and `pixels` or `samples`."""
    if of["kind"] == "image":
        kind, units = schema.field("pixels").type, (of["size"] // of["patch"]) ** 2
        flat = pa.array(np.concatenate([pixels.reshape(-1) for pixels in decoded]))
        pixels = pa.FixedSizeListArray.from_arrays(flat, type=kind)
        return {"units": pa.array([units] * len(decoded), pa.int64()), "pixels": pixels}
    ends = np.concatenate([[0], np.cumsum([len(samples) for samples in decoded])])
    samples = pa.LargeListArray.from_arrays(
        pa.array(ends, pa.int64()),
        pa.array(np.concatenate(decoded)),
        type=schema.field("samples").type,
    )
    return {"units": pa.array(-(-np.diff(ends) // of["hop"]), pa.int64()), "samples": samples}


def _captions(encoder: Encoder, texts: Any, most: int) -> Any:
    """Return bos, ids and eos of each caption, at most so many: what is cut keeps its eos."""
    encoded = encode(encoder, texts.combine_chunks())
    lengths = np.diff(encoded.offsets)
    short = np.minimum(lengths, most)
    ends = np.concatenate([[0], np.cumsum(short)])
    within = np.arange(ends[-1]) - np.repeat(ends[:-1], short)
    values = encoded.values[np.repeat(encoded.offsets[:-1], short) + within]
    values[ends[1:] - 1] = encoder.tokenizer.specials["eos"]
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(values))
