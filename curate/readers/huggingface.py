"""Data sets of Hugging Face: what `save_to_disk` writes, or a folder as it lies on the Hub.

A saved data set names its Arrow shards in `state.json` and its licence in `dataset_info.json`. A
folder of the Hub has a card, `README.md`, whose head (YAML) may name licence, configurations and
data files; without them every data file counts, and its split follows from its name. The files are
read by the readers of their formats.
"""

import functools
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from curate.corpus.errors import InputError, UnreadableFileError, one_of
from curate.readers.base import Batch, InputFile, Opener, Option, Reader, Slice, settings_of
from curate.readers.listing import entry, matcher, walk
from curate.readers.registry import reader_for, reader_named, suffix_of, suffixes
from curate.readers.streams import open_stream

__all__ = ["OPTIONS", "READER"]

_FORMATS = ("arrow", "csv", "jsonl", "parquet", "text")
_STATE, _INFO, _DICT, _CARD = "state.json", "dataset_info.json", "dataset_dict.json", "README.md"
_MAX_SIDE_BYTES = 1 << 20
_MAX_FOLDERS = 3  # how far above a data file its card may lie
_SPLIT = re.compile(r"(?:^|[/._-])(train|test|validation|valid|val|dev|eval)(?=[/._\-0-9]|$)")
_SAME = {"valid": "validation", "val": "validation", "dev": "validation", "eval": "test"}

OPTIONS = {
    "split": Option("all", "the split to read, such as train; all"),
    "config": Option("all", "the configuration (subset) to read; all"),
}


@dataclass(frozen=True, slots=True)
class _Dataset:
    """What the side files of a data set say.

    Attributes:
        root: uri of its folder, without a slash at the end.
        license: of the card or of dataset_info.json.
        members: data file relative to the root -> (configuration, split).
        version: changes when a side file does.
    """

    root: str
    license: str | None = None
    members: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    version: str = ""


def _side(uri: str) -> tuple[bytes, str]:
    """Return the bytes of a small file beside the data, and its version; empty if it is not."""
    found = entry(uri, None)
    if found is None or found.is_folder:
        return b"", ""
    name = uri.rsplit("/", 1)[-1]
    with open_stream(InputFile(found.uri, name, found.size, found.version)) as stream:
        return stream.read(_MAX_SIDE_BYTES), f"{name}:{found.size}:{found.version}"


def _object(data: bytes, name: str) -> dict[str, Any]:
    try:
        value = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError as error:
        raise UnreadableFileError(f"{name} is no JSON: {error}", reason="not_json") from error
    return value if isinstance(value, dict) else {}


def _head(card: bytes) -> dict[str, Any]:
    """Return the YAML head of a card; {} if it has none, or none that can be read."""
    text = card.decode("utf-8", "replace").lstrip("\ufeff").replace("\r\n", "\n")
    found = re.match(r"---[ \t]*\n(.*?)\n---[ \t]*(?:\n|\Z)", text, re.DOTALL)
    try:
        value = yaml.safe_load(found.group(1)) if found else None
    except (yaml.YAMLError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _license_of(said: object) -> str | None:
    if isinstance(said, list) and len(said) == 1:
        said = said[0]
    return said.strip() if isinstance(said, str) and said.strip() else None


def _is_data(path: str) -> bool:
    side = path.rsplit("/", 1)[-1] in (_STATE, _INFO, _DICT, _CARD)
    return not side and suffixes().get(_plain_suffix(path)) in _FORMATS


def _plain_suffix(path: str) -> str:
    suffix = suffix_of(path)[0]
    return ".jsonl" if suffix == ".json" else suffix


@functools.lru_cache(maxsize=64)
def _dataset(root: str) -> _Dataset:
    """Read the side files of a data set. Cached: one call for each of its files otherwise."""
    names = [relative for relative, _ in walk(root, None)]
    states = [name for name in names if name.rsplit("/", 1)[-1] == _STATE]
    if states:
        return _saved(root, states, names)
    card, version = _side(f"{root}/{_CARD}")
    head = _head(card)
    data = [name for name in names if _is_data(name)]
    members: dict[str, tuple[str, str]] = {}
    for config in head.get("configs") or []:
        if isinstance(config, dict):
            members |= _members(config, data)
    if head.get("configs") and not members:
        raise InputError(
            f"format huggingface: the card of {root.rsplit('/', 1)[-1]!r} names data files that "
            "are not there; fetch them, or remove `configs:` from README.md."
        )
    if not members:
        members = {name: ("default", _split_of(name)) for name in data}
    return _Dataset(root, _license_of(head.get("license")), members, version)


def _saved(root: str, states: Sequence[str], names: Sequence[str]) -> _Dataset:
    members: dict[str, tuple[str, str]] = {}
    license_ = None
    versions = []
    for state in states:
        folder = state.removesuffix(_STATE)
        data, version = _side(f"{root}/{state}")
        info, info_version = _side(f"{root}/{folder}{_INFO}")
        versions += [version, info_version]
        said = _object(data, state)
        split = str(said.get("_split") or folder.rstrip("/").rsplit("/", 1)[-1] or "train")
        license_ = license_ or _license_of(_object(info, _INFO).get("license"))
        for item in said.get("_data_files") or []:
            name = str(item.get("filename")) if isinstance(item, dict) else ""
            if "/" in name or f"{folder}{name}" not in names:
                raise InputError(
                    f"format huggingface: {state} names the file {name!r}, which is not beside it"
                )
            members[f"{folder}{name}"] = ("default", split)
    return _Dataset(root, license_, members, "|".join(versions))


def _members(config: Mapping[str, Any], data: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return the data files that one entry of `configs:` means."""
    name = str(config.get("config_name") or "default")
    files = config.get("data_files")
    below = str(config.get("data_dir") or "").strip("/")
    if files is None:
        wanted = [("", f"{below}/**" if below else "**")]
    elif isinstance(files, str):
        wanted = [("", files)]
    else:
        wanted = []
        for item in files if isinstance(files, list) else []:
            if isinstance(item, str):
                wanted.append(("", item))
            elif isinstance(item, dict):
                paths = item.get("path")
                many = paths if isinstance(paths, list) else [paths]
                wanted += [(str(item.get("split") or ""), str(path)) for path in many if path]
    members: dict[str, tuple[str, str]] = {}
    for split, pattern in wanted:
        fits = matcher(pattern.removeprefix("./"))
        for path in data:
            if fits.match(path):
                members[path] = (name, split or _split_of(path))
    return members


def _split_of(path: str) -> str:
    """Return the split that a file's name tells, `train` if it tells none (as on the Hub).

    >>> _split_of("data/validation-00000-of-00001.parquet"), _split_of("part.jsonl")
    ('validation', 'train')
    """
    found = _SPLIT.findall(path.lower())
    return _SAME.get(found[-1], found[-1]) if found else "train"


def _root_of(uri: str) -> str:
    """Return the folder of the data set that a file belongs to: its own if nothing says more."""
    folder = uri.rpartition("/")[0]
    if entry(f"{folder}/{_STATE}", None) is not None:  # one split; several have a common folder
        above = folder.rpartition("/")[0]
        return above if entry(f"{above}/{_DICT}", None) is not None else folder
    for _ in range(_MAX_FOLDERS):
        if entry(f"{folder}/{_CARD}", None) is not None:
            return folder
        if "/" not in folder.rstrip("/"):
            break
        folder = folder.rpartition("/")[0]
    return uri.rpartition("/")[0]


def arrange(files: Sequence[InputFile]) -> list[InputFile]:
    """Return the data files of the data sets; the version of each tells its side files' too.

    Raises:
        InputError: no data set, or one whose side files name what is not there.
    """
    found = []
    roots: dict[str, str] = {}
    _dataset.cache_clear()
    for file in files:
        folder = file.uri.rpartition("/")[0]
        root = roots.setdefault(folder, _root_of(file.uri))
        dataset = _dataset(root)
        if file.uri.removeprefix(root + "/") in dataset.members:
            digest = hashlib.blake2b(dataset.version.encode(), digest_size=8).hexdigest()
            version = f"{file.version}+{digest}" if dataset.version else file.version
            found.append(InputFile(file.uri, file.path, file.size, version, file.key))
    if not found:
        raise InputError(
            "format huggingface: the paths hold no data set; name the folder that save_to_disk "
            "wrote, or one with README.md and data files (.parquet, .jsonl, .csv, .arrow)."
        )
    return found


def _delegate(file: InputFile) -> Reader:
    suffix = suffix_of(file.path)[0]
    return reader_named("jsonl") if suffix == ".json" else reader_for(file.path)[0]


def split(file: InputFile, max_bytes: int) -> list[Slice]:
    """Cut as the reader of the file's format does."""
    return _delegate(file).split(file, max_bytes)


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Read the file with the reader of its format; rows without a licence get the data set's.

    Raises:
        InputError: a split or configuration that the data set does not have; a missing column.
        UnreadableFileError: as the reader of the format says.
    """
    settings = settings_of(OPTIONS, options)
    dataset = _dataset(_root_of(part.file.uri))
    member = dataset.members.get(part.file.uri.removeprefix(dataset.root + "/"))
    for place, kind in enumerate(("config", "split")):
        known = {names[place] for names in dataset.members.values()} | {"all"}
        if settings[kind] not in known:
            raise InputError(f"options: {one_of(kind, settings[kind], known)}")
        if member is not None and settings[kind] not in ("all", member[place]):
            return
    plain = {name: value for name, value in options.items() if name != "options"}
    for batch in _delegate(part.file).read(part, opener, plain):
        yield _licensed(batch, dataset.license)


def _licensed(batch: Batch, license_: str | None) -> Batch:
    if license_ is None or not batch.records.num_rows:
        return batch
    place = batch.records.schema.get_field_index("license")
    column = pc.fill_null(batch.records.column(place), license_)
    arrays = [column if at == place else one for at, one in enumerate(batch.records.columns)]
    records = pa.RecordBatch.from_arrays(arrays, schema=batch.records.schema)
    return Batch(records, batch.rejects)


def peek(opener: Opener, file: InputFile, options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first record of the file."""
    reader = _delegate(file)
    return reader.peek(opener, file, options) if reader.peek is not None else None


READER = Reader(
    name="huggingface",
    suffixes=(),
    one_document_per_file=False,
    split=split,
    read=read,
    peek=peek,
    options=OPTIONS,
    arrange=arrange,
)
