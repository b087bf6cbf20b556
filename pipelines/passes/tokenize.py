"""Tokenize: every kept document once, into token shards a trainer can map.

The tokenizer is a fitted artefact: trained once on a byte-weighted sample of the sources' training
documents (never on a mixture), pinned, and used until a refit is asked for. A shard's key holds
its documents, which of them are kept and the spans that are cut from them, so a changed threshold
encodes only the shards it touches, and a new mixture none.

A shard is encoded by the fastest encoder there is, and a thousandth of its documents once more by
`tokenizers`. If any of their ids differ, `tokenizers` encodes the shard. Images and sounds are
decoded instead (`decoding`), and of pairs the captions are encoded.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.identity import canonical_json, fingerprint
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.shard import Shard, read_shard
from curate.kernels.buffers import text_buffers
from curate.media.decode import decoders
from curate.mixture.keyed import keyed_hash
from curate.tokens.encoding import (
    TOKENIZERS,
    Encoder,
    EncoderError,
    batches,
    encode,
    encoder_of,
    first_difference,
    reference,
)
from curate.tokens.shards import token_schema, token_table
from curate.tokens.tokenizer import (
    byte_tokenizer,
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
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.cutting import (
    all_cuts,
    cut_batches,
    cuts_asked,
    cuts_content,
    document_cuts,
    shard_cuts,
)
from pipelines.passes.decoding import decode_shard, decoded_by
from pipelines.sections import TokenizerSpec

__all__ = ["cut_batches", "document_cuts", "encode_shard", "fit_tokenizer", "run", "shard_cuts"]

_TOKEN_BYTES = pa.schema([pa.field("num_bytes", pa.int64(), nullable=False)])  # row n: id n
_COMPARED = 1000  # one document of so many is encoded twice
_BATCH_ROWS, _BATCH_BYTES = 4096, 16 << 20


def run(context: Context) -> Manifest:
    """Fit or load the tokenizer, then encode every kept document."""
    began = time.monotonic()
    cleaned, judged = context.manifests["clean"], context.manifests["judge"]
    code = code_digest(__name__)
    documents, verdicts = cleaned.tables["documents"], judged.tables["verdicts"]
    cuts = all_cuts(context, code, documents)
    media = context.recipe.media
    speaks = media.get("kind") in (None, "pair")
    tokenizer = _tokenizer(context, code, documents, verdicts, cuts) if speaks else None
    kept = judged.info["kept"]
    works = zip(documents, verdicts, kept, cuts, strict=True)
    jobs = [_job(code, media, tokenizer, *work) for work in works]
    before = context.executed
    parts = run_parts(context, "tokenize", "encode", jobs)
    encoders = _encoders(parts) if speaks else []
    if context.executed > before:
        _tell(context, encoders, add_counts(parts))
    tables = tables_of(parts, "tokens")
    if (
        tokenizer is not None and "num_bytes" in tokenizer
    ):  # a pin of an older version does not tell
        tables["token_bytes"] = (Shard.from_dict(tokenizer["num_bytes"]),)
    told = {}
    if cuts_asked(context):
        tables["cuts"] = tuple(shard for shard in cuts if shard is not None)
        told = {"cut_documents": [n for n, shard in enumerate(cuts) if shard is not None]}
    counts = add_counts(parts)
    conserve(context.store.storage, "tokenize", tables_of(parts, "kept")["kept"], tables["tokens"])
    assert counts["documents"] == judged.counts["kept"], "every kept document is tokenized"
    manifest = Manifest(
        name="tokenize",
        settings={
            "tokenizer": context.recipe.tokenize.tokenizer.model_dump(mode="json"),
            **({"media": media} if media else {}),
        },
        code=code,
        parents={name: context.manifests[name].fingerprint for name in _parents(cuts, told)},
        tables=tables,
        counts=counts,
        info={
            "tokenizer": tokenizer,
            "sources": [source.name for source in context.recipe.sources],
            "encoders": encoders,
            **({"media": media} if media else {}),
            **told,
        },
    )
    return finish(context, manifest, began)


def _job(
    code: str,
    media: Mapping[str, Any],
    tokenizer: Mapping[str, Any] | None,
    shard: Shard,
    verdict: Shard,
    digest: str,
    cut: Shard | None,
) -> PartJob:
    """Return the job on a shard of documents: to encode its texts, or to decode its media."""
    if not media:
        assert tokenizer is not None, "texts are encoded"
        content = [shard.sha256, digest, *_identity(tokenizer), *cuts_content(cut)]
        return PartJob(part_key(code, {}, *content), encode_shard, (shard, verdict, tokenizer, cut))
    wanted = decoded_by(media)
    settings = {**wanted, "decoders": decoders(wanted["of"]["kind"])}
    identity = [] if tokenizer is None else _identity(tokenizer)
    key = part_key(code, settings, shard.sha256, digest, *identity)
    return PartJob(key, decode_shard, (shard, verdict, wanted, tokenizer))


def _encoders(parts: Sequence[Parts]) -> list[dict[str, Any]]:
    """Return which encoders gave the parts their ids: name, version, parts, and why not faster."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for used in (part.info["encoder"] for part in parts):
        # The reason is the first part's: it may name a document.
        one = found.setdefault((used["name"], used["version"]), {**used, "parts": 0})
        one["parts"] += 1
    return [found[key] for key in sorted(found)]


def _tell(
    context: Context, encoders: Sequence[Mapping[str, Any]], counts: Mapping[str, int]
) -> None:
    """Say what a person should know about the encoding."""
    total = sum(used["parts"] for used in encoders)
    for used in encoders:
        if used["why"]:
            which = "all parts" if used["parts"] == total else f"{used['parts']} of {total} parts"
            told = f"encoded {which} with {used['name']}, which is slower: {used['why']}"
            context.note("tokenize", told)
    if counts.get("torn"):
        told = (
            f"documents encoded in pieces, being too long for one: {counts['torn']:,}; it may show "
            "in the ids where the pieces meet"
        )
        context.note("tokenize", told)


def _identity(tokenizer: Mapping[str, Any]) -> list[str]:
    """Return what a tokenizer adds to a part's key."""
    named = tokenizer.get("named")
    return [tokenizer["sha256"], *([canonical_json(named).decode()] if named else [])]


def _parents(cuts: Sequence[Shard | None], told: Mapping[str, Any]) -> list[str]:
    more = [*(["deduplicate"] if cuts_content(*cuts) else []), *(["decontaminate"] if told else [])]
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
    if spec.path is not None or spec.bytes:
        data = byte_tokenizer() if spec.bytes else read_tokenizer(spec, context.recipe.base)
        named = _named(spec)
        key = part_key(code, {"given": named}, fingerprint(data))
        job = PartJob(key, publish_tokenizer, (data, named))
        (given,) = run_parts(context, "tokenize", "load", [job])
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
    content = [*(shard.sha256 for shard in (*documents, *verdicts)), *cuts_content(*cuts)]
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


def _named(spec: TokenizerSpec) -> dict[str, str]:
    return {str(name): text for name, text in (spec.specials or {}).items()}


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
    load_tokenizer(data, _named(spec))
    return data


def publish_tokenizer(
    workspace: Workspace, data: bytes, named: Mapping[str, str] | None = None
) -> Parts:
    """Job: put a tokenizer.json into the store, and the bytes of text that each id stands for."""
    tokenizer = load_tokenizer(data, named)
    sizes = token_bytes(tokenizer)
    with workspace.writer("token_bytes", _TOKEN_BYTES, kind="arrow") as writer:
        writer.write(pa.table([pa.array(sizes)], schema=_TOKEN_BYTES))
        written = writer.commit()
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
        "token_bytes": fingerprint(sizes.astype("<i8").tobytes()),
        "num_bytes": written.to_dict(),
        **({"named": dict(named)} if named else {}),
    }
    return Parts({"token_bytes": [written]}, info={"tokenizer": facts})


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


def encode_shard(
    workspace: Workspace,
    shard: Shard,
    verdict: Shard,
    tokenizer: Mapping[str, Any],
    cut: Shard | None = None,
) -> Parts:
    """Job: encode one shard's kept documents."""
    data = workspace.storage.read(tokenizer["path"])
    assert data is not None, "a pinned tokenizer is in the store"
    encoder = encoder_of(data, tuple(sorted(tokenizer.get("named", {}).items())))
    try:
        return _encode_shard(workspace, shard, verdict, encoder, cut)
    except EncoderError as error:
        slow = replace(reference(encoder.tokenizer), why=str(error))
        return _encode_shard(workspace, shard, verdict, slow, cut)


def _encode_shard(
    workspace: Workspace, shard: Shard, verdict: Shard, encoder: Encoder, cut: Shard | None
) -> Parts:
    """Encode with one encoder.

    Raises:
        EncoderError: it gave up, or `tokenizers` gives other ids for a document.
    """
    judged = read_shard(workspace.storage, verdict, ["doc_id", "kept", "split"])
    kept = judged["kept"].combine_chunks()
    splits = judged["split"].combine_chunks()
    compared = _compared(judged["doc_id"].combine_chunks(), kept, encoder)
    position = tokens = num_bytes = torn = aside = 0
    kept_schema = pa.schema([pa.field("doc_id", pa.binary(16), nullable=False)])
    with (
        workspace.writer("tokens", token_schema(encoder.tokenizer.dtype), kind="arrow") as writer,
        workspace.writer("kept", kept_schema) as ids,
    ):
        ids.write(judged.filter(kept).select(["doc_id"]))
        for batch in cut_batches(
            workspace.storage, shard, cut, ["doc_id", "source"], max_rows=_BATCH_ROWS
        ):
            here = slice(position, position + batch.num_rows)
            position += batch.num_rows
            mask = kept[here]
            whole = mask.true_count == batch.num_rows
            rows = batch if whole else batch.filter(mask)
            split = splits[here] if whole else splits[here].filter(mask)
            chosen = compared[here][mask.to_numpy(zero_copy_only=False)]
            for start, stop in batches(text_buffers(rows.column("text"))[1], _BATCH_BYTES):
                some = rows.slice(start, stop - start)
                texts = some.column("text")
                encoded = encode(encoder, texts)
                twice = np.flatnonzero(chosen[start:stop])
                row = first_difference(encoder, texts, encoded, twice)
                if row is not None:
                    wrong = some.column("doc_id")[row].as_py().hex()
                    raise EncoderError(
                        f"{encoder.name} gives other ids than tokenizers for document {wrong}"
                    )
                sizes = np.diff(text_buffers(texts)[1])
                writer.write(
                    token_table(
                        some.column("doc_id"),
                        some.column("source"),
                        split.slice(start, stop - start),
                        sizes,
                        values=encoded.values,
                        offsets=encoded.offsets,
                    )
                )
                tokens += len(encoded.values)
                num_bytes += int(sizes.sum())
                torn += encoded.torn
                aside += encoded.aside
        written = writer.commit()
        listed = ids.commit()
    used = {"name": encoder.name, "version": encoder.version, "why": encoder.why}
    counts = {"documents": written.rows, "tokens": tokens, "bytes": num_bytes}
    counts |= {"torn": torn, "aside": aside}
    return Parts(
        {"tokens": [written], "kept": [listed]},
        {**counts, "compared": int(compared.sum())},
        {"encoder": used},
    )


def _compared(doc_ids: Any, kept: Any, encoder: Encoder) -> np.ndarray:
    """Choose kept documents to encode twice, by a hash: a thousandth, at least one; bool [n]."""
    here = kept.to_numpy(zero_copy_only=False).astype(bool)
    if encoder.name == TOKENIZERS or not here.any():
        return np.zeros(len(here), dtype=bool)
    hashes = keyed_hash(doc_ids, 0, "encoder")
    mask = here & (hashes % np.uint64(_COMPARED) == 0)
    if not mask.any():
        mask[np.flatnonzero(here)[np.argmin(hashes[here])]] = True
    return np.asarray(mask)
