r"""Jupyter notebooks: one document a file, its text and code in the order of the cells.

Code stands between fences that name the language; what the code put out is left out unless the
option `outputs` asks for it, since it is often data, and never what somebody wrote.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from curate.readers.base import (
    Batch,
    Opener,
    Option,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Columns, Problem
from curate.readers.whole import decoded

__all__ = ["READER"]

OPTIONS = {
    "outputs": Option(False, "keep the text that the code put out"),
    "fences": Option(True, "write code between lines ``` that name its language"),
}

_FIELDS = frozenset(
    {"text", "id", "url", "license", "timestamp"}
    | {"language", "cells", "code_cells", "outputs", "title"}
)
_MAX_OUTPUT = 100_000  # characters of one cell's output
_LANGUAGE_CHARACTERS = 40


class _Invalid(ValueError):
    """Sound JSON that is no notebook."""


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        # Python's own writer puts NaN into metadata and outputs, which strict JSON has no word for.
        return json.loads(text)


def _source(value: object) -> str:
    """Return what a cell holds: a string, or a list of lines."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    raise _Invalid(f"a cell holds {type(value).__name__} where its text should be")


def _cells(notebook: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the cells of a notebook of format 4, or of the worksheets of format 3."""
    if "cells" in notebook:
        lists = [notebook["cells"]]
    elif isinstance(notebook.get("worksheets"), list):
        sheets = notebook["worksheets"]
        lists = [sheet.get("cells", []) if isinstance(sheet, dict) else sheet for sheet in sheets]
    else:
        raise _Invalid("it has neither cells nor worksheets")
    cells = []
    for part in lists:
        if not isinstance(part, list) or not all(isinstance(cell, dict) for cell in part):
            raise _Invalid("its cells are no list of objects")
        cells += part
    return cells


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _language(notebook: Mapping[str, Any], cells: list[dict[str, Any]]) -> str | None:
    metadata = _mapping(notebook.get("metadata"))
    stated = (
        _mapping(metadata.get("language_info")).get("name"),
        _mapping(metadata.get("kernelspec")).get("language"),
        metadata.get("language"),
        *(cell.get("language") for cell in cells[:100]),
    )
    for name in stated:
        if isinstance(name, str) and name.strip():
            return " ".join(name.lower().split())[:_LANGUAGE_CHARACTERS]
    return None


def _outputs(cell: Mapping[str, Any]) -> list[str]:
    """Return the texts that a cell put out; pictures and HTML are none."""
    found = []
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else []:
        output = _mapping(output)
        text = output.get("text") or _mapping(output.get("data")).get("text/plain")
        found.append(_source(text)[:_MAX_OUTPUT])
    return [text for text in found if text.strip()]


def _text(notebook: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    cells = _cells(notebook)
    language = _language(notebook, cells)
    parts = []
    num_code = num_outputs = 0
    for cell in cells:
        kind = cell.get("cell_type")
        source = _source(cell.get("source", cell.get("input"))).strip("\n")
        if kind == "code":
            num_code += 1
            if source and settings["fences"]:
                source = f"```{language or ''}\n{source}\n```"
            outputs = cell.get("outputs")
            num_outputs += len(outputs) if isinstance(outputs, list) else 0
        elif kind == "heading" and source:
            level = cell.get("level")
            source = f"{'#' * (min(level, 6) if isinstance(level, int) else 1)} {source}"
        if source.strip():
            parts.append(source)
        if kind == "code" and settings["outputs"]:
            parts += [
                f"```\n{text}\n```" if settings["fences"] else text for text in _outputs(cell)
            ]
    title = _mapping(notebook.get("metadata")).get("title")
    found = {
        "text": "\n\n".join(parts),
        "language": language,
        "cells": len(cells),
        "code_cells": num_code,
        "outputs": num_outputs,
        "title": title if isinstance(title, str) and title else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the notebook as one record, or as one reject.

    Raises:
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    settings = settings_of(OPTIONS, options)
    columns = Columns.from_options(options)
    columns.require(_FIELDS, part.file.path)
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        data = stream.read(max_bytes + 1)
    builder = Builder()
    text = decoded(data, max_bytes)
    if isinstance(text, Problem):
        builder.reject(0, text.reason, text.detail)
    else:
        _add(builder, columns, text, settings, part.file.key)
    yield builder.take()


def _add(
    builder: Builder, columns: Columns, text: str, settings: Mapping[str, Any], key: str | None
) -> None:
    try:
        notebook = _loaded(text)
        if not isinstance(notebook, dict):
            raise _Invalid(f"it is {type(notebook).__name__}, not an object")
        record = _text(notebook, settings) | {"id": key}
        record["text"].encode()  # an escape such as \ud800 alone is JSON, but no text
        builder.record(0, columns, record, len(text))
    except UnicodeEncodeError as error:
        builder.reject(0, "invalid_utf8", f"half of a surrogate pair (character {error.start:,})")
    except (ValueError, RecursionError) as error:
        builder.reject(0, "invalid_notebook", str(error))


READER = Reader(
    name="notebook",
    suffixes=(".ipynb",),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    options=OPTIONS,
)
