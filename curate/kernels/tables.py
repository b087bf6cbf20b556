"""Tables with an entry per character: made once per machine, then read from the kernels' cache.

The name of a table says which version of Unicode it has; the cache's folder changes with the code
of `curate.kernels`, so whatever makes a table belongs there.
"""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from curate.kernels.cache import cache_folder, keep

__all__ = ["TABLE_SIZE", "kept_table"]

U8 = npt.NDArray[np.uint8]

# Planes 4 and above hold no letter and no white space in any Unicode version so far.
TABLE_SIZE = 0x40000


def kept_table(name: str, make: Callable[[], U8]) -> U8:
    """Return a table of `TABLE_SIZE` bytes, read-only; `make` it where none is kept."""
    folder = cache_folder()
    path = folder / f"{name}.npy" if folder else None
    if path and path.exists():
        try:
            table: U8 = np.load(path)
            if table.dtype == np.uint8 and table.shape == (TABLE_SIZE,):
                table.flags.writeable = False
                return table
        except (OSError, ValueError, EOFError):
            pass  # cut short or not ours: it is made again and replaced
    table = make()
    assert table.dtype == np.uint8
    assert table.shape == (TABLE_SIZE,)
    if path:
        file = io.BytesIO()
        np.save(file, table)
        keep(path, file.getvalue())
    table.flags.writeable = False
    return table
