"""Dolma's tagger gopher_v1."""

import shared
from dolma.core.data_types import Document
from dolma.taggers.gopher import GopherTagger


def main() -> None:
    """Count the documents that it gives attributes to."""
    tagger = GopherTagger()

    def work(texts: list[str]) -> int:
        return sum(
            bool(tagger.predict(Document(source="", version="", id="", text=text)).spans)
            for text in texts
        )

    shared.report(work)


if __name__ == "__main__":
    main()
