"""Put documents' ids between their boundaries; import it where it is used (numba, half a second).

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

__all__ = ["frame"]


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
