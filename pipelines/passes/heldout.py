"""What earlier versions of a corpus held out for validation and test, as one more benchmark.

A version that is made again must find its work done. So the versions that count are those before
the one that was made of the same documents with the same settings (`case`), as in `judge`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from curate.corpus.shard import Shard
from pipelines.passes.base import Context

__all__ = ["HeldOut", "earlier_versions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """Earlier versions' documents with their verdicts.

    Attributes:
        shards: (documents, verdicts), shard by shard.
        info: for the manifest: the case, and which judge's verdicts they are.
    """

    shards: tuple[tuple[Shard, Shard], ...] = ()
    info: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[Shard, ...]:
        """The verdicts alone."""
        return tuple(verdicts for _, verdicts in self.shards)


def earlier_versions(context: Context, case: str) -> HeldOut:
    """Return what counts as held out for a run of this case; nothing unless the recipe asks."""
    if not context.recipe.decontaminate.held_out:
        return HeldOut()
    store = context.store
    version = store.current(context.recipe.name)
    if version is not None:
        made = store.get_manifest("decontaminate", version.manifests["decontaminate"])
        if made.info.get("case") == case:
            judges = [tuple(pair) for pair in made.info["held_out"]]
            return _of(context, case, judges)
    judges = []
    withdrawn = store.withdrawn(context.recipe.name)  # a purge took their texts
    while version is not None:
        pair = (version.manifests["clean"], version.manifests["judge"])
        if pair not in judges and version.number not in withdrawn:
            judges.append(pair)
        version = store.version(version.name, version.parent) if version.parent else None
    return _of(context, case, judges)


def _of(context: Context, case: str, judges: list[tuple[Any, ...]]) -> HeldOut:
    shards: dict[tuple[str, str], tuple[Shard, Shard]] = {}
    for cleaned, judged in judges:
        documents = context.store.get_manifest("clean", cleaned).tables["documents"]
        verdicts = context.store.get_manifest("judge", judged).tables["verdicts"]
        for pair in zip(documents, verdicts, strict=True):
            shards[pair[0].sha256, pair[1].sha256] = pair
    info = {"case": case, "held_out": [list(pair) for pair in judges]}
    return HeldOut(shards=tuple(shards.values()), info=info)
