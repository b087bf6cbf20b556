"""Judge: all evidence -> one verdict per document, with every reason, its margin and its split.

Rules first, then contamination, then the survivor of each duplicate group among those still
standing. A cheap query over stored evidence: no text is read, so a changed threshold costs seconds.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.schema import SCHEMAS
from curate.corpus.shard import Shard, is_media, read_shard
from curate.rules.ruleset import RuleSet, build_rules, readable_columns
from curate.rules.verdict import evaluate, margins
from pipelines.digest import code_digest
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    Workspace,
    check_text_hash,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.canaries import run_canaries
from pipelines.passes.forgotten import FORGOTTEN, forgotten_evidence, read_named
from pipelines.passes.splits import draw_splits
from pipelines.passes.tainted import contaminated, marked, to_drop, wanted
from pipelines.passes.twins import Survival, joined_labels, read_twins, survive
from pipelines.passes.whatif import count_what_if
from pipelines.recipe import Recipe
from pipelines.store import Store

__all__ = ["judge_all", "rules_of", "run"]

_GUARDED_SOURCE = 1000  # documents; smaller sources may lose any share to duplicates


def rules_of(recipe: Recipe) -> RuleSet:
    """Return the recipe's rules, checked against the signals there are.

    Raises:
        InputError: an unknown preset, column or exemption; SQL that is not a row-wise predicate.
    """
    asked = recipe.rules
    return build_rules(
        use=asked.use,
        add=asked.add,
        exempt=asked.exempt,
        override=asked.override,
        on_null=asked.on_null,
        columns=readable_columns(recipe.measure.asked),
        sources=[source.name for source in recipe.sources],
    )


def run(context: Context) -> Manifest:
    """Give every document its verdict."""
    began = time.monotonic()
    recipe, manifests = context.recipe, context.manifests
    rules = rules_of(recipe)
    flown = run_canaries(context, rules)
    asked = recipe.rules.model_dump(mode="json", exclude={"canaries"})
    code = code_digest(__name__)
    settings = {
        "corpus": recipe.name,
        "rules": rules.to_dict(),
        "keep": recipe.deduplicate.keep,
        "scope": recipe.deduplicate.scope,
        "priority": recipe.deduplicate.priority,
        "spared": recipe.deduplicate.exempt,
        "near": _near(manifests["deduplicate"].settings["near"]),
        "rows": manifests["deduplicate"].info["rows"],
        "source_loss": recipe.deduplicate.guardrails.source_loss,
        "contamination": wanted(recipe.decontaminate),
        "split": recipe.split.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    evidence = {
        "documents": manifests["collect"].tables["documents"],
        "signals": manifests["measure"].tables["signals"],
        "duplicates": manifests["deduplicate"].tables["duplicates"],
        "crowds": manifests["deduplicate"].tables["crowds"],
        "shingles": manifests["deduplicate"].tables["shingles"],
        "contamination": manifests["decontaminate"].tables["contamination"],
        "forgotten": forgotten_evidence(context),
    }
    case = part_key(
        code, settings, *(f"{name}:{s.sha256}" for name in sorted(evidence) for s in evidence[name])
    )
    earlier = _earlier(context.store, recipe.name, case)
    job = PartJob(
        part_key(case, [], *(shard.sha256 for shard in earlier)),
        judge_all,
        (evidence, settings, asked, recipe.measure.asked, earlier),
    )
    (parts,) = run_parts(context, "judge", "verdicts", [job])
    tables = tables_of([parts], "verdicts", "demanded", "whatif")
    conserve(
        context.store.storage, "judge", manifests["clean"].tables["documents"], tables["verdicts"]
    )
    manifest = Manifest(
        name="judge",
        settings=settings,
        code=code,
        parents={
            name: manifests[name].fingerprint
            for name in ("measure", "deduplicate", "decontaminate")
        },
        tables=tables,
        counts=parts.counts,
        info={**parts.info, "case": case, "canaries": flown},
    )
    return finish(context, manifest, began)


def _near(asked: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return {name: asked[name] for name in ("threshold", "similarity")} if asked else None


def _earlier(store: Store, corpus: str, case: str) -> tuple[Shard, ...]:
    """Return the verdicts whose held-out documents must stay held out: all earlier versions'.

    When the current version judged this very case, that is what came before *it*: judging the same
    evidence again must find its work done.
    """
    version = store.current(corpus)
    if version is None:
        return ()
    own = version.manifests["judge"]
    judged = store.get_manifest("judge", own)
    skip = own if judged.info["case"] == case else ""
    before: dict[str, tuple[Shard, ...]] = {}
    while True:
        digest = version.manifests["judge"]
        if digest != skip:
            skip = ""  # what came before the first version that judged otherwise all counts
            before[digest] = store.get_manifest("judge", digest).tables["verdicts"]
        if not version.parent:
            return tuple(shard for shards in before.values() for shard in shards)
        version = store.version(corpus, version.parent)


def judge_all(
    workspace: Workspace,
    evidence: Mapping[str, Sequence[Shard]],
    settings: Mapping[str, Any],
    asked: Mapping[str, Any],
    measured: Mapping[str, Any],
    earlier: Sequence[Shard],
) -> Parts:
    """Job: join the evidence and write the verdicts, one shard for each shard of documents."""
    frame = _load(workspace, evidence)
    rules = build_rules(
        use=asked["use"],
        add=asked["add"],
        exempt=asked["exempt"],
        override=asked["override"],
        on_null=asked["on_null"],
        columns=readable_columns(measured),
        sources=[*asked["exempt"], *asked["override"]],
    )
    passed = evaluate(rules.rules, frame, rules.exemptions)
    tainting = settings["contamination"]
    tainted = contaminated(workspace, evidence["contamination"], frame, tainting)
    dropping = to_drop(tainted, tainting)
    standing = _all_true(passed, frame.height)
    for mask in dropping.values():
        standing &= ~mask
    named = read_named(workspace, evidence["forgotten"], frame["doc_id"])
    standing &= ~(named.gone | named.held)
    twins = read_twins(workspace, evidence["duplicates"], evidence["crowds"], frame)
    survival = survive(workspace, evidence, frame, standing, twins, settings)
    kept = standing & ~survival.exact & ~survival.near
    ids = frame["doc_id"]
    reasons = {name: ~passed[name].to_numpy() for name in passed.columns}
    reasons |= {f"contaminated:{name}": mask for name, mask in dropping.items()}
    reasons |= {"duplicate:exact": survival.exact, "duplicate:near": survival.near | named.held}
    reasons |= {FORGOTTEN: named.gone} if evidence["forgotten"] else {}
    _guard_sources(frame["source"], survival.near & standing, settings["source_loss"])
    labels = joined_labels(twins.labels, ids, survival.demanded)
    cluster = ids.gather(labels)
    splits, sticky = draw_splits(workspace.storage, ids, labels, settings, earlier)
    verdicts = pl.DataFrame(
        {
            "doc_id": ids,
            "text_hash": frame["text_hash"],
            "source": frame["source"],
            "kept": pl.Series(kept),
            "reasons": _reasons(reasons, frame.height),
            "kept_id": named.kept_ids(
                _gather_or_null(pl.concat([ids, twins.outside]), survival.kept_by)
            ),
            "cluster_id": cluster,
            "split": splits,
            "margins": _margins(rules, frame),
            "num_bytes": frame["num_bytes"],
        }
    )
    shards, digests = _write(workspace, verdicts, frame["shard"])
    counts = {
        "documents": frame.height,
        "kept": int(kept.sum()),
        "dropped": int((~kept).sum()),
        "sticky_splits": sticky,
        "crowded_unverified": survival.unreached,
    }
    counts |= {f"reason:{name}": int(mask.sum()) for name, mask in reasons.items()}
    counts |= marked(tainted, tainting)
    counts |= {
        f"split:{name}": int((kept & (splits == name).to_numpy()).sum())
        for name in ("train", "validation", "test")
    }
    whatif, dials = count_what_if(workspace, rules, frame, reasons)
    tables = {
        "verdicts": shards,
        "whatif": whatif,
        "demanded": _write_demanded(workspace, pl.concat([ids, twins.outside]), survival),
    }
    return Parts(tables, counts, {"kept": digests, "dials": dials})


def _write_demanded(workspace: Workspace, ids: pl.Series, survival: Survival) -> list[Shard]:
    """Write the edges that were verified on demand, in the order of (twin_id, doc_id)."""
    if not len(survival.demanded):
        return []
    edges = pl.DataFrame(
        {
            "doc_id": ids.gather(survival.demanded[:, 1]),
            "twin_id": ids.gather(survival.demanded[:, 0]),
            "jaccard": survival.jaccard,
        }
    )
    with workspace.writer("demanded") as writer:
        writer.write(edges.sort("twin_id", "doc_id").to_arrow().cast(SCHEMAS["demanded"]))
        return [writer.commit()]


def _load(workspace: Workspace, evidence: Mapping[str, Sequence[Shard]]) -> pl.DataFrame:
    """Join signals with the documents' source, in the order of the shards."""
    frames = []
    pairs = zip(evidence["documents"], evidence["signals"], strict=True)
    for number, (documents, signals) in enumerate(pairs):
        own = ["media_bytes"] if is_media(workspace.storage, documents) else []
        named = read_shard(workspace.storage, documents, ["doc_id", "source", *own])
        table = read_shard(workspace.storage, signals)
        check_text_hash(
            "measure", named["doc_id"].combine_chunks(), table["doc_id"].combine_chunks()
        )
        if own:  # the signal counts the caption's
            place = table.schema.get_field_index("num_bytes")
            table = table.set_column(place, "num_bytes", named["media_bytes"])
        frame = pl.DataFrame(pl.from_arrow(table.append_column("source", named["source"])))
        frames.append(frame.with_columns(pl.lit(number, pl.Int32).alias("shard")))
    return pl.concat(frames, rechunk=True)


def _all_true(passed: pl.DataFrame, height: int) -> np.ndarray:
    standing = np.ones(height, dtype=bool)
    for name in passed.columns:
        standing &= passed[name].to_numpy()
    return standing


def _reasons(reasons: Mapping[str, np.ndarray], height: int) -> pl.Series:
    if not reasons:
        return pl.Series([[]] * height, dtype=pl.List(pl.String))
    flags = np.stack(list(reasons.values()), axis=1)
    offsets = np.zeros(height + 1, dtype=np.int64)
    np.cumsum(flags.sum(axis=1), out=offsets[1:])
    names = pa.array(list(reasons), pa.large_string()).take(pa.array(np.nonzero(flags)[1]))
    listed = pl.from_arrow(pa.LargeListArray.from_arrays(pa.array(offsets), names))
    assert isinstance(listed, pl.Series)
    return listed.alias("reasons")


def _gather_or_null(ids: pl.Series, rows: np.ndarray) -> pl.Series:
    return (
        ids.gather(np.maximum(rows, 0)).set(pl.Series(rows < 0), None)
        if (rows < 0).any()
        else ids.gather(rows)
    )


def _margins(rules: RuleSet, frame: pl.DataFrame) -> pl.Series:
    """Return each document's signed distances to the thresholds, as one JSON object."""
    table = margins(rules.rules, frame)
    if not table.width:
        return pl.Series([None] * frame.height, dtype=pl.String)
    rounded = table.select(pl.all().round(6))
    return rounded.select(pl.struct(pl.all()).struct.json_encode().alias("margins"))["margins"]


def _guard_sources(sources: pl.Series, near: np.ndarray, limit: float | None) -> None:
    if limit is None:
        return
    lost = (
        pl.DataFrame({"source": sources, "near": pl.Series(near)})
        .group_by("source")
        .agg(pl.len().alias("documents"), pl.col("near").sum())
    )
    for name, documents, count in lost.sort("source").iter_rows():
        if documents >= _GUARDED_SOURCE and count > limit * documents:
            raise InputError(
                f"near-duplicates would take {count} of {documents} documents of source "
                f"{name!r}, more than the share "
                f"{limit}; look at `preceptor table CORPUS duplicates`, or set "
                "`deduplicate.guardrails.source_loss`"
            )


def _write(
    workspace: Workspace, verdicts: pl.DataFrame, shard: pl.Series
) -> tuple[list[Shard], list[str]]:
    """Write one verdict shard per document shard, with the digest of what it keeps."""
    written, digests = [], []
    for part in verdicts.with_columns(shard=shard).partition_by(
        "shard", maintain_order=True, include_key=False
    ):
        kept = part.filter("kept")
        digests.append(fingerprint(*kept["doc_id"].to_list(), *kept["split"].to_list()))
        with workspace.writer("verdicts") as writer:
            writer.write(part.to_arrow().cast(SCHEMAS["verdicts"]))
            written.append(writer.commit())
    return written, digests
