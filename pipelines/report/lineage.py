"""Where a version comes from: its recipe, the manifests of its passes, and what was refused."""

from typing import Any

import polars as pl

from curate.corpus.schema import FORMAT_VERSION
from pipelines.corpus import Corpus
from pipelines.recipe import Recipe
from pipelines.report.text import clip, visible
from pipelines.sections import Source

__all__ = ["lineage", "quarantine"]

_MAX_RECIPE_BYTES = 20_000
_MAX_ROWS, _EXAMPLES = 60, 3


def lineage(corpus: Corpus) -> dict[str, Any]:
    """Return the recipe as YAML, and what is known of every pass."""
    import yaml

    order = {name: place for place, name in enumerate(Recipe.model_fields)}
    keys = sorted(corpus.recipe, key=lambda key: (order.get(key, len(order)), key))
    recipe = {key: _without_defaults(key, corpus.recipe[key]) for key in keys}
    stated = {key: value for key, value in recipe.items() if value not in ({}, None)}
    text = yaml.safe_dump(stated, sort_keys=False, allow_unicode=True, width=88)
    names = sorted(corpus.version.manifests, key=lambda name: (_depth(corpus, name), name))
    passes = []
    for name in names:
        manifest = corpus.manifest(name)
        passes.append(
            {
                "pass": name,
                "fingerprint": manifest.fingerprint,
                "code": manifest.code,
                "parents": dict(sorted(manifest.parents.items())),
                "tables": [
                    {
                        "table": table,
                        "rows": manifest.rows(table),
                        "shards": len(shards),
                        "bytes": sum(shard.bytes for shard in shards),
                    }
                    for table, shards in sorted(manifest.tables.items())
                ],
                "counts": dict(sorted(manifest.counts.items())),
            }
        )
    tokenizer = corpus.tokenizer
    return {
        "format": FORMAT_VERSION,
        "recipe": clip(text, _MAX_RECIPE_BYTES),
        "tokenizer": {name: tokenizer.get(name) for name in ("sha256", "vocab_size")},
        "passes": passes,
    }


def _depth(corpus: Corpus, name: str) -> int:
    """Return how many passes stand between a pass and the sources."""
    return max((1 + _depth(corpus, parent) for parent in corpus.manifest(name).parents), default=0)


def _without_defaults(key: str, value: Any) -> Any:
    """Return a section's values that differ from the defaults; the rest as it is."""
    field = Recipe.model_fields.get(key)
    if field is None or not isinstance(value, dict):
        if key == "sources":
            return [{k: s[k] for k in Source.model_fields if s.get(k) is not None} for s in value]
        return value
    default = field.get_default(call_default_factory=True)
    if not hasattr(default, "model_dump"):
        return value
    defaults = default.model_dump(mode="json")
    return {k: v for k, v in value.items() if k not in defaults or v != defaults[k]}


def quarantine(corpus: Corpus) -> dict[str, Any]:
    """Return what could not be read, by reason and source, with the first examples of each."""
    table = corpus.table("quarantine").select("reason", "source", "uri", "offset", "detail")
    by = ["reason", "source", "uri", "offset", "detail"]
    counted = table.group_by("reason", "source").agg(records=pl.len()).collect()
    counted = counted.sort(["records", "reason", "source"], descending=[True, False, False])
    rows = []
    for row in counted.head(_MAX_ROWS).iter_rows(named=True):
        mine = (pl.col("reason") == row["reason"]) & (pl.col("source") == row["source"])
        examples = table.filter(mine).bottom_k(_EXAMPLES, by=by).collect().sort(by)
        rows.append(
            {
                **row,
                "examples": [
                    {
                        "uri": visible(example["uri"][-200:]),
                        "offset": example["offset"],
                        "detail": clip(example["detail"], 300),
                    }
                    for example in examples.iter_rows(named=True)
                ],
            }
        )
    return {"records": int(counted["records"].sum()), "groups": counted.height, "rows": rows}
