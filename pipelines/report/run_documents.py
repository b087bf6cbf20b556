"""Which documents a run found hardest and easiest, and which it came to know less: from feedback.

A loss falls while a run goes on, so a document read late would look easy. It is therefore compared
with what its source cost at that time: the mean over a fortieth of the run, source by source. A
loss that rose is only told of one and the same piece of a document, which the plan knows.
"""

import math
from typing import TYPE_CHECKING, Any

import polars as pl

from curate.corpus.errors import InputError
from pipelines.runs import FoundRun, feedback
from train.trace import Tracer

if TYPE_CHECKING:
    from pipelines.corpus import Corpus

__all__ = ["documents"]

_SHOWN = 6  # of each kind
_MIN_TOKENS = 64  # a shorter text says little of itself
_TEXT_BYTES = 420
_PARTS = 40  # of a run
_EVERY_TOKEN = (None, "next_token")  # what predicts all of a text, whenever it is read
_LOOKED_AT = 10_000  # documents that may have risen


def documents(run: FoundRun, corpus: "Corpus | None") -> dict[str, Any] | None:
    """Return the documents to look at, None where nothing was measured.

    Keys: steps (first and last with feedback), documents, rows, highest, lowest, risen (each:
    doc_id, source, tokens, times, first_step, last_step, nats, bits_per_byte, above - nats per
    token over its source's - and for risen ones first_nats, last_nats; `snippet` with the text).

    Args:
        run: whose feedback is read.
        corpus: where the texts are; without it there are none.
    """
    found = feedback([run])
    last = found.select(pl.col("step").max()).collect().item()
    if last is None:
        return None
    part = (pl.col("step") - 1) // max(1, last // _PARTS)
    usual = (pl.col("loss_sum").sum() / pl.col("tokens").sum()).over(part, "source")
    rows = (
        found.filter(pl.col("tokens") > 0)
        .drop("run", "corpus", "mixture", "bits_per_byte")
        .with_columns(pl.col("source").cast(pl.Categorical))
        .with_columns(above=pl.col("loss_sum") - pl.col("tokens") * usual)
        .collect()
    )
    each = (
        rows.lazy()
        .group_by("doc_id")
        .agg(
            pl.col("source").first(),
            pl.col("tokens", "bytes", "loss_sum", "above").sum(),
            times=pl.col("times_seen").max(),
            first_step=pl.col("step").min(),
            last_step=pl.col("step").max(),
        )
        .with_columns(
            nats=pl.col("loss_sum") / pl.col("tokens"),
            above=pl.col("above") / pl.col("tokens"),
            bits_per_byte=_bits_per_byte(),
        )
        .collect()
    )
    least, next_token = _MIN_TOKENS, run.content["config"].get("objective") in _EVERY_TOKEN
    if not next_token:  # an image may have one target in all
        middle = each.select(pl.col("tokens").median()).item()
        least = min(least, round(middle or 0))
    long = each.filter(pl.col("tokens") >= least)
    chosen = {
        "highest": long.sort("above", "doc_id", descending=[True, False]).head(_SHOWN),
        "lowest": long.sort("above", "doc_id").head(_SHOWN),
        # Other tasks hide another part of a document each time it is read.
        "risen": _risen(run, rows if next_token else rows.clear(), last),
    }
    return {
        "steps": [rows["step"].min(), last],
        "documents": each.height,
        "rows": rows.height,
        "risen_count": chosen["risen"].height,
        **_with_texts({name: frame.head(_SHOWN) for name, frame in chosen.items()}, corpus),
    }


def _bits_per_byte() -> pl.Expr:
    bits = pl.col("loss_sum") / math.log(2)
    return pl.when(pl.col("bytes") > 0).then(bits / pl.col("bytes"))


def _risen(run: FoundRun, rows: pl.DataFrame, last: int) -> pl.DataFrame:
    """Return documents of which a piece cost more the last time than the first, the worst first."""
    rows = rows.filter(pl.col("tokens") >= _MIN_TOKENS)
    spread = pl.col("nats").max() - pl.col("nats").first()  # at least what any piece rose
    often = rows.sort("step").group_by("doc_id", "tokens").agg(spread, times=pl.len())
    likely = often.filter((pl.col("times") > 1) & (pl.col("nats") > 0))
    worst = likely.sort("nats", "doc_id", descending=[True, False])["doc_id"]
    ids = worst.unique(maintain_order=True).head(_LOOKED_AT)
    mine = rows.join(_pieces(run, ids, last), on=["doc_id", "step"])
    return (
        mine.lazy()
        .sort("step")
        .group_by("doc_id", "start", "tokens")
        .agg(
            pl.col("source").first(),
            pl.col("bytes", "loss_sum").last(),
            first_nats=pl.col("nats").first(),
            last_nats=pl.col("nats").last(),
            first_step=pl.col("step").first(),
            last_step=pl.col("step").last(),
            times=pl.len(),
        )
        .filter((pl.col("times") > 1) & (pl.col("last_nats") > pl.col("first_nats")))
        .with_columns(
            nats=pl.col("last_nats"),
            above=pl.col("last_nats") - pl.col("first_nats"),
            bits_per_byte=_bits_per_byte(),
        )
        .sort("above", "doc_id", descending=[True, False])
        .unique("doc_id", keep="first", maintain_order=True)
        .collect()
    )


def _pieces(run: FoundRun, ids: pl.Series, last: int) -> pl.DataFrame:
    """Return doc_id, step and start of the pieces that were a document's only one in a step."""
    empty = pl.DataFrame(schema={"doc_id": pl.Binary, "step": pl.Int32, "start": pl.Int64})
    try:
        tracer = Tracer.open(run.path)
    except InputError:  # its shards are gone
        return empty
    spans = tracer.document(tracer.ordinals(ids.to_list()), steps=last)
    return (
        pl.DataFrame(
            {
                "doc_id": pl.Series(
                    tracer.shards.column("doc_id", spans.ordinals).tolist(), dtype=pl.Binary
                ),
                "step": pl.Series(spans.steps, dtype=pl.Int32),
                "start": spans.starts,
            }
        )
        .filter(pl.len().over("doc_id", "step") == 1)
        .select(empty.columns)
    )


def _with_texts(chosen: dict[str, pl.DataFrame], corpus: "Corpus | None") -> dict[str, Any]:
    """Return rows with a snippet each; masked and clipped as wherever a text is shown."""
    snippets = None
    if corpus is not None:
        from pipelines.report.snippets import Snippets

        snippets = Snippets(corpus)
    told: dict[str, Any] = {}
    for name, frame in chosen.items():
        told[name] = []
        for row in frame.with_columns(pl.col("source").cast(pl.String)).to_dicts():
            doc_id = row.pop("doc_id")
            slot = snippets.beginning(doc_id, _TEXT_BYTES) if snippets else None
            none = {"doc_id": doc_id.hex(), "path": "", "text": ""}
            told[name].append({**row, "doc_id": doc_id.hex(), "snippet": slot or none})
    if snippets is not None:
        snippets.fill()
    return told
