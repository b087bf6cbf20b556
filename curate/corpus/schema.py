"""The tables of a corpus, as Arrow schemas; a table that departs from its schema is refused.

Evidence tables are Parquet (zstd); token shards and pack plans are Arrow IPC, uncompressed, so
that a trainer can map them. Each file carries the format's version and its table's name.
"""

from typing import Any

import pyarrow as pa

from curate.corpus.errors import IntegrityError

__all__ = [
    "FORMAT_VERSION",
    "MEDIA_DOCUMENTS",
    "SCHEMAS",
    "SPAN",
    "check_format",
    "describe",
    "schema_of",
    "tagged",
]

FORMAT_VERSION = 1
_FORMAT_KEY = b"preceptor.format"
_TABLE_KEY = b"preceptor.table"

_ID = pa.binary(16)


def _required(name: str, dtype: Any) -> Any:
    return pa.field(name, dtype, nullable=False)


SPAN = pa.struct(
    [
        _required("shard", pa.int32()),  # ordinal of the token shard in the manifest's order
        _required("document", pa.int32()),  # row inside that shard
        _required("start", pa.int64()),  # first token, in tokens of that document
        _required("length", pa.int32()),  # tokens
        _required("source", pa.int16()),  # code of the source, in the recipe's order
    ]
)

PIECE = pa.struct([_required("start", pa.int64()), _required("length", pa.int64())])

SCHEMAS: dict[str, Any] = {
    "documents": pa.schema(
        [
            _required("doc_id", _ID),
            _required("source", pa.string()),
            pa.field("key", pa.string()),
            _required("text", pa.large_string()),
            pa.field("url", pa.string()),
            pa.field("license", pa.string()),
            pa.field("timestamp", pa.string()),  # ISO 8601 in UTC
            _required("path", pa.string()),
            _required("position", pa.int64()),
            pa.field("meta", pa.string()),
            _required("raw_hash", _ID),
            _required("text_hash", _ID),
        ]
    ),
    "quarantine": pa.schema(
        [
            _required("source", pa.string()),
            _required("uri", pa.string()),
            _required("offset", pa.int64()),
            _required("reason", pa.string()),
            _required("detail", pa.string()),
        ]
    ),
    "revisions": pa.schema(  # one row per document, step and kind that changed its text
        [
            _required("doc_id", _ID),
            _required("text_hash", _ID),  # of the cleaned text
            _required("step", pa.string()),
            pa.field("kind", pa.string()),  # such as `email`; null where a step has no kinds
            _required("count", pa.int64()),  # characters, lines or matches, as the step counts
        ]
    ),
    "duplicates": pa.schema(
        [
            _required("doc_id", _ID),
            _required("twin_id", _ID),
            _required("kind", pa.string()),
            _required("jaccard", pa.float64()),
            _required("cluster_id", _ID),
            _required("cluster_size", pa.int64()),
            pa.field("twin_corpus", pa.string()),  # null: the twin is in this corpus
        ]
    ),
    "demanded": pa.schema(
        [
            _required("doc_id", _ID),
            _required("twin_id", _ID),  # the more wanted of the two
            _required("jaccard", pa.float64()),
        ]
    ),
    "contamination": pa.schema(
        [
            _required("doc_id", _ID),
            _required("text_hash", _ID),
            _required("benchmark", pa.string()),
            _required("item", pa.string()),
            _required("method", pa.string()),  # ngram, llama3, decon, or whole
            _required("overlap", pa.float64()),
            _required("strictness", pa.float64()),  # how far above the threshold it must be
            _required("span_start", pa.int64()),  # in UTF-8 bytes of the cleaned text
            _required("span_length", pa.int64()),
            _required("spans", pa.list_(PIECE)),  # the matched pieces of that span
        ]
    ),
    "lines": pa.schema(  # that stand in too many documents
        [
            _required("line", pa.binary(8)),  # hash of its words
            _required("documents", pa.int64()),  # that have it
            _required("groups", pa.int64()),  # the same, all documents of a cluster being one
            pa.field("text", pa.large_string()),  # an example; null where nobody loses it
        ]
    ),
    "cuts": pa.schema(  # one row per occurrence, in the order of the documents
        [
            _required("doc_id", _ID),
            _required("text_hash", _ID),
            _required("start", pa.int64()),  # in UTF-8 bytes of the cleaned text
            _required("length", pa.int64()),
            _required("line", pa.binary(8)),
        ]
    ),
    "verdicts": pa.schema(
        [
            _required("doc_id", _ID),
            _required("text_hash", _ID),
            _required("source", pa.string()),
            _required("kept", pa.bool_()),
            _required("reasons", pa.list_(pa.string())),
            pa.field("kept_id", _ID),
            _required("cluster_id", _ID),
            _required("split", pa.string()),
            pa.field("margins", pa.string()),
            _required("num_bytes", pa.int64()),
        ]
    ),
    "whatif": pa.schema(  # documents that one threshold decides, by the cell of their value
        [
            _required("reason", pa.string()),
            _required("column", pa.string()),
            _required("source", pa.string()),
            _required("cell", pa.int32()),  # see `pipelines.passes.whatif`
            _required("documents", pa.int64()),
            _required("num_bytes", pa.int64()),
        ]
    ),
    "draws": pa.schema(  # one row per document and phase that draws it
        [
            _required("doc_id", _ID),
            _required("phase", pa.int16()),  # 0 where there are no phases
            _required("domain", pa.string()),
            _required("copies", pa.int32()),  # 1 or more
            _required("tokens", pa.int64()),
        ]
    ),
    "held_out": pa.schema(  # validation and test documents whose loss is measured
        [
            _required("doc_id", _ID),
            _required("split", pa.string()),
            _required("source", pa.string()),
        ]
    ),
    "plan": pa.schema([_required("spans", pa.list_(SPAN))]),
    "feedback": pa.schema(  # one row per step and document; written by the trainer, beside a run
        [
            _required("run", pa.string()),
            _required("corpus", pa.string()),  # NAME@VERSION
            _required("mixture", pa.string()),  # first 16 digits of the digest of the run's plans
            _required("step", pa.int32()),  # from 1
            _required("source", pa.string()),
            _required("doc_id", _ID),
            _required("tokens", pa.int32()),  # targets whose loss was counted
            _required("bytes", pa.int32()),  # of text of those targets
            _required("loss_sum", pa.float64()),  # nats
            _required("times_seen", pa.int32()),  # rows that held the document, up to this step
        ]
    ),
}

#: `documents` of a corpus of images, sounds or pairs; `text` is the caption, "" without one.
MEDIA_DOCUMENTS = pa.schema(
    [
        *SCHEMAS["documents"],
        _required("media", pa.large_binary()),  # as it was collected; empty after a takedown
        _required("media_hash", _ID),  # content_hash of it, and stays
        _required("media_bytes", pa.int64()),  # its size; 0 after a takedown
    ]
)


def tagged(schema: Any, table: str) -> Any:
    """Return the schema with the format's version and the table's name in its metadata."""
    metadata = dict(schema.metadata or {})
    metadata[_FORMAT_KEY] = str(FORMAT_VERSION).encode()
    metadata[_TABLE_KEY] = table.encode()
    return schema.with_metadata(metadata)


def schema_of(table: str) -> Any:
    """Return the tagged schema of a named table."""
    return tagged(SCHEMAS[table], table)


def check_format(schema: Any, where: str) -> None:
    """Refuse a file whose format version this code does not know.

    Raises:
        IntegrityError: the version is missing or newer.
    """
    found = (schema.metadata or {}).get(_FORMAT_KEY)
    if found != str(FORMAT_VERSION).encode():
        text = found.decode(errors="replace") if found else "none"
        raise IntegrityError(
            f"{where} has format version {text}, this Preceptor reads {FORMAT_VERSION}; "
            "install the version that wrote it, or run the recipe again into a new store"
        )


def describe(schema: Any) -> list[list[str]]:
    """Return [[name, type], ...] for a manifest."""
    return [[field.name, str(field.type)] for field in schema]
