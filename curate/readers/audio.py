r"""Sound: one record per file, the bytes and what the header tells of rate and length.

WAV (RIFF, also RF64) and FLAC (RFC 9639); told apart by content, not suffix.

>>> header(b"fLaC" + bytes(40)).detail
'a FLAC file without a sample rate'
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from curate.readers.base import Batch, Opener, Reader, Slice, whole_file
from curate.readers.columns import Problem
from curate.readers.media import AUDIO, read_media, read_records

__all__ = ["READER", "header"]

_OPEN_SIZES = (0, 0xFFFFFFFF)  # what a writer leaves that could not go back to its header
_MAX_RATE = 1 << 24
_STREAM_INFO_BYTES = 34


def header(data: bytes) -> dict[str, Any] | Problem:
    """Return format, rate (Hz), channels, samples per channel and duration (s), or why not."""
    if data.startswith((b"RIFF", b"RF64")):
        return _wav(data)
    if data.startswith(b"fLaC"):
        return _flac(data)
    return Problem("invalid_media", "no WAV or FLAC header")


def _fields(name: str, rate: int, num_channels: int, num_samples: int) -> dict[str, Any]:
    return {
        "format": name,
        "sample_rate": rate,
        "num_channels": num_channels,
        "num_samples": num_samples,
        "duration_s": num_samples / rate,
    }


def _wav(data: bytes) -> dict[str, Any] | Problem:
    """Go from chunk to chunk: `fmt ` says how the samples of `data` lie."""
    if data[8:12] != b"WAVE":
        return Problem("invalid_media", f"a RIFF file of the kind {data[8:12]!r}, no WAVE")
    at = 12
    rate = num_channels = frame_bytes = 0
    long_size: int | None = None
    while at + 8 <= len(data):
        name, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        body = at + 8
        if name == b"ds64" and body + 16 <= len(data):
            long_size = int.from_bytes(data[body + 8 : body + 16], "little")
        if name == b"fmt ":
            if size < 16 or body + 16 > len(data):
                break
            num_channels = int.from_bytes(data[body + 2 : body + 4], "little")
            rate = int.from_bytes(data[body + 4 : body + 8], "little")
            frame_bytes = int.from_bytes(data[body + 12 : body + 14], "little")
        if name == b"data":
            if not (0 < rate <= _MAX_RATE and num_channels and frame_bytes):
                return Problem("invalid_media", "a WAV file whose samples have no rate or no size")
            here = len(data) - body
            said = long_size if size == 0xFFFFFFFF and long_size is not None else size
            if said in _OPEN_SIZES:
                said = here
            if said > here:
                return Problem("truncated", f"the WAV file ends {said - here:,} bytes early")
            return _fields("wav", rate, num_channels, said // frame_bytes)
        at = body + size + size % 2
    return Problem("truncated", "the WAV file ends before its samples")


def _flac(data: bytes) -> dict[str, Any] | Problem:
    """Read STREAMINFO, which is always the first block of metadata."""
    if len(data) < 8 + _STREAM_INFO_BYTES:
        return Problem("truncated", "the FLAC file ends inside its header")
    bits = int.from_bytes(data[18:26], "big")
    rate, num_channels = bits >> 44, (bits >> 41 & 7) + 1
    num_samples = bits & (1 << 36) - 1
    if data[4] & 0x7F or not rate:
        return Problem("invalid_media", "a FLAC file without a sample rate")
    frames = _after_metadata(data)
    if frames is None or (num_samples and frames >= len(data)):
        return Problem("truncated", "the FLAC file ends before its samples")
    return _fields("flac", rate, num_channels, num_samples)


def _after_metadata(data: bytes) -> int | None:
    """Return where the first frame of a FLAC file begins."""
    at = 4
    while at + 4 <= len(data):
        last = data[at] >> 7
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        if last:
            return at if at <= len(data) else None
    return None


def read(part: Slice, opener: Opener, options: Mapping[str, Any]) -> Iterator[Batch]:
    """Yield the file as one record of AUDIO, or as one reject."""
    return read_media(part, opener, options, AUDIO, header)


READER = Reader(
    name="audio",
    suffixes=(".wav", ".flac"),
    one_document_per_file=True,
    split=whole_file,
    read=read,
    media=functools.partial(read_records, read=read),
    schema="audio",
)
