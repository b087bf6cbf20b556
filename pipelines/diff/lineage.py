"""What differs between two versions' lineages: recipe, inputs, passes, fitted artefacts.

>>> differences({"mix": {"repeat_cap": 4}}, {"mix": {"repeat_cap": 2, "budget": "1M tokens"}})
[('mix.budget', None, '1M tokens'), ('mix.repeat_cap', 4, 2)]
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from pipelines.corpus import Corpus
from pipelines.diff.causes import collected
from pipelines.diff.joined import Joined

__all__ = ["because", "differences", "fitted", "inputs", "passes", "recipe"]

_MAX_PATHS = 400
_MAX_FILES = 60
_MAX_KEYS = 12  # of one cause
_SECTIONS = {  # which sections of a recipe a pass follows
    "collect": ("sources", "collect"),
    "clean": ("clean",),
    "measure": ("measure",),
    "deduplicate": ("deduplicate",),
    "decontaminate": ("decontaminate",),
    "tokenize": ("tokenize",),
    "mix": ("mix",),
    "pack": ("pack",),
}
_JUDGED = tuple(  # of what is said of duplicates, the half that only `judge` follows
    f"deduplicate.{key}" for key in ("keep", "scope", "priority", "exempt")
)
_IDLE = (  # what stops a run, or says how it is cut into parts, and changes no result
    "collect.bad_",
    "collect.part_bytes",
    "deduplicate.guardrails",
    "deduplicate.partition_rows",
)
_FORGOTTEN = "forgotten"  # a reason of `judge`
_FILES = {  # what of `inputs` stands behind a cause of `collect`
    "a new file": "added",
    "a new source": "added",
    "a gone file": "removed",
    "a gone source": "removed",
}
_ORDER = ("collect", "clean", "measure", "deduplicate", "decontaminate", "judge", "tokenize", "mix")


def differences(before: Any, after: Any) -> list[tuple[str, Any, Any]]:
    """Return (dotted path, before, after) wherever two pieces of JSON differ; None: not there.

    Lists of mappings that have names (sources, benchmarks) are compared by name; others as a
    whole.
    """
    return sorted(_differences("", before, after), key=lambda row: row[0])


def _differences(path: str, before: Any, after: Any) -> Iterator[tuple[str, Any, Any]]:
    if before == after and type(before) is type(after):
        return
    left, right = _mapping(before), _mapping(after)
    if left is None or right is None:
        yield path, before, after
        return
    for name in sorted({*left, *right}):
        yield from _differences(f"{path}.{name}" if path else name, left.get(name), right.get(name))


def _mapping(value: Any) -> dict[str, Any] | None:
    """Return a mapping, or a list of named mappings as one; None for anything else."""
    if isinstance(value, Mapping):
        return {str(key): inner for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str) and value:
        names = [one.get("name") if isinstance(one, Mapping) else None for one in value]
        if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
            return {
                str(name): {key: inner for key, inner in one.items() if key != "name"}
                for name, one in zip(names, value, strict=True)
            }
    return None


def recipe(joined: Joined) -> dict[str, Any]:
    """Return what differs in the recipes: {count, rows: path, before, after}, sorted by path."""
    found = differences(dict(joined.a.recipe), dict(joined.b.recipe))
    return {"count": len(found), "rows": _rows(found[:_MAX_PATHS])}


def _rows(found: Sequence[tuple[str, Any, Any]]) -> list[dict[str, Any]]:
    return [{"path": path, "before": before, "after": after} for path, before, after in found]


def passes(joined: Joined) -> list[dict[str, Any]]:
    """Return for each pass what differs: its content, its code, its settings.

    `same`: the manifests are; `content`: the tables differ; `code`: the digests of its sources and
    libraries do; `settings`: paths that do, with both values.
    """
    names = sorted({*joined.a.version.manifests, *joined.b.version.manifests}, key=_place)
    told = []
    for name in names:
        pair = [c.manifest(name) if name in c.version.manifests else None for _, c in joined.sides]
        before, after = pair
        if before is None or after is None:
            told.append({"pass": name, "same": False, "only_in": "b" if before is None else "a"})
            continue
        settings = differences(dict(before.settings), dict(after.settings))
        told.append(
            {
                "pass": name,
                "same": before.fingerprint == after.fingerprint,
                "content": before.content != after.content,
                "code": before.code != after.code,
                "settings": _rows(settings[:_MAX_PATHS]),
            }
        )
    return told


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def fitted(joined: Joined) -> list[dict[str, Any]]:
    """Return the fitted artefacts that are others now: what, before, after (their digests)."""
    sides = [dict(_artefacts(corpus)) for _, corpus in joined.sides]
    rows = []
    for name in sorted({*sides[0], *sides[1]}):
        before, after = (side.get(name) for side in sides)
        if before != after:
            rows.append({"what": name, "before": before, "after": after})
    return rows


def _artefacts(corpus: Corpus) -> Iterator[tuple[str, str | None]]:
    tokenizer = corpus.tokenizer
    yield "tokenizer", tokenizer.get("sha256")
    for name, artefact in corpus.manifest("measure").info.get("artefacts", {}).items():
        yield f"measure: {name}", _digest(artefact)


def _digest(artefact: Any) -> str:
    """Return what identifies an artefact: its own digest, or all that its record says."""
    from curate.corpus.identity import canonical_json, fingerprint

    if isinstance(artefact, Mapping) and isinstance(artefact.get("sha256"), str):
        return str(artefact["sha256"])
    return fingerprint(canonical_json(artefact))


def inputs(joined: Joined) -> dict[str, Any]:
    """Return the input files that came, went or hold other records, counted and the first of them.

    A file is known by its source and path. It changed when its records did (their raw text, by
    hash): a file that was only touched is the same.
    """
    none = {"added": 0, "removed": 0, "changed": 0, "rows": []}
    if joined.same("collect"):
        return none
    number = pl.len().cast(pl.Int64)
    frames = []
    for letter, corpus in joined.sides:
        # The sum of 64 bits of the hashes, modulo 2**64: no order, and repeated records count.
        digest = pl.col("raw_hash").bin.head(8).bin.reinterpret(dtype=pl.UInt64).sum()
        frames.append(
            collected(corpus)
            .group_by("source", "path")
            .agg(number.alias(f"documents_{letter}"), digest.alias(f"digest_{letter}"))
            .collect()
        )
    files = frames[0].join(frames[1], on=["source", "path"], how="full", coalesce=True)
    change = (
        pl.when(pl.col("digest_a").is_null())
        .then(pl.lit("added"))
        .when(pl.col("digest_b").is_null())
        .then(pl.lit("removed"))
        .when(
            (pl.col("digest_a") != pl.col("digest_b"))
            | (pl.col("documents_a") != pl.col("documents_b"))
        )
        .then(pl.lit("changed"))
    )
    files = files.with_columns(change=change).filter(pl.col("change").is_not_null())
    counted = dict(files.group_by("change").len().iter_rows())
    told = files.sort("source", "path").head(_MAX_FILES)
    told = told.with_columns(path=_masked(joined.b, _masked(joined.a, told["path"], told), told))
    columns = ["source", "path", "change", "documents_a", "documents_b"]
    rows = told.select(columns).with_columns(pl.col("^documents_.$").fill_null(0)).to_dicts()
    return {
        **{name: counted.get(name, 0) for name in ("added", "removed", "changed")},
        "rows": rows,
    }


def _masked(corpus: Corpus, values: pl.Series, frame: pl.DataFrame) -> pl.Series:
    """Hide in paths what a version's recipe redacts."""
    from curate.cleaning.fields import hide_field

    return hide_field(
        "path", values, corpus.manifest("clean").settings.get("redact"), frame["source"]
    )


def because(row: Mapping[str, Any], told: Mapping[str, Any], joined: Joined) -> list[str]:
    """Return what caused a row of `causes`: keys of the recipe, code, inputs, artefacts.

    Args:
        row: with `pass` and `what`.
        told: `recipe`, `inputs`, `passes` and `fitted`.
        joined: both versions.
    """
    name = row["pass"]
    if row["what"] == _FORGOTTEN:
        return ["a takedown"]
    rows = [r for r in told["recipe"]["rows"] if _follows(row, r)]
    found = [f"recipe: {r['path']}" for r in rows[:_MAX_KEYS]]
    if len(rows) > _MAX_KEYS:
        found.append(f"and {len(rows) - _MAX_KEYS:,} more keys of the recipe")
    files = told["inputs"]
    changed = _FILES.get(row["what"], "changed")
    if name == "collect" and files[changed]:
        found.append(f"files {changed}: {files[changed]:,}")
    empty: dict[str, Any] = {}
    mine = next((one for one in told["passes"] if one["pass"] == name), empty)
    if name == "collect" and any(one["path"] == "limit" for one in mine.get("settings", ())):
        found.append("--limit")
    if mine.get("code"):
        found.append(f"code of {name}")
    found += [f"refitted: {r['what']}" for r in told["fitted"] if r["what"].startswith(_fits(name))]
    if not found and name != "collect" and not joined.same("clean"):
        found.append("other documents came, went or changed")
    return found


def _follows(cause: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Say whether a changed key of the recipe may stand behind a cause."""
    name, what, path = (str(text) for text in (cause["pass"], cause["what"], row["path"]))
    if path.startswith(_IDLE):
        return False
    if name == "judge":
        if what.startswith("rule:"):
            return _is_about(what, row)
        if what.startswith("duplicate:"):
            return path.startswith(_JUDGED)
        return what.startswith("contaminated:") and path.startswith("decontaminate.")
    if path.startswith("clean.repeated_lines"):  # they are found where duplicates are
        return what.endswith("lines are cut")
    if name == "collect" and what.endswith("source"):  # a whole one came or went
        return path.startswith("sources.") and path.count(".") == 1
    return path.split(".")[0] in _SECTIONS.get(name, ()) and not path.startswith(_JUDGED)


def _is_about(what: str, row: Mapping[str, Any]) -> bool:
    """Say whether a changed key of the recipe names the rule that a cause begins with."""
    preset, _, rule = what.removeprefix("rule:").partition(" ")[0].rpartition(".")
    if row["path"] == "rules.on_null":
        return preset == "recipe"
    names = [set(_words(row[side])) for side in ("before", "after")]
    named = {row["path"].rpartition(".")[2], *(names[0] ^ names[1])}
    return row["path"].startswith("rules.") and bool(named & {rule, f"{preset}.{rule}", preset})


def _words(value: Any) -> Iterator[str]:
    """Yield the keys of mappings and the texts of lists in a piece of JSON."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield str(key)
            yield from _words(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            yield from (inner,) if isinstance(inner, str) else _words(inner)


def _fits(name: str) -> str:
    return {"tokenize": "tokenizer", "measure": "measure:"}.get(name, "\n")
