"""Which test items does a corpus hold? Word n-grams of the items, with guards against chance.

The evidence of an item are its n-grams; how many of them, or which, make a match is the method's
business (`curate.contamination.methods`), what is no evidence at all that of the guards
(`curate.contamination.guards`). An item that is left without n-grams, because it is short or
because its template has eaten them, is matched whole: all its words in a row. What no method can
cover is counted, not hidden.

Texts are compared by their folded words (`curate.kernels.words`), found by hash and compared word
by word. Word hashes of 64 bits are a bijection for words of up to 8 bytes; longer words are
compared letter by letter too, so no collision counts.

>>> import polars as pl, pyarrow as pa
>>> question = "How many eggs does the old grey hen of my neighbour lay in a week of rain?"
>>> items = pl.DataFrame({"benchmark": ["b"], "item": ["1"], "text": [question]})
>>> index = BenchmarkIndex.build(items)
>>> found = index.match(pa.array(["nothing", "Quiz: " + question], pa.large_string()))
>>> found.select("document", "item", "overlap", "span_start").rows()
[(1, '1', 1.0, 6)]
"""

import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Self

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate.contamination.building import PARTS, SCHEMA, index_table
from curate.contamination.decon import Part, Questions, decon_matches
from curate.contamination.grams import Grams, Hits, Words, hashed_words
from curate.contamination.guards import Guards
from curate.contamination.matching import (
    Matches,
    cover_matches,
    cover_sizes,
    question_words,
    share_matches,
    share_sizes,
    whole_items,
    whole_matches,
)
from curate.contamination.methods import (
    FLOORS,
    METHODS,
    WHOLE,
    Decon,
    Llama3,
    Method,
    Ngram,
    strictness,
)
from curate.contamination.rows import MATCHES, match_rows
from curate.contamination.spans import word_spans
from curate.corpus.errors import InputError, IntegrityError
from curate.corpus.schema import check_format
from curate.kernels.words import word_hashes

__all__ = ["BenchmarkIndex", "Guards"]

_SETTINGS_KEY = b"preceptor.contamination"
_SLICE_BYTES = 8 << 20
_NO_KEYS: Mapping[str, Any] = {}


class BenchmarkIndex:
    """The evidence of every item; `build` it from texts or read it back with `from_table`."""

    def __init__(self, table: Any, methods: Sequence[Method], guards: Guards) -> None:
        self.methods, self.guards = tuple(methods), guards
        self._table = table
        self._num_items = table.num_rows
        self._words = Words.of(table["text"].combine_chunks())
        self._grams = {method.name: self._grams_of(method) for method in self.methods}
        whole = np.flatnonzero(table["whole"].to_numpy())
        first = np.zeros(whole.size, dtype=np.int64)
        self._anchors = Grams(self._words, whole, first, guards.min_words)

    @property
    def words(self) -> int:
        """Words of the first method's n-grams."""
        return self.methods[0].words

    @classmethod
    def build(
        cls,
        items: pl.DataFrame,
        words: int = 13,
        guards: Guards | None = None,
        methods: Sequence[Method] | None = None,
    ) -> Self:
        """Index benchmark items.

        Args:
            items: columns benchmark, item, text; any order gives the same index. The parts
                question, answer and passage (null: none) are what `decon` tells apart; without
                them all of an item is its question. To `ngram` a question counts by itself too,
                where the text begins with it.
            words: words of an n-gram, where no method is given.
            guards: what is no evidence.
            methods: how items are recognised; by default `ngram`.

        Raises:
            InputError: a missing column, an item or a method named twice, `words` below 1.
        """
        guards = guards or Guards()
        methods = tuple(methods) if methods else (Ngram(words=words),)
        if len({method.name for method in methods}) < len(methods):
            raise InputError("a method is given twice; an index holds each of them once")
        missing = [name for name in ("benchmark", "item", "text") if name not in items.columns]
        if missing:
            raise InputError(
                f"benchmark items need the columns benchmark, item and text; there are: "
                f"{', '.join(items.columns)}"
            )
        parts = [
            pl.col(name) if name in items.columns else pl.lit(None, pl.String).alias(name)
            for name in PARTS
        ]
        frame = items.select(pl.col("benchmark", "item").cast(pl.String), "text", *parts)
        frame = frame.with_columns(pl.col("text").fill_null("")).sort("benchmark", "item")
        twice = frame.filter(pl.struct("benchmark", "item").is_duplicated())
        if twice.height:
            benchmark, item = twice.row(0)[:2]
            raise InputError(f"benchmark {benchmark!r} has more than one item named {item!r}")
        table = index_table(frame, methods, guards)
        settings = {
            "guards": asdict(guards),
            "methods": {method.name: asdict(method) for method in methods},
        }
        metadata = {**table.schema.metadata, _SETTINGS_KEY: json.dumps(settings).encode()}
        return cls(table.replace_schema_metadata(metadata), methods, guards)

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
        if stored is None or table.schema.names != SCHEMA.names:
            raise IntegrityError("this table is no benchmark index; build it again")
        settings = json.loads(stored)
        methods = [METHODS[name](**asked) for name, asked in settings["methods"].items()]
        return cls(table.combine_chunks(), methods, Guards(**settings["guards"]))

    def coverage(self) -> pl.DataFrame:
        """Count the items of each benchmark by what can be said of them, by any method.

        Returns:
            benchmark, items, ngram_items (found by n-grams), whole_items (found as a whole only),
            uncoverable_items, by benchmark.
        """
        sized = {
            name: np.bincount(grams.pair_item, minlength=self._num_items) > 0
            for name, grams in self._grams.items()
        }
        by_ngram = np.logical_or.reduce([*sized.values(), np.zeros(self._num_items, dtype=bool)])
        whole = self._table["whole"].to_numpy() & ~by_ngram
        frame = pl.DataFrame({"n": by_ngram, "w": whole}).with_columns(
            pl.Series("benchmark", pl.from_arrow(self._table["benchmark"]), dtype=pl.String)
        )
        counted = frame.group_by("benchmark").agg(
            items=pl.len().cast(pl.Int64),
            ngram_items=pl.col("n").sum().cast(pl.Int64),
            whole_items=pl.col("w").sum().cast(pl.Int64),
            uncoverable_items=(~pl.col("n") & ~pl.col("w")).sum().cast(pl.Int64),
        )
        return counted.sort("benchmark")

    def num_keys(self) -> dict[str, int]:
        """Return how many keys each kind of evidence has (those of `find` are below)."""
        sizes = {name: grams.num_keys for name, grams in self._grams.items()}
        return {**sizes, WHOLE: self._num_items} if self._anchors.num_keys else sizes

    def silenced(self, common: Mapping[str, Any]) -> dict[str, int]:
        """Count the items of each benchmark to which common keys leave no evidence at all."""
        left = np.zeros(self._num_items, dtype=bool)
        before = np.zeros(self._num_items, dtype=bool)
        for name, grams in self._grams.items():
            mask = self._mask(name, common)
            left[grams.pair_item[~mask[grams.pair_key]]] = True
            before[grams.pair_item] = True
        whole = self._table["whole"].to_numpy()
        before |= whole
        still = whole.copy()
        still[np.asarray(common.get(WHOLE, ()), dtype=np.int64)] = False
        lost = np.flatnonzero(before & ~left & ~still)
        names = self._table["benchmark"].take(pa.array(lost)).to_pylist()
        return {name: names.count(name) for name in sorted(set(names))}

    def find(self, texts: Any) -> dict[str, Hits]:
        """Return every place where evidence stands in some documents, by kind of evidence.

        Args:
            texts: large_string array [n]; null is an empty text.
        """
        found: dict[str, list[Hits]] = {name: [] for name in (*self._grams, WHOLE)}
        for part in hashed_words(texts):
            for name, grams in self._grams.items():
                found[name].append(grams.find(part))
            found[WHOLE].append(whole_items(self._anchors, part, self._words))
        return {name: Hits.joined(parts) for name, parts in found.items()}

    def score(
        self,
        found: Mapping[str, Hits],
        fetch: Callable[[int], str],
        *,
        common: Mapping[str, Any] = _NO_KEYS,
        record_above: Mapping[str, float] | float = FLOORS,
    ) -> pl.DataFrame:
        """Turn what `find` found into matches; see `match`.

        Args:
            found: hits of some documents.
            fetch: ordinal of a document -> its text; only `decon` looks at any, for answers.
            common: kind of evidence -> keys that are none, being in too many documents.
            record_above: least overlap that makes a row, for all methods or for each.
        """
        floors = _floors(record_above, [*self._grams, WHOLE])
        words_of = functools.lru_cache(maxsize=1)(lambda document: _words_of(fetch(document)))
        matches = {
            name: self._matches(name, hits, common, floors[name], words_of)
            for name, hits in found.items()
            if len(hits)
        }
        return match_rows(matches, self._table, self._strictness)

    def match(
        self,
        texts: Any,
        *,
        record_above: Mapping[str, float] | float = FLOORS,
        common: Mapping[str, Any] = _NO_KEYS,
    ) -> pl.DataFrame:
        """Find the items in some documents.

        Args:
            texts: large_string array [n]; null is an empty text.
            record_above: least overlap that makes a row, for all methods or for each. Lower than
                the threshold one judges by, so that another threshold needs no second look.
            common: kind of evidence -> keys that are none, being in too many documents.

        Returns:
            document (ordinal in `texts`), benchmark, item, method (`whole` for an item matched
            whole), overlap (0 to 1), strictness (see `methods.required`), span_start and
            span_length (UTF-8 bytes of the text from the first to the last matched word, which may
            enclose text in between) and spans (of the pieces alone), sorted by document,
            benchmark, item and method.
        """
        frames = []
        for start, stop in _slices(texts):
            part = texts.slice(start, stop - start)
            scored = self.score(
                self.find(part),
                lambda document, part=part: part[document].as_py(),  # type: ignore[misc]
                common=common,
                record_above=record_above,
            )
            frames.append(scored.with_columns(pl.col("document") + start))
        return pl.concat(frames) if frames else pl.DataFrame(schema=MATCHES)

    def _grams_of(self, method: Method) -> Grams:
        lists = self._table[method.name].combine_chunks()
        sizes = pc.list_value_length(lists).to_numpy(zero_copy_only=False)
        item = np.repeat(np.arange(self._num_items), sizes.astype(np.int64))
        at = lists.flatten().to_numpy(zero_copy_only=False).astype(np.int64)
        words = self._questions if isinstance(method, Decon) else self._words
        return Grams(words, item, at, method.words)

    def _hashed(self, column: str) -> tuple[Any, Any]:
        return word_hashes(self._table[column].combine_chunks())

    @functools.cached_property
    def _questions(self) -> Words:
        questions = self._table["question"]
        if questions.null_count == self._num_items:
            return self._words
        return Words.of(pc.coalesce(questions, self._table["text"]).combine_chunks())

    @functools.cached_property
    def _support(self) -> tuple[Part, Part]:
        return Part.of(*self._hashed("answer"), 3), Part.of(*self._hashed("passage"), 4)

    @functools.cached_property
    def _decon_words(self) -> Any:
        answers, passages = self._support
        lengths = np.diff(self._questions.offsets)
        return lengths + np.diff(answers.offsets) + np.diff(passages.offsets)

    def _strictness(self, name: str, items: Any) -> Any:
        method = next((m for m in self.methods if m.name == name), None)
        if isinstance(method, Decon):
            return strictness(method.perfect, method.relaxed, self._decon_words[items])
        if isinstance(method, Llama3):
            lengths = np.diff(self._words.offsets)[items]
            return strictness(method.perfect, method.relaxed, lengths)
        return np.zeros(len(items))

    def _mask(self, name: str, common: Mapping[str, Any]) -> Any:
        mask = np.zeros(self._grams[name].num_keys, dtype=bool)
        mask[np.asarray(common.get(name, ()), dtype=np.int64)] = True
        return mask

    def _sizes(self, name: str, common: Mapping[str, Any]) -> Any:
        """Return what a method divides by, kept for as long as the same keys are common."""
        keys = np.asarray(common.get(name, ()), dtype=np.int64)
        kept = self.__dict__.setdefault("_kept", {})
        entry = kept.get(name)
        if entry is None or not np.array_equal(entry[0], keys):
            grams, mask = self._grams[name], self._mask(name, common)
            method = next(m for m in self.methods if m.name == name)
            if isinstance(method, Decon):
                lengths = np.diff(self._questions.offsets)
                sizes: Any = Questions(grams, mask, lengths, *self._support)
            elif isinstance(method, Llama3):
                sizes = cover_sizes(grams, mask, self._num_items)
            else:
                words = self._words
                own = question_words(words.hashes, words.offsets, *self._hashed("question"))
                sizes = share_sizes(grams, mask, own)
            entry = kept[name] = (keys, mask, sizes)
        return entry[1:]

    def _matches(
        self,
        name: str,
        hits: Hits,
        common: Mapping[str, Any],
        floor: float,
        words_of: Callable[[int], tuple[Any, Any]],
    ) -> Matches:
        if name == WHOLE:
            rare = ~np.isin(hits.key, np.asarray(common.get(name, ()), dtype=np.int64))
            return whole_matches(hits.where(rare))
        mask, sizes = self._sizes(name, common)
        hits = hits.where(~mask[hits.key])
        method = next(m for m in self.methods if m.name == name)
        if isinstance(method, Decon):
            found = decon_matches(method, sizes, hits, floor, words_of)
            return found.where((found.overlap >= floor) & (found.overlap > 0))
        matches = cover_matches if isinstance(method, Llama3) else share_matches
        found = matches(self._grams[name], hits, sizes)
        return found.where(found.overlap >= floor)


def _words_of(text: str) -> tuple[Any, Any]:
    """Return the word hashes of a text, and the byte behind each word."""
    hashes, _ = word_hashes(pa.array([text], pa.large_string()))
    return hashes, word_spans(text)[1]


def _floors(above: Mapping[str, float] | float, names: Sequence[str]) -> dict[str, float]:
    return {n: above.get(n, 0.0) if isinstance(above, Mapping) else above for n in names}


def _slices(texts: Any) -> Iterator[tuple[int, int]]:
    """Cut documents into runs of about 8 MiB, the unit of memory."""
    sizes = pc.fill_null(pc.binary_length(texts), 0).to_numpy(zero_copy_only=False)
    group = np.cumsum(sizes, dtype=np.int64) // _SLICE_BYTES
    edges = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), len(sizes)]
    for start, stop in itertools.pairwise(edges):
        if stop > start:
            yield start, stop
