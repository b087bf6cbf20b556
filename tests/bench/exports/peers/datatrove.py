"""datatrove's own dataset of windows; documents are found by the positions it gives."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

FORMAT = "datatrove"
PACKAGE = "datatrove"
REQUIREMENTS = ("datatrove[io]==0.10.1", "numpy<3")
NEEDS_TORCH = True


def read(folder: Path, facts: Mapping[str, Any]) -> Iterator[Sequence[int]]:
    """Yield the documents: windows of two tokens end to end, and the last token by itself."""
    import numpy as np
    from datatrove.utils.dataset import DatatroveFolderDataset

    train = folder / "train"
    width = 2 if facts["dtype"] == "uint16" else 4
    dataset = DatatroveFolderDataset(str(train), seq_len=1, token_size=width)
    tokens = [int(i) for n in range(len(dataset)) for i in dataset[n]["input_ids"]]
    size = sum(path.stat().st_size for path in train.glob("*.ds")) // width
    if size % 2:  # a window too short is passed over
        last = sorted(train.glob("*.ds"))[-1]
        tokens.append(int(np.fromfile(last, facts["dtype"])[-1]))
    start = 0
    for path in sorted(train.glob("*.ds.index")):
        for end in np.fromfile(path, "<u8").tolist():
            yield tokens[start:end]
            start = end
    whole = DatatroveFolderDataset(str(train), seq_len=63, token_size=width, return_positions=True)
    for number in range(len(whole)):
        item = whole[number]
        ids, positions = item["input_ids"], item["positions"]
        ended = [i + 1 for i, one in enumerate(ids[:-1].tolist()) if one == facts["eos"]]
        assert [i for i in range(1, len(ids)) if int(positions[i]) == 0] == ended
