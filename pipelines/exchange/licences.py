"""Which licences a corpus has, and how the Hugging Face hub calls them."""

import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from pipelines.corpus import Corpus
from pipelines.exchange.markdown import one_line

__all__ = ["hub_licence", "licences_of"]

# Identifiers the hub knows (huggingface.co/docs/hub/repositories-licenses), all but the models'.
_HUB = re.compile(
    r"apache-2\.0|mit|isc|zlib|wtfpl|unlicense|cc|cc0-1\.0|cc-by-(2\.0|2\.5|3\.0|4\.0)|"
    r"cc-by-sa-[34]\.0|cc-by-nc-[234]\.0|cc-by-nd-4\.0|cc-by-nc-nd-[34]\.0|cc-by-nc-sa-[234]\.0|"
    r"bsd(-2-clause|-3-clause(-clear)?)?|gpl(-[23]\.0)?|lgpl(-2\.1|-3\.0)?|agpl-3\.0|mpl-2\.0|"
    r"epl-[12]\.0|eupl-1\.[12]|artistic-2\.0|afl-3\.0|bsl-1\.0|ecl-2\.0|odc-by|odbl|pddl|"
    r"cdla-(permissive-[12]\.0|sharing-1\.0)|gfdl|osl-3\.0|postgresql|ncsa|ofl-1\.1|ms-pl"
)
_SUFFIXES = ("-only", "-or-later")


def licences_of(corpus: Corpus) -> list[str]:
    """Return the licences of the kept documents, most documents first."""
    kept = corpus.table("verdicts", hex_ids=False).filter("kept").select("doc_id")
    documents = corpus.table("documents", hex_ids=False).select("doc_id", "license")
    found: Any = (
        documents.join(kept, on="doc_id", how="semi")
        .filter(pl.col("license").is_not_null())
        .group_by("license")
        .agg(n=pl.len())
        .sort(["n", "license"], descending=[True, False])
        .collect()
    )
    return [str(name) for name in found["license"]]


def hub_licence(names: Iterable[str], *, partly: bool = False) -> dict[str, Any]:
    """Return the front matter's licence: identifiers of the hub, or `other` and its names.

    Args:
        names: of the licences.
        partly: there are documents without a known one.

    >>> hub_licence(["CC0-1.0", "MIT"]), hub_licence(["MIT"], partly=True)
    ({'license': ['cc0-1.0', 'mit']}, {'license': ['mit', 'unknown']})
    >>> hub_licence(["Our Terms"])
    {'license': 'other', 'license_name': 'Our Terms'}
    """
    listed = [one_line(name) for name in names]
    known = []
    for name in listed:
        one = name.lower()
        for suffix in _SUFFIXES:
            one = one.removesuffix(suffix)
        known.append(one if _HUB.fullmatch(one) else None)
    if not listed:
        return {"license": "unknown"}
    more = ["unknown"] if partly else []
    if None in known:
        return {"license": "other", "license_name": "; ".join([*listed, *more])[:200]}
    unique = [*dict.fromkeys(known), *more]
    return {"license": unique[0] if len(unique) == 1 else unique}
