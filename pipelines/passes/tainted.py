"""Which documents contain enough of a test item, and what that means for them.

The evidence knows no threshold: every method's matches are in one table, and here it is asked which
of them reach what the recipe wants. `judge` drops documents by them, `tokenize` cuts their spans.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from curate.contamination.methods import WHOLE
from curate.contamination.thresholds import enough
from curate.corpus.shard import Shard, read_shard
from pipelines.evidence import HELD_OUT, Decontaminate
from pipelines.passes.base import Workspace, check_text_hash
from pipelines.passes.ordinals import ordinals

__all__ = ["contaminated", "marked", "to_drop", "wanted"]

Bools = npt.NDArray[np.bool_]


def wanted(asked: Decontaminate) -> dict[str, Any]:
    """Return what decides, for a manifest: thresholds by method, and actions by benchmark."""
    method = asked.method
    thresholds = {
        "ngram": method.ngram and method.ngram.overlap,
        "llama3": method.llama3 and method.llama3.coverage,
        "decon": method.decon and method.decon.score,
    }
    names = [*(one.name for one in asked.against), *([HELD_OUT] if asked.held_out else [])]
    own = {one.name: one.action for one in asked.against}
    return {
        "thresholds": {n: value for n, value in thresholds.items() if value} | {WHOLE: 1.0},
        "action": asked.action,
        "actions": {name: own.get(name) or asked.action for name in names},
    }


def contaminated(
    workspace: Workspace, shards: Sequence[Shard], frame: pl.DataFrame, settings: Mapping[str, Any]
) -> dict[str, Bools]:
    """Return for each benchmark found which documents contain enough of one of its items.

    Args:
        workspace: where the shards are.
        shards: of the table `contamination`.
        frame: the documents, `doc_id` and `text_hash`.
        settings: see `wanted`.

    Raises:
        IntegrityError: a match was found in another revision of a text.
    """
    masks: dict[str, Bools] = {}
    columns = ["doc_id", "text_hash", "benchmark", "method", "overlap", "strictness"]
    for shard in shards:
        rows = pl.DataFrame(pl.from_arrow(read_shard(workspace.storage, shard, columns)))
        strong = rows.filter(enough(rows, settings["thresholds"])).unique(
            ["doc_id", "benchmark"], maintain_order=True
        )
        for (name,), group in strong.group_by("benchmark", maintain_order=True):
            mask = masks.setdefault(str(name), np.zeros(frame.height, dtype=np.bool_))
            at = ordinals(frame["doc_id"], group["doc_id"])
            check_text_hash("decontaminate", frame["text_hash"].gather(at), group["text_hash"])
            mask[at] = True
    return dict(sorted(masks.items()))


def to_drop(masks: Mapping[str, Bools], settings: Mapping[str, Any]) -> dict[str, Bools]:
    """Return those whose benchmark's action is to drop."""
    return {name: mask for name, mask in masks.items() if settings["actions"][name] == "drop"}


def marked(masks: Mapping[str, Bools], settings: Mapping[str, Any]) -> dict[str, int]:
    """Count the documents that are only marked, and those that are cut, by benchmark."""
    names = {"mark": "marked", "cut": "contaminated_cut"}
    return {
        f"{names[settings['actions'][name]]}:{name}": int(mask.sum())
        for name, mask in masks.items()
        if settings["actions"][name] in names
    }
