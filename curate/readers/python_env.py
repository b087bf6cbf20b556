"""The text that every Python environment already holds: sources, READMEs, licences, help topics.

`format: python-env` reads the environment of the running interpreter, so its `paths:` are names:

| name       | what                                              | keys                          |
|------------|---------------------------------------------------|-------------------------------|
| `stdlib`   | the standard library's .py sources                | `stdlib/json/decoder.py`      |
| `readmes`  | the descriptions in the metadata of distributions | `orjson==3.10.0/README`       |
| `licenses` | their licence, notice and author files            | `orjson==3.10.0/LICENSE-MIT`  |
| `topics`   | the topics of `help()`                            | `topics/assert`               |
| `packages` | the .py sources that distributions installed      | `rich==15.0.0/rich/box.py`    |

Keys and order are the same on every machine with the same environment. No file of the environment
is executed, and a link that leads out of it is a reject.
"""

import ast
import csv
import email
import email.policy
import functools
import re
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError, UnreadableFileError, one_of
from curate.readers.base import (
    Batch,
    InputFile,
    Opener,
    Reader,
    Slice,
    max_document_bytes,
    whole_file,
)
from curate.readers.batches import Builder
from curate.readers.columns import Problem, Row, as_json
from curate.readers.whole import decoded, read_document

__all__ = ["READER"]

_LICENSE_FILE = re.compile(r"(LICEN[CS]E|COPYING|NOTICE|AUTHORS)[^/]*$", re.IGNORECASE)
_MAX_LICENSE_NAME = 100
_STDLIB_LICENSE = "PSF-2.0"
_PY = {"language": "python"}


def _site_packages() -> list[Path]:
    paths = sysconfig.get_paths()
    return [Path(path) for path in dict.fromkeys([paths["purelib"], paths["platlib"]])]


def _stdlib() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _label(distribution: metadata.Distribution) -> str:
    """Return `name==version` with the name normalised as in PEP 503."""
    fields: Any = distribution.metadata  # `fields[name]` warns, and will raise, when there is none
    name = re.sub(r"[-_.]+", "-", str(fields.get("Name") or "")).lower()
    return f"{name}=={fields.get('Version')}"


@functools.cache
def _distributions() -> dict[str, metadata.Distribution]:
    """Return the distributions of site-packages by label, sorted, the first of each label."""
    found: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions(path=[str(path) for path in _site_packages()]):
        found.setdefault(_label(distribution), distribution)
    return dict(sorted(found.items()))


@functools.cache
def _license_of(label: str) -> str | None:
    """Return what a distribution says its licence is, if it says so in a few words."""
    distribution = _distributions().get(label)
    if distribution is None:
        return None
    fields: Any = distribution.metadata
    for field in ("License-Expression", "License"):
        said = str(fields.get(field) or "").strip()
        if said and len(said) <= _MAX_LICENSE_NAME and "\n" not in said and said != "UNKNOWN":
            return said
    said_all = [str(value) for value in fields.get_all("Classifier") or ()]
    names = [value.rsplit(" :: ", 1)[-1] for value in said_all if value.startswith("License :: ")]
    return " AND ".join(names) if names else None


def _input(file: Path, path: str, key: str | None) -> InputFile:
    try:
        stat = file.stat()
    except OSError:  # reading it will be a reject
        return InputFile(str(file), path, 0, "missing", key)
    return InputFile(str(file), path, stat.st_size, f"mtime-{stat.st_mtime_ns}", key)


def _stdlib_files() -> Iterator[InputFile]:
    root = _stdlib()
    for file in sorted(root.rglob("*.py")):
        relative = file.relative_to(root)
        outside = {"site-packages", "dist-packages", "__pycache__"}.intersection(relative.parts)
        # _sysconfigdata*.py is no source: the build of this interpreter wrote its paths into it.
        if not outside and not file.name.startswith("_sysconfigdata"):
            yield _input(file, f"stdlib/{relative.as_posix()}", f"stdlib/{relative.as_posix()}")


def _topic_files() -> Iterator[InputFile]:
    yield _input(_stdlib() / "pydoc_data" / "topics.py", "topics/topics.py", None)


def _installed(distribution: metadata.Distribution) -> Iterator[str]:
    """Yield the paths, as recorded, of the files in a distribution's RECORD, bin/ etc. left out.

    A distribution without a RECORD (some of Debian's) does not say which files are its own.
    """
    # Not `distribution.files`: some versions drop what is missing, and it is twenty times slower.
    record = (distribution.read_text("RECORD") or "").splitlines()
    for name in sorted(row[0] for row in csv.reader(record) if row):
        if ".." not in name.split("/") and not name.startswith("/"):
            yield name


def _place(distribution: metadata.Distribution, name: str) -> Path:
    # Not inside `_installed`: of the many thousand files recorded, few are asked for.
    return Path(str(distribution.locate_file(name)))


def _readme_files() -> Iterator[InputFile]:
    for label, distribution in _distributions().items():
        for name in _installed(distribution):
            if re.fullmatch(r"[^/]+\.dist-info/METADATA", name):
                file = _place(distribution, name)
                yield _input(file, f"readmes/{label}/METADATA", f"{label}/README")


def _license_files() -> Iterator[InputFile]:
    for label, distribution in _distributions().items():
        for name in _installed(distribution):
            folder, _, below = name.partition("/")
            if folder.endswith(".dist-info") and _LICENSE_FILE.search(below):
                short = below.removeprefix("licenses/")
                file = _place(distribution, name)
                yield _input(file, f"licenses/{label}/{below}", f"{label}/{short}")


def _package_files() -> Iterator[InputFile]:
    for label, distribution in _distributions().items():
        for name in _installed(distribution):
            if name.endswith(".py") and "__pycache__" not in name:
                file = _place(distribution, name)
                yield _input(file, f"packages/{label}/{name}", f"{label}/{name}")


_NAMES: Mapping[str, Callable[[], Iterator[InputFile]]] = {
    "stdlib": _stdlib_files,
    "readmes": _readme_files,
    "licenses": _license_files,
    "topics": _topic_files,
    "packages": _package_files,
}


def expand(paths: Sequence[str]) -> list[InputFile]:
    """Return the files that the names mean, sorted by path, each once.

    Raises:
        InputError: a name that there is not; the message lists them.
    """
    files: dict[str, InputFile] = {}
    for name in paths:
        if name not in _NAMES:
            raise InputError(f"paths of format python-env: {one_of('name', name, _NAMES)}")
        files.update((file.path, file) for file in _NAMES[name]())
    return [files[path] for path in sorted(files)]


@functools.cache
def _roots() -> tuple[Path, ...]:
    return tuple(root.resolve() for root in [*_site_packages(), _stdlib()])


def _problem(file: InputFile) -> Problem | None:
    """Return why a file must not be followed."""
    real = Path(file.uri).resolve()
    if not any(real.is_relative_to(root) for root in _roots()):
        return Problem("outside_root", "a link that leads out of the environment")
    return None


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the file's document, the topics of topics.py one by one, or one reject."""
    problem = _problem(part.file)
    kind, _, rest = part.file.path.partition("/")
    try:
        if problem is not None:
            yield _refused(problem)
        elif kind == "topics":
            yield _topics(opener)
        elif kind == "readmes":
            yield _readme(part, opener, options)
        else:
            label = rest.partition("/")[0]
            license_ = _STDLIB_LICENSE if kind == "stdlib" else _license_of(label)
            meta = None if kind == "licenses" else _PY
            yield from read_document(part, opener, options, license_, meta)
    except UnreadableFileError as error:
        yield _refused(Problem("unreadable", error.reason))


def _refused(problem: Problem) -> Batch:
    builder = Builder()
    builder.reject(0, problem.reason, problem.detail)
    return builder.take()


def _readme(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Batch:
    max_bytes = max_document_bytes(options)
    with opener() as stream:
        content = decoded(stream.read(max_bytes + 1), max_bytes)
    if isinstance(content, Problem):
        return _refused(content)
    message = email.message_from_string(content, policy=email.policy.compat32)
    # Metadata 2.1 has the description as the body; before, it was a field with indented lines.
    text = str(message.get_payload()) or re.sub(
        r"\n(?: {7}\||        )", "\n", str(message.get("Description") or "")
    )
    if not text.strip() or text.strip() == "UNKNOWN":
        return _refused(Problem("no_text", "the metadata has no description"))
    meta = {"content_type": message.get("Description-Content-Type")}
    label = part.file.path.split("/")[1]
    builder = Builder()
    told = as_json(meta) if any(meta.values()) else None
    row = Row(text, part.file.key, license=_license_of(label), meta=told)
    builder.row(0, row, 0)
    return builder.take()


def _topics(opener: Opener) -> Batch:
    """Read the literal dict in topics.py as data; the module is not run."""
    with opener() as stream:
        tree = ast.parse(stream.read())
    builder = Builder()
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics = ast.literal_eval(node.value)
            for number, name in enumerate(sorted(topics)):
                row = Row(topics[name], f"topics/{name}", license=_STDLIB_LICENSE)
                builder.row(number, row, 0)
    assert builder, f"no topics in pydoc_data of Python {sys.version}"
    return builder.take()


READER = Reader(
    name="python-env",
    suffixes=(),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    expand=expand,
)
