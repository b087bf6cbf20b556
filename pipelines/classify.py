"""`preceptor classify`: train a linear quality classifier from two sets of documents.

The sets are files of ids, one a line, or conditions in SQL over the corpus's own tables. The result
is one Arrow file: the weights, and facts that say what it was trained on and how well it tells the
fifth of the documents apart that it never saw. A recipe then measures with it:

    measure: {classifiers: {quality: models/quality.arrow}}
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.corpus.shard import iter_batches
from curate.signals.classifiers import evaluate, features_of, pack, scores, train
from pipelines.corpus import Corpus, open_corpus

__all__ = ["MIN_DOCUMENTS", "classify", "tell"]

MIN_DOCUMENTS = 50  # of a side; fewer are learned by heart
MAX_DOCUMENTS = 100_000  # of a side; more teach a linear model nothing
_EACH = 5  # each fifth document of a side is held out
_NAME = re.compile(r"[a-z][a-z0-9_]{0,40}")  # as in the recipe
_TABLES = {
    "documents": ("source", "key", "url", "license", "path", "timestamp"),
    "verdicts": ("kept", "reasons", "split", "num_bytes"),
}
_LABELS = {"good": 1, "bad": 0}


def classify(
    corpus: str,
    *,
    store: str,
    name: str,
    out: Path,
    good: Path | None = None,
    bad: Path | None = None,
    good_where: str | None = None,
    bad_where: str | None = None,
) -> dict[str, Any]:
    """Train a classifier and write it.

    Args:
        corpus: NAME or NAME@VERSION.
        store: where it is.
        name: of the classifier, as the recipe will call it.
        out: the Arrow file to write.
        good: a file of document ids, or None where `good_where` says which they are.
        bad: the same for the other side.
        good_where: a condition in SQL over the columns of documents, signals and verdicts.
        bad_where: the same for the other side.

    Returns:
        The facts that are stored in the file: documents, held_out, digests.

    Raises:
        InputError: a name that is no signal's, an id that is not in the corpus or on both sides, a
            condition that does not parse, fewer than 50 different texts on a side.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"--name {name!r}: a classifier becomes the signal classifier_<name>; write small "
            "letters, digits and underscores, such as quality"
        )
    opened = open_corpus(corpus, store=store)
    if out.is_dir():
        raise InputError(f"--out {out} is a folder; name a file, such as {out / (name + '.arrow')}")
    asked = {"good": (good, good_where), "bad": (bad, bad_where)}
    ids = {side: _ids(opened, side, *asked[side]) for side in _LABELS}
    both = ids["good"] & ids["bad"]
    if both:
        raise InputError(
            f"{len(both):,} documents are both good and bad, the first is {min(both)}; a document "
            "is one of them"
        )
    chosen, counts = _chosen(opened, ids)
    weights, held_out = _learned(opened, chosen)
    sides = {side: chosen.filter(pl.col("label") == label) for side, label in _LABELS.items()}
    facts = {
        "name": name,
        "corpus": str(opened.version),
        "documents": {side: len(ids[side]) for side in _LABELS} | counts,
        "trained_on": {side: one.filter(~one["held_out"]).height for side, one in sides.items()},
        "digests": {side: fingerprint(*one["hash"].to_list()) for side, one in sides.items()},
        "held_out": held_out,
    }
    packed = pack(weights, facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.write_bytes(packed)
    temporary.replace(out)
    return {**facts, "sha256": hashlib.sha256(packed).hexdigest()}


def tell(facts: Mapping[str, Any], out: Path) -> list[str]:
    """Return what people want to read of a classifier that was just trained."""
    held = facts["held_out"]
    low, high = held["auc_interval"]
    from_, to = held["accuracy_interval"]
    lines = [
        f"{out}: {facts['trained_on']['good']:,} good and {facts['trained_on']['bad']:,} bad texts",
        f"held out: {held['good']:,} good and {held['bad']:,} bad; area under the curve "
        f"{held['auc']:.3f} ({low:.3f} to {high:.3f}), balanced accuracy {held['accuracy']:.3f} "
        f"({from_:.3f} to {to:.3f})",
    ]
    if low <= 0.5:
        lines.append("warning: that is no better than chance; the two sets may not differ in words")
    lines.append(f"use it: measure: {{classifiers: {{{facts['name']}: {out}}}}}")
    return lines


def _ids(corpus: Corpus, side: str, file: Path | None, where: str | None) -> set[str]:
    """Return the ids of a side, 32 hex digits each."""
    if (file is None) == (where is None):
        raise InputError(f"say which documents are {side}: either --{side} FILE or --{side}-where")
    if where is not None:
        found = _matching(corpus, side, where)
        if not found:
            raise InputError(f"--{side}-where {where!r}: no document of {corpus.version} matches")
        return found
    assert file is not None, "one of the two is given"
    try:
        lines = file.read_text(encoding="utf-8-sig").split()
    except (OSError, ValueError) as error:
        raise InputError(f"--{side}: cannot read {file}: {error}") from None
    ids = {line.lower() for line in lines}
    listed = pl.LazyFrame({"doc_id": sorted(ids)}, schema={"doc_id": pl.String})
    known = corpus.table("verdicts").select("doc_id")
    strange = listed.join(known, on="doc_id", how="anti").collect()["doc_id"].sort().to_list()
    if strange or not ids:
        raise InputError(
            f"--{side}: {file} holds {len(strange):,} ids that are not in {corpus.version}, the "
            f"first is {strange[0][:40]!r}; write one id of 32 hexadecimal digits a line"
            if strange
            else f"--{side}: {file} holds no id"
        )
    return ids


def _matching(corpus: Corpus, side: str, where: str) -> set[str]:
    """Return the ids of the documents that a condition holds for."""
    from curate.rules.expression import parse_rule

    frame = corpus.table("signals").drop("text_hash")
    for table, wanted in _TABLES.items():
        other = corpus.table(table)
        there = [name for name in wanted if name in other.collect_schema()]
        frame = frame.join(other.select("doc_id", *there), on="doc_id", how="left", suffix="_")
    frame = frame.with_columns(pl.col("reasons").list.join(" "))
    try:
        rule = parse_rule("where", where, dict(frame.collect_schema()))
    except InputError as error:
        told = str(error).replace("signals are", "columns are").replace("rule 'where'", "condition")
        raise InputError(f"--{side}-where: {told}") from None
    found = frame.filter(rule.expression.fill_null(value=False)).select("doc_id").collect()
    return set(found["doc_id"].to_list())


def _chosen(corpus: Corpus, ids: Mapping[str, set[str]]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Return hash, doc_id, label, held_out of what is learned from, in the order of the hashes.

    Each text once, none that is on both sides, and of a large side the first hashes, which is a
    random sample that no order of the corpus changes.
    """
    frame = corpus.table("documents").select("doc_id", hash="text_hash")
    listed = pl.LazyFrame(
        {
            "doc_id": [one for side in _LABELS for one in sorted(ids[side])],
            "label": [label for side, label in _LABELS.items() for _ in ids[side]],
        },
        schema={"doc_id": pl.String, "label": pl.Int64},
    )
    gone = [one.hex() for one in corpus.forgotten()]
    listed = listed.filter(~pl.col("doc_id").is_in(gone))
    found = frame.join(listed, on="doc_id").sort("hash", "doc_id").collect()
    is_mixed = pl.col("label").n_unique().over("hash") > 1
    mixed = found.filter(is_mixed).height
    single = found.filter(~is_mixed).unique("hash", keep="first", maintain_order=True)
    for side, label in _LABELS.items():
        number = single.filter(pl.col("label") == label).height
        if number < MIN_DOCUMENTS:
            raise InputError(
                f"{number} different texts are {side}, and a classifier needs {MIN_DOCUMENTS} of "
                "each side: fewer are learned by heart"
                + (f" ({mixed} documents have a text that is on both sides)" if mixed else "")
            )
    counts = {"of_both_sides": mixed, "copies": found.height - mixed - single.height}
    place = pl.int_range(pl.len()).over("label")
    single = single.with_columns(place=place).filter(pl.col("place") < MAX_DOCUMENTS)
    return single.with_columns(held_out=pl.col("place") % _EACH == _EACH - 1), counts


def _learned(corpus: Corpus, chosen: pl.DataFrame) -> tuple[Any, dict[str, Any]]:
    """Return the weights, and how well they do on what is held out."""
    texts = _texts(corpus, chosen)
    held = chosen["held_out"].to_numpy()
    labels = chosen["label"].to_numpy()
    weights = train(*features_of(texts.filter(pa.array(~held))), labels[~held])
    found = np.nan_to_num(scores(texts.filter(pa.array(held)), weights), nan=0.5)
    return weights, evaluate(labels[held].tolist(), found.tolist())


def _texts(corpus: Corpus, chosen: pl.DataFrame) -> Any:
    """Return the texts of the chosen documents, in their order."""
    wanted = pa.array([bytes.fromhex(one) for one in chosen["doc_id"]], pa.binary(16))
    ids, texts = [], []
    for shard in corpus.shards("documents"):
        for batch in iter_batches(corpus.store.storage, shard, ["doc_id", "text"]):
            rows = batch.filter(pc.is_in(batch.column("doc_id"), value_set=wanted))
            ids.append(rows.column("doc_id"))
            texts.append(rows.column("text"))
    place = pc.index_in(wanted, value_set=pa.concat_arrays(ids))
    return pa.chunked_array(texts).take(place).combine_chunks()
