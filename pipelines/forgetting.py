"""The command `preceptor forget`; every import that costs time is inside."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.corpus.errors import InputError, IntegrityError
from pipelines.options import STORE, CorpusArgument, StoreOption

if TYPE_CHECKING:
    from pipelines.forget.takedown import Takedown

__all__ = ["forget", "show_takedown"]

_SHOWN = 12


def forget(
    corpus: CorpusArgument,
    ids: Annotated[
        Path | None, typer.Option("--ids", help="A file of document ids, one a line.")
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", help="A condition over documents and signals.", metavar="SQL"),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", help="A whole address; * and ? stand for any.", metavar="PATTERN"),
    ] = None,
    restore_twin: Annotated[
        bool,
        typer.Option("--restore-twin", help="Let its near twins come back in the next run."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what it would find; change nothing.")
    ] = False,
    with_purge: Annotated[
        bool,
        typer.Option("--purge", help="Delete the bytes from every file of the store; needs --yes."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Purge, which cannot be undone.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the receipt.")] = "",
    runs: Annotated[
        list[Path] | None,
        typer.Option("--runs", help="More folders with training runs. Repeatable.", metavar="DIR"),
    ] = None,
    store: StoreOption = STORE,
    as_json: Annotated[bool, typer.Option("--json", help="Print the receipt.")] = False,
) -> None:
    """Take documents out of a corpus for good: masked in place, with a receipt of who saw them."""
    if with_purge and not (yes or dry_run):
        raise InputError(
            "--purge deletes the bytes and withdraws old versions, which cannot be undone; look "
            "with --dry-run first, then add --yes"
        )
    from pipelines.forget.selecting import Request, read_ids
    from pipelines.forget.takedown import forget as take_down

    request = Request(ids=read_ids(ids) if ids is not None else None, where=where, url=url)
    try:
        done = take_down(
            corpus,
            request,
            store=store,
            reason=reason,
            restore_twin=restore_twin,
            dry_run=dry_run,
            with_purge=with_purge,
            runs=runs or (),
        )
    except IntegrityError as error:
        error.add_note("Is another takedown at work here? Run the same command again")
        raise
    if as_json:
        import json

        typer.echo(json.dumps(done.receipt, indent=1, ensure_ascii=True))
        return
    show_takedown(done, store=store, dry_run=dry_run)


def show_takedown(done: "Takedown", *, store: str, dry_run: bool) -> None:
    """Print what was found and done."""
    from pipelines.console import say

    receipt = done.receipt
    documents = receipt["documents"]
    named = sum(row["named"] for row in documents)
    kept = sum(row["was_kept"] for row in documents)
    say(
        f"{_count(len(documents), 'document')}: {named:,} named, "
        f"{_count(len(documents) - named, 'exact twin')}; {kept:,} of them kept in "
        f"{receipt['version_before']}"
        + (
            f"; {_count(len(receipt['unknown_ids']), 'id')} nobody has"
            if receipt["unknown_ids"]
            else ""
        )
    )
    _documents(documents)
    _near(receipt["near_twins"], returning=bool(receipt.get("near_twins_return")))
    _versions(receipt["versions"])
    _runs(receipt["runs"])
    if dry_run:
        say("nothing was changed; the same command without --dry-run does it")
        return
    if done.path is None:
        say(f"all of it was forgotten before; {done.version} stays as it is")
        return
    rewritten = ", ".join(f"{n} of {table}" for table, n in receipt["rewritten"].items())
    say(f"{done.version} is current; written anew: {rewritten or 'nothing'}")
    purged = receipt.get("purge")
    if purged:
        say(
            f"purged: {_count(len(purged['deleted_files']), 'file')}, "
            f"{purged['deleted_bytes']:,} bytes; withdrawn: "
            f"{', '.join(purged['withdrawn']) or 'no version'}"
        )
    for sentence in receipt["remains"]:
        say(f"  remains: {sentence}")
    say(f"receipt: {Path(store) / done.path if '://' not in store else done.path}")


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'' if number == 1 else 's'}"


def _documents(documents: Sequence[Mapping[str, Any]]) -> None:
    from rich.markup import escape

    from pipelines.console import new_table, plain, say, show

    table = new_table(
        ("document", "left"),
        ("source", "left"),
        ("", "left"),
        ("tokens", "right"),
        ("rows", "left"),
    )
    for row in documents[:_SHOWN]:
        rows = sorted({span[0] for spans in row["plans"].values() for span in spans})
        shown = ", ".join(map(str, rows[:4])) + (f" ... ({len(rows)})" if len(rows) > 4 else "")
        state = "kept" if row["was_kept"] else "forgotten" if row["was_forgotten"] else "dropped"
        state += "" if row["named"] else ", twin"
        source = escape(plain(row["source"] or "(an earlier version)", 40))
        table.add_row(row["doc_id"], source, state, f"{row['tokens']:,}", shown)
    show(table)
    if len(documents) > _SHOWN:
        say(f"... and {len(documents) - _SHOWN:,} more; --json lists them all")


def _near(twins: Sequence[Mapping[str, Any]], *, returning: bool) -> None:
    from rich.markup import escape

    from pipelines.console import new_table, plain, say, show

    if not twins:
        return
    table = new_table(
        (f"near twin ({'the best comes back' if returning else 'stays as it is'})", "left"),
        ("source", "left"),
        ("Jaccard", "right"),
        ("", "left"),
    )
    for row in twins[:_SHOWN]:
        held = "dropped for it" if row["spoken_for"] else "kept" if row["kept"] else "dropped"
        source = escape(plain(row["source"], 40))
        table.add_row(row["doc_id"], source, f"{row['jaccard']:.3f}", held)
    show(table)
    if len(twins) > _SHOWN:
        say(f"... and {len(twins) - _SHOWN:,} more; --json lists them all")


def _versions(versions: Sequence[Mapping[str, Any]]) -> None:
    from rich.markup import escape

    from pipelines.console import say

    for row in versions[:_SHOWN]:
        masked = f", {row['forgotten']:,} masked already" if row["forgotten"] else ""
        say(
            f"in {escape(row['corpus'])}@{row['version']}: {row['documents']:,}, "
            f"{row['kept']:,} kept{masked}"
        )


def _runs(runs: Sequence[Mapping[str, Any]]) -> None:
    from rich.markup import escape

    from pipelines.console import plain, say

    for run in runs:
        if "cannot_be_read" in run:
            say(f"run {escape(plain(run['run'], 60))}: {escape(plain(run['cannot_be_read'], 200))}")
            continue
        seen = [one["step"] for one in run["checkpoints"] if one["has_seen"]]
        say(
            f"run {escape(plain(run['run'], 60))} of {escape(plain(run['corpus'], 80))}: "
            + (
                f"read at {_count(run['num_steps'], 'step')}, first {run['first_step']:,}, of "
                f"{run['steps_done']:,}; checkpoints that have seen it: "
                f"{', '.join(map(str, seen)) or 'none'}"
                if run["num_steps"]
                else f"holds it, not read in its {run['steps_done']:,} steps"
            )
        )
