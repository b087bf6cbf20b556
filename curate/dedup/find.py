"""Near-duplicates of a column of texts in one call: words, shingles, signatures, verified edges.

>>> import pyarrow as pa
>>> tale = "the fox ran over the hill and the dog slept by the gate all day long"
>>> texts = pa.array([tale, "Nothing to see here at all", tale + " ..."], pa.large_string())
>>> edges = near_duplicates(texts)
>>> edges.pairs.tolist(), edges.jaccard.tolist()
([[0, 2]], [1.0])
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.dedup.candidates import candidate_pairs
from curate.dedup.minhash import MinHashScheme, sketch
from curate.dedup.verify import similarity
from curate.kernels.shingles import shingle_sets

__all__ = ["Edges", "near_duplicates"]

CURVE_POINTS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, kw_only=True)
class Edges:
    """Verified near-duplicate edges and how they were found.

    Attributes:
        pairs: int64 [m, 2] ordinals, i < j, in lexicographic order.
        jaccard: float64 [m], exact similarity of the shingle sets, at least the threshold.
        num_docs: documents looked at.
        num_eligible: those with at least one shingle; the others can only be exact duplicates.
        num_candidates: pairs that shared a band.
        num_capped_buckets, num_capped_documents: see `curate.dedup.candidates`.
        threshold, scheme: the settings.
    """

    pairs: npt.NDArray[np.int64]
    jaccard: npt.NDArray[np.float64]
    num_docs: int
    num_eligible: int
    num_candidates: int
    num_capped_buckets: int
    num_capped_documents: int
    threshold: float
    scheme: MinHashScheme

    def statistics(self) -> dict[str, object]:
        """Return counts, settings and the S-curve as plain data for a manifest or a report."""
        return {
            "num_docs": self.num_docs,
            "num_eligible": self.num_eligible,
            "num_candidates": self.num_candidates,
            "num_verified": self.pairs.shape[0],
            "num_capped_buckets": self.num_capped_buckets,
            "num_capped_documents": self.num_capped_documents,
            "threshold": self.threshold,
            "scheme": self.scheme.to_dict(),
            "s_curve": {str(s): round(self.scheme.s_curve(s), 4) for s in CURVE_POINTS},
        }


def near_duplicates(
    texts: pa.LargeStringArray,
    scheme: MinHashScheme | None = None,
    threshold: float = 0.8,
    *,
    max_bucket: int = 1000,
    kind: str = "jaccard",
) -> Edges:
    """Find the pairs of texts whose shingle sets have a similarity of at least `threshold`.

    A similar pair is found with the probability of `scheme.s_curve`; a pair that is returned is
    certain. Everything is held in memory; the pass `deduplicate` is for what does not fit.

    Args:
        texts: Arrow large_string; null counts as empty.
        scheme: shingles, bands and rows; the default is 16 bands x 7 rows of word 5-grams.
        threshold: in (0, 1].
        max_bucket: the largest LSH bucket that gives all its pairs.
        kind: `jaccard` or `containment`.
    """
    if not 0.0 < threshold <= 1.0:
        raise InputError(f"threshold must be in (0, 1], got {threshold}; 0.8 is usual")
    scheme = scheme or MinHashScheme()
    found = sketch(texts, scheme)
    eligible = found.num_shingles > 0
    candidates = candidate_pairs(found.keys, eligible, max_bucket)
    wanted, local = np.unique(candidates.pairs, return_inverse=True)
    chosen = texts.take(pa.array(wanted))
    whole = replace(scheme.shingling, max_document_bytes=0)  # who goes is decided by all of it
    shingles, offsets = shingle_sets(chosen, whole)
    score = similarity(local.reshape(-1, 2), shingles, offsets, kind)
    verified = score >= threshold
    return Edges(
        pairs=candidates.pairs[verified],
        jaccard=score[verified],
        num_docs=eligible.size,
        num_eligible=int(eligible.sum()),
        num_candidates=candidates.pairs.shape[0],
        num_capped_buckets=candidates.num_capped_buckets,
        num_capped_documents=candidates.num_capped_documents,
        threshold=threshold,
        scheme=scheme,
    )
