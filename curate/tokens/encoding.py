"""Documents to token ids, by the fastest encoder that gives the right ones.

The right ids are those of `tokenizers`. gigatoken gives the same thirty times as fast, for the
tokenizers it knows; some it does not know it reads as if it did, and its Unicode is newer. So it is
used where it agrees with `tokenizers` on a list of difficult texts, for texts without a character
that the two class differently, and compared again on documents of every part. Plain bytes need
none of it. An encoded document is `[bos] + ids + [eos]`, and depends on nothing else.
"""

import contextlib
import functools
import importlib.metadata
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.corpus.errors import InputError
from curate.kernels.buffers import text_buffers
from curate.tokens.apart import Flat, difficult_texts, every_letter, unlike_points
from curate.tokens.tokenizer import TextTokenizer, byte_letters, load_tokenizer

__all__ = [
    "Encoded",
    "Encoder",
    "EncoderError",
    "batches",
    "encode",
    "encoder_for",
    "encoder_of",
    "first_difference",
    "reference",
]

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
I64 = npt.NDArray[np.int64]

GIGATOKEN, TOKENIZERS, BYTES = "gigatoken", "tokenizers", "bytes"
# A longer text is cut before a space between letters; `tokenizers` needs 200 bytes for each.
_PIECE_BYTES = 1 << 20
_GIANT_BYTES = 4 << 20  # in no case longer
_CUT = re.compile(rb"[A-Za-z] (?=[A-Za-z])")
_BATCH_BYTES = 4 << 20
_BATCH_TEXTS = 4096
_TOLD, _SHOWN = 100, 20  # characters of a message, of a text


class EncoderError(RuntimeError):
    """An encoder gave up, or gives other ids than `tokenizers`."""


class Encoded(NamedTuple):
    """Encoded documents.

    Attributes:
        values: uint16 or uint32 (see `TextTokenizer.dtype`) [total], their ids end to end.
        offsets: int64 [n + 1].
        torn: how many documents were too long, and had to be cut where it may show in the ids.
        aside: how many texts (pieces, of giant ones) only `tokenizers` may encode.
    """

    values: np.ndarray
    offsets: I64
    torn: int
    aside: int


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A tokenizer and the library that encodes with it.

    Attributes:
        tokenizer: the tokenizer.
        name: gigatoken, tokenizers or bytes.
        version: of the library, "" for bytes.
        why: the reason why it is not gigatoken, "" where it is the best there is.
        exact: whether a space between letters always begins a new word.
        flat: (bytes [total], int64 offsets [n + 1]) -> (uint32 ids, int64 offsets [n + 1]).
        unlike: code points whose texts only `tokenizers` may encode, see `unlike_points`.
    """

    tokenizer: TextTokenizer
    name: str
    version: str
    why: str = ""
    exact: bool
    flat: Flat
    unlike: U8 | None = None

    @functools.cached_property
    def forbidden(self) -> npt.NDArray[np.bool_]:
        """Which ids no text may give, bool [vocab_size]."""
        mask = np.zeros(self.tokenizer.vocab_size, dtype=np.bool_)
        mask[list(self.tokenizer.specials.values())] = True
        return mask


@functools.lru_cache(maxsize=2)
def encoder_of(data: bytes, named: tuple[tuple[str, str], ...]) -> Encoder:
    """Return the encoder of a `tokenizer.json`, kept for this process: it learns as it works."""
    return encoder_for(load_tokenizer(data, dict(named)))


def encoder_for(tokenizer: TextTokenizer) -> Encoder:
    """Return the fastest encoder that gives the ids of `tokenizers`; it says why it is not faster.

    >>> from curate.tokens.tokenizer import byte_tokenizer, load_tokenizer
    >>> encoder_for(load_tokenizer(byte_tokenizer())).name
    'bytes'
    """
    slow = reference(tokenizer)
    table = _byte_table(tokenizer.data)
    if table is not None:
        return replace(slow, name=BYTES, version="", flat=_by_table(table))
    try:
        fast = replace(
            slow,
            name=GIGATOKEN,
            flat=_by_gigatoken(tokenizer.data),
            version=importlib.metadata.version(GIGATOKEN),
        )
        _agree(fast, difficult_texts(tokenizer.data["added_tokens"]))
        fast = replace(fast, unlike=_unlike(tokenizer.data))
        if not _cuts_at_spaces(tokenizer.data):  # not of the kind we train
            _agree(fast, every_letter())
    except EncoderError as error:
        return replace(slow, why=str(error))
    return fast


def reference(tokenizer: TextTokenizer) -> Encoder:
    """Return the encoder whose ids are right: `tokenizers`."""
    return Encoder(
        tokenizer=tokenizer,
        name=TOKENIZERS,
        version=importlib.metadata.version(TOKENIZERS),
        exact=_cuts_at_spaces(tokenizer.data),
        flat=functools.partial(_by_tokenizers, tokenizer.model),
    )


def encode(encoder: Encoder, texts: Any) -> Encoded:
    """Encode documents as `[bos] + ids + [eos]`.

    Args:
        encoder: from `encoder_for`.
        texts: large_string array of n texts without nulls.

    Raises:
        EncoderError: the encoder gave up, or gave an id that it must not.
        InputError: `tokenizers` itself gave the id of a special token.
    """
    from curate.kernels.framing import frame  # numba: half a second

    assert texts.null_count == 0, "a document has a text"
    data, bounds = text_buffers(texts)
    pieces, first, torn = _pieces(data, bounds, exact=encoder.exact)
    ids, ends, aside = _ids(encoder, data, pieces)
    own = ends[first]
    tokenizer = encoder.tokenizer
    values = np.empty(len(ids) + 2 * len(texts), dtype=tokenizer.dtype)
    bos, eos = tokenizer.specials["bos"], tokenizer.specials["eos"]
    if len(ids) and int(ids.max()) >= tokenizer.vocab_size:
        raise EncoderError(f"{encoder.name} gives ids that the tokenizer does not have")
    wrong = frame(ids, own, bos, eos, encoder.forbidden, values)
    if wrong >= 0:
        _refuse_forged(encoder, ids[own[wrong] : own[wrong + 1]])
    return Encoded(values, own + 2 * np.arange(len(own)), torn, aside)


def _ids(encoder: Encoder, data: U8, bounds: I64) -> tuple[U32, I64, int]:
    """Encode texts: those with a code point that is seen differently by `tokenizers`."""
    from curate.kernels.framing import find_points

    if encoder.unlike is None:
        return *encoder.flat(data, bounds), 0
    apart = np.zeros(len(bounds) - 1, dtype=np.bool_)
    find_points(data, bounds, encoder.unlike, apart)
    if not apart.any():
        return *encoder.flat(data, bounds), 0
    texts = _column(data, bounds)
    fast, fast_ends = encoder.flat(*text_buffers(texts.filter(pa.array(~apart))))
    slow, slow_ends = _by_tokenizers(
        encoder.tokenizer.model, *text_buffers(texts.filter(pa.array(apart)))
    )
    sizes = np.empty(len(apart), dtype=np.int64)
    sizes[apart], sizes[~apart] = np.diff(slow_ends), np.diff(fast_ends)
    whose = np.repeat(apart, sizes)
    ids = np.empty(len(whose), dtype=np.uint32)
    ids[whose], ids[~whose] = slow, fast
    return ids, np.concatenate([[0], np.cumsum(sizes)]), int(apart.sum())


def _refuse_forged(encoder: Encoder, ids: U32) -> None:
    """Refuse the ids of a text that has a special id among them."""
    found = set(ids.tolist())
    tokenizer = encoder.tokenizer
    name, special = next((n, i) for n, i in tokenizer.specials.items() if i in found)
    if encoder.name != TOKENIZERS:
        raise EncoderError(f"{encoder.name} turns plain text into the {name} token")
    raise InputError(
        f"the tokenizer turns plain text into its {name} token "
        f"{tokenizer.model.id_to_token(special)!r}; mark that token as special in its "
        "added_tokens, or bring another tokenizer"
    )


def first_difference(encoder: Encoder, texts: Any, encoded: Encoded, rows: I64) -> int | None:
    """Return the first of some rows whose ids are not those of `tokenizers`, None if all are.

    Args:
        encoder: what encoded them.
        texts: large_string array of n texts.
        encoded: their ids.
        rows: int64 [k], the texts to look at; of a giant one only its first piece.
    """
    if not len(rows):
        return None
    data, bounds = text_buffers(texts)
    pieces, first, _ = _pieces(data, bounds, exact=encoder.exact)
    leading = text_buffers(_column(data, pieces).take(pa.array(first[rows])))
    ids, ends = _by_tokenizers(encoder.tokenizer.model, *leading)
    whole = first[rows + 1] - first[rows] == 1
    for k, row in enumerate(rows.tolist()):
        start, stop = encoded.offsets[row] + 1, encoded.offsets[row + 1] - 1
        right = ids[ends[k] : ends[k + 1]]
        own = encoded.values[start : stop if whole[k] else start + len(right)]
        if not np.array_equal(own, right):
            return int(row)
    return None


def _pieces(data: U8, bounds: I64, *, exact: bool) -> tuple[I64, I64, int]:
    """Cut giant texts.

    Returns:
        int64 bounds of the pieces, int64 [n + 1] the first piece of every text, and how many texts
        were cut where it may show.
    """
    count = len(bounds) - 1
    giants = np.flatnonzero(np.diff(bounds) > (_PIECE_BYTES if exact else _GIANT_BYTES))
    if not giants.size:
        return bounds, np.arange(count + 1), 0
    cuts: list[int] = []
    torn = 0
    for giant in giants:
        found, natural = _cuts(data, int(bounds[giant]), int(bounds[giant + 1]), exact=exact)
        cuts += found
        torn += bool(found) and not (exact and natural)
    inside = np.array(cuts, dtype=np.int64)
    first = np.arange(count + 1) + np.searchsorted(inside, bounds)
    return np.sort(np.concatenate([bounds, inside])), first, torn


def _cuts(data: U8, low: int, high: int, *, exact: bool) -> tuple[list[int], bool]:
    """Return where a giant text is cut, and whether all of it is before spaces between letters."""
    text = memoryview(data)  # type: ignore[arg-type]
    least = _PIECE_BYTES if exact else _GIANT_BYTES - _PIECE_BYTES
    cuts, natural = [], True
    while high - low > (_PIECE_BYTES if exact else _GIANT_BYTES):
        found = _CUT.search(text, low + least, min(low + _GIANT_BYTES, high))
        if found:
            low = found.start() + 1
        elif high - low <= _GIANT_BYTES:
            break
        else:
            low += _GIANT_BYTES
            while data[low] & 0xC0 == 0x80:  # inside a character
                low -= 1
            natural = False
        cuts.append(low)
    return cuts, natural


def _cuts_at_spaces(data: dict[str, Any]) -> bool:
    """Whether a space between letters always begins a new word."""
    texts = " ".join(token["content"] for token in data["added_tokens"] if not token["special"])
    return _splits_as_gpt2(data) and " " not in texts


def _splits_as_gpt2(data: dict[str, Any]) -> bool:
    """Whether words are those of GPT-2's regex."""
    before = data["pre_tokenizer"] or {}
    plain = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    return data["normalizer"] is None and all(before.get(k) == v for k, v in plain.items())


def _column(data: U8, bounds: I64) -> Any:
    """Return some bytes as texts, without a copy."""
    offsets = pa.py_buffer(np.ascontiguousarray(bounds))
    return pa.LargeStringArray.from_buffers(len(bounds) - 1, offsets, pa.py_buffer(data))


def _by_tokenizers(model: Any, data: U8, bounds: I64) -> tuple[U32, I64]:
    """Encode with `tokenizers`, a few MB at a time: its own objects are large."""
    texts = _column(data, bounds)
    encode_batch = getattr(model, "encode_batch_fast", model.encode_batch)
    parts: list[U32] = []
    ends = np.zeros(len(bounds), dtype=np.int64)
    for start, stop in batches(bounds, _BATCH_BYTES):
        documents = texts.slice(start, stop - start).to_pylist()
        for i, found in enumerate(encode_batch(documents, add_special_tokens=False), start + 1):
            parts.append(np.array(found.ids, dtype=np.uint32))
            ends[i] = len(parts[-1])
    np.cumsum(ends, out=ends)
    return (np.concatenate(parts) if parts else np.empty(0, np.uint32)), ends


def batches(bounds: I64, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Yield runs (start, stop) of texts of at most so many bytes together; a longer one is alone.

    >>> list(batches(np.array([0, 3, 6, 16, 17]), 8))
    [(0, 2), (2, 3), (3, 4)]
    """
    count = len(bounds) - 1
    start = 0
    while start < count:
        most = int(np.searchsorted(bounds, bounds[start] + max_bytes, side="right")) - 1
        stop = min(max(most, start + 1), start + _BATCH_TEXTS, count)
        yield start, stop
        start = stop


def _byte_table(data: dict[str, Any]) -> U32 | None:
    """Return the id of every byte if a tokenizer gives each byte an id and nothing more."""
    model, before = data["model"], data["pre_tokenizer"] or {}
    plain = (
        model.get("type") == "BPE"
        and not model["merges"]
        and not model.get("ignore_merges")
        and data["normalizer"] is None
        and before.get("type") == "ByteLevel"
        and not before.get("add_prefix_space")
        and all(token["special"] for token in data["added_tokens"])
    )
    letters = byte_letters()
    if not plain or not all(letter in model["vocab"] for letter in letters):
        return None
    return np.array([model["vocab"][letter] for letter in letters], dtype=np.uint32)


def _by_table(table: U32) -> Flat:
    return lambda data, bounds: (table[data[bounds[0] : bounds[-1]]], bounds - bounds[0])


def _unlike(data: dict[str, Any]) -> U8:
    """Return the code points that gigatoken and `tokenizers` see differently.

    Raises:
        EncoderError: they see ASCII differently, so there is no use in asking for more.
    """
    from tokenizers import Tokenizer

    def load(probe: dict[str, Any]) -> tuple[Flat, Flat]:
        slow = functools.partial(_by_tokenizers, Tokenizer.from_str(json.dumps(probe)))
        return _by_gigatoken(probe), slow

    table = unlike_points(data, load, gpt2=_splits_as_gpt2(data))
    differ = np.flatnonzero(table)
    if len(differ) and differ[0] < 0x80:
        raise EncoderError(
            f"gigatoken gives other ids than tokenizers, for the character {chr(differ[0])!r}"
        )
    return table


def _by_gigatoken(data: dict[str, Any]) -> Flat:
    """Load gigatoken.

    Raises:
        EncoderError: it is not installed, or does not know this tokenizer.
    """
    try:
        import awkward
        from gigatoken import Tokenizer
    except ImportError:
        raise EncoderError("gigatoken is not installed") from None
    # It has no switch that makes specials text; one that it does not know is text.
    added = [token for token in data["added_tokens"] if not token["special"]]
    nothing = dict.fromkeys(("post_processor", "truncation", "padding"))
    file = json.dumps({**data, **nothing, "added_tokens": added})
    with _told("gigatoken does not know this tokenizer"):
        model = Tokenizer.from_json(file)

    def flat(text: U8, bounds: I64) -> tuple[U32, I64]:
        letters = awkward.contents.NumpyArray(text, parameters={"__array__": "char"})
        index = awkward.index.Index64(bounds)
        texts = awkward.contents.ListOffsetArray(index, letters, parameters={"__array__": "string"})
        with _told("gigatoken fails"):
            found = model.encode_batch(awkward.Array(texts)).layout
        assert isinstance(found, awkward.contents.ListOffsetArray), "one list of ids a text"
        ends = np.asarray(found.offsets.data, dtype=np.int64)
        assert ends[0] == 0, "ids begin with the first text"
        return np.asarray(found.content.data, dtype=np.uint32)[: ends[-1]], ends

    return flat


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Turn whatever a library raises into an EncoderError that says what was going on."""
    try:
        yield
    except BaseException as error:  # a panic in Rust is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise EncoderError(f"{what}: {lines[0][:_TOLD]}") from error


def _agree(encoder: Encoder, texts: list[str]) -> None:
    """Refuse an encoder that gives other ids for some texts.

    Raises:
        EncoderError: it does, or it fails.
    """
    column = pa.array(texts, pa.large_string())
    encoded = encode(encoder, column)
    row = first_difference(encoder, column, encoded, np.arange(len(texts)))
    if row is not None:
        raise EncoderError(
            f"gigatoken gives other ids than tokenizers, for the text {texts[row][:_SHOWN]!r}"
        )
