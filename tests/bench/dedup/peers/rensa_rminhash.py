"""rensa: RMinHashDeduplicator with LSH on shingles made in Python; it checks its estimate."""

from collections.abc import Iterator
from pathlib import Path

import shared
from rensa import RMinHash, RMinHashDeduplicator

NUM_PERM = shared.BANDS * shared.ROWS
SEED = 42


def signatures(texts: list[str]) -> object:
    """Shingle in Python, sketch in Rust: a matrix per block, so that shingles do not pile up."""
    starts = range(0, len(texts), shared.BLOCK_DOCS)
    blocks = (texts[start : start + shared.BLOCK_DOCS] for start in starts)
    return [
        RMinHash.digest_matrix_from_token_sets(
            [list(shared.shingles(text)) for text in block], NUM_PERM, SEED
        )
        for block in blocks
    ]


def whole(source: Path, out: Path, option: str) -> None:
    """From file to file in one pass."""
    index = RMinHashDeduplicator(0.8, NUM_PERM, True, shared.BANDS, SEED)

    def kept() -> Iterator[tuple[list[str], list[str]]]:
        for ids, texts in shared.batches(source):
            pairs = [(ids[row], list(shared.shingles(text))) for row, text in enumerate(texts)]
            rows = [row for row, is_new in enumerate(index.add_pairs(pairs)) if is_new]
            yield [ids[row] for row in rows], [texts[row] for row in rows]

    shared.write_survivors(out, kept())


if __name__ == "__main__":
    shared.main(whole, signatures)
