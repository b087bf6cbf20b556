"""NeMo Curator's heuristic filters that have a counterpart in Gopher, on the CPU."""

import shared
from nemo_curator.stages.text.filters.heuristic.repetition import (
    RepeatedLinesByCharFilter,
    RepeatedLinesFilter,
    RepeatedParagraphsByCharFilter,
    RepeatedParagraphsFilter,
    RepeatingDuplicateNGramsFilter,
    RepeatingTopNGramsFilter,
)
from nemo_curator.stages.text.filters.heuristic.string import (
    BulletsFilter,
    CommonEnglishWordsFilter,
    EllipsisFilter,
    MeanWordLengthFilter,
    SymbolsToWordsFilter,
    WordCountFilter,
    WordsWithoutAlphabetsFilter,
)

QUALITY = (
    WordCountFilter,
    MeanWordLengthFilter,
    SymbolsToWordsFilter,
    BulletsFilter,
    EllipsisFilter,
    WordsWithoutAlphabetsFilter,
    CommonEnglishWordsFilter,
)
REPETITION = (
    RepeatedLinesFilter,
    RepeatedParagraphsFilter,
    RepeatedLinesByCharFilter,
    RepeatedParagraphsByCharFilter,
)


def main() -> None:
    """Count the documents that got all scores."""
    filters = [one() for one in (*QUALITY, *REPETITION)]
    filters += [RepeatingTopNGramsFilter(n=n) for n in (2, 3, 4)]
    filters += [RepeatingDuplicateNGramsFilter(n=n) for n in (5, 6, 7, 8, 9, 10)]

    def work(texts: list[str]) -> int:
        return sum(len([one.score_document(text) for one in filters]) == 20 for text in texts)

    shared.report(work)


if __name__ == "__main__":
    main()
