"""`preceptor dedup`: Parquet files in, Parquet files without duplicates out; no store needed."""

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["dedup"]

_INTERRUPTED = 130
_MAX_WIDTH = 100


def _threshold(value: float) -> float:
    if not 0.0 < value <= 1.0:
        raise typer.BadParameter(f"{value:g} is not above 0 and at most 1; 0.8 is usual")
    return value


def _shingle(value: str) -> str:
    width, _, unit = value.partition(" ")
    if not width.isdecimal() or unit not in ("words", "characters"):
        raise typer.BadParameter(f"'5 words' or '24 characters' would do, got {value!r}")
    if not 1 <= int(width[:9]) <= _MAX_WIDTH:
        raise typer.BadParameter(f"a shingle has 1 to {_MAX_WIDTH} {unit}, got {width[:9]}")
    return value


def dedup(
    inputs: Annotated[list[Path], typer.Argument(help="Parquet files.", metavar="FILE.parquet...")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.", metavar="DIR")],
    text: Annotated[str, typer.Option("--text", help="The column of text.")] = "text",
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold",
            help="Exact Jaccard that makes a duplicate, above 0 and at most 1.",
            callback=_threshold,
        ),
    ] = 0.8,
    shingle: Annotated[
        str,
        typer.Option("--shingle", help="'5 words' or '24 characters'.", callback=_shingle),
    ] = "5 words",
    bands: Annotated[int, typer.Option("--bands", help="LSH bands.", min=1)] = 16,
    rows: Annotated[int, typer.Option("--rows", help="Rows of a band.", min=1)] = 7,
    seed: Annotated[int, typer.Option("--seed", help="Of the permutations.", min=0)] = 1,
    workers: Annotated[int, typer.Option("--workers", help="Threads that hash.", min=1)] = 1,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Trust signatures.", hidden=True)
    ] = False,
) -> None:
    """Remove exact and verified near-duplicates from Parquet files, without a store or a recipe."""
    gc.disable()  # there are arrays only; looking at what numba imports costs a tenth of a second
    from curate.dedup.minhash import MinHashScheme
    from curate.dedup.stream import deduplicate_files
    from curate.kernels.shingles import Shingling

    width, _, unit = shingle.partition(" ")
    scheme = MinHashScheme(
        shingling=Shingling(unit=unit, width=int(width), max_document_bytes=8_000_000),
        bands=bands,
        rows=rows,
        seed=seed,
    )
    try:
        found = deduplicate_files(
            inputs,
            out,
            scheme=scheme,
            threshold=threshold,
            text=text,
            threads=workers,
            verify=not no_verify,
        )
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; nothing was written\n")
        raise SystemExit(_INTERRUPTED) from None
    finally:
        gc.enable()
    more = ""
    if found.without_text:
        more += f"; {found.without_text:,} rows without text stay"
    if found.crowded_unverified:
        more += (
            f"; {found.crowded_unverified:,} documents of crowded buckets stay without having been "
            "compared with all others there"
        )
    typer.echo(
        f"{out}: {found.kept:,} of {found.documents:,} documents kept; removed {found.exact:,} "
        f"exact and {found.near:,} near-duplicates ({found.verified:,} of {found.candidates:,} "
        f"candidate pairs verified; bands find {scheme.s_curve(threshold):.1%} of the pairs at "
        f"Jaccard {threshold:g}){more}"
    )
