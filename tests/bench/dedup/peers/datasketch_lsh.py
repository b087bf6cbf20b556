"""datasketch: MinHash.bulk, then MinHashLSH; a document that finds nobody is inserted and kept."""

from collections.abc import Iterator
from pathlib import Path

import shared
from datasketch import MinHash, MinHashLSH

NUM_PERM = shared.BANDS * shared.ROWS


def signatures(texts: list[str]) -> list[MinHash]:
    """Shingle in Python and sketch with the library's default scheme and hash."""
    tokens = [[one.encode() for one in set(shared.shingles(text))] for text in texts]
    return MinHash.bulk(tokens, num_perm=NUM_PERM)


def whole(source: Path, out: Path, option: str) -> None:
    """From file to file in one pass."""
    index = MinHashLSH(num_perm=NUM_PERM, params=(shared.BANDS, shared.ROWS))

    def kept() -> Iterator[tuple[list[str], list[str]]]:
        for ids, texts in shared.batches(source):
            rows = []
            for row, signature in enumerate(signatures(texts)):
                if not index.query(signature):
                    index.insert(ids[row], signature, check_duplication=False)
                    rows.append(row)
            yield [ids[row] for row in rows], [texts[row] for row in rows]

    shared.write_survivors(out, kept())


if __name__ == "__main__":
    shared.main(whole, signatures)
