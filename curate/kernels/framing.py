"""What encoding does to every byte and id; import it where it is used (numba, half a second).

Texts with certain characters are found, and documents' ids put between their boundaries.

>>> import numpy as np
>>> out = np.empty(7, np.uint16)
>>> ids, offsets = np.array([5, 6, 7], np.uint32), np.array([0, 2, 3])
>>> frame(ids, offsets, 0, 1, np.zeros(9, np.bool_), out)
-1
>>> out.tolist()
[0, 5, 6, 1, 0, 7, 1]
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from curate.kernels.compiled import compiled
from curate.kernels.ranges import between_64
from curate.kernels.simd import trailing_zeros
from curate.kernels.utf8 import character_at, character_width

__all__ = ["find_points", "frame"]

_LEAD, _LAST = np.uint8(0xC2), np.uint8(0xFF)  # a character's first byte beyond ASCII


@compiled
def find_points(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    table: npt.NDArray[np.uint8],
    found: npt.NDArray[np.bool_],
) -> None:
    """Set `found` [n] for texts with a code point beyond ASCII whose entry in `table` is not 0.

    Args:
        data: uint8 [total], UTF-8.
        offsets: int64 [n + 1], text i is `data[offsets[i] : offsets[i + 1]]`.
        table: uint8 [k], by code point; those of k and above are not looked for.
        found: bool [n].
    """
    one = np.uint64(1)
    for text in range(len(offsets) - 1):
        i, stop = offsets[text], offsets[text + 1]
        some = False
        while i + 64 <= stop and not some:
            leads = between_64(data, i, _LEAD, _LAST)
            while leads != 0:
                k = i + trailing_zeros(leads)
                width = character_width(data, k, stop)
                code = character_at(data, k, width) if width else 0
                some |= code < len(table) and table[code] != 0
                leads &= leads - one
            i += 64
        while i < stop and not some:
            if data[i] >= _LEAD:
                width = character_width(data, i, stop)
                code = character_at(data, i, width) if width else 0
                some = code < len(table) and table[code] != 0
            i += 1
        found[text] = some


@compiled
def frame(
    ids: npt.NDArray[np.uint32],
    offsets: npt.NDArray[np.int64],
    bos: int,
    eos: int,
    forbidden: npt.NDArray[np.bool_],
    out: npt.NDArray[Any],
) -> int:
    """Write `[bos] + ids + [eos]` for every document into `out` [len(ids) + 2 n].

    Args:
        ids: uint32 [offsets[n]].
        offsets: int64 [n + 1], document d is `ids[offsets[d] : offsets[d + 1]]`.
        bos, eos: the ids around a document.
        forbidden: bool [vocabulary], the ids that no document may hold.
        out: uint16 or uint32, wide enough for every id.

    Returns:
        The first document that holds a forbidden id, or -1.
    """
    inside = np.flatnonzero(forbidden)
    low = np.uint32(inside[0]) if len(inside) else np.uint32(0xFFFFFFFF)
    width = np.uint32(inside[-1]) - low if len(inside) else np.uint32(0)
    for document in range(len(offsets) - 1):
        start, count = offsets[document], offsets[document + 1] - offsets[document]
        place = start + 2 * document
        out[place] = bos
        out[place + count + 1] = eos
        own, target = ids[start : start + count], out[place + 1 : place + 1 + count]
        for k in range(len(own)):
            target[k] = own[k]
        nearest = np.uint32(0xFFFFFFFF)
        for k in range(len(own)):
            nearest = min(nearest, np.uint32(own[k] - low))  # wraps below `low`
        if nearest <= width:
            for k in range(len(own)):
                if forbidden[own[k]]:
                    return document
    return -1
