"""Clean: documents -> documents, a new revision of every text; nobody is dropped here.

A text that no step changes keeps its hash. A shard without a change is the collected shard, and
one in which little is changed is a file with that little, which lies over it. The captions of a
corpus of media are cleaned like texts; its bytes are neither read nor written again.
"""

import itertools
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate import cleaning
from curate.corpus.identity import ID_BYTES, content_hash, ids_to_numpy, media_text_hash
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Patch, Shard, ShardWriter, is_media, iter_batches
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    Parts,
    PerShard,
    Workspace,
    add_counts,
    finish,
    run_parts,
    tables_of,
)
from pipelines.passes.modules import submodules

if TYPE_CHECKING:
    from curate.cleaning.clean import Cleaned

__all__ = ["clean_shard", "run"]

_MOST_OVER = 0.25  # of a shard's text; where more is revised, the shard is written anew
_REVISED = ("text", "text_hash", "url", "meta")


def run(context: Context) -> Manifest:
    """Clean every shard of documents."""
    began = time.monotonic()
    collected = context.manifests["collect"]
    settings = context.recipe.clean.revisions
    code = code_digest(__name__, *submodules(cleaning))
    stage = PerShard(
        name="clean", code=code, settings=settings, function=clean_shard, arguments=(settings,)
    )
    jobs = [stage.job(shard) for shard in collected.tables["documents"]]
    parts = run_parts(context, "clean", "revise", jobs, context.followers)
    tables = tables_of(parts, "documents", "revisions")
    conserve(context.store.storage, "clean", collected.tables["documents"], tables["documents"])
    manifest = Manifest(
        name="clean",
        settings=settings,
        code=code,
        parents={"collect": collected.fingerprint},
        tables=tables,
        counts=add_counts(parts),
    )
    return finish(context, manifest, began)


def clean_shard(workspace: Workspace, shard: Shard, settings: Mapping[str, Any]) -> Parts:
    """Job: write one shard's next revision, and what was done to whom.

    Counts: `documents`; `documents_changed`; `documents_emptied`, which had text and have none now
    (they stay, as empty texts); `revised:STEP`, documents whose text a step changed;
    `revised:STEP:KIND`, what it counted of that kind; and `hidden:FIELD`, documents in whose
    address or meta data something was hidden.
    """
    from curate.cleaning.clean import clean

    counts = {"documents": shard.rows, "documents_changed": 0, "documents_emptied": 0}
    patches: list[Any] = []
    touched = {"text", "text_hash"}
    revised: list[Any] = []
    row = text_bytes = 0
    media = is_media(workspace.storage, shard)
    read = ["doc_id", "source", *_REVISED, "media_hash"] if media else None
    with workspace.writer("revisions") as revisions:
        for batch in iter_batches(workspace.storage, shard, read):
            cleaned = clean(batch.column("text"), settings, batch.column("source"))
            fields = _hidden_fields(batch, settings["redact"], counts)
            touched |= fields.keys()
            if cleaned.changed.any():
                fields |= _revised(batch, cleaned, counts)
                revisions.write(_revisions(batch, fields["text_hash"], cleaned, counts))
            patches += _patch(batch, fields, cleaned.changed, row)
            if workspace.held is not None:
                arrays = [fields.get(n, batch[n]) for n in batch.schema.names]
                revised.append(pa.record_batch(arrays, names=batch.schema.names))
            row += batch.num_rows
            text_bytes += int(_sizes(batch.column("text")).sum())
        tables = {"revisions": [revisions.commit()]} if revisions.rows else {}
    documents = shard
    if patches:
        table = pa.concat_tables(patches).combine_chunks()
        columns = {name: table[name].chunk(0) for name in _REVISED if name in touched}
        documents = _published(
            workspace, shard, Patch(table["row"].to_numpy(), columns), None if media else text_bytes
        )
    if workspace.held is not None:
        workspace.held.shard, workspace.held.batches = documents, revised
    return Parts({"documents": [documents], **tables}, counts)


def _patch(batch: Any, fields: Mapping[str, Any], changed: np.ndarray, first: int) -> list[Any]:
    """Return the rows of a batch in which anything is different, [] or one table with `row`."""
    different = changed.copy()
    for name in fields.keys() - {"text", "text_hash"}:
        before, after = (pl.Series(one).cast(pl.String) for one in (batch[name], fields[name]))
        different |= before.ne_missing(after).to_numpy()
    rows = np.flatnonzero(different)
    if not len(rows):
        return []
    at = pa.array(rows)
    columns = {n: (fields[n] if n in fields else batch[n]).take(at) for n in _REVISED}
    return [pa.table({"row": pa.array(rows + first), **columns})]


def _published(workspace: Workspace, shard: Shard, patch: Patch, text_bytes: int | None) -> Shard:
    """Publish the revision: a few rows over the collected shard, or all of it anew.

    None `text_bytes`: its media is not written again, however many captions change.
    """
    storage, size = workspace.storage, sum(column.nbytes for column in patch.columns.values())
    if text_bytes is None or size <= _MOST_OVER * text_bytes:
        return ShardWriter.over(storage, f"{workspace.name}/data", "documents", shard, patch)
    row = 0
    with workspace.writer("documents") as writer:
        for batch in iter_batches(storage, shard):
            writer.write(patch.applied(batch, row))
            row += batch.num_rows
        return writer.commit()


def _hidden_fields(
    batch: Any, setting: Mapping[str, Any] | None, counts: dict[str, int]
) -> dict[str, Any]:
    """Return the columns beside the text from which something has to be hidden."""
    if setting is None:
        return {}
    from curate.cleaning.fields import FIELDS, hide_field

    found = {}
    sources = pl.Series(batch.column("source")).cast(pl.String)
    for name in FIELDS:
        before = pl.Series(batch.column(name)).cast(pl.String)
        after = hide_field(name, before, setting, sources)
        changed = int(before.ne_missing(after).sum())
        if changed:
            counts[f"hidden:{name}"] = counts.get(f"hidden:{name}", 0) + changed
            found[name] = after.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(pa.string())
    return found


def _revised(batch: Any, cleaned: "Cleaned", counts: dict[str, int]) -> dict[str, Any]:
    """Return the new texts of a batch, and the hashes of those that are new."""
    rows = np.flatnonzero(cleaned.changed)
    texts = cleaned.texts.take(pa.array(rows))
    hashes = ids_to_numpy(batch.column("text_hash")).copy()
    if "media_hash" in batch.schema.names:
        media = batch.column("media_hash").take(pa.array(rows)).to_pylist()
        new = b"".join(map(media_text_hash, media, _utf8(texts)))
    else:
        new = b"".join(content_hash(text) for text in _utf8(texts))
    hashes[rows] = np.frombuffer(new, dtype=hashes.dtype).reshape(-1, 2)
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(ID_BYTES), len(hashes), [None, pa.py_buffer(hashes)]
    )
    had_text = batch.column("text").take(pa.array(rows))
    counts["documents_changed"] += len(rows)
    counts["documents_emptied"] += int((_sizes(had_text) > 0)[_sizes(texts) == 0].sum())
    return {"text": cleaned.texts, "text_hash": column}


def _revisions(batch: Any, hashes: Any, cleaned: "Cleaned", counts: dict[str, int]) -> Any:
    """Return the rows of `revisions`, in the order of the documents and then of the steps."""
    steps: dict[str, np.ndarray] = {}
    for one in cleaned.revisions:
        if one.kind is not None:
            name = f"revised:{one.step}:{one.kind}"
            counts[name] = counts.get(name, 0) + int(one.counts.sum())
        steps[one.step] = np.union1d(steps.get(one.step, np.zeros(0, np.int64)), one.rows)
    for step, changed in steps.items():
        counts[f"revised:{step}"] = counts.get(f"revised:{step}", 0) + len(changed)
    rows = np.concatenate([one.rows for one in cleaned.revisions])
    order = np.argsort(rows, kind="stable")
    which = np.repeat(np.arange(len(cleaned.revisions)), [len(o.rows) for o in cleaned.revisions])
    named = {
        "step": pa.array([one.step for one in cleaned.revisions], pa.string()),
        "kind": pa.array([one.kind for one in cleaned.revisions], pa.string()),
    }
    at, of = pa.array(rows[order]), pa.array(which[order])
    columns = {"doc_id": batch.column("doc_id").take(at), "text_hash": hashes.take(at)}
    columns |= {name: values.take(of) for name, values in named.items()}
    columns["count"] = pa.array(np.concatenate([o.counts for o in cleaned.revisions])[order])
    return pa.table(columns).cast(SCHEMAS["revisions"])


def _sizes(texts: Any) -> np.ndarray:
    """Return the UTF-8 bytes of each text, int64 [n]."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int64)
    return np.diff(offsets[texts.offset : texts.offset + len(texts) + 1])


def _utf8(texts: Any) -> Iterator[memoryview]:
    """Yield each text's bytes without making Python strings."""
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int64)[texts.offset :]
    data = memoryview(texts.buffers()[2] or b"")
    for start, stop in itertools.pairwise(ends[: len(texts) + 1].tolist()):
        yield data[start:stop]
