"""Deduplicate: documents -> verified duplicate edges and clusters; nobody is dropped here.

Stages, each a set of independent jobs whose results are kept:

    sketch    per shard   exact hash and band keys of every document, as sorted runs
    exact     per range   documents of one normalised text -> edges; one of each class goes on
    near      per range   documents that share a band key -> candidate pairs
    reband    per shard   documents of crowded buckets get more, finer bands; then `near` again
    shingle   per shard   shingle sets of the documents that stand in a candidate pair
    verify    per range   exact similarity of every pair, once -> edges
    cluster   once        connected components, for ids and statistics
    write     per range   the table `duplicates`

Ranges are of hashed keys, so they are even, and `partition_rows` of them are in memory at a time.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.corpus.manifest import Manifest, conserve
from curate.corpus.shard import Shard
from curate.dedup.comparing import Scheme, compared_of, finer_of
from curate.dedup.minhash import MinHashScheme
from curate.dedup.runs import ranges
from curate.kernels.shingles import Shingling
from curate.media.fingerprints import FingerprintScheme
from curate.media.perceptual import PerceptualScheme
from pipelines.digest import code_digest
from pipelines.passes import joining, lines, measured, sketching, verifying
from pipelines.passes.base import (
    Context,
    PartJob,
    Parts,
    PerShard,
    add_counts,
    finish,
    part_key,
    run_parts,
    tables_of,
)
from pipelines.passes.joining import Layout
from pipelines.recipe import Recipe
from pipelines.sections import Near
from pipelines.store import Store, Version

__all__ = ["outside_version", "run", "scheme_of"]

_MIN_CANDIDATES = 1_000_000  # fewer cost seconds, and nobody goes who is not verified
_MAX_BYTES = 48 << 20  # of shingle sets, or of clusters, before they leave memory
_CURVE = range(50, 101, 5)


def scheme_of(near: Near) -> MinHashScheme:
    """Return the MinHash scheme that a recipe asks for."""
    if near.like is not None:
        return MinHashScheme.named(near.like, max_document_bytes=near.max_document_bytes)
    width, unit = near.shingle.split()
    return MinHashScheme(
        shingling=Shingling(
            unit=unit,
            width=int(width),
            numbers=near.numbers,
            max_document_bytes=near.max_document_bytes,
        ),
        bands=near.bands,
        rows=near.rows,
    )


def _scheme(recipe: Recipe) -> Scheme | None:
    """Return how documents are compared: by what they are, unless `near` is off."""
    near = recipe.deduplicate.near
    if near is None:
        return None
    if recipe.media_of == "image":
        return PerceptualScheme(distance=near.distance or 0)
    if recipe.media_of == "audio":
        return FingerprintScheme(minhash=MinHashScheme(bands=near.bands, rows=near.rows))
    return scheme_of(near)


def outside_version(store: Store, recipe: Recipe) -> Version | None:
    """Return the corpus version whose documents count as kept already.

    Raises:
        InputError: there is none of that name, or it is this corpus without a version.
    """
    name = recipe.deduplicate.against
    if name is None:
        return None
    if name == recipe.name:
        raise InputError(
            f"deduplicate.against: {name} is this corpus itself; say which version stays as it is, "
            f"for example {name}@1"
        )
    return store.find(name)


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What all stages share."""

    context: Context
    code: str
    layout: Layout
    documents: tuple[Shard, ...]  # own first, in the order of the layout
    max_rows: int  # of a range of keys

    def stage(
        self, name: str, jobs: Iterable[tuple[Any, Callable[..., Parts], tuple[Any, ...]]]
    ) -> list[Parts]:
        """Run jobs given as (what decides their result, function, arguments)."""
        todo = [
            PartJob(
                part_key(self.code, [name, settings], *_content(arguments)), function, arguments
            )
            for settings, function, arguments in jobs
        ]
        return run_parts(self.context, "deduplicate", name, todo)


def _content(arguments: Iterable[Any]) -> list[str]:
    """Return the digests of all shards among arguments."""
    found: list[str] = []
    for argument in arguments:
        if isinstance(argument, Shard):
            found.append(argument.sha256)
        elif isinstance(argument, Layout):
            found += [fingerprint(*(s.sha256 for s in argument.sketches)), str(argument.num_own)]
        elif isinstance(argument, tuple) and argument and isinstance(argument[0], Shard):
            found.append(fingerprint(*(shard.sha256 for shard in argument)))
        elif isinstance(argument, tuple):
            found.append(f"empty {len(argument)}")
    return found


def sketched(context: Context) -> PerShard:
    """Return the stage that reads every text: exact hashes and band keys."""
    asked = context.recipe.deduplicate
    scheme = _scheme(context.recipe)
    return PerShard(
        name="deduplicate",
        code=code_digest(__name__),
        settings={"exact": asked.exact, "scheme": scheme.to_dict() if scheme else None},
        function=sketching.sketch_shard,
        arguments=(asked.exact, scheme),
    )


def run(context: Context) -> Manifest:
    """Find exact and near duplicates."""
    began = time.monotonic()
    asked = context.recipe.deduplicate
    cleaned = context.manifests["clean"]
    own = cleaned.tables["documents"]
    other = outside_version(context.store, context.recipe)
    outside, verdicts = _outside(context, other)
    documents = (*own, *outside)
    code = code_digest(__name__)
    scheme = _scheme(context.recipe)
    stage = sketched(context)
    sketches = run_parts(
        context, "deduplicate", "sketch", [stage.job(shard) for shard in documents]
    )
    heads = tuple(part.tables["sketches"][0] for part in sketches)
    conserve(context.store.storage, "deduplicate", documents, heads)
    layout = Layout(sketches=heads, num_own=sum(shard.rows for shard in own))
    setting = _Setting(
        context=context,
        code=code,
        layout=layout,
        documents=documents,
        max_rows=asked.partition_rows,
    )

    masks = _mask_outside(setting, verdicts)
    exact, masks, counts = (
        _exact(setting, sketches, masks) if asked.exact else ((), masks, {"exact": 0})
    )
    near: tuple[Shard, ...] = ()
    crowds: tuple[Shard, ...] = ()
    shingles: tuple[Shard, ...] = ()
    if asked.near and scheme:
        near, crowds, shingles, found = _near(setting, sketches, masks, asked.near, scheme)
        counts |= found
    duplicates, found = _write(setting, exact, near, str(other) if other else None)
    counts |= found
    counts["documents"] = layout.num_own
    counts |= add_counts(sketches[: len(own)])
    _guard(counts, asked.guardrails.cluster_size, asked.guardrails.verified_share)
    cut = lines.fit(context, own, duplicates)
    rows = [shard.rows for shard in documents] if crowds else []
    manifest = Manifest(
        name="deduplicate",
        settings={
            "exact": asked.exact,
            "near": asked.near.model_dump(mode="json") if asked.near else None,
            "against": str(other) if other else None,
        },
        code=code,
        parents={"clean": cleaned.fingerprint},
        tables={
            "duplicates": duplicates,
            "crowds": crowds,
            "shingles": shingles if crowds else (),
            **(cut.tables if cut else {}),
        },
        counts={**counts, **(cut.counts if cut else {})},
        info=_info(context, own, duplicates, crowds, rows, asked.near, scheme, other)
        | dict(cut.info if cut else {}),
    )
    return finish(context, manifest, began)


def _info(
    context: Context,
    documents: tuple[Shard, ...],
    duplicates: tuple[Shard, ...],
    crowds: tuple[Shard, ...],
    rows: list[int],
    near: Near | None,
    scheme: Scheme | None,
    other: Version | None,
) -> dict[str, Any]:
    info: dict[str, Any] = {
        "scheme": None,
        "s_curve": [],
        "measured": None,
        "against": {"corpus": str(other)} if other else None,
        "rows": rows,  # of each shard of shingle sets; `judge` needs them for crowds
    }
    if near and scheme:
        info["scheme"] = scheme.to_dict()
        if not isinstance(scheme, PerceptualScheme):
            info["s_curve"] = [[j / 100, round(scheme.s_curve(j / 100), 6)] for j in _CURVE]
        if near.sample and isinstance(scheme, MinHashScheme):
            info["measured"] = measured.run(
                context,
                documents,
                duplicates,
                replace(scheme, shingling=replace(scheme.shingling, max_document_bytes=0)),
                near.threshold,
                near.similarity,
                near.sample,
                crowds=crowds,
            )
    return info


def _outside(
    context: Context, other: Version | None
) -> tuple[tuple[Shard, ...], tuple[Shard, ...]]:
    """Return the documents and verdicts of the corpus that is compared against."""
    if other is None:
        return (), ()
    store = context.store
    return (
        store.get_manifest("clean", other.manifests["clean"]).tables["documents"],
        store.get_manifest("judge", other.manifests["judge"]).tables["verdicts"],
    )


def _mask_outside(setting: _Setting, verdicts: tuple[Shard, ...]) -> tuple[Shard, ...]:
    if not verdicts:
        return ()
    layout = setting.layout
    size = (layout.num_own, layout.num_docs)
    parts = setting.stage("outside", [(size, joining.mask_outside, (*size, verdicts))])
    return tables_of(parts, "mask")["mask"]


def _exact(
    setting: _Setting, sketches: Sequence[Parts], masks: tuple[Shard, ...]
) -> tuple[tuple[Shard, ...], tuple[Shard, ...], dict[str, int]]:
    """Return the exact edges, and who goes on to the near ones."""
    layout = setting.layout
    runs = _all(sketches, "exact_runs")
    parts = setting.stage(
        "exact",
        [
            (which, joining.exact_range, (runs, which, layout, masks))
            for which in ranges(layout.num_docs, setting.max_rows)
        ],
    )
    tables = tables_of(parts, "edges", "shut")
    if tables["shut"]:
        size = layout.num_docs
        job = (size, joining.mask_all, (size, tables["shut"], masks))
        masks = tables_of(setting.stage("mask", [job]), "mask")["mask"]
    return tables["edges"], masks, add_counts(parts)


def _all(parts: Sequence[Parts], table: str) -> tuple[Shard, ...]:
    """Return a table's shards, one for each part, empty ones too: their place says whose it is."""
    return tuple(part.tables[table][0] for part in parts)


def _near(
    setting: _Setting,
    sketches: Sequence[Parts],
    masks: tuple[Shard, ...],
    near: Near,
    scheme: Scheme,
) -> tuple[tuple[Shard, ...], tuple[Shard, ...], tuple[Shard, ...], dict[str, int]]:
    """Return near edges, crowds, shingle sets and counts."""
    layout = setting.layout
    first, counts = _join(setting, _all(sketches, "band_runs"), masks, near, level=1)
    found = list(first)
    crowds: tuple[Shard, ...] = ()
    crowded = tables_of(first, "crowded")["crowded"]
    counts["hot_documents"] = 0
    if crowded:
        finer = finer_of(scheme)
        bands = setting.stage(
            "reband",
            [
                ([base, finer.to_dict()], sketching.sketch_crowded, (shard, base, crowded, finer))
                for shard, base in zip(setting.documents, layout.bases.tolist(), strict=False)
            ],
        )
        counts |= add_counts(bands)
        second, again = _join(setting, _all(bands, "band_runs"), masks, near, level=2)
        counts["crowded_buckets"] = again["hot_buckets"]
        found += second
        crowds = tables_of(second, "crowds")["crowds"]
    tables = tables_of(found, "pairs", "wanted")
    if not tables["pairs"]:
        return (), crowds, (), {**counts, "candidates": 0, "near": 0}
    wanted = tables["wanted"]
    whole = compared_of(scheme)  # who goes is decided by all of it
    shingled = setting.stage(
        "shingle",
        [
            (
                [base, whole.to_dict()],
                sketching.shingle_shard,
                (shard, base, wanted, whole),
            )
            for shard, base in zip(setting.documents, layout.bases.tolist(), strict=False)
        ],
    )
    shingles = _all(shingled, "shingles")
    asked = (near.threshold, near.similarity, _MAX_BYTES)
    verified = setting.stage(
        "verify",
        [
            (
                [which, *asked],
                verifying.verify_range,
                (tables["pairs"], which, layout, shingles, *asked),
            )
            for which in ranges(sum(shard.rows for shard in tables["pairs"]), setting.max_rows)
        ],
    )
    return tables_of(verified, "edges")["edges"], crowds, shingles, counts | add_counts(verified)


def _join(
    setting: _Setting,
    runs: tuple[Shard, ...],
    masks: tuple[Shard, ...],
    near: Near,
    *,
    level: int,
) -> tuple[list[Parts], dict[str, int]]:
    parts = setting.stage(
        f"near {level}",
        [
            (
                [which, near.max_bucket, level, near.distance],
                joining.near_range,
                (runs, which, setting.layout, masks, near.max_bucket, level, near.distance),
            )
            for which in ranges(sum(shard.rows for shard in runs), setting.max_rows)
        ],
    )
    return parts, add_counts(parts)


def _write(
    setting: _Setting, exact: tuple[Shard, ...], near: tuple[Shard, ...], against: str | None
) -> tuple[tuple[Shard, ...], dict[str, int]]:
    """Return the table `duplicates`, and the counts of clusters."""
    edges = (*exact, *near)
    if not edges:
        return (), {"clusters": 0, "clustered_documents": 0, "largest_cluster": 1}
    clustered = setting.stage("cluster", [([], verifying.find_clusters, (edges, _MAX_BYTES))])
    clusters = tables_of(clustered, "clusters")["clusters"]
    num_edges = sum(shard.rows for shard in edges)
    written = setting.stage(
        "write",
        [
            (
                [which, against],
                verifying.write_range,
                (exact, near, which, clusters, setting.layout, against),
            )
            for which in ranges(num_edges, setting.max_rows)
        ],
    )
    return tables_of(written, "duplicates")["duplicates"], add_counts(clustered)


def _guard(
    counts: Mapping[str, int], cluster_size: int | None, verified_share: float | None
) -> None:
    """Stop before damage."""
    if cluster_size is not None and counts["largest_cluster"] > cluster_size:
        raise InputError(
            f"a duplicate cluster has {counts['largest_cluster']} documents, more than "
            f"{cluster_size}; look at "
            "`preceptor table CORPUS duplicates` of a smaller run, or raise "
            "`deduplicate.guardrails.cluster_size`"
        )
    candidates, verified = counts.get("candidates", 0), counts.get("near", 0)
    if (
        verified_share is not None
        and candidates >= _MIN_CANDIDATES
        and verified < verified_share * candidates
    ):
        raise InputError(
            f"only {verified} of {candidates} near-duplicate candidates verify, less than the "
            f"share {verified_share}; "
            "use more rows per band, or lower `deduplicate.guardrails.verified_share`"
        )
