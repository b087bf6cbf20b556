"""gaoya: MinHashStringIndex, Rust from text to index; a document that finds nobody is inserted."""

from collections.abc import Iterator
from pathlib import Path

import shared
from gaoya.minhash import MinHashStringIndex


def new_index() -> MinHashStringIndex:
    """Return an index of words as the library cuts them."""
    return MinHashStringIndex(
        hash_size=32,
        jaccard_threshold=0.8,
        num_bands=shared.BANDS,
        band_size=shared.ROWS,
        analyzer="word",
        lowercase=True,
        ngram_range=(shared.WIDTH, shared.WIDTH),
        id_container="smallvec",
    )


def signatures(texts: list[str]) -> None:
    """Insert all: the library has no signature without an index."""
    index = new_index()
    for row, text in enumerate(texts):
        index.insert_document(row, text)


def whole(source: Path, out: Path, option: str) -> None:
    """From file to file in one pass."""
    index = new_index()

    def kept() -> Iterator[tuple[list[str], list[str]]]:
        number = 0
        for ids, texts in shared.batches(source):
            rows = []
            for row, text in enumerate(texts):
                if not index.query(text):
                    index.insert_document(number + row, text)
                    rows.append(row)
            number += len(ids)
            yield [ids[row] for row in rows], [texts[row] for row in rows]

    shared.write_survivors(out, kept())


if __name__ == "__main__":
    shared.main(whole, signatures)
