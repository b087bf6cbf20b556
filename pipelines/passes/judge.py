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
from curate.corpus.shard import Shard, read_shard
from curate.dedup.survivors import survivors
from curate.rules.order import parse_order
from curate.rules.ruleset import RuleSet, build_rules
from curate.rules.verdict import evaluate, margins
from curate.signals.registry import available_columns
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
from pipelines.passes.splits import draw_splits
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
        on_null=asked.on_null,
        columns=_columns(),
        sources=[source.name for source in recipe.sources],
    )


def _columns() -> dict[str, Any]:
    return {**available_columns(), "source": pl.String()}


def run(context: Context) -> Manifest:
    """Give every document its verdict."""
    began = time.monotonic()
    recipe, manifests = context.recipe, context.manifests
    rules = rules_of(recipe)
    code = code_digest(__name__)
    ngram = recipe.decontaminate.method.ngram
    settings = {
        "corpus": recipe.name,
        "rules": rules.to_dict(),
        "keep": recipe.deduplicate.keep,
        "source_loss": recipe.deduplicate.guardrails.source_loss,
        "contamination": {"overlap": ngram.overlap, "action": recipe.decontaminate.action},
        "split": recipe.split.model_dump(mode="json"),
        "seed": recipe.seed,
    }
    evidence = {
        "documents": manifests["collect"].tables["documents"],
        "signals": manifests["measure"].tables["signals"],
        "duplicates": manifests["deduplicate"].tables["duplicates"],
        "contamination": manifests["decontaminate"].tables["contamination"],
    }
    case = part_key(
        code, settings, *(f"{name}:{s.sha256}" for name in sorted(evidence) for s in evidence[name])
    )
    earlier = _earlier(context.store, recipe.name, case)
    job = PartJob(
        part_key(case, [], *(shard.sha256 for shard in earlier)),
        judge_all,
        (evidence, settings, recipe.rules.model_dump(mode="json"), earlier),
    )
    (parts,) = run_parts(context, "judge", "verdicts", [job])
    tables = tables_of([parts], "verdicts")
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
        info={**parts.info, "case": case},
    )
    return finish(context, manifest, began)


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
        version = store.find(f"{corpus}@{version.parent}")


def judge_all(
    workspace: Workspace,
    evidence: Mapping[str, Sequence[Shard]],
    settings: Mapping[str, Any],
    asked: Mapping[str, Any],
    earlier: Sequence[Shard],
) -> Parts:
    """Job: join the evidence and write the verdicts, one shard for each shard of documents."""
    frame = _load(workspace, evidence)
    rules = build_rules(
        use=asked["use"],
        add=asked["add"],
        exempt=asked["exempt"],
        on_null=asked["on_null"],
        columns=_columns(),
        sources=list(asked["exempt"]),
    )
    passed = evaluate(rules.rules, frame, rules.exemptions)
    contaminated = _contaminated(
        workspace, evidence["contamination"], frame, settings["contamination"]
    )
    dropping = contaminated if settings["contamination"]["action"] == "drop" else {}
    standing = _all_true(passed, frame.height)
    for mask in dropping.values():
        standing &= ~mask
    edges = _edges(workspace, evidence["duplicates"], frame)
    rank = _rank(frame, settings["keep"])
    exact, near, kept_by = survivors(
        rank, standing, exact=edges["exact"], near=edges["near"], jaccard=edges["jaccard"]
    )
    kept = standing & ~exact & ~near
    ids = frame["doc_id"]
    reasons = {name: ~passed[name].to_numpy() for name in passed.columns}
    reasons |= {f"contaminated:{name}": mask for name, mask in dropping.items()}
    reasons |= {"duplicate:exact": exact, "duplicate:near": near}
    _guard_sources(frame["source"], near & standing, settings["source_loss"])
    cluster = ids.gather(edges["labels"])
    splits, sticky = draw_splits(workspace.storage, ids, edges["labels"], settings, earlier)
    verdicts = pl.DataFrame(
        {
            "doc_id": ids,
            "text_hash": frame["text_hash"],
            "source": frame["source"],
            "kept": pl.Series(kept),
            "reasons": _reasons(reasons, frame.height),
            "kept_id": _gather_or_null(ids, kept_by),
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
    }
    counts |= {f"reason:{name}": int(mask.sum()) for name, mask in reasons.items()}
    counts |= {
        f"marked:{name}": int(mask.sum())
        for name, mask in contaminated.items()
        if name not in dropping
    }
    counts |= {
        f"split:{name}": int((kept & (splits == name).to_numpy()).sum())
        for name in ("train", "validation", "test")
    }
    return Parts({"verdicts": shards}, counts, {"kept": digests})


def _load(workspace: Workspace, evidence: Mapping[str, Sequence[Shard]]) -> pl.DataFrame:
    """Join signals with the documents' source, in the order of the shards."""
    frames = []
    pairs = zip(evidence["documents"], evidence["signals"], strict=True)
    for number, (documents, signals) in enumerate(pairs):
        named = read_shard(workspace.storage, documents, ["doc_id", "source"])
        table = read_shard(workspace.storage, signals)
        check_text_hash(
            "measure", named["doc_id"].combine_chunks(), table["doc_id"].combine_chunks()
        )
        frame = pl.DataFrame(pl.from_arrow(table.append_column("source", named["source"])))
        frames.append(frame.with_columns(pl.lit(number, pl.Int32).alias("shard")))
    return pl.concat(frames, rechunk=True)


def _all_true(passed: pl.DataFrame, height: int) -> np.ndarray:
    standing = np.ones(height, dtype=bool)
    for name in passed.columns:
        standing &= passed[name].to_numpy()
    return standing


def _ordinals(frame: pl.DataFrame, ids: pl.Series) -> np.ndarray:
    """Return the row of each id in the frame."""
    rows = pl.DataFrame({"doc_id": frame["doc_id"], "row": np.arange(frame.height)})
    joined = pl.DataFrame({"doc_id": ids}).join(
        rows, on="doc_id", how="left", maintain_order="left"
    )
    assert joined["row"].null_count() == 0, "evidence names a document that does not exist"
    return joined["row"].to_numpy()


def _contaminated(
    workspace: Workspace, shards: Sequence[Shard], frame: pl.DataFrame, settings: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Return for each benchmark found which documents contain enough of one of its items."""
    masks: dict[str, np.ndarray] = {}
    for shard in shards:
        rows = pl.DataFrame(pl.from_arrow(read_shard(workspace.storage, shard)))
        for (name,), group in rows.filter(pl.col("overlap") >= settings["overlap"]).group_by(
            "benchmark", maintain_order=True
        ):
            mask = masks.setdefault(str(name), np.zeros(frame.height, dtype=bool))
            at = _ordinals(frame, group["doc_id"])
            check_text_hash("decontaminate", frame["text_hash"].gather(at), group["text_hash"])
            mask[at] = True
    return dict(sorted(masks.items()))


def _edges(
    workspace: Workspace, shards: Sequence[Shard], frame: pl.DataFrame
) -> dict[str, np.ndarray]:
    """Return the verified edges as row numbers, and every row's cluster label (a row number)."""
    labels = np.arange(frame.height)
    empty = np.empty((0, 2), dtype=np.int64)
    tables = [read_shard(workspace.storage, shard) for shard in shards]
    if not tables:
        return {"exact": empty, "near": empty, "jaccard": np.empty(0), "labels": labels}
    edges = pl.DataFrame(pl.from_arrow(pa.concat_tables(tables)))
    left, right = _ordinals(frame, edges["twin_id"]), _ordinals(frame, edges["doc_id"])
    pairs = np.stack([left, right], axis=1)
    is_exact = (edges["kind"] == "exact").to_numpy()
    cluster = _ordinals(frame, edges["cluster_id"])
    labels[left], labels[right] = cluster, cluster
    return {
        "exact": pairs[is_exact],
        "near": pairs[~is_exact],
        "jaccard": edges["jaccard"].to_numpy()[~is_exact],
        "labels": labels,
    }


def _rank(frame: pl.DataFrame, keep: str) -> np.ndarray:
    """Return each row's place in the keep order, 0 for the most wanted."""
    order = parse_order(keep, available_columns())
    columns = [name for name, _ in order]
    ordered = (
        frame.select(*columns)
        .with_row_index("row")
        .sort(columns, descending=[down for _, down in order], nulls_last=True, maintain_order=True)
    )
    rank = np.empty(frame.height, dtype=np.int64)
    rank[ordered["row"].to_numpy()] = np.arange(frame.height)
    return rank


def _reasons(reasons: Mapping[str, np.ndarray], height: int) -> pl.Series:
    if not reasons:
        return pl.Series([[]] * height, dtype=pl.List(pl.String))
    flags = pl.DataFrame({name: pl.Series(mask) for name, mask in reasons.items()})
    listed = pl.concat_list(
        pl.when(pl.col(name)).then(pl.lit(name)).otherwise(pl.lit(None, pl.String))
        for name in reasons
    )
    return flags.select(listed.list.drop_nulls().alias("reasons"))["reasons"]


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
