"""A takedown in an order that a crash cannot spoil: find, bury, mask, tell; then perhaps purge.

    find    what goes, and where it stands; a dry run ends here, and nothing has been written
    bury    tombstones in the store's log: from here on every run leaves the documents out
    mask    the next version, made current only if nobody published another meanwhile
    purge   (on request) the bytes out of every file, and old versions withdrawn
    tell    the receipt

Each step finds what the one before it left, so the same command again goes on where it was stopped,
and a second one finds nothing to do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError
from pipelines.checks.records import inherit
from pipelines.corpus import Corpus, open_corpus
from pipelines.forget.exposure import exposures
from pipelines.forget.finding import Finding, find, holdings, near_twins, places, verdicts_of
from pipelines.forget.masking import changed_tables, masked_manifests, texts_of
from pipelines.forget.purging import Purge, mark_for_refit, purge
from pipelines.forget.selecting import Request, select, versions_of
from pipelines.passes.forgotten import FORGOTTEN, Tombstones
from pipelines.passes.purged import note_purged
from pipelines.recipe import _short
from pipelines.runs import runs_in
from pipelines.store import Log, Store, Version, version_fingerprint

__all__ = ["Takedown", "forget", "receipts"]


@dataclass(frozen=True, kw_only=True)
class Takedown:
    """What a takedown found and did.

    Attributes:
        receipt: all of it, as JSON data without any of the texts.
        path: of the receipt in the store, None where nothing had to be done.
        version: the current version afterwards.
        changed: whether anything was written.
    """

    receipt: Mapping[str, Any]
    path: str | None
    version: Version
    changed: bool


@dataclass(kw_only=True)
class _State:
    """What the steps hand on."""

    corpus: Corpus
    request: Request
    finding: Finding
    unknown: list[bytes]
    facts: dict[str, Any] = field(default_factory=dict)


def receipts(store: Store, corpus: str) -> Log:
    """Return the log of a corpus's receipts."""
    return Log(store.storage, f"corpora/{corpus}/receipts")


def forget(
    name: str,
    request: Request,
    *,
    store: Store | str,
    reason: str = "",
    restore_twin: bool = False,
    dry_run: bool = False,
    with_purge: bool = False,
    runs: Sequence[str | Path] = (),
    now: datetime | None = None,
) -> Takedown:
    """Take documents and their exact twins out of a corpus, for good.

    Args:
        name: NAME, and all its versions are searched, or NAME@VERSION, and that one is; the current
            one is masked.
        request: which documents.
        store: a `Store` or its uri.
        reason: why, for the receipt.
        restore_twin: let near twins of the documents come back in the next run.
        dry_run: only find.
        with_purge: delete the bytes from every file of the store too.
        runs: more folders with training runs.
        now: the time for the log (default: this moment).

    Raises:
        InputError: the request names nothing.
    """
    corpus = open_corpus(name, store=store)
    when = (now or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")
    everywhere = [corpus, *(Corpus(corpus.store, v) for v in versions_of(corpus))]
    before = _before(corpus, request)
    asked, unknown, looked_at = select([corpus] if "@" in name else everywhere, request, before)
    reason = reason or next((record["reason"] for record in before), "")
    if not asked:
        raise InputError(_nothing(corpus, request, unknown, len(looked_at)))
    state = _State(
        corpus=corpus,
        request=request,
        finding=find(corpus, asked, look_only=dry_run),
        unknown=unknown,
    )
    paths = runs_in(corpus.store, runs)
    state.facts = _facts(state, reason, when, paths)
    state.facts["looked_at"] = [str(one.version) for one in looked_at]
    if dry_run:
        return Takedown(receipt=state.facts, path=None, version=_current(corpus), changed=False)
    buried = _bury(state, reason, when, restore_twin=restore_twin)
    version, masked = _mask(corpus.store, corpus.version.name, state)
    changed = buried or masked is not None
    receipt = {**state.facts, "version": str(version), "rewritten": masked or {}}
    receipt["near_twins_return"] = restore_twin
    receipt["refit"] = mark_for_refit(corpus)
    if with_purge:
        ids = set(state.finding.documents)
        raw = state.finding.raw
        if corpus.recipe.get("schema", "text") != "text":
            raw |= state.finding.normal  # the media's own hash: no other caption brings it back
        changed |= note_purged(corpus.store, ids, raw, when)
        for other in corpus.store.corpora():
            if other != corpus.version.name:
                _mask(corpus.store, other, state)
        done: Purge = purge(corpus.store, ids, why=reason or "a takedown", when=when)
        receipt["purge"] = done.told()
        changed |= done.changed
        version = _current(corpus)
    receipt["remains"] = _remains(receipt, with_purge=with_purge)
    told = changed or not _is_told(corpus, state.finding)  # a crash may have come before it
    path = _tell(corpus.store, corpus.version.name, receipt) if told else None
    return Takedown(receipt=receipt, path=path, version=version, changed=changed)


def _is_told(corpus: Corpus, finding: Finding) -> bool:
    """Say whether a receipt tells of these documents."""
    wanted = {doc_id.hex() for doc_id in finding.documents}
    return any(
        wanted <= {row["doc_id"] for row in receipt["documents"]}
        for receipt in receipts(corpus.store, corpus.version.name)
    )


def _current(corpus: Corpus) -> Version:
    version = corpus.store.current(corpus.version.name)
    assert version is not None, "a corpus that was opened has a version"
    return version


def _before(corpus: Corpus, request: Request) -> list[dict[str, Any]]:
    """Return the takedowns of this corpus that were asked the same."""
    asked = {"corpus": corpus.version.name, "asked": request.told()}
    return [record for record in corpus.store.tombstones() if asked.items() <= record.items()]


def _nothing(corpus: Corpus, request: Request, unknown: Sequence[bytes], versions: int) -> str:
    total = corpus.manifest("judge").counts["documents"]
    searched = f"the {total:,} documents of {corpus.version}"
    searched += f" and of {versions - 1} more versions" if versions > 1 else ""
    if request.ids is not None:
        return (
            f"none of the {len(unknown):,} ids is one of {searched}; first: {unknown[0].hex()}. "
            "Nothing was changed"
        )
    told = f"--url {_short(request.url)}" if request.url else f"--where {_short(request.where)}"
    return (
        f"{told} names none of {searched}; `preceptor table {corpus.version.name} documents` shows "
        "them. Nothing was changed"
    )


def _facts(state: _State, reason: str, when: str, runs: Sequence[Path]) -> dict[str, Any]:
    """Return what a receipt says of the finding; no word of a text is in it."""
    corpus, finding = state.corpus, state.finding
    store, ids = corpus.store, set(finding.documents)
    current = Corpus(store, _current(corpus))
    verdicts = verdicts_of(current, ids)
    where = places(current, ids)
    rows = {row["doc_id"]: row for row in verdicts.iter_rows(named=True)}
    documents = []
    for doc_id in sorted(ids):
        row = rows.get(doc_id)
        documents.append(
            {
                "doc_id": doc_id.hex(),
                "named": doc_id in finding.asked,
                "source": row["source"] if row else None,
                "was_kept": bool(row and row["kept"]),
                "was_forgotten": bool(row and FORGOTTEN in row["reasons"]),
                **(where.get(doc_id) or {"shard": None, "row": None, "tokens": 0, "plans": {}}),
            }
        )
    exposed = exposures(runs, ids)
    return {
        "corpus": corpus.version.name,
        "asked": state.request.told(),
        "reason": reason,
        "when": when,
        "unknown_ids": [one.hex() for one in state.unknown],
        "version_before": str(current.version),
        "documents": documents,
        "near_twins": near_twins(current, ids),
        "versions": holdings(store, ids),
        "runs": exposed,
        "models_affected": sorted(run["model"] for run in exposed if run.get("model")),
    }


def _bury(state: _State, reason: str, when: str, *, restore_twin: bool) -> bool:
    """Append the takedown's tombstones, unless they are there; return whether any were."""
    store, finding = state.corpus.store, state.finding
    log = store.tombstones()
    near = [row for row in state.facts["near_twins"] if row["spoken_for"]]
    held = sorted([row["doc_id"], row["twin_of"]] for row in near)
    while True:
        records = list(log)
        known = Tombstones.of(records)
        new = {
            doc_id: stone
            for doc_id, stone in finding.documents.items()
            if doc_id not in known.ids
            or not stone.normal <= known.normal
            or not stone.raw <= known.raw
        }
        released = restore_twin and any(spoke in finding.documents for spoke in known.held.values())
        told = _before(state.corpus, state.request)
        if not new and not released and (told or state.request.ids is not None):
            return False
        record = {
            "corpus": state.corpus.version.name,
            "asked": state.request.told(),
            "named": sorted(one.hex() for one in finding.asked),
            "when": when,
            "reason": reason,
            "tombstones": [
                [doc_id.hex(), raw_hash.hex(), sorted(one.hex() for one in stone.normal)]
                for doc_id, stone in sorted(new.items())
                for raw_hash in sorted(stone.raw) or [b""]
            ],
            "refit": [one["artefact"] for one in mark_for_refit(state.corpus)],
            "held": [] if restore_twin else [p for p in held if bytes.fromhex(p[1]) in new],
            "released": sorted(one.hex() for one in finding.documents) if restore_twin else [],
        }
        if log.append(record, after=len(records)):
            return True


def _mask(store: Store, name: str, state: _State) -> tuple[Version, dict[str, int] | None]:
    """Publish a corpus's next version without the documents; None where it needs none."""
    ids = set(state.finding.documents)
    while True:
        version = store.current(name)
        assert version is not None, "a corpus in the list has a version"
        corpus = Corpus(store, version)
        mine = verdicts_of(corpus, ids)
        texts = texts_of(store.storage, [*corpus.shards("raw"), *corpus.shards("documents")], ids)
        if not mine.height:
            return version, None
        new = masked_manifests(corpus, ids, texts)
        digests = {manifest.name: manifest.fingerprint for manifest in new}
        if digests == dict(version.manifests):
            return version, None
        for manifest in new:
            store.put_manifest(manifest)
        inherit(Corpus(store, _next(store, version, digests)), corpus)
        made = store.replace(version, digests)
        if made is not None:
            before = {one: corpus.manifest(one) for one in version.manifests}
            return made, changed_tables(before, new)


def _next(store: Store, version: Version, digests: Mapping[str, str]) -> Version:
    """Return the version that these manifests will be, unless somebody else is first."""
    return replace(
        version,
        number=1 + store.history(version.name)[-1].number,
        fingerprint=version_fingerprint(version.name, digests),
        parent=version.number,
        manifests=digests,
    )


def _remains(receipt: Mapping[str, Any], *, with_purge: bool) -> list[str]:
    """Return what a takedown cannot reach or has left, in sentences."""
    told = ["the files the sources name, outside of the store, as they are"]
    told.append("exports and copies that were made of earlier versions")
    others = [
        f"{row['corpus']}@{row['version']}"
        for row in receipt["versions"]
        if row["is_current"] and row["corpus"] != receipt["corpus"] and row["kept"]
    ]
    if others and not with_purge:
        told.append(f"the documents in {', '.join(others)}, until the next run of each")
    if not with_purge:
        versions = [f"{row['corpus']}@{row['version']}" for row in receipt["versions"]]
        told.append(
            f"the bytes in the files of {', '.join(versions)}; --purge deletes them from the store"
        )
    if receipt["models_affected"]:
        told.append("what the models learnt, and wrote down: nothing here makes a model forget")
    if receipt["refit"]:
        told.append("artefacts fitted on the texts until a run with --refit")
    return told


def _tell(store: Store, name: str, receipt: Mapping[str, Any]) -> str:
    """Leave the receipt in the store and return its path there."""
    log = receipts(store, name)
    while True:
        length = log.length()
        if log.append(receipt, after=length):
            return f"corpora/{name}/receipts/{length + 1:08d}.json"
