"""Data-Juicer's filters nearest to Gopher's; its n-gram filters have one width each, 10."""

import shared
from data_juicer.ops.filter.alphanumeric_filter import AlphanumericFilter
from data_juicer.ops.filter.average_line_length_filter import AverageLineLengthFilter
from data_juicer.ops.filter.character_repetition_filter import CharacterRepetitionFilter
from data_juicer.ops.filter.maximum_line_length_filter import MaximumLineLengthFilter
from data_juicer.ops.filter.special_characters_filter import SpecialCharactersFilter
from data_juicer.ops.filter.text_length_filter import TextLengthFilter
from data_juicer.ops.filter.word_repetition_filter import WordRepetitionFilter
from data_juicer.ops.filter.words_num_filter import WordsNumFilter

FILTERS = (
    AlphanumericFilter,
    AverageLineLengthFilter,
    CharacterRepetitionFilter,
    MaximumLineLengthFilter,
    SpecialCharactersFilter,
    TextLengthFilter,
    WordRepetitionFilter,
    WordsNumFilter,
)


def main() -> None:
    """Count the documents that got statistics."""
    operators = [one() for one in FILTERS]

    def work(texts: list[str]) -> int:
        samples = {"text": texts, "__dj__stats__": [{} for _ in texts]}
        for operator in operators:
            operator.compute_stats_batched(samples)
        return sum(len(stats) >= len(operators) for stats in samples["__dj__stats__"])

    shared.report(work)


if __name__ == "__main__":
    main()
