"""How near-duplicates were looked for, and how well it worked: from `deduplicate`'s manifest alone.

Recall and precision are measured on the corpus itself, from a sample that is compared exactly. A
store may hold manifests of earlier versions: what they do not say is left out.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from curate.corpus.manifest import Manifest
from pipelines.report.text import number, percent, size

__all__ = ["COUNTS", "crowded", "near_duplicates", "told"]

COUNTS = (
    "documents",
    "exact",
    "candidates",
    "near",
    "clusters",
    "clustered_documents",
    "largest_cluster",
    "capped_documents",
    "hot_buckets",
    "hot_documents",
    "capped_buckets",
)
_CURVE_POINTS = 61
_MEASURED = {
    "recall": ("found_pairs", "true_pairs"),
    "precision": ("correct_edges", "checked_edges"),
}


def near_duplicates(manifest: Manifest) -> dict[str, Any] | None:
    """Return the scheme in words, its S-curve and what was measured; None if it was not asked.

    Keys: shingle, threshold, similarity, bands, rows, scheme ([name, words] pairs), s_curve,
    measured (rows of what, share, low, high, good, of), floor, sampled_documents, probed_documents,
    confidence.
    """
    asked = manifest.settings.get("near")
    if not asked:
        return None
    scheme = manifest.info.get("scheme") or {}
    shingling = scheme.get("shingling") or {}
    bands, rows = (scheme.get(name, asked.get(name)) for name in ("bands", "rows"))
    width, unit = shingling.get("width"), shingling.get("unit")
    shingle = f"{width} {unit}" if width and unit else str(asked.get("shingle", "shingles"))
    if asked.get("similarity") == "perceptual":
        shingle, bands, rows = f"{asked['distance']} of 64 bits", None, None
    elif "landmarks" in scheme:
        shingle = "landmarks"
    found: dict[str, Any] = {
        "shingle": shingle,
        "threshold": asked.get("threshold"),
        "similarity": asked.get("similarity", "jaccard"),
        "bands": bands,
        "rows": rows,
    }
    found["scheme"] = _words(found, asked, scheme, shingling)
    found["against"] = _against(manifest)
    found["s_curve"] = _s_curve(found, manifest.info.get("s_curve") or [])
    return found | _measured(manifest.info.get("measured") or {})


def _against(manifest: Manifest) -> str | None:
    against = manifest.info.get("against")
    named = against.get("corpus") if isinstance(against, Mapping) else against
    return str(named) if named else None


def _words(
    found: Mapping[str, Any],
    asked: Mapping[str, Any],
    scheme: Mapping[str, Any],
    shingling: Mapping[str, Any],
) -> list[list[str]]:
    """Return the scheme as pairs of a name and a few words."""
    numbers = "; every number counts as 0" if shingling.get("numbers") == "zero" else ""
    cap = shingling.get("max_document_bytes") or asked.get("max_document_bytes")
    if found["similarity"] == "perceptual":
        return _words_of_images(asked, scheme)
    rows = [["Compared by", f"shingles of {found['shingle']}{numbers}"]]
    if "landmarks" in scheme:
        rows, cap = [["Compared by", "landmarks: pairs of spectral peaks (Wang 2003)"]], None
    if asked.get("like"):
        rows.append(["Like", f"{asked['like']}: its normaliser, shingles, hash and bands"])
    hashed = [shingling.get("normaliser"), shingling.get("hash", scheme.get("hash"))]
    if all(hashed):
        rows.append(["Hashed by", f"{hashed[1]} after the normaliser of {hashed[0]}"])
    if found["bands"] and found["rows"]:
        kind = ", ".join(
            f"{label}{scheme[name]}"
            for name, label in (("scheme", ""), ("seed", "seed "))
            if name in scheme
        )
        rows.append(
            [
                "Candidates",
                f"{found['bands']} bands x {found['rows']} rows = "
                f"{found['bands'] * found['rows']} permutations" + (f" ({kind})" if kind else ""),
            ]
        )
    sets = "landmark" if "landmarks" in scheme else "shingle"
    if found["threshold"] is not None:
        rows.append(
            [
                "Verified by",
                f"exact {_similarity(found)} of the {sets} sets, at least "
                f"{number(found['threshold'])}",
            ]
        )
    if cap:
        rows.append(["Long documents", f"looked for by their first {size(int(cap))}"])
    return rows


def _words_of_images(asked: Mapping[str, Any], scheme: Mapping[str, Any]) -> list[list[str]]:
    distance, alike = asked["distance"], scheme.get("likeness")
    look = f"; thumbnails alike by {number(alike)} in their worst part" if alike else ""
    return [
        ["Compared by", "perceptual hashes of 64 bits (DCT; Zauner 2010)"],
        ["Candidates", f"every pair that differs in at most {distance} bits, by equal blocks"],
        ["Verified by", f"at most {distance} bits{look}"],
    ]


def _similarity(found: Mapping[str, Any]) -> str:
    return "Jaccard" if found["similarity"] == "jaccard" else str(found["similarity"])


def _s_curve(found: Mapping[str, Any], given: list[list[float]]) -> dict[str, Any] | None:
    """Return the chance that a pair of some Jaccard is compared at all (MMDS, 3.4.2)."""
    bands, rows = found["bands"], found["rows"]
    if bands and rows:
        steps = [i / (_CURVE_POINTS - 1) for i in range(_CURVE_POINTS)]
        points = [[round(step, 4), _chance(step, bands, rows)] for step in steps]
    elif len(given) > 1:
        points = [[float(x), float(y)] for x, y in given]
    else:
        return None
    # The curve is over the Jaccard; of a containment threshold it has no single value.
    threshold = found["threshold"] if found["similarity"] == "jaccard" else None
    at = None
    if threshold is not None:
        at = _chance(threshold, bands, rows) if bands and rows else _between(points, threshold)
    return {
        "bands": bands,
        "rows": rows,
        "threshold": threshold,
        "at_threshold": at,
        "points": points,
    }


def _chance(jaccard: float, bands: int, rows: int) -> float:
    return round(float(1 - (1 - jaccard**rows) ** bands), 6)


def _between(points: list[list[float]], at: float) -> float | None:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= at <= x1 and x1 > x0:
            return round(y0 + (y1 - y0) * (at - x0) / (x1 - x0), 6)
    return None


def _measured(measured: Mapping[str, Any]) -> dict[str, Any]:
    rows = []
    for what, (good, whole) in _MEASURED.items():
        if measured.get(what) is not None:
            low, high = (measured.get(f"{what}_{end}") for end in ("low", "high"))
            counted = {"good": measured.get(good), "of": measured.get(whole)}
            rows.append(
                {"what": what, "share": measured[what], "low": low, "high": high, **counted}
            )
    lowest = min((row["share"] if row["low"] is None else row["low"] for row in rows), default=0.0)
    floor = math.floor(10 * min(lowest, 0.99)) / 10  # where the drawn scale begins
    named = ("sampled_documents", "probed_documents", "true_pairs", "confidence")
    return {"measured": rows, "floor": floor, **{name: measured.get(name) for name in named}}


def told(found: Mapping[str, Any], counts: Mapping[str, int]) -> str:
    """Return it all in a line, for a terminal."""
    bands = f", {found['bands']} bands x {found['rows']} rows" if found["bands"] else ""
    line = (
        f"near-duplicates ({found['shingle']}{bands}, {_similarity(found)} >= "
        f"{number(found['threshold'])}): {counts.get('candidates', 0):,} pairs compared, "
        f"{counts.get('near', 0):,} verified"
    )
    rates = [
        f"{row['what']} {percent(row['share'])}"
        + (
            f" ({percent(row['low'])} to {percent(row['high'])})"
            if row["low"] is not None and row["high"] is not None
            else ""
        )
        for row in found["measured"]
    ]
    if found["sampled_documents"] and not any(row["what"] == "recall" for row in found["measured"]):
        rates.insert(0, "no recall (the sampled documents have no near-duplicates)")
    return line + (f"; measured here: {', '.join(rates)}" if rates else "")


def crowded(counts: Mapping[str, int]) -> str | None:
    """Return what `judge` could not compare, in a sentence; None if there is nothing to tell."""
    count = counts.get("crowded_unverified", 0)
    if not count:
        return None
    return (
        f"{number(count)} {'document' if count == 1 else 'documents'} of large groups of similar "
        "ones could not be compared with all the others: some near-duplicates may have stayed; "
        "raise deduplicate.near.max_bucket to compare them all."
    )
