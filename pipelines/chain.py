"""What later passes do to each shard, done by `clean` while it has the shard's text in memory.

Reading a text again costs more than measuring it: it is decompressed each time. So the jobs of
`measure`, `deduplicate` and `decontaminate` that read all of a cleaned shard and depend on nothing
but it run right after the shard is written, under the keys those passes will look for. They find
their parts done. Nothing else changes: not a key, not a byte, and a pass whose parts are not there
runs its jobs itself.
"""

from collections.abc import Collection

from pipelines.passes import decontaminate, deduplicate, measure
from pipelines.passes.base import Context, PerShard

__all__ = ["followers"]


def followers(context: Context, passes: Collection[str]) -> tuple[PerShard, ...]:
    """Return the stages that may follow `clean`, of the passes that this run has.

    Args:
        context: a run whose `collect` is done.
        passes: names.
    """
    if context.peek or context.recipe.kind != "text":  # there the texts are the least of it
        return ()
    found: list[PerShard] = []
    if "measure" in passes:
        found.append(measure.always(context))
    if "deduplicate" in passes:
        found.append(deduplicate.sketched(context))
    if "decontaminate" in passes:
        found += [stage for stage in [decontaminate.following(context)] if stage is not None]
    return tuple(found)
