"""Curves in the files that TensorBoard reads, written without it.

TensorBoard's own writer takes a second to import and a thread to run; what it writes is small: an
event is a protocol buffer (tensorboard/compat/proto/event.proto) in a TFRecord, which is a length
and the bytes, each behind its masked CRC-32C (RFC 3720). A run that goes on starts a new file,
whose first event tells TensorBoard to forget the steps that are made again.

>>> hex(crc32c(b"123456789"))
'0xe3069283'
"""

import struct
import time
from collections.abc import Mapping
from pathlib import Path

__all__ = ["Curves", "crc32c"]


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes (Castagnoli's polynomial, reflected)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 255]
    return crc ^ 0xFFFFFFFF


def _record(data: bytes) -> bytes:
    """Frame an event: its length and its bytes, each followed by its masked checksum."""
    framed = b""
    for part in (struct.pack("<Q", len(data)), data):
        crc = crc32c(part)
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        framed += part + struct.pack("<I", masked)
    return framed


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _field(number: int, content: bytes) -> bytes:
    """Encode a field of bytes, text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _event(step: int, content: bytes) -> bytes:
    """Encode an event: wall time (field 1), step (field 2) and one field more."""
    return _record(b"\x09" + struct.pack("<d", time.time()) + b"\x10" + _varint(step) + content)


class Curves:
    """Appends numbers to a file of its own in `folder`, which is made when the first ones come."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.first = folder, folder / "none", 0

    def begin(self, step: int) -> None:
        """Start a new file; what earlier ones hold of steps after `step` is to be forgotten."""
        self.file, self.first = self.folder / "none", step + 1

    def add(self, step: int, numbers: Mapping[str, float]) -> None:
        """Write the numbers of a step, by the names of their curves."""
        events = b""
        if self.file.name == "none":
            self.folder.mkdir(exist_ok=True)
            self.file = self.folder / f"events.out.tfevents.{time.time_ns()}"
            events += _event(0, _field(3, b"brain.Event:2"))
            events += _event(self.first, _field(7, b"\x08\x01"))  # a session starts
        values = b"".join(
            _field(1, _field(1, name.encode()) + b"\x15" + struct.pack("<f", number))
            for name, number in numbers.items()
        )
        with self.file.open("ab") as stream:
            stream.write(events + _event(step, _field(5, values)))
