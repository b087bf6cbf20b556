"""The code digest: which sources and library versions shape a pass's bytes.

Read from the source files, without importing them: the modules a job function reaches through our
own packages, and the versions of the libraries among their imports. An edit in one pass changes
that pass's keys and nobody else's; what follows depends on content, not on code upstream.
"""

import importlib.metadata
import importlib.util
import re
from functools import cache
from pathlib import Path

from curate.corpus.identity import fingerprint

__all__ = ["code_digest", "reached"]

_OURS = ("curate", "pipelines.passes")
# How work is keyed, sent and stored shapes no row; what the recipe asks is in the key itself.
_MACHINERY = ("pipelines.passes.base", "pipelines.passes.modules")
_LIBRARIES = {
    "datasketch": "datasketch",
    "fastwarc": "FastWARC",
    "ftfy": "ftfy",
    "gigatoken": "gigatoken",
    "numba": "numba",
    "numpy": "numpy",
    "orjson": "orjson",
    "polars": "polars",
    "pyarrow": "pyarrow",
    "pypdf": "pypdf",
    "resiliparse": "Resiliparse",
    "scipy": "scipy",
    "tokenizers": "tokenizers",
    "xxhash": "xxhash",
    "zstandard": "zstandard",
}


def _is_ours(name: str) -> bool:
    return (
        any(name == root or name.startswith(f"{root}.") for root in _OURS)
        and name not in _MACHINERY
    )


# Read off the lines, not parsed: parsing all our sources would take a second of every run. A line
# of a docstring that looks like an import names no module of ours, or makes a digest too careful.
_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)|import[ \t]+([^\n]*))",
    re.MULTILINE,
)
_COMMENT = re.compile(rb"#[^\n]*")


@cache
def _source(module: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a module's source and the modules it imports, anywhere in the file."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return b"", ()
    data = Path(spec.origin).read_bytes()
    found = []
    for origin, names, modules in _IMPORT.findall(data):
        listed = _COMMENT.sub(b"", names or modules).strip(b"() \t\r\n").decode().split(",")
        plain = [words[0] for words in (name.split() for name in listed) if words]
        if not origin:
            found += plain
            continue
        package = origin.decode()
        found.append(package)
        if _is_ours(package):
            found += [f"{package}.{name}" for name in plain]
    return data, tuple(found)


@cache
def _is_module(name: str) -> bool:
    parent = name.rpartition(".")[0]
    try:
        # Looking for a name inside a plain module would import that module.
        outer = importlib.util.find_spec(parent) if parent else None
        if outer is not None and outer.submodule_search_locations is None:
            return False
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, AttributeError, ValueError):
        return False


def reached(*modules: str) -> tuple[list[str], list[str]]:
    """Return (our modules, libraries) that these modules reach through imports, sorted.

    >>> reached("curate.corpus.errors")
    (['curate.corpus.errors'], [])
    """
    ours: set[str] = set()
    libraries: set[str] = set()
    queue = list(modules)
    while queue:
        name = queue.pop()
        root = name.split(".")[0]
        if root in _LIBRARIES:
            libraries.add(root)
        if not _is_ours(name) or name in ours or not _is_module(name):
            continue
        ours.add(name)
        queue.extend(_source(name)[1])
    return sorted(ours), sorted(libraries)


@cache
def code_digest(*modules: str) -> str:
    """Return 32 hex digits over the sources reached and the versions of their libraries."""
    ours, libraries = reached(*modules)
    return fingerprint(
        *(f"{name}:{fingerprint(_source(name)[0])}" for name in ours),
        *(f"{name}=={_version(_LIBRARIES[name])}" for name in libraries),
    )


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # an extra that nobody has asked for
        return "absent"
