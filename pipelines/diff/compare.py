"""Two versions of a corpus, or two corpora: all that differs, as plain JSON."""

from typing import Any

from pipelines.corpus import Corpus
from pipelines.diff import counts, lineage
from pipelines.diff.causes import attribute, causes
from pipelines.diff.joined import join
from pipelines.diff.samples import samples

__all__ = ["DIFF_FORMAT", "compare", "same_version"]

DIFF_FORMAT = 1


def same_version(a: Corpus, b: Corpus) -> bool:
    """Say whether two versions are one: every pass made the same of the same."""
    return dict(a.version.manifests) == dict(b.version.manifests)


def compare(a: Corpus, b: Corpus, *, num_samples: int = 3) -> dict[str, Any]:
    """Compare two corpora: what was gained, lost and changed from A to B, and what caused it.

    Documents are the same where their ids are: the same source name and the record's own key, or
    the same text where there are no keys.

    Args:
        a: the version before.
        b: the version after.
        num_samples: documents to show for each cause.

    Returns:
        JSON values: format, a, b, identical, comparable (whether tokens are of one tokenizer),
        balance, fates, causes, sources, reasons, moves, rules, splits, mixture, recipe, inputs,
        passes, fitted, samples; each is told where it is made (`pipelines.diff`).
    """
    joined = join(a, b)
    counted = counts.cube(joined)
    attributed = attribute(joined)
    told = {
        "recipe": lineage.recipe(joined),
        "inputs": lineage.inputs(joined),
        "passes": lineage.passes(joined),
        "fitted": lineage.fitted(joined),
    }
    found = causes(joined, attributed)
    reasons = counts.reasons(counted)
    return {
        "format": DIFF_FORMAT,
        **_named(a, b),
        "comparable": joined.comparable,
        "balance": counts.balance(joined, counted),
        "fates": counts.fates(joined, counted),
        "causes": [{**row, "because": lineage.because(row, told, joined)} for row in found],
        "sources": counts.sources(joined, counted),
        "reasons": reasons,
        "moves": counts.moves(counted),
        "rules": counts.rules(joined, reasons),
        "splits": counts.splits(counted),
        "mixture": counts.mixture(joined),
        **told,
        "samples": samples(joined, attributed, found, num_samples),
    }


def _named(a: Corpus, b: Corpus) -> dict[str, Any]:
    """Return both sides, told apart by fingerprint where two stores gave them one name."""
    identical = same_version(a, b)
    sides = [counts.side(corpus) for corpus in (a, b)]
    if sides[0]["id"] == sides[1]["id"] and not identical:
        for side in sides:
            side["id"] += f" ({side['fingerprint'][:8]})"
    return {"a": sides[0], "b": sides[1], "identical": identical}
