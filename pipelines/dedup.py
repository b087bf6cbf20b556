"""`preceptor dedup`: Parquet files in, Parquet files without duplicates out; no store needed."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["dedup"]


def dedup(
    inputs: Annotated[list[Path], typer.Argument(help="Parquet files.", metavar="FILE.parquet...")],
    out: Annotated[Path, typer.Option("--out", help="A new or empty folder.", metavar="DIR")],
    text: Annotated[str, typer.Option("--text", help="The column of text.")] = "text",
    threshold: Annotated[
        float,
        typer.Option("--threshold", help="Exact Jaccard that makes a duplicate.", min=0, max=1),
    ] = 0.8,
    shingle: Annotated[
        str, typer.Option("--shingle", help="'5 words' or '24 characters'.")
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
    from curate.corpus.errors import InputError
    from curate.dedup.minhash import MinHashScheme
    from curate.dedup.stream import deduplicate_files
    from curate.kernels.shingles import Shingling

    width, _, unit = shingle.partition(" ")
    if not width.isdecimal() or unit not in ("words", "characters"):
        raise InputError(f"--shingle is '5 words' or '24 characters', got {shingle!r}")
    scheme = MinHashScheme(
        shingling=Shingling(unit=unit, width=int(width), max_document_bytes=8_000_000),
        bands=bands,
        rows=rows,
        seed=seed,
    )
    found = deduplicate_files(
        inputs,
        out,
        scheme=scheme,
        threshold=threshold,
        text=text,
        threads=workers,
        verify=not no_verify,
    )
    typer.echo(
        f"{out}: {found.kept:,} of {found.documents:,} documents kept; removed {found.exact:,} "
        f"exact and {found.near:,} near-duplicates ({found.verified:,} of {found.candidates:,} "
        f"candidate pairs verified; bands find {scheme.s_curve(threshold):.1%} of the pairs at "
        f"Jaccard {threshold:g})"
    )
