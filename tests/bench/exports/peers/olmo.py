"""OLMo-core's own reader of document boundaries, from the table and from the end tokens."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = "olmo"
PACKAGE = "ai2-olmo-core"
REQUIREMENTS = ("ai2-olmo-core==3.0.0",)
NEEDS_TORCH = True


def read(folder: Path, facts: Mapping[str, Any]) -> Iterator[Sequence[int]]:
    """Yield the documents."""
    import numpy as np
    from olmo_core.data.utils import iter_document_indices, load_array_slice

    dtype = getattr(np, facts["dtype"])
    for path in sorted((folder / "train").glob("*.npy")):
        told = list(iter_document_indices(path, use_array_if_local=False))
        found = list(iter_document_indices(path, eos_token_id=facts["eos"], dtype=dtype))
        assert told == found, "the table and the end tokens tell the same documents"
        for start, end in told:
            yield load_array_slice(path, start, end, dtype).tolist()
