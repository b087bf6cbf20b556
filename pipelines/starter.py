"""`preceptor init`: look at a folder and write the recipe one would start from."""

from pathlib import Path
from typing import Any

import yaml

from curate.corpus.errors import InputError
from pipelines.recipe import parse_recipe

__all__ = ["write_recipe"]

_REST = """
# What must be true of a document for it to be kept: SQL over its signals
# (`preceptor list signals`), or a preset by name (`preceptor list rules`).
rules:
  add: {{long_enough: "num_words >= 5"}}
  # use: [gopher_quality@paper]

deduplicate:
  near: {{shingle: 5 words, bands: 16, rows: 7, threshold: 0.8}}
  keep: "num_words DESC, doc_id"

# Test sets the corpus must not contain:
# decontaminate:
#   against: [{{name: my_test, paths: ["tests/*.jsonl"], columns: [question, answer]}}]

tokenize: {{tokenizer: {{train: bpe, vocab_size: 8192}}}}
# mix: {{budget: 20M tokens, weights: {weights}, repeat_cap: 4}}
pack: {{row_tokens: 512}}
"""


def write_recipe(
    folder: str | Path, *, force: bool = False
) -> tuple[Path, list[dict[str, Any]], list[dict[str, str]]]:
    """Write `recipe.yaml` into a folder; return its path, the sources found and what was left out.

    Raises:
        InputError: no such folder, nothing readable in it, or a recipe is there already.
    """
    from curate.readers.suggest import sniff, unreadable

    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    path = folder / "recipe.yaml"
    if path.exists() and not force:
        raise InputError(f"{path} exists; remove it first, or use --force")
    sources, problems = sniff(str(folder)), unreadable(str(folder))
    if not sources:
        raise InputError(
            f"{folder} holds no file that a reader understands; `preceptor list readers` tells "
            "the suffixes"
        )
    name = (
        "".join(c if c.isalnum() or c in "._-" else "-" for c in folder.resolve().name).strip(
            "._-"
        )[:64]
        or "corpus"
    )
    head = yaml.safe_dump({"name": name, "seed": 7}, sort_keys=False)
    flow: dict[str, Any] = {"default_flow_style": True, "sort_keys": False, "width": 10_000}
    lines = "".join(f"  - {yaml.safe_dump(source, **flow).strip()}\n" for source in sources)
    weights = "{" + ", ".join(f"{source['name']}: 1" for source in sources) + "}"
    text = f"{head}sources:\n{lines}{_REST.format(weights=weights)}"
    parse_recipe(text, where=str(path))
    path.write_text(text, encoding="utf-8")
    return path, sources, problems
