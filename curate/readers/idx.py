"""IDX: images of one size as unsigned bytes, as MNIST comes; the labels' file beside is read too.

The format says so little (a magic number, the sizes, then the pixels) that it must be asked for:
`format: idx`. Every image becomes a PGM, a header of a line before its pixels, so that its bytes
are the same whatever library is installed. `train-images-idx3-ubyte` finds its labels under
`train-labels-idx1-ubyte`; they become `label` of the meta data.

>>> labels_of("mnist/t10k-images-idx3-ubyte.gz")
'mnist/t10k-labels-idx1-ubyte.gz'
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Any

from curate.corpus.errors import InputError, UnreadableFileError
from curate.readers.base import Batch, InputFile, Opener, Reader, Slice, whole_file
from curate.readers.columns import Row, as_json
from curate.readers.listing import entry
from curate.readers.media import MediaBuilder
from curate.readers.registry import suffix_of
from curate.readers.streams import open_stream

__all__ = ["READER", "labels_of"]

_UBYTE = 0x08
_MAX_PIXELS = 1 << 26


def labels_of(name: str) -> str:
    """Return the name of the labels' file of an images' file; itself where it has none."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.replace("images", "labels").replace("idx3", "idx1")


def arrange(files: Sequence[InputFile]) -> list[InputFile]:
    """Return the files of images; where labels lie beside, their version is part of the file's."""
    found = []
    for file in files:
        name = file.path.rpartition("/")[2]
        if "images" not in name and any(labels_of(other.uri) == file.uri for other in files):
            continue
        labels = entry(labels_of(file.uri), None) if labels_of(file.uri) != file.uri else None
        version = f"{file.version} {labels.version}" if labels else file.version
        found.append(replace(file, version=version))
    return [file for file in found if "labels" not in file.path.rpartition("/")[2]]


def _sizes(stream: IO[bytes], dimensions: int, path: str) -> list[int]:
    """Read the header: how many, and for images of how many rows and columns."""
    head = stream.read(4)
    if head != bytes([0, 0, _UBYTE, dimensions]):
        raise UnreadableFileError(
            f"{path} is no IDX file of unsigned bytes in {dimensions} dimensions: it begins with "
            f"{head.hex(' ') or 'nothing'}.",
            reason="not_idx",
            offset=0,
        )
    data = stream.read(4 * dimensions)
    return [int.from_bytes(data[at : at + 4], "big") for at in range(0, len(data), 4)]


def _labels(file: InputFile, count: int) -> bytes | None:
    """Return the labels of a file of images; None where there is no such file."""
    uri = labels_of(file.uri)
    if uri == file.uri or entry(uri, None) is None:
        return None
    path = labels_of(file.path)
    with open_stream(InputFile(uri, path, -1, ""), suffix_of(uri)[1]) as stream:
        (said,) = _sizes(stream, 1, path) or [0]
        labels = stream.read(count + 1)
    if not said == len(labels) == count:
        raise UnreadableFileError(
            f"{path} has {said:,} labels and {file.path} {count:,} images.", reason="mismatch"
        )
    return labels


def read_media(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield a record for every image.

    Raises:
        UnreadableFileError: `not_idx`, `mismatch` of images and labels, `too_large`.
    """
    if options["pair"]:
        raise InputError(f"{part.file.path}: IDX files have no captions; say `schema: image`")
    builder = MediaBuilder()
    with opener() as stream:
        sizes = _sizes(stream, 3, part.file.path)
        count, height, width = sizes if len(sizes) == 3 else (0, 0, 0)
        size = math.prod((height, width))
        if not 0 < size <= _MAX_PIXELS:
            told = f"{part.file.path} claims images of {width:,} x {height:,} pixels."
            raise UnreadableFileError(told, reason="too_large", offset=0)
        labels = _labels(part.file, count)
        for row in range(count):
            pixels = stream.read(size)
            if len(pixels) < size:
                told = f"the file ends in image {row:,} of {count:,}"
                builder.reject(row, "truncated", told)
                break
            meta = None if labels is None else as_json({"label": labels[row]})
            builder.row(row, Row("", meta=meta), b"P5 %d %d 255\n" % (width, height) + pixels)
            if builder.full:
                yield builder.take()
        else:
            if stream.read(1):
                told = f"bytes follow the {count:,} images that the header claims"
                builder.reject(count, "invalid_media", told)
    if builder:
        yield builder.take()


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Refuse: there is no text in it."""
    raise InputError(f"{part.file.path} holds images; say `schema: image` in the recipe")


READER = Reader(
    name="idx",
    suffixes=(),
    one_document_per_file=False,
    split=whole_file,
    read=read,
    media=read_media,
    arrange=arrange,
    schema="image",
)
