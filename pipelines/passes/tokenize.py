"""Tokenize: every kept document once, into token shards a trainer can map.

The tokenizer is a fitted artefact: trained once on a byte-weighted sample of the sources' training
documents (never on a mixture), pinned, and used until a refit is asked for. A shard's key holds
its documents, which of them are kept and the spans that are cut from them, so a changed threshold
encodes only the shards it touches, and a new mixture none.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.contamination.thresholds import enough
from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, iter_batches, read_shard
from curate.corpus.storage import Storage
from curate.tokens.cuts import cut_spans
from curate.tokens.shards import token_schema, token_table
from curate.tokens.tokenizer import (
    encode,
    load_tokenizer,
    sample_for_training,
    token_bytes,
    train_bpe,
)
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    add_counts,
    check_text_hash,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.sections import TokenizerSpec

__all__ = ["cut_batches", "document_cuts", "encode_shard", "fit_tokenizer", "run", "shard_cuts"]

_SPANS = pa.schema([SCHEMAS["cuts"].field(n) for n in ("doc_id", "text_hash", "start", "length")])


def run(context: Context) -> Manifest:
    """Fit or load the tokenizer, then encode every kept document."""
    began = time.monotonic()
    cleaned, judged = context.manifests["clean"], context.manifests["judge"]
    code = code_digest(__name__)
    documents, verdicts = cleaned.tables["documents"], judged.tables["verdicts"]
    cuts = _all_cuts(context, code, documents)
    tokenizer = _tokenizer(context, code, documents, verdicts, cuts)
    kept = judged.info["kept"]
    jobs = [
        PartJob(
            part_key(code, {}, shard.sha256, digest, tokenizer["sha256"], *_content(cut)),
            encode_shard,
            (shard, verdict, tokenizer, cut),
        )
        for shard, verdict, digest, cut in zip(documents, verdicts, kept, cuts, strict=True)
    ]
    parts = run_parts(context, "tokenize", "encode", jobs)
    tables = tables_of(parts, "tokens")
    told = {}
    if _cut_spans(context):
        tables["cuts"] = tuple(shard for shard in cuts if shard is not None)
        told = {"cut_documents": [n for n, shard in enumerate(cuts) if shard is not None]}
    counts = add_counts(parts)
    conserve(context.store.storage, "tokenize", tables_of(parts, "kept")["kept"], tables["tokens"])
    assert counts["documents"] == judged.counts["kept"], "every kept document is tokenized"
    manifest = Manifest(
        name="tokenize",
        settings={"tokenizer": context.recipe.tokenize.tokenizer.model_dump(mode="json")},
        code=code,
        parents={name: context.manifests[name].fingerprint for name in _parents(cuts, told)},
        tables=tables,
        counts=counts,
        info={
            "tokenizer": tokenizer,
            "sources": [source.name for source in context.recipe.sources],
            **told,
        },
    )
    return finish(context, manifest, began)


def shard_cuts(manifest: Manifest, num_shards: int) -> list[Shard | None]:
    """Return for each shard of documents what is cut from it, None where there is nothing.

    `deduplicate` tells the repeated lines. Where contaminated spans are cut too, `tokenize` tells
    both together.
    """
    cuts: list[Shard | None] = [None] * num_shards
    found = manifest.tables.get("cuts", ())
    for number, shard in zip(manifest.info.get("cut_documents", ()), found, strict=True):
        cuts[number] = shard
    return cuts


def document_cuts(
    deduplicated: Manifest, tokenized: Manifest, num_shards: int
) -> list[Shard | None]:
    """Return for each shard of documents all that is cut from it: lines and contaminated spans."""
    told = tokenized if "cut_documents" in tokenized.info else deduplicated
    return shard_cuts(told, num_shards)


def _cut_spans(context: Context) -> dict[str, Any]:
    """Return what says which contaminated spans are cut, empty where none are."""
    settings = context.manifests["judge"].settings["contamination"]
    names = sorted(name for name, action in settings["actions"].items() if action == "cut")
    return {"thresholds": settings["thresholds"], "benchmarks": names} if names else {}


def _all_cuts(context: Context, code: str, documents: Sequence[Shard]) -> list[Shard | None]:
    """Return the repeated lines of each shard, or these and its contaminated spans in one list."""
    lines = shard_cuts(context.manifests["deduplicate"], len(documents))
    settings, matched = _cut_spans(context), context.manifests["decontaminate"]
    if not settings or not matched.tables["contamination"]:
        return lines
    jobs = []
    numbers = matched.info["contaminated"]
    for number, found in zip(numbers, matched.tables["contamination"], strict=True):
        line = lines[number]
        key = part_key(code, settings, documents[number].sha256, found.sha256, *_content(line))
        jobs.append(PartJob(key, merge_cuts, (documents[number], found, line, settings)))
    parts = run_parts(context, "tokenize", "cuts", jobs)
    for number, part in zip(numbers, parts, strict=True):
        (merged,) = part.tables["cuts"]
        lines[number] = merged if merged.rows else None
    return lines


def merge_cuts(
    workspace: Workspace,
    shard: Shard,
    contamination: Shard,
    lines: Shard | None,
    settings: Mapping[str, Any],
) -> Parts:
    """Job: the spans that are cut from one shard's documents, ordered, without overlaps."""
    storage = workspace.storage
    rows = pl.DataFrame(pl.from_arrow(read_shard(storage, contamination)))
    rows = rows.filter(
        enough(rows, settings["thresholds"]) & rows["benchmark"].is_in(settings["benchmarks"])
    )
    spans = rows.select("doc_id", "text_hash", "spans").explode("spans").unnest("spans")
    if lines is not None:
        table = pl.DataFrame(pl.from_arrow(read_shard(storage, lines, spans.columns)))
        spans = pl.concat([spans, table])
    ids = pl.DataFrame(pl.from_arrow(read_shard(storage, shard, ["doc_id"])))
    own = ids.with_row_index("row").with_columns(pl.col("row").cast(pl.Int64))
    placed = spans.join(own, on="doc_id", how="left").sort("row", "start", "length")
    assert not placed["row"].null_count(), "evidence belongs to its shard of documents"
    stop = pl.col("start") + pl.col("length")
    reach = stop.cum_max().shift(1).over("row")
    whole = placed.with_columns(piece=(pl.col("start") > reach).fill_null(True).cum_sum())
    merged = whole.group_by("row", "piece", maintain_order=True).agg(
        pl.col("doc_id", "text_hash", "start").first(), length=stop.max() - pl.col("start").first()
    )
    with workspace.writer("cuts", _SPANS) as writer:
        writer.write(merged.select(_SPANS.names).to_arrow().cast(_SPANS))
        return Parts({"cuts": [writer.commit()]})


def _content(*cuts: Shard | None) -> list[str]:
    """Return what the cuts add to a part's key."""
    return [f"cuts:{shard.sha256}" for shard in cuts if shard is not None]


def _parents(cuts: Sequence[Shard | None], told: Mapping[str, Any]) -> list[str]:
    more = [*(["deduplicate"] if _content(*cuts) else []), *(["decontaminate"] if told else [])]
    return ["clean", *more, "judge"]


def _tokenizer(
    context: Context,
    code: str,
    documents: Sequence[Shard],
    verdicts: Sequence[Shard],
    cuts: Sequence[Shard | None],
) -> dict[str, Any]:
    """Return {path, sha256, vocab_size, specials} of the tokenizer in use."""
    spec = context.recipe.tokenize.tokenizer
    if spec.path is not None:
        data = read_tokenizer(spec, context.recipe.base)
        key = part_key(code, "given", fingerprint(data))
        (given,) = run_parts(
            context, "tokenize", "load", [PartJob(key, publish_tokenizer, (data,))]
        )
        return dict(given.info["tokenizer"])
    wanted = {
        "vocab_size": spec.vocab_size,
        "sample_bytes": spec.sample_bytes,
        "seed": context.recipe.seed,
        "limit": context.recipe.limit,  # what was fitted on a few records is for those few
    }
    pins = context.store.pins("tokenize", fingerprint(context.recipe.name, canonical_json(wanted)))
    length = pins.length()
    if length and not context.refit:
        return dict(pins.read(length)["tokenizer"])
    content = [*(shard.sha256 for shard in (*documents, *verdicts)), *_content(*cuts)]
    arguments = (documents, verdicts, wanted, cuts)
    job = PartJob(part_key(code, wanted, *content), fit_tokenizer, arguments)
    (fitted,) = run_parts(context, "tokenize", "fit", [job])
    tokenizer = dict(fitted.info["tokenizer"])
    if context.peek:
        return tokenizer
    if not length or pins.read(length)["tokenizer"] != tokenizer:
        pins.append({"tokenizer": tokenizer}, after=length)
        tokenizer = dict(pins.read(pins.length())["tokenizer"])
    return tokenizer


def read_tokenizer(spec: TokenizerSpec, base: str) -> bytes:
    """Read and check a given tokenizer.json."""
    assert spec.path is not None, "the recipe names a file"
    path = Path(base) / spec.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"tokenize.tokenizer.path: cannot read {spec.path}: {error.strerror}"
        ) from None
    load_tokenizer(data)
    return data


def publish_tokenizer(workspace: Workspace, data: bytes) -> Parts:
    """Job: put a tokenizer.json into the store under its content's name."""
    tokenizer = load_tokenizer(data)
    storage = workspace.storage
    path = storage.temporary(".json")
    path.write_bytes(data)
    import hashlib

    sha256 = hashlib.sha256(data).hexdigest()
    name = f"{workspace.name}/data/{sha256[:32]}.json"
    storage.publish(path, name)
    facts = {
        "path": name,
        "sha256": sha256,
        "vocab_size": tokenizer.vocab_size,
        "specials": dict(tokenizer.specials),
        "token_bytes": fingerprint(token_bytes(tokenizer).astype("<i8").tobytes()),
    }
    return Parts(info={"tokenizer": facts})


def fit_tokenizer(
    workspace: Workspace,
    documents: Sequence[Shard],
    verdicts: Sequence[Shard],
    wanted: Mapping[str, Any],
    cuts: Sequence[Shard | None],
) -> Parts:
    """Job: train byte-level BPE on a byte-weighted sample of the kept training documents."""
    storage = workspace.storage
    columns = ["doc_id", "source", "kept", "split", "num_bytes"]
    judged = pa.concat_tables([read_shard(storage, shard, columns) for shard in verdicts])
    usable = (
        pc.and_(judged["kept"], pc.equal(judged["split"], "train"))
        .combine_chunks()
        .to_numpy(zero_copy_only=False)
    )
    if not usable.any():
        raise InputError(
            "no document is kept for training, so there is nothing to train a tokenizer on; see "
            "the verdicts"
        )
    train = judged.filter(pa.array(usable)).combine_chunks()
    codes = train["source"].combine_chunks().dictionary_encode().indices.to_numpy()
    chosen = sample_for_training(
        train["doc_id"].combine_chunks(),
        train["num_bytes"].to_numpy(),
        codes,
        max_bytes=wanted["sample_bytes"],
        seed=wanted["seed"],
    )
    mask = np.zeros(len(usable), dtype=bool)
    mask[np.flatnonzero(usable)[chosen]] = True

    def texts() -> Any:
        position = 0
        for shard, cut in zip(documents, cuts, strict=True):
            for batch in cut_batches(storage, shard, cut, []):
                here = mask[position : position + batch.num_rows]
                position += batch.num_rows
                if here.any():
                    yield from batch.column("text").filter(pa.array(here)).to_pylist()

    return publish_tokenizer(workspace, train_bpe(texts(), vocab_size=wanted["vocab_size"]))


def cut_batches(
    storage: Storage, shard: Shard, cut: Shard | None, columns: list[str], max_rows: int = 4096
) -> Iterator[Any]:
    """Yield batches of a shard's documents, `text` without the spans to cut, and `columns`.

    Raises:
        IntegrityError: the spans were found in another revision of the texts, or in others.
    """
    if cut is None:
        yield from iter_batches(storage, shard, [*columns, "text"], max_rows)
        return
    spans = read_shard(storage, cut, ["doc_id", "text_hash", "start", "length"]).combine_chunks()
    ids = read_shard(storage, shard, ["doc_id"])["doc_id"].combine_chunks()
    where = pc.index_in(spans["doc_id"].combine_chunks(), value_set=ids)
    if where.null_count:
        raise IntegrityError(f"{cut.path} cuts lines from documents that {shard.path} lacks")
    rows = where.to_numpy().astype(np.int64)
    hashes = spans["text_hash"].combine_chunks()
    starts, lengths = spans["start"].to_numpy(), spans["length"].to_numpy()
    position = low = 0
    for batch in iter_batches(storage, shard, [*columns, "text_hash", "text"], max_rows):
        high = int(np.searchsorted(rows, position + batch.num_rows))
        here = rows[low:high] - position
        found = batch.column("text_hash").take(pa.array(here))
        check_text_hash("a cut", hashes.slice(low, high - low), found)
        texts = cut_spans(batch.column("text"), here, starts[low:high], lengths[low:high])
        position, low = position + batch.num_rows, high
        arrays = [batch.column(name) for name in columns]
        yield pa.record_batch([*arrays, texts], names=[*columns, "text"])


def encode_shard(
    workspace: Workspace,
    shard: Shard,
    verdict: Shard,
    tokenizer: Mapping[str, Any],
    cut: Shard | None = None,
) -> Parts:
    """Job: encode one shard's kept documents."""
    storage = workspace.storage
    data = storage.read(tokenizer["path"])
    assert data is not None, "a pinned tokenizer is in the store"
    model = load_tokenizer(data)
    judged = read_shard(storage, verdict, ["doc_id", "kept", "split"])
    kept = judged["kept"].combine_chunks()
    splits = judged["split"].combine_chunks()
    position = tokens = num_bytes = 0
    kept_schema = pa.schema([pa.field("doc_id", pa.binary(16), nullable=False)])
    with (
        workspace.writer("tokens", token_schema(model.dtype), kind="arrow") as writer,
        workspace.writer("kept", kept_schema) as ids,
    ):
        ids.write(judged.filter(kept).select(["doc_id"]))
        for batch in cut_batches(storage, shard, cut, ["doc_id", "source"], max_rows=1024):
            here = kept.slice(position, batch.num_rows)
            rows = batch.filter(here)
            split = splits.slice(position, batch.num_rows).filter(here)
            position += batch.num_rows
            if not rows.num_rows:
                continue
            texts = rows.column("text")
            values, offsets = encode(model, texts)
            sizes = pc.binary_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
            writer.write(
                token_table(
                    rows.column("doc_id"),
                    rows.column("source"),
                    split,
                    sizes,
                    values=values,
                    offsets=offsets,
                )
            )
            tokens += len(values)
            num_bytes += int(sizes.sum())
        written = writer.commit()
        listed = ids.commit()
    return Parts(
        {"tokens": [written], "kept": [listed]},
        {"documents": written.rows, "tokens": tokens, "bytes": num_bytes},
    )
