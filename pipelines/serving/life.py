"""The whole life of a document, cut to what a page shows."""

from typing import Any

from pipelines.corpus import MAX_COMPARED, Corpus, why
from pipelines.explain import similarity_told

__all__ = ["told"]

_MAX_TEXT = 20_000
_MAX_ROWS = 20
_MAX_PLACES = 12


def _likened(corpus: Corpus, edge: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return an edge with how alike the two are in words, as they were compared."""
    if edge is None or edge["jaccard"] is None:
        return edge
    return {**edge, "alike": similarity_told(corpus, edge)}


def told(corpus: Corpus, doc_id: str) -> dict[str, Any]:
    """Return what `preceptor why` tells of a document, texts and lists clipped for a page.

    Raises:
        InputError: no document, or several, begin with these digits.
    """
    life = why(corpus, doc_id)
    document, verdict = life["document"], life["verdict"]
    text = document["text"]
    rules = life["rules"]
    exempt = rules["exempt"]
    return {
        **{name: life[name] for name in ("doc_id", "cleaning", "tokens")},
        "kept_instead": _likened(corpus, life["kept_instead"]),
        "shows": "Caption" if "media_hash" in document else "Text",
        "document": {name: value for name, value in document.items() if name != "text"},
        "is_forgotten": "forgotten" in verdict["reasons"],
        "text": text[:_MAX_TEXT],
        "characters": len(text),
        "verdict": verdict,
        "rules": [
            {
                "reason": rule["reason"],
                "keep": rule.get("overrides", {}).get(verdict["source"], rule["keep"]),
                "values": [[name, life["signals"].get(name)] for name in rule["reads"]],
                "margin": verdict["margins"].get(rule["reason"]),
                "outcome": "exempt"
                if verdict["source"] in exempt.get(rule["reason"], ())
                else "fails"
                if rule["reason"] in verdict["reasons"]
                else "passes",
            }
            for rule in rules["rules"]
        ],
        "signals": life["signals"],
        "duplicates": [_likened(corpus, edge) for edge in life["duplicates"][:MAX_COMPARED]],
        "num_duplicates": len(life["duplicates"]),
        "contamination": life["contamination"][:_MAX_ROWS],
        "num_contamination": len(life["contamination"]),
        "cut_lines": life["cut_lines"][:_MAX_ROWS],
        "num_cut_lines": len(life["cut_lines"]),
        "draws": life["draws"],
        "rows": life["rows"][:_MAX_PLACES],
        "num_rows": len(life["rows"]),
        "training": life["training"],
    }
