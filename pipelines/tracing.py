"""`preceptor trace`: what a step reads, and where a document is read, as tables for people.

`train.trace` answers by arithmetic, in numbers; here the numbers get names: the sources', and of
each document what its corpus, where it is at hand, knows of it.
"""

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
from rich.markup import escape

from curate.corpus.errors import InputError, IntegrityError
from pipelines.console import new_table, plain, say, show
from pipelines.corpus import open_corpus
from pipelines.runs import FoundRun, feedback
from pipelines.store import Store
from pipelines.tables import check_out, write_frame
from train.trace import Spans, Tracer

__all__ = ["document_frame", "document_ids", "show_document", "show_step", "step_frame"]

_SHOWN = 60  # lines in the terminal
_ID = 12  # digits shown where a whole id does not fit
_NAMED = ("key", "url", "title")
_OF_ROW = ("row", "phase", "plan", "epoch", "plan_row")


def step_frame(tracer: Tracer, found: FoundRun, step: int, store: str | None) -> pl.DataFrame:
    """Return what a step reads, a row for each span, in the order of the batch.

    Columns: step, row, position, length, doc_id, source, start, of_tokens (in the document), copy,
    copies, phase, plan, epoch, plan_row, withdrawn; nats (for each token, where the run has
    measured it) and key, url, title (where the corpus is in the store and has not forgotten it).
    """
    frame = _frame(tracer, tracer.step(step))
    measured = feedback([found], step).select(pl.col("doc_id").bin.encode("hex"), "nats").collect()
    frame = frame.join(measured, on="doc_id", how="left", maintain_order="left")
    alive = frame.filter(~pl.col("withdrawn"))["doc_id"].unique()  # the others have no name
    return frame.join(
        _names(found, alive.to_list(), store), on="doc_id", how="left", maintain_order="left"
    )


def document_frame(tracer: Tracer, ordinals: Sequence[int], steps: int) -> pl.DataFrame:
    """Return every place of a document in the run's steps; columns as of `step_frame`."""
    return _frame(tracer, tracer.document(ordinals, steps=steps))


def document_ids(tracer: Tracer, digits: str) -> tuple[str, list[int]]:
    """Complete the beginning of an id (4 digits or more); return it and its ordinals.

    Raises:
        InputError: it is no beginning of an id, or of none or several here.
    """
    digits = digits.strip().lower()
    if not 4 <= len(digits) <= 32 or set(digits) - set("0123456789abcdef"):
        raise InputError(
            "a document id has 32 hexadecimal digits (the first 4 or more will do), got "
            f"{digits[:40]!r}"
        )
    ordinals = tracer.find(digits).tolist()
    ids = sorted(set(_hex(tracer, ordinals)))
    if not ids:
        raise InputError(
            f"run {tracer.run.id} has no document {digits}: it was dropped, or belongs to another "
            "corpus; `preceptor why CORPUS ID` tells"
        )
    if len(ids) > 1:
        shown = ", ".join(ids[:6]) + (" ..." if len(ids) > 6 else "")
        raise InputError(f"{digits} begins {len(ids)} ids of run {tracer.run.id}: {shown}")
    return ids[0], ordinals


def _frame(tracer: Tracer, spans: Spans) -> pl.DataFrame:
    run, shards = tracer.run, tracer.shards
    plans = [phase.plan for phase in run.phases]
    copies, of_copies = tracer.copies(spans)
    return pl.DataFrame(
        {
            "step": spans.steps,
            "row": spans.rows,
            "position": spans.positions,
            "length": spans.lengths,
            "doc_id": pl.Series(_hex(tracer, spans.ordinals), dtype=pl.String),
            "source": pl.Series([run.sources[i] for i in spans.sources.tolist()], dtype=pl.String),
            "start": spans.starts,
            "of_tokens": shards.lengths[spans.ordinals],
            "copy": copies,
            "copies": of_copies,
            "phase": spans.phases,
            "plan": pl.Series([plans[i] for i in spans.phases.tolist()], dtype=pl.String),
            "epoch": spans.epochs,
            "plan_row": spans.plan_rows,
            "withdrawn": shards.withdrawn[spans.ordinals],
        }
    )


def _hex(tracer: Tracer, ordinals: Any) -> list[str]:
    return [one.hex() for one in tracer.shards.column("doc_id", ordinals).tolist()]


def _names(found: FoundRun, ids: Sequence[str], store: str | None) -> pl.DataFrame:
    """Return doc_id, key, url and title of documents, as far as their corpora are at hand."""
    empty = pl.DataFrame(schema=dict.fromkeys(("doc_id", *_NAMED), pl.String))
    if store is None:
        return empty
    replayed = found.content["config"].get("replay_corpus")
    frames = [empty]
    for name in filter(None, (found.corpus, replayed)):
        with contextlib.suppress(InputError, IntegrityError):  # gone, withdrawn or elsewhere
            frames.append(_named(name, ids, store))
    return pl.concat(frames).unique("doc_id", keep="first")


def _named(name: str, ids: Sequence[str], store: str) -> pl.DataFrame:
    documents = open_corpus(name, store=Store(store)).table("documents", hex_ids=False)
    wanted = pl.Series([bytes.fromhex(one) for one in ids], dtype=pl.Binary)
    title = pl.col("meta").str.json_path_match("$.title").alias("title")
    mine = documents.filter(pl.col("doc_id").is_in(wanted.implode()))
    return mine.select(pl.col("doc_id").bin.encode("hex"), "key", "url", title).collect()


def show_step(
    found: FoundRun, step: int, *, row: int | None, out: Path | None, store: str, as_json: bool
) -> None:
    """Print the documents of a step, or write them to a file.

    Raises:
        InputError: the run has no such step, or the step no such row.
    """
    if out is not None:
        check_out(out)
    if found.steps is not None and step > found.steps:
        raise InputError(f"run {found.id} has {found.steps:,} steps; there is no step {step:,}")
    tracer = Tracer.open(found.path)
    if row is not None and row >= tracer.run.batch_rows:
        raise InputError(
            f"a step of run {found.id} has rows 0 to {tracer.run.batch_rows - 1}; got --row {row}"
        )
    frame = step_frame(tracer, found, step, store)
    frame = frame if row is None else frame.filter(pl.col("row") == row)
    if out is not None:
        write_frame(frame, out)
        return
    done = found.told()["step"]
    if as_json:
        facts = {"run": found.id, "corpus": found.corpus, "step": step, "steps": found.steps}
        rows = [
            {
                **dict(zip(_OF_ROW, key, strict=True)),
                "spans": part.drop("step", *_OF_ROW).to_dicts(),
            }
            for key, part in frame.group_by(*_OF_ROW, maintain_order=True)
        ]
        say(json.dumps({**facts, "trained": step <= done, "rows": rows}, indent=1))
        return
    of = "" if found.steps is None else f" of {found.steps:,}"
    state = "trained" if step <= done else "not trained yet"
    say(
        f"step {step:,}{of}, {state}, of run {found.id} on {found.corpus}: "
        f"{frame['row'].n_unique():,} rows of {tracer.run.row_tokens:,} tokens, "
        f"{frame['doc_id'].n_unique():,} documents, {frame['length'].sum():,} tokens"
    )
    _show(frame, by_document=False)


def show_document(
    found: FoundRun, digits: str, *, out: Path | None, store: str, as_json: bool
) -> None:
    """Print every place where a document is or will be trained on, or write them to a file.

    Raises:
        InputError: no such document, or the run's steps are not settled yet.
    """
    if out is not None:
        check_out(out)
    if found.steps is None:
        raise InputError(
            f"run {found.id} settles its steps when it starts (it was given minutes); start it, or "
            "ask for a step: `preceptor trace RUN STEP`"
        )
    tracer = Tracer.open(found.path)
    doc_id, ordinals = document_ids(tracer, digits)
    frame = document_frame(tracer, ordinals, found.steps)
    if out is not None:
        write_frame(frame, out)
        return
    done = found.told()["step"]
    trained = frame.filter(pl.col("step") <= done)["step"].n_unique()
    known = [] if frame["withdrawn"].any() else [doc_id]
    named = _names(found, known, store).drop("doc_id").to_dicts()
    if as_json:
        facts = {"run": found.id, "corpus": found.corpus, "doc_id": doc_id, "steps": found.steps}
        places = frame.drop("doc_id").to_dicts()
        told = {**facts, "steps_done": done, **(named[0] if named else {}), "places": places}
        say(json.dumps(told, indent=1))
        return
    about = next((plain(str(v), 100) for v in (named[0] if named else {}).values() if v), "")
    say(f"{doc_id}{f' ({about})' if about else ''} in run {found.id} on {found.corpus}")
    if not frame.height:
        say(f"none of its {found.steps:,} steps reads it")
        return
    say(
        f"{frame['step'].n_unique():,} of its {found.steps:,} steps read it, {trained:,} of them "
        f"trained; {frame['length'].sum():,} tokens of its {frame['of_tokens'][0]:,}"
    )
    if frame["withdrawn"].any():
        say("it is forgotten: its tokens are masked, and nothing is learnt from it")
    _show(frame, by_document=True)


def _show(frame: pl.DataFrame, *, by_document: bool) -> None:
    """Print places: of one document by step, or of one step by row."""
    several = {name for name in ("epoch", "copies", "phase") if frame[name].n_unique() > 1}
    with_loss = not by_document and frame["nats"].is_not_null().any()
    copied = bool((frame["copies"] > 1).any())
    columns = [("step", "right")] if by_document else []
    columns += [("row", "right"), ("at", "right"), ("tokens", "right"), ("from", "right")]
    columns += [] if by_document else [("source", "left"), ("document", "left")]
    columns += [("copy", "right")] if copied else []
    columns += [("plan", "left")] if "phase" in several else []
    columns += [("epoch", "right")] if "epoch" in several else []
    columns += [("nats/token", "right")] if with_loss else []
    columns += [] if by_document else [("", "left")]
    table = new_table(*columns)
    for one in frame.head(_SHOWN).iter_rows(named=True):
        cells = [f"{one['step']:,}"] if by_document else []
        cells += [f"{one[name]:,}" for name in ("row", "position", "length")]
        cells += [f"{one['start']:,} of {one['of_tokens']:,}"]
        cells += [] if by_document else [escape(one["source"]), one["doc_id"][:_ID]]
        cells += [f"{one['copy']} of {one['copies']}"] if copied else []
        cells += [escape(one["plan"])] if "phase" in several else []
        cells += [f"{one['epoch']}"] if "epoch" in several else []
        if with_loss:
            cells.append("-" if one["nats"] is None else f"{one['nats']:.3f}")
        if not by_document:
            about = next((one[name] for name in ("title", "url", "key") if one[name]), "")
            forgotten = "forgotten " if one["withdrawn"] else ""
            cells.append(escape(forgotten + plain(" ".join(about.split()), 40)))
        table.add_row(*cells)
    show(table)
    if frame.height > _SHOWN:
        say(f"... and {frame.height - _SHOWN:,} more; `--json` or `--out FILE` gives them all")
