"""datatrove's two Gopher filters; option `split` replaces spaCy by `str.split`."""

import shared
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters import gopher_quality_filter as quality_module
from datatrove.pipeline.filters import gopher_repetition_filter as repetition_module


def main() -> None:
    """Count the documents that both filters keep; both judge every document."""
    if shared.option() == "split":
        for module in (quality_module, repetition_module):
            module.split_into_words = lambda text, language: text.split()
    quality, repetition = GopherQualityFilter(), GopherRepetitionFilter()

    def work(texts: list[str]) -> int:
        kept = 0
        for text in texts:
            document = Document(text=text, id="")
            first, second = quality.filter(document), repetition.filter(document)
            kept += first is True and second is True
        return kept

    shared.report(work)


if __name__ == "__main__":
    main()
