"""Where training runs have read a document, and what it cost them then.

The steps come from the runs' plans, by arithmetic (`pipelines.forget.exposure`); the losses from
the feedback that the runs wrote, beside what the document's source cost at that time.
"""

import math
from typing import Any

import polars as pl

from curate.corpus.identity import parse_id
from pipelines.corpus import Corpus
from pipelines.runs import FoundRun, feedback, runs_of

__all__ = ["trained_on"]

_RUNS = 20  # looked at, the latest
_STEPS = 20  # listed
_PARTS = 40  # of a run: how near in time a source's loss is taken


def trained_on(corpus: Corpus, doc_id: str) -> list[dict[str, Any]]:
    """Return what the runs on any version of a corpus, in its store, had to do with a document.

    Keys: run, corpus, state, steps_done, num_steps (that read it), steps (the first ones),
    first_step, last_step, measured: None, or readings (steps with feedback), times_seen, nats and
    bits_per_byte (over all), first and last (each: step, nats, source_nats). Runs that never held
    it are left out.
    """
    from pipelines.forget.exposure import exposures

    name = corpus.version.name
    runs = [run for run in runs_of(corpus.store) if run.content["corpus"]["name"] == name][:_RUNS]
    by_folder = {str(run.folder): run for run in runs}
    found = exposures([run.path for run in runs], {parse_id(doc_id)})
    return [
        {
            **{key: one[key] for key in ("run", "corpus", "steps_done", "num_steps")},
            **{key: one[key] for key in ("first_step", "last_step")},
            "state": by_folder[one["folder"]].told()["state"],
            "steps": one["steps"][:_STEPS],
            "measured": _measured(by_folder[one["folder"]], doc_id) if one["num_steps"] else None,
        }
        for one in found
        if "cannot_be_read" not in one
    ]


def _measured(run: FoundRun, doc_id: str) -> dict[str, Any] | None:
    """Return what a run measured of a document, None where it kept nothing of it."""
    found = feedback([run])
    mine = pl.lit(parse_id(doc_id), pl.Binary)
    rows = found.filter(pl.col("doc_id") == mine).sort("step").collect()
    if not rows.height:
        return None
    near = max(1, rows["step"].max() // _PARTS)  # type: ignore[operator]
    ends = {}
    for name, index in (("first", 0), ("last", -1)):
        row = rows.row(index, named=True)
        around = pl.col("step").is_between(row["step"] - near, row["step"] + near)
        usual = found.filter(around & (pl.col("source") == row["source"])).select(
            pl.col("loss_sum").sum() / pl.col("tokens").sum()
        )
        nats = {"nats": row["nats"], "source_nats": usual.collect().item()}
        ends[name] = {"step": row["step"], **nats}
    total, tokens, num_bytes = (float(rows[n].sum()) for n in ("loss_sum", "tokens", "bytes"))
    return {
        "readings": rows.height,
        "times_seen": rows["times_seen"].max(),
        "nats": total / tokens if tokens else None,
        "bits_per_byte": total / math.log(2) / num_bytes if num_bytes else None,
        **ends,
    }
