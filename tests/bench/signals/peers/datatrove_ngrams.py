"""datatrove's n-gram decontamination with 13 words; option `split` replaces spaCy by `str.split`.

Its indexer cannot be made without lighteval, so the index is written here, by the filter's own
normaliser, tokenizer and hash.
"""

import tempfile
from pathlib import Path

import numpy as np
import shared
from datatrove.data import Document
from datatrove.pipeline.decont import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.text import ngrams, simplify_text
from datatrove.utils.word_tokenizers import WordTokenizer


class SplitTokenizer(WordTokenizer):
    """Words are what stands between spaces (its normaliser has removed punctuation by then)."""

    def word_tokenize(self, text: str) -> list[str]:
        """Return the words."""
        return text.split()

    def sent_tokenize(self, text: str) -> list[str]:
        """Return the text as one sentence; not used."""
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the text's one span; not used."""
        return [(0, len(text))]


def main() -> None:
    """Count the documents that it would drop."""
    with tempfile.TemporaryDirectory() as folder:
        config = NGramsDecontConfig(n_grams=13)
        stage = NGramsDecontFilter(index_folder=folder, config=config)
        if shared.option() == "split":
            stage.tokenizer = SplitTokenizer()
        hashes = {
            stage.hash_func(" ".join(ngram))
            for item in shared.items()
            for ngram in ngrams(
                stage.tokenizer.word_tokenize(simplify_text(item, config.norm_config)), 13
            )
        }
        array = np.array(sorted(hashes), dtype=config.hash_config.np_descr)
        array.tofile(Path(folder) / "items.index.hashes")

        def work(texts: list[str]) -> int:
            return sum(stage.filter(Document(text=text, id="")) is not True for text in texts)

        shared.report(work)


if __name__ == "__main__":
    main()
