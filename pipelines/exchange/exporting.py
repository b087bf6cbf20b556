"""Export: the documents of a corpus version in a format that other tools read.

A folder is written whole or not at all, and says in `preceptor.json` what it was made from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from curate.corpus.errors import InputError, one_of
from curate.tokens.exporters.registry import token_formats
from pipelines.corpus import Corpus
from pipelines.exchange import webdataset
from pipelines.exchange.choosing import Choice, choose
from pipelines.exchange.choosing import told as told_of
from pipelines.exchange.folders import new_folder
from pipelines.exchange.tokens import export_tokens, token_dtype

__all__ = ["PARQUET", "Exported", "export", "formats"]

PARQUET = "parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What an export wrote.

    Attributes:
        splits: split -> documents, files (relative to the folder), and tokens of token formats.
        reads: how the consumer opens it, for people; None where it is the usual way.
    """

    splits: Mapping[str, Mapping[str, Any]]
    reads: str | None

    @property
    def documents(self) -> int:
        """Documents, every copy counted."""
        return sum(int(one["documents"]) for one in self.splits.values())

    @property
    def tokens(self) -> int:
        """Tokens, 0 for text."""
        return sum(int(one.get("tokens", 0)) for one in self.splits.values())

    @property
    def files(self) -> int:
        """Data files."""
        return sum(len(one["files"]) for one in self.splits.values())


def formats() -> dict[str, str]:
    """Return format -> what it is, for people."""
    text = "Hugging Face: a Parquet folder with a dataset card and Croissant metadata"
    return {
        PARQUET: text,
        webdataset.NAME: webdataset.DESCRIPTION,
        **{name: one.description for name, one in token_formats().items()},
    }


def export(
    corpus: Corpus,
    format_name: str,
    out: str | Path,
    *,
    what: str = "kept",
    phase: str | None = None,
    keep_bos: bool = False,
) -> Exported:
    """Write documents into a new folder; return what was written.

    Args:
        corpus: the version.
        format_name: one of `formats`.
        out: a folder that is not there, or empty.
        what: `kept`, every document once; or `drawn`, the mixture with its copies.
        phase: of the mixture; by default all, one after the other.
        keep_bos: documents of token formats begin with the token that begins them here.

    Raises:
        InputError: an unknown format, phase or choice, a folder that is not empty, a corpus that
            has nothing for this format.
    """
    if format_name not in formats():
        raise InputError(one_of("export format", format_name, formats()))
    if format_name not in token_formats() and keep_bos:
        holds = "text" if format_name == PARQUET else "files"
        raise InputError(f"--bos is about tokens, and {format_name} holds {holds}; leave it out")
    choice = choose(corpus, what, phase)
    with new_folder(out) as folder:
        if format_name == PARQUET:
            from pipelines.exchange.card import write_card
            from pipelines.exchange.croissant import write_croissant
            from pipelines.exchange.texts import export_texts

            splits = export_texts(corpus, folder, choice)
            write_card(corpus, folder, splits, choice)
            write_croissant(corpus, folder, splits)
        elif format_name == webdataset.NAME:
            splits = webdataset.export_webdataset(corpus, folder, choice)
        else:
            one = token_formats()[format_name]
            splits = export_tokens(corpus, one, folder, choice, keep_bos=keep_bos)
        if not splits:
            raise InputError(f"{corpus.version} has no such document, so there is no export")
        _lineage(corpus, folder, format_name, splits, choice)
    reads: str | None = webdataset.READS if format_name == webdataset.NAME else None
    if format_name in token_formats():
        reads = token_formats()[format_name].reads
    return Exported(splits=splits, reads=reads)


def _about_tokens(corpus: Corpus) -> dict[str, Any]:
    """Return what a trainer's configuration asks about token files."""
    tokenizer = corpus.manifest("tokenize").info["tokenizer"]
    told = {name: tokenizer[name] for name in ("sha256", "vocab_size", "specials")}
    return {"dtype": token_dtype(corpus).name, **told}


def _lineage(
    corpus: Corpus,
    folder: Path,
    format_name: str,
    splits: Mapping[str, Mapping[str, Any]],
    choice: Choice,
) -> None:
    """Write `preceptor.json`, and the recipe as people write it."""
    lineage = {
        "corpus": str(corpus.version),
        "fingerprint": corpus.version.fingerprint,
        "manifests": dict(corpus.version.manifests),
        "recipe": dict(corpus.recipe),
        "format": format_name,
        **told_of(choice),
        "splits": splits,
        "documents": sum(int(one["documents"]) for one in splits.values()),
        **({"tokens": _about_tokens(corpus)} if format_name in token_formats() else {}),
    }
    (folder / "preceptor.json").write_text(
        json.dumps(lineage, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    recipe = yaml.safe_dump(dict(corpus.recipe), sort_keys=True, width=100)
    (folder / "recipe.yaml").write_text(recipe, encoding="utf-8")
