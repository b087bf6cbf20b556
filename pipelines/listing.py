"""`preceptor list`: what a store holds, and the readers, signals, rules and objectives."""

import ast
import importlib.util
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from curate.corpus.errors import one_of
from curate.corpus.manifest import Manifest
from pipelines.console import new_table, plain, say
from pipelines.console import show as show_table
from pipelines.packing import num_rows
from pipelines.store import Store
from pipelines.tokenizing import budget_unit

__all__ = ["show"]


def show(what: str, store: str) -> None:
    """Print a list."""
    kinds = {
        "corpora": _corpora,
        "receipts": _receipts,
        "readers": _readers,
        "signals": _signals,
        "rules": _rules,
        "objectives": _objectives,
    }
    if what not in kinds:
        from curate.corpus.errors import InputError

        raise InputError(one_of("list", what, kinds))
    kinds[what](store)


def _sized(tokenized: Manifest) -> str:
    """Return the tokens of a version; of media their number and what they are."""
    unit = budget_unit(tokenized.info.get("media") or {})
    number = f"{tokenized.counts.get('tokens', 0):,}"
    return number if unit == "tokens" else f"{number} {unit}"


def _corpora(store: str) -> None:
    opened = Store(store)
    names = opened.corpora()
    if not names:
        say(f"the store {store} holds no corpus yet; `preceptor demo` makes one")
        return
    table = new_table(
        ("corpus", "left"),
        ("documents", "right"),
        ("kept", "right"),
        ("tokens", "right"),
        ("rows", "right"),
        ("", "left"),
    )
    for name in names:
        current = opened.current(name)
        withdrawn = opened.withdrawn(name)
        seen = set()
        for record in opened.versions(name):
            if record["version"] in seen:
                continue
            seen.add(record["version"])
            manifests = {
                p: opened.get_manifest(p, record["manifests"][p])
                for p in ("judge", "tokenize", "pack")
            }
            table.add_row(
                f"{escape(name)}@{record['version']}",
                f"{manifests['judge'].counts['documents']:,}",
                f"{manifests['judge'].counts['kept']:,}",
                _sized(manifests["tokenize"]),
                f"{num_rows(manifests['pack']):,}",
                "current"
                if current is not None and record["version"] == current.number
                else _withdrawn(withdrawn.get(record["version"])),
            )
    show_table(table)


def _withdrawn(record: Mapping[str, Any] | None) -> str:
    return "" if record is None else f"withdrawn {record['when'][:10]}: {plain(record['why'], 60)}"


def _receipts(store: str) -> None:
    from pipelines.forget.takedown import receipts

    opened = Store(store)
    table = new_table(
        ("corpus", "left"),
        ("when", "left"),
        ("documents", "right"),
        ("version", "left"),
        ("purged", "left"),
        ("why", "prose"),
        ("receipt", "left"),
    )
    for name in opened.corpora():
        for number, receipt in enumerate(receipts(opened, name), 1):
            table.add_row(
                escape(name),
                receipt["when"],
                f"{len(receipt['documents']):,}",
                escape(receipt["version"]),
                "yes" if receipt.get("purge") else "",
                escape(plain(receipt["reason"], 60)),
                f"corpora/{escape(name)}/receipts/{number:08d}.json",
            )
    if table.row_count:
        show_table(table)
    else:
        say(f"nothing was forgotten in the store {store}; `preceptor forget --help` tells how")


def _readers(store: str) -> None:
    del store
    from curate.readers.registry import readers

    table = new_table(("reader", "left"), ("suffixes", "prose"), ("options", "prose"))
    for name, reader in sorted(readers().items()):
        told = "; ".join(
            f"{option}: {_written(known.default)}, {known.description}"
            for option, known in reader.options.items()
        )
        table.add_row(name, " ".join(reader.suffixes) or "(by format: only)", escape(told))
    show_table(table)
    say("line and CSV formats may be compressed: .gz .zst .bz2 .xz")


def _written(value: object) -> str:
    """Return a default as YAML has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _signals(store: str) -> None:
    del store
    from curate.signals.registry import families, makers

    table = new_table(
        ("signal", "left"), ("type", "left"), ("what it is", "prose"), ("family", "left")
    )
    for family in sorted(families().values(), key=lambda family: not family.default):
        for name, signal in family.signals.items():
            mark = "" if family.default else " *"
            told = escape(signal.description)
            table.add_row(name, str(signal.dtype), told, f"{family.name}{mark}")
    for maker in makers().values():
        table.add_row(escape(maker.columns), "", escape(maker.description), f"{maker.name} **")
    show_table(table)
    say("*  measured where a rule or `keep:` reads it, or `measure: {families: [NAME]}` asks")
    say("** made by what the recipe says under `measure: {NAME: ...}`")


def _rules(store: str) -> None:
    del store
    from curate.rules.preset import load_preset, preset_names

    for name in preset_names():
        preset = load_preset(name)
        table = new_table((name, "left"), ("keeps documents with", "prose"))
        for rule, body in preset.rules.items():
            table.add_row(rule, escape(body.keep))
        show_table(table)
        say(f"reference: {preset.reference}")
        say(f"dialect: {preset.dialect}\n")


def _objectives(store: str) -> None:
    """Read the objectives' files without importing them: that would load torch."""
    del store
    spec = importlib.util.find_spec("train")
    assert spec is not None, "train is one of our packages"
    assert spec.submodule_search_locations, "train is a package"
    folder = Path(spec.submodule_search_locations[0]) / "objectives"
    table = new_table(("objective", "left"), ("what it is", "prose"))
    for module in pkgutil.iter_modules([str(folder)]):
        tree = ast.parse((folder / f"{module.name}.py").read_text(encoding="utf-8"))
        named = any(
            isinstance(node, ast.Assign | ast.AnnAssign)
            and any(
                isinstance(t, ast.Name) and t.id == "OBJECTIVE"
                for t in (node.targets if isinstance(node, ast.Assign) else [node.target])
            )
            for node in tree.body
        )
        if named:
            about = (ast.get_docstring(tree) or "").partition("\n")[0]
            table.add_row(module.name, escape(plain(about)))
    show_table(table)
