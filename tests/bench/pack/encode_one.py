"""One encoder over one corpus, in a process of its own: `encode_one.py ENCODER FOLDER`.

FOLDER is what encode.py prepared: `inputs.json`, a store with documents and verdicts as `clean` and
`judge` leave them, and `tokenizer.json`. A few documents are encoded before the clock starts, for
what is imported late. Prints JSON: CPU seconds, and digests of the ids without ends of documents.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq

Pairs = Sequence[Sequence[dict[str, Any]]]  # (documents, verdicts), shards as JSON
Encoded = tuple[np.ndarray, np.ndarray]  # ids end to end, and how many each document has
Work = tuple[Callable[[Any], Any], Callable[[Any], Encoded], Callable[[Pairs], Any]]


def ours(folder: Path) -> Work:
    """Encode with the job of the pass `tokenize`: from Parquet to committed Arrow shards."""
    from curate.corpus.shard import Shard, read_shard
    from pipelines.passes.base import Workspace
    from pipelines.passes.tokenize import encode_shard
    from pipelines.store import Store

    store = Store(str(folder / "store"))
    shutil.rmtree(folder / "store" / "out", ignore_errors=True)
    workspace = Workspace(store, "out")

    def work(pairs: Any) -> list[Any]:
        return [encode_shard(workspace, *pair, {"path": "tokenizer.json"}) for pair in pairs]

    def encoded(parts: list[Any]) -> Encoded:
        names = {part.info["encoder"]["name"] for part in parts}
        assert names == {"gigatoken"}, f"gigatoken encodes everything, not {names}"
        shards = [shard for part in parts for shard in part.tables["tokens"]]
        column = pa.concat_tables([read_shard(store.storage, shard) for shard in shards])["tokens"]
        column = column.combine_chunks()
        offsets = column.offsets.to_numpy()
        inner = np.ones(len(column.values), dtype=bool)
        inner[offsets[:-1]] = inner[offsets[1:] - 1] = False
        return column.values.to_numpy()[inner], np.diff(offsets) - 2

    return work, encoded, lambda pairs: [list(map(Shard.from_dict, pair)) for pair in pairs]


def gigatoken_reader(folder: Path) -> Work:
    """Encode Parquet files with gigatoken's own reader; write the ids."""
    from gigatoken import ParquetFileSource

    model = gigatoken(folder)

    def work(files: list[str]) -> list[Any]:
        found = model.encode_files(ParquetFileSource(files), parallel=False)
        write_arrow(folder / "direct.arrow", found)
        return [found]

    return work, flattened, paths(folder)


def gigatoken_pyarrow(folder: Path) -> Work:
    """Read each Parquet file with pyarrow, encode its texts without a copy, write the ids."""
    import awkward

    model = gigatoken(folder)

    def work(files: list[str]) -> list[Any]:
        parts = []
        for number, file in enumerate(files):
            texts = pq.read_table(file, columns=["text"])["text"].combine_chunks()
            column = awkward.drop_none(awkward.from_arrow(texts))
            parts.append(model.encode_batch(column, parallel=False))
            write_arrow(folder / f"direct-{number}.arrow", parts[-1])
        return parts

    return work, flattened, paths(folder)


def gigatoken_memory(folder: Path) -> Work:
    """Encode texts that are Python strings already; the ids stay in memory."""
    model = gigatoken(folder)
    return lambda texts: [model.encode_batch(texts, parallel=False)], flattened, strings(folder)


def tokenizers(folder: Path) -> Work:
    """Encode texts that are Python strings already, with fast settings, to lists of ids."""
    from tokenizers import Tokenizer

    model = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model.encode_special_tokens = True

    def work(texts: list[str]) -> list[list[int]]:
        return [
            one.ids
            for start in range(0, len(texts), 1000)
            for one in model.encode_batch_fast(
                texts[start : start + 1000], add_special_tokens=False
            )
        ]

    def encoded(lists: list[list[int]]) -> Encoded:
        return np.concatenate(list(map(np.array, lists))), np.array(list(map(len, lists)))

    return work, encoded, strings(folder, first=True)


def gigatoken(folder: Path) -> Any:
    """Load gigatoken; specials are left out, so that texts which spell one are text."""
    from gigatoken import Tokenizer

    data = json.loads((folder / "tokenizer.json").read_bytes())
    return Tokenizer.from_json(json.dumps({**data, "added_tokens": []}))


def write_arrow(path: Path, found: Any) -> None:
    """Write ids as one column of lists of 16-bit integers."""
    ids, offsets = np.asarray(found.layout.content.data), np.asarray(found.layout.offsets.data)
    column = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(ids.astype(np.uint16)))
    with ipc.new_file(path, pa.schema([("tokens", column.type)])) as out:
        out.write_table(pa.table({"tokens": column}))


def flattened(parts: list[Any]) -> Encoded:
    """Return what gigatoken found."""
    ids = [np.asarray(part.layout.content.data) for part in parts]
    return np.concatenate(ids), np.concatenate(
        [np.diff(part.layout.offsets.data) for part in parts]
    )


def paths(folder: Path) -> Callable[[Pairs], list[str]]:
    """Return what finds the files of documents."""
    return lambda pairs: [str(folder / "store" / documents["path"]) for documents, _ in pairs]


def strings(folder: Path, *, first: bool = False) -> Callable[[Pairs], list[str]]:
    """Return what reads the texts, or the first of them."""
    count = json.loads((folder / "inputs.json").read_text())["first_documents"] if first else None

    def read(pairs: Pairs) -> list[str]:
        files = paths(folder)(pairs)
        texts = [text for file in files for text in pq.read_table(file)["text"].to_pylist()]
        return texts[:count]

    return read


ENCODERS = {
    "ours": ours,
    "gigatoken with pyarrow": gigatoken_pyarrow,
    "gigatoken, its own Parquet reader": gigatoken_reader,
    "gigatoken in memory": gigatoken_memory,
    "tokenizers": tokenizers,
}


def main() -> None:
    """Encode, and tell."""
    name, folder = sys.argv[1], Path(sys.argv[2])
    inputs = json.loads((folder / "inputs.json").read_text())
    work, encoded, ready = ENCODERS[name](folder)
    work(ready(inputs["few"]))
    given = ready(inputs["shards"])
    wall, cpu = time.perf_counter(), time.process_time()
    made = work(given)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    ids, lengths = encoded(made)
    whole = name != "tokenizers"
    counts = {"first": inputs["first_documents"], **({"all": len(lengths)} if whole else {})}
    told = {
        "wall_s": wall,
        "cpu_s": cpu,
        "tokens": len(ids),
        "text_bytes": inputs["text_bytes" if whole else "first_bytes"],
        "digests": {which: digest(ids, lengths[:count]) for which, count in counts.items()},
    }
    print(json.dumps(told))


def digest(ids: np.ndarray, lengths: np.ndarray) -> str:
    """Return a hash of the documents' ids and their lengths."""
    own = ids[: int(lengths.sum())].astype("<u4")
    return hashlib.sha256(lengths.astype("<i8").tobytes() + own.tobytes()).hexdigest()


if __name__ == "__main__":
    main()
