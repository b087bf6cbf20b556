"""Source code: one document per file; `meta` tells the language, which the suffix decides.

>>> LANGUAGES[".rs"]
'rust'
"""

from collections.abc import Iterator, Mapping
from typing import Any

from curate.readers.base import Batch, Opener, Reader, Slice, whole_file
from curate.readers.registry import suffix_of
from curate.readers.whole import read_document

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


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the file as one record whose meta has its language, or as one reject."""
    language = LANGUAGES.get(suffix_of(part.file.path)[0])
    return read_document(part, opener, options, meta={"language": language} if language else None)


READER = Reader(
    name="code",
    suffixes=tuple(sorted(LANGUAGES)),
    one_document_per_file=True,
    split=whole_file,
    read=read,
)
