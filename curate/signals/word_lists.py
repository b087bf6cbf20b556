"""Matches of the user's word lists: toxicity, identity terms, boilerplate, a domain's vocabulary.

Lists and texts are folded alike (`curate.kernels.fold`: case, accents and punctuation do not
count), and a match is one of whole words: `ass` is not in `class`, and `Cafe` is a match of the
list's `caf\u00e9`. A phrase of several words matches across punctuation and lines. Texts are read
from left to right: of the phrases that begin at a word the longest one counts, once, and reading
goes on behind it, so that no word counts twice. Letters of scripts without spaces are words of
their own, so that a Chinese word of the list is a phrase of its letters.

>>> import pyarrow as pa
>>> settings = MAKER.units({"food": {"words": ["Red wine", "oven"]}})["food"]
>>> family = MAKER.make("food", settings, MAKER.load(settings, []))
>>> texts = pa.array(["Wine, red. Red wine!", ""], pa.large_string())
>>> family.measure(texts)["words_food"].to_pylist()
[250.0, None]
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.kernels.words import ngram_hashes, normalise_words, word_hashes
from curate.signals.base import Family, Signal, columns_table, nulls_of
from curate.signals.making import Maker, Settings

__all__ = ["MAKER", "MAX_WORDS"]

MAX_WORDS = 32  # of a phrase
_MAX_ENTRIES = 2_000_000
_PHRASE, _PREFIX = 1, 2  # as in `curate.kernels.phrases`, which is imported when there is work


def _units(value: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "words": sorted(set(one.get("words", ()))),
            "paths": sorted(set(one.get("paths", ()))),
        }
        for name, one in value.items()
    }


def _signals(unit: str, settings: Settings) -> dict[str, Signal]:
    del settings
    about = f"matches of the word list {unit} per thousand words"
    return {f"words_{unit}": Signal(pa.float64(), about)}


def _load(settings: Settings, contents: Sequence[bytes]) -> Any:
    """Return the nodes of the trie: columns key (uint64, sorted) and flags (uint8).

    Raises:
        InputError: a file that is no UTF-8 text, a phrase of too many words, a list without words.
    """
    phrases = list(settings["words"])
    for path, data in zip(settings["paths"], contents, strict=True):
        try:
            phrases += data.decode("utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise InputError(f"measure.word_lists: {path} is no UTF-8 text: {error}") from None
    phrases = sorted(set(phrases))
    if len(phrases) > _MAX_ENTRIES:
        raise InputError(
            f"measure.word_lists: {len(phrases):,} entries are too many (limit {_MAX_ENTRIES:,})"
        )
    words, offsets = normalise_words(pa.array(phrases, pa.large_string()))
    sizes = np.diff(offsets)
    longest = int(sizes.max(initial=0))
    if longest == 0:
        raise InputError("measure.word_lists: a list holds no word; write letters or numbers")
    if longest > MAX_WORDS:
        shown = phrases[int(sizes.argmax())][:60]
        raise InputError(
            f"measure.word_lists: a phrase of {longest} words, {shown!r}... (limit {MAX_WORDS}); "
            "write one phrase per line"
        )
    hashes, _ = word_hashes(pa.array(phrases, pa.large_string()))
    assert len(words) == hashes.size, "the same words are hashed"
    keys, flags = [np.empty(0, dtype=np.uint64)], [np.empty(0, dtype=np.uint8)]
    for width in range(1, longest + 1):
        chosen = np.flatnonzero(sizes >= width)
        heads = hashes[(offsets[chosen][:, None] + np.arange(width)).ravel()]
        bounds = np.arange(chosen.size + 1, dtype=np.int64) * width
        keys.append(ngram_hashes(heads, bounds, width)[0])
        flags.append(np.where(sizes[chosen] == width, _PHRASE, _PREFIX).astype(np.uint8))
    nodes, place = np.unique(np.concatenate(keys), return_inverse=True)
    marks = np.zeros(nodes.size, dtype=np.uint8)
    np.bitwise_or.at(marks, place, np.concatenate(flags))
    return pa.table({"key": nodes, "flags": marks})


def _make(unit: str, settings: Settings, artefact: Any) -> Family:
    signals = _signals(unit, settings)
    keys = artefact["key"].to_numpy()
    flags = artefact["flags"].to_numpy()
    table: list[Any] = []

    def measure(texts: Any) -> Any:
        from curate.kernels import phrases  # numba: half a second

        if not table:
            size = 1 << max(int(4 * keys.size - 1).bit_length(), 4)
            table.extend([np.zeros(size, dtype=np.uint64), np.zeros(size, dtype=np.uint8)])
            phrases.make_table(np.array(keys), np.array(flags), table[0], table[1])
        hashes, offsets = word_hashes(texts)
        counts = np.empty(len(texts), dtype=np.int64)
        slots, marks = table
        phrases.count_phrases(hashes, offsets, slots, marks, counts)
        with np.errstate(invalid="ignore"):  # no words: null
            rates = 1000 * counts / np.diff(offsets)
        return columns_table({f"words_{unit}": rates}, signals, nulls_of(texts))

    return Family(name=f"word_lists:{unit}", signals=signals, measure=measure)


MAKER = Maker(
    name="word_lists",
    columns="words_<name>",
    description="matches of your word list, per thousand words",
    units=_units,
    signals=_signals,
    make=_make,
    files=lambda settings: settings["paths"],
    load=_load,
)
