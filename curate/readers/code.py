"""Source code: one document per file; `meta` tells the language, which the suffix decides.

The licence is what the head of the file states, else what the nearest LICENSE file does.

>>> LANGUAGES[".rs"]
'rust'
"""

from collections.abc import Iterator, Mapping
from typing import Any

from curate.licences import spdx_of
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Option,
    Reader,
    Slice,
    max_document_bytes,
    settings_of,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Problem, Row, as_json
from curate.readers.licences import nearest_license
from curate.readers.registry import suffix_of
from curate.readers.whole import decoded

__all__ = ["LANGUAGES", "READER"]

_SUFFIXES = {
    "ada": ".adb .ads",
    "assembly": ".asm .s",
    "c": ".c .h",
    "clojure": ".clj .cljs",
    "cmake": ".cmake",
    "cpp": ".cc .cpp .cxx .hh .hpp .hxx",
    "csharp": ".cs",
    "css": ".css .less .scss",
    "cuda": ".cu .cuh",
    "dart": ".dart",
    "elixir": ".ex .exs",
    "erlang": ".erl .hrl",
    "fortran": ".f .f03 .f90 .f95",
    "fsharp": ".fs .fsx",
    "go": ".go",
    "graphql": ".graphql",
    "groovy": ".gradle .groovy",
    "haskell": ".hs",
    "java": ".java",
    "javascript": ".cjs .js .jsx .mjs",
    "julia": ".jl",
    "kotlin": ".kt .kts",
    "lisp": ".el .lisp .scm",
    "lua": ".lua",
    "nim": ".nim",
    "nix": ".nix",
    "ocaml": ".ml .mli",
    "pascal": ".pas",
    "perl": ".pl .pm",
    "php": ".php",
    "powershell": ".ps1",
    "protobuf": ".proto",
    "python": ".py .pyi .pyx",
    "r": ".r",
    "ruby": ".rb",
    "rust": ".rs",
    "scala": ".scala",
    "shell": ".bash .sh .zsh",
    "solidity": ".sol",
    "sql": ".sql",
    "swift": ".swift",
    "terraform": ".tf",
    "tex": ".tex",
    "typescript": ".ts .tsx",
    "verilog": ".sv .v",
    "vhdl": ".vhd .vhdl",
    "vue": ".vue",
    "zig": ".zig",
}
LANGUAGES = {
    suffix: language for language, suffixes in _SUFFIXES.items() for suffix in suffixes.split()
}


OPTIONS = {
    "licenses": Option(True, "take the licence from the file's head, or from a LICENSE near it"),
}

_HEAD = 8_000  # characters in which a file states its licence


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the file as one record whose meta has its language, or as one reject.

    Raises:
        UnreadableFileError: the file is missing, or its compressed data is not whole.
    """
    settings = settings_of(OPTIONS, options)
    max_bytes = max_document_bytes(options)
    language = LANGUAGES.get(suffix_of(part.file.path)[0])
    with opener() as stream:
        text = decoded(stream.read(max_bytes + 1), max_bytes)
    builder = Builder()
    if isinstance(text, Problem):
        builder.reject(0, text.reason, text.detail)
    else:
        meta: dict[str, Any] = {"language": language} if language else {}
        license_, told = _license(part.file, text) if settings["licenses"] else (None, {})
        meta |= told
        row = Row(text, part.file.key, license=license_, meta=as_json(meta) if meta else None)
        builder.row(0, row, len(text))
    yield builder.take()


def _license(file: InputFile, text: str) -> tuple[str | None, dict[str, str]]:
    """Return the licence of a file and where it is stated."""
    spdx, how = spdx_of(text[:_HEAD])
    if spdx is not None:
        return spdx, {"license_from": how}
    spdx, path = nearest_license(file)
    return spdx, {"license_from": path} if spdx is not None and path is not None else {}


READER = Reader(
    name="code",
    suffixes=tuple(sorted(LANGUAGES)),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    options=OPTIONS,
)
