"""Which test items does a corpus hold? Word n-grams of the items, with guards against chance.

An item's evidence is the set of its n-grams (13 words by default, Brown et al. 2020, "Language
Models are Few-Shot Learners", appendix C); its overlap with a document is the share of that set
which the document holds (Tulu 3, 2024; Marin's decontamination). Three kinds of text are no
evidence and do not count:

- An n-gram with fewer than two different telling words. Digits and single characters tell nothing:
  `0 1 2 ... 9 a b c` is in HumanEval and in much code that has never seen it.
- An n-gram that more than ten different items of one benchmark share. It is the benchmark's
  template (BIG-Bench Hard has a few dozen) or a common passage, and says nothing of an item.
  Items with the same words count once here, so a benchmark that repeats items loses nothing.
- An item that is too short: fewer than 5 words or 25 characters.

An item that is left without n-grams, because it is short or because its template has eaten them,
is matched whole: all its words in a row. What no method can cover is counted, not hidden.

>>> import polars as pl, pyarrow as pa
>>> question = "How many eggs does the old grey hen of my neighbour lay in a week of rain?"
>>> items = pl.DataFrame({"benchmark": ["b"], "item": ["1"], "text": [question]})
>>> index = BenchmarkIndex.build(items)
>>> found = index.match(pa.array(["nothing", "Quiz: " + question], pa.large_string()))
>>> found.select("document", "item", "overlap", "span_start").rows()
[(1, '1', 1.0, 6)]
"""

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.contamination.matching import Hits, Postings, find_ngrams, find_sequences
from curate.contamination.spans import word_spans
from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.schema import check_format, tagged
from curate.kernels.mix import GOLDEN, fmix64
from curate.kernels.words import ngram_hashes, normalise_words, unique_sorted, word_hashes

__all__ = ["BenchmarkIndex", "Guards"]

_NGRAM, _WHOLE, _NONE = "ngram", "whole", "none"
_SETTINGS_KEY = b"preceptor.contamination"
_FIELDS: list[Any] = [
    pa.field("benchmark", pa.string(), nullable=False),
    pa.field("item", pa.string(), nullable=False),
    pa.field("method", pa.string(), nullable=False),  # ngram, whole or none
    pa.field("num_words", pa.int64(), nullable=False),
    # ngram: sorted n-gram hashes; whole: word hashes in order; none: empty
    pa.field("evidence", pa.large_list(pa.uint64()), nullable=False),
]
_SCHEMA = tagged(pa.schema(_FIELDS), "benchmark_index")
_MATCHES = {
    "document": pl.Int64(),
    "benchmark": pl.String(),
    "item": pl.String(),
    "overlap": pl.Float64(),
    "span_start": pl.Int64(),
    "span_length": pl.Int64(),
}
_SLICE_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """What is too little, or too common, to be evidence.

    Attributes:
        min_words: shortest item that is matched whole.
        min_chars: the same, in characters of its words joined by spaces.
        max_items: an n-gram of more different items of a benchmark than this is its template; a
            short item whose words are those of more items than this is a phrase.
    """

    min_words: int = 5
    min_chars: int = 25
    max_items: int = 10

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise InputError(f"decontaminate: {name} must be 1 or more, got {value}")


class BenchmarkIndex:
    """The evidence of every item; `build` it from texts or read it back with `from_table`."""

    def __init__(self, table: Any, words: int, guards: Guards) -> None:
        self.words = words
        self.guards = guards
        self._table = table
        methods = np.asarray(table.column("method").to_pylist(), dtype=object)
        lists = table.column("evidence").combine_chunks()
        offsets = lists.offsets.to_numpy(zero_copy_only=False).astype(np.int64)
        values = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
        self._offsets, self._values = offsets - offsets[0], values
        sizes = np.diff(self._offsets)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        is_gram = (methods == _NGRAM)[owner]
        self._num_evidence = np.where(methods == _NGRAM, sizes, 1)
        self._grams = Postings(values[is_gram], owner[is_gram])
        whole = np.flatnonzero(methods == _WHOLE)
        heads = self._offsets[whole][:, None] + np.arange(guards.min_words)
        anchors, _ = ngram_hashes(
            values[heads.ravel()],
            np.arange(len(whole) + 1, dtype=np.int64) * guards.min_words,
            guards.min_words,
        )
        self._anchors = Postings(anchors, whole)
        self._has_whole = bool(len(whole))

    @classmethod
    def build(cls, items: pl.DataFrame, words: int = 13, guards: Guards | None = None) -> Self:
        """Index benchmark items.

        Args:
            items: columns benchmark, item, text; any order gives the same index.
            words: words of an n-gram.
            guards: what is no evidence.

        Raises:
            InputError: a missing column, an item named twice, `words` below 1.
        """
        guards = guards or Guards()
        missing = [name for name in ("benchmark", "item", "text") if name not in items.columns]
        if missing:
            raise InputError(
                f"benchmark items need the columns benchmark, item and text; there are: "
                f"{', '.join(items.columns)}"
            )
        if words < 1:
            raise InputError(f"decontaminate.method.ngram.words must be 1 or more, got {words}")
        frame = items.select(pl.col("benchmark", "item").cast(pl.String), "text")
        frame = frame.sort("benchmark", "item")
        twice = frame.filter(pl.struct("benchmark", "item").is_duplicated())
        if twice.height:
            benchmark, item, _ = twice.row(0)
            raise InputError(f"benchmark {benchmark!r} has more than one item named {item!r}")
        table = _index_table(frame, words, guards)
        settings = json.dumps({"words": words, **asdict(guards)}, sort_keys=True)
        metadata = {**table.schema.metadata, _SETTINGS_KEY: settings.encode()}
        return cls(table.replace_schema_metadata(metadata), words, guards)

    def to_table(self) -> Any:
        """Return the index as an Arrow table; its schema's metadata holds the settings."""
        return self._table

    @classmethod
    def from_table(cls, table: Any) -> Self:
        """Rebuild an index from `to_table`'s table.

        Raises:
            IntegrityError: not such a table.
        """
        check_format(table.schema, "benchmark index")
        stored = (table.schema.metadata or {}).get(_SETTINGS_KEY)
        if stored is None:
            raise IntegrityError("this table is no benchmark index; build it again")
        settings = json.loads(stored)
        return cls(table, settings.pop("words"), Guards(**settings))

    def coverage(self) -> pl.DataFrame:
        """Count the items of each benchmark by what can be said of them.

        Returns:
            benchmark, items, ngram_items, whole_items, uncoverable_items, by benchmark.
        """
        method = pl.col("method")
        frame = pl.DataFrame(pl.from_arrow(self._table.select(["benchmark", "method"])))
        return (
            frame.group_by("benchmark")
            .agg(
                items=pl.len().cast(pl.Int64),
                ngram_items=(method == _NGRAM).sum().cast(pl.Int64),
                whole_items=(method == _WHOLE).sum().cast(pl.Int64),
                uncoverable_items=(method == _NONE).sum().cast(pl.Int64),
            )
            .sort("benchmark")
        )

    def match(self, texts: Any, *, record_above: float = 0.2) -> pl.DataFrame:
        """Find the items in some documents.

        Args:
            texts: large_string array [n]; null is an empty text.
            record_above: least overlap that makes a row. Lower than the threshold one judges by,
                so that another threshold needs no second look at the texts.

        Returns:
            document (ordinal in `texts`), benchmark, item, overlap (0 to 1; 1 for an item matched
            whole), span_start and span_length (UTF-8 bytes of the text from the first to the last
            matched word, which may enclose text in between), sorted by document, benchmark, item.
        """
        frames = [
            self._match_slice(texts.slice(start, stop - start), start, record_above)
            for start, stop in _slices(texts)
        ]
        return pl.concat(frames) if frames else pl.DataFrame(schema=_MATCHES)

    def _match_slice(self, texts: Any, first: int, record_above: float) -> pl.DataFrame:
        hashes, offsets = word_hashes(texts)
        hits = [find_ngrams(hashes, offsets, self.words, self._grams)]
        if self._has_whole:
            hits.append(
                find_sequences(
                    hashes,
                    offsets,
                    anchor_words=self.guards.min_words,
                    anchors=self._anchors,
                    sequences=self._values,
                    sequence_offsets=self._offsets,
                )
            )
        return self._rows(hits, texts, first, record_above)

    def _rows(self, hits: list[Hits], texts: Any, first: int, record_above: float) -> pl.DataFrame:
        """Turn hits into the table of matches, with byte spans."""
        document, item, count, start, stop = (
            np.concatenate([getattr(part, name) for part in hits])
            for name in ("document", "item", "count", "first", "last")
        )
        overlap = count / self._num_evidence[item]
        kept = np.flatnonzero(overlap >= record_above)
        kept = kept[np.lexsort((item[kept], document[kept]))]
        document, item = document[kept], item[kept]
        spans = np.zeros((2, len(kept)), dtype=np.int64)
        for ordinal in np.unique(document):
            rows = np.flatnonzero(document == ordinal)
            begins, ends = word_spans(texts[int(ordinal)].as_py())
            spans[0, rows] = begins[start[kept[rows]]]
            spans[1, rows] = ends[stop[kept[rows]]] - spans[0, rows]
        names = self._table.select(["benchmark", "item"]).take(pa.array(item))
        columns = {
            "document": document + first,
            "benchmark": pl.from_arrow(names.column("benchmark")),
            "item": pl.from_arrow(names.column("item")),
            "overlap": overlap[kept],
            "span_start": spans[0],
            "span_length": spans[1],
        }
        return pl.DataFrame(columns, schema=_MATCHES)


def _slices(texts: Any) -> Iterator[tuple[int, int]]:
    """Cut documents into runs of about 8 MiB, the unit of memory."""
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    group = np.cumsum(sizes, dtype=np.int64) // _SLICE_BYTES
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            yield start, stop


def _index_table(frame: pl.DataFrame, words: int, guards: Guards) -> Any:
    """Decide for every item how it can be recognised, and by what."""
    texts: Any = frame.get_column("text").to_arrow().cast(pa.large_string())
    hashes, offsets = word_hashes(texts)
    spellings, _ = normalise_words(texts)
    spelled = pl.Series(values=spellings, dtype=pl.String)
    letters = spelled.str.len_chars().cast(pl.Int64).to_numpy()
    telling = (~spelled.str.contains(r"^(\p{N}+|.)$")).to_numpy()
    num_words = np.diff(offsets)
    benchmark = frame.get_column("benchmark").rank("dense").to_numpy().astype(np.int64)
    text_key = _sequence_keys(hashes, offsets)
    grams, gram_offsets = _evidence(hashes, offsets, telling, words)
    common = _template(grams, gram_offsets, benchmark, text_key, guards.max_items)
    grams, gram_offsets = _filtered(grams, gram_offsets, ~common)

    num_chars = _sums(letters, offsets) + np.maximum(num_words - 1, 0)
    low, high = np.where(telling, hashes, ~np.uint64(0)), np.where(telling, hashes, 0)
    says_something = _per_item(np.minimum, low, offsets) < _per_item(np.maximum, high, offsets)
    by_ngram = np.diff(gram_offsets) > 0
    whole = (num_words >= guards.min_words) & (num_chars >= guards.min_chars) & says_something
    pairs = np.stack([benchmark.astype(np.uint64), text_key], axis=1)
    _, inverse, copies = np.unique(pairs, axis=0, return_inverse=True, return_counts=True)
    whole &= (copies[inverse.ravel()] <= guards.max_items) & ~by_ngram
    method = np.where(by_ngram, _NGRAM, np.where(whole, _WHOLE, _NONE))

    owner = np.repeat(np.arange(len(num_words)), num_words)
    sequences = hashes[whole[owner]]
    sizes = np.where(by_ngram, np.diff(gram_offsets), np.where(whole, num_words, 0))
    gram_owner = np.repeat(np.arange(len(num_words)), np.diff(gram_offsets))
    place = np.argsort(np.concatenate([gram_owner, owner[whole[owner]]]), kind="stable")
    evidence = pa.LargeListArray.from_arrays(
        pa.array(_offsets(sizes)), pa.array(np.concatenate([grams, sequences])[place])
    )
    names = [frame.get_column(name).to_arrow().cast(pa.string()) for name in ("benchmark", "item")]
    columns = [*names, pa.array(method.tolist(), pa.string()), pa.array(num_words), evidence]
    return pa.table(columns, schema=_SCHEMA)


def _evidence(
    hashes: np.ndarray, offsets: np.ndarray, telling: np.ndarray, words: int
) -> tuple[np.ndarray, np.ndarray]:
    """Each item's set of n-grams that have at least two different telling words."""
    grams, gram_offsets = ngram_hashes(hashes, offsets, words)
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(gram_offsets))
    first = np.arange(len(grams)) - gram_offsets[owner] + offsets[owner]
    low = np.full(len(grams), ~np.uint64(0))
    high = np.zeros(len(grams), dtype=np.uint64)
    for k in range(words):
        word, tells = hashes[first + k], telling[first + k]
        low = np.where(tells, np.minimum(low, word), low)
        high = np.where(tells, np.maximum(high, word), high)
    return unique_sorted(*_filtered(grams, gram_offsets, low < high))


def _template(
    grams: np.ndarray,
    offsets: np.ndarray,
    benchmark: np.ndarray,
    text_key: np.ndarray,
    max_items: int,
) -> np.ndarray:
    """Mark the n-grams that too many different items of the same benchmark have."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    pairs = pl.DataFrame({"b": benchmark[owner], "gram": grams, "text": text_key[owner]})
    texts = pl.col("text").n_unique().over("b", "gram")
    return pairs.select(texts > max_items).to_series().to_numpy()


def _sequence_keys(hashes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """One hash for the words of an item in their order, uint64 [num_items]."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    position = (np.arange(len(hashes)) - offsets[owner] + 1).astype(np.uint64)
    return _sums(fmix64(hashes ^ (position * GOLDEN)), offsets)


def _filtered(
    values: np.ndarray, offsets: np.ndarray, keep: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Drop values of a ragged array."""
    before = _offsets(keep)
    return values[keep], before[offsets]


def _sums(values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Sum the values of each item, modulo the width of their type."""
    running = np.zeros(len(values) + 1, dtype=values.dtype)
    np.cumsum(values, out=running[1:])
    sums: np.ndarray = running[offsets[1:]] - running[offsets[:-1]]
    return sums


def _per_item(reduce: np.ufunc, values: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Reduce each item; 0 for one without words (which is refused for its length anyway)."""
    result = np.zeros(len(offsets) - 1, dtype=np.uint64)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        result[filled] = reduce.reduceat(values, offsets[:-1][filled])
    return result


def _offsets(sizes: np.ndarray) -> np.ndarray:
    offsets = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=offsets[1:])
    return offsets
