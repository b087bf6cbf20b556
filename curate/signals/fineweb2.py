"""FineWeb-2's stop words: how many distinct ones of a language a text has, among spaCy's words.

FineWeb-2 (huggingface/fineweb-2, configs/<language>.yml) lists some fifteen to twenty frequent
words of each language and drops a document with fewer than two of them. The lists here are those of
the languages that `fineweb2:<language>` knows; they are compared as they stand, in lower case, with
the words of spaCy's English splitter, where FineWeb-2 has a splitter for each language.

>>> import pyarrow as pa
>>> FAMILY.measure(pa.array(["das Haus und der Garten"], pa.large_string())).to_pylist()[0][
...     "num_stop_words_deu_latn"]
3
"""

from typing import Any

import numpy as np
import pyarrow as pa

from curate.signals.base import Family, Signal, columns_table, nulls_of
from curate.signals.datatrove_words import word_counts

__all__ = ["FAMILY", "STOP_WORDS", "signal_of"]

STOP_WORDS = {
    "deu_Latn": "der und die in von im den des mit das er dem als wurde f\xfcr",
    "fra_Latn": "de la le et \xe0 en l' des du les est d' un une il dans par au",
    "ita_Latn": "di e il la in a del che \xe8 della un per nel l' con da i una",
    "por_Latn": "de a e o em do da que um no uma com para na \xe9 foi",
    "rus_Cyrl": (
        "\u0432 \u0438 \u043d\u0430 \u0441 \u0433\u043e\u0434\u0430 \u043f\u043e "
        "\u0433\u043e\u0434\u0443 \u0438\u0437 \u0431\u044b\u043b \u043a \u043d\u0435 "
        "\u043e\u0442 \u0447\u0442\u043e \u0437\u0430 \u0434\u043b\u044f \u0435\u0433\u043e "
        "\u043a\u0430\u043a \u0430 \u043e\u043d \u0442\u0430\u043a\u0436\u0435 \u0434\u043e "
        "\u043f\u043e\u0441\u043b\u0435"
    ),
    "spa_Latn": "de la en el y a que del los se por un con una las su",
}


def signal_of(language: str) -> str:
    """Return the signal's name.

    >>> signal_of("deu_Latn")
    'num_stop_words_deu_latn'
    """
    return f"num_stop_words_{language.lower()}"


SIGNALS = {
    signal_of(language): Signal(pa.int64(), f"distinct stop words of FineWeb-2 for {language}")
    for language in STOP_WORDS
}


def _measure(texts: Any) -> Any:
    columns = {
        signal_of(language): np.ascontiguousarray(word_counts(texts, tuple(words.split()))["stops"])
        for language, words in STOP_WORDS.items()
    }
    return columns_table(columns, SIGNALS, nulls_of(texts))


FAMILY = Family(name="fineweb2", signals=SIGNALS, measure=_measure, default=False)
