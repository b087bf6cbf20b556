"""Encoders: the ids of `tokenizers`, whoever gives them, however the texts come together."""

import copy
import importlib.util
import itertools
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from curate.kernels.buffers import text_buffers
from curate.tokens.encoding import (
    Encoder,
    EncoderError,
    batches,
    encode,
    encoder_for,
    first_difference,
    reference,
)
from curate.tokens.tokenizer import (
    SPECIALS,
    byte_tokenizer,
    load_tokenizer,
    train_bpe,
)

ROOT = Path(__file__).resolve().parents[2]
TEXTS = [
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "curate" / "tokens").glob("*.py"))
]
HOSTILE = [
    "",
    "\0",
    "a\0b\n\0",
    "\n" * 5000,
    " " * 5000,
    "a" * 5000,
    *SPECIALS,
    "".join(SPECIALS),
    " ".join(SPECIALS),
    "\n".join(SPECIALS) + "\n",
    "<|eos|><|eos|" + "<|eos|>" * 99,
    "&lt;|eos|&gt;",
    "<|e\u200bos|>",
    "\ufeff<|bos|>",
    "\u202e>|soe|<",
    "\U0010ffff\ue000\ufdd0",
    "e\u0301" * 200,
    "\u0e01\u0e33\u1100\u1161\u11a8",
]
needs_gigatoken = pytest.mark.skipif(
    importlib.util.find_spec("gigatoken") is None, reason="gigatoken is not installed"
)


@pytest.fixture(scope="module")
def trained() -> bytes:
    return train_bpe(TEXTS, vocab_size=600)


@pytest.fixture(scope="module", params=["gigatoken", "tokenizers", "bytes"])
def encoder(request: pytest.FixtureRequest, trained: bytes) -> Encoder:
    data = byte_tokenizer() if request.param == "bytes" else trained
    tokenizer = load_tokenizer(data)
    found = reference(tokenizer) if request.param == "tokenizers" else encoder_for(tokenizer)
    if found.name != request.param:
        pytest.skip(found.why)
    return found


def column(*texts: str) -> pa.Array:
    return pa.array(texts, pa.large_string())


def same(encoder: Encoder, *texts: str) -> bool:
    """Whether `tokenizers` gives the same ids, seen in two ways."""
    mine, theirs = (encode(one, column(*texts)) for one in (encoder, reference(encoder.tokenizer)))
    equal = np.array_equal(mine.values, theirs.values)
    assert np.array_equal(mine.offsets, theirs.offsets) or not equal
    rows = np.arange(len(texts))
    assert equal == (first_difference(encoder, column(*texts), mine, rows) is None)
    return equal


def test_every_encoder_gives_the_ids_of_tokenizers(encoder: Encoder) -> None:
    assert same(encoder, *HOSTILE, *TEXTS)
    assert encoder.why == ""


@given(texts=st.lists(st.text() | st.sampled_from(HOSTILE), max_size=6))
def test_every_encoder_gives_the_ids_of_tokenizers_for_any_text(
    encoder: Encoder, texts: list[str]
) -> None:
    assert same(encoder, *texts)


@needs_gigatoken
def test_gigatoken_gives_the_same_ids_for_every_code_point(trained: bytes) -> None:
    encoder = encoder_for(load_tokenizer(trained))
    assert encoder.name == "gigatoken"
    points = [chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000]
    runs = ["".join(points[i : i + 512]) for i in range(0, len(points), 512)]
    between = [
        "".join(f"a{c}1{c}'se {c}" for c in points[i : i + 512]) for i in range(0, 0x3000, 512)
    ]
    assert same(encoder, *runs[:512], *runs[512::20], *between)


# Letters of the newest Unicodes, numbers, marks and blanks, and what no version knows.
_NEWEST = st.sampled_from("\u088f\u0c5c\ua7ce\U00010940\U00016ea0\U00033400\U0002b73a\U000187f8")
_PARTS = (
    st.characters(exclude_categories=["Cs"])
    | st.characters(min_codepoint=0x10000, exclude_categories=["Cs"])
    | _NEWEST
    | st.sampled_from(["'s", "'ll", "set", " ", "  ", "1", "\n", "\u00a0", ".", "the"])
)


@needs_gigatoken
@given(texts=st.lists(st.lists(_PARTS, max_size=12).map("".join), max_size=8), data=st.data())
def test_the_ids_are_those_of_tokenizers_whatever_the_characters_and_the_batch(
    spelling: Encoder, texts: list[str], data: st.DataObject
) -> None:
    model = spelling.tokenizer.model
    wanted = [model.encode(text, add_special_tokens=False).ids for text in texts]
    for some in (texts, texts[: data.draw(st.integers(0, len(texts)))], *[[t] for t in texts]):
        values, offsets, _, aside = encode(spelling, column(*some))
        own = [values[a + 1 : b - 1].tolist() for a, b in itertools.pairwise(offsets)]
        assert own == [wanted[texts.index(text)] for text in some]
        assert aside <= sum(not text.isascii() for text in some)


@pytest.fixture(scope="module")
def spelling() -> Encoder:
    """A tokenizer whose merges show how words are split at a contraction."""
    words = ["set", "the self", "'self it's", "off I'll go", "and go", " see", "'self"] * 9
    found = encoder_for(load_tokenizer(train_bpe(words, vocab_size=330)))
    if found.name != "gigatoken":
        pytest.skip(found.why)
    return found


def test_a_letter_that_is_newer_for_gigatoken_is_left_to_tokenizers(spelling: Encoder) -> None:
    text = "\U00033400'set off \u0c5c'll go "
    assert same(spelling, text, "x'set off", text * 9, "\u00e9" * 99)
    assert encode(spelling, column(text, "x", text * 9, "\u00e9")).aside == 2
    assert not same(replace(spelling, unlike=None), text)


def test_code_points_are_found_wherever_they_stand() -> None:
    from curate.kernels.framing import find_points

    table = np.zeros(0x400, dtype=np.uint8)
    table[[0x41, 0xE9, 0x3B1]] = 1  # ASCII is not looked at
    texts = ["", "A" * 99, "\u00e9", *("x" * n + "\u03b1" + "y" * 70 for n in range(60, 67))]
    texts += ["\u00e8" * 70, "\U000103b1" * 40, "\u00e8" * 31 + "z\u00e9", "end"]
    data, bounds = text_buffers(column(*texts))
    found = np.ones(len(texts), dtype=np.bool_)
    find_points(data, bounds, table, found)
    assert found.tolist() == [not {"\u00e9", "\u03b1"}.isdisjoint(text) for text in texts]


def test_no_text_gives_the_id_of_a_special(encoder: Encoder) -> None:
    values, offsets, *_ = encode(encoder, column(*HOSTILE))
    inner = np.ones(len(values), dtype=bool)
    inner[offsets[:-1]] = inner[offsets[1:] - 1] = False
    assert (values[inner] >= len(SPECIALS)).all()
    assert (values[offsets[:-1]] == 0).all()
    assert (values[offsets[1:] - 1] == 1).all()


def test_a_text_that_gives_the_id_of_a_special_stops_the_work(encoder: Encoder) -> None:
    forged = replace(encoder, flat=lambda *_: (np.ones(3, np.uint32), np.array([0, 3])))
    text = r"plain text into its eos token '<\|eos\|>'"
    right = encoder.name == "tokenizers"
    with pytest.raises(InputError if right else EncoderError, match=text if right else "eos"):
        encode(forged, column("x"))
    absurd = replace(encoder, flat=lambda *_: (np.array([9999], np.uint32), np.array([0, 1])))
    with pytest.raises(EncoderError, match="ids that the tokenizer does not have"):
        encode(absurd, column("x"))


def test_encoding_does_not_depend_on_what_shares_a_batch(encoder: Encoder) -> None:
    texts = column(*TEXTS, *HOSTILE, "", TEXTS[0])
    values, offsets, torn, _ = encode(encoder, texts)
    assert torn == 0
    rng = np.random.default_rng(3)
    for _ in range(3):
        edges = np.sort(rng.integers(0, len(texts) + 1, 4))
        parts = [
            encode(encoder, texts.slice(start, stop - start))
            for start, stop in zip([0, *edges], [*edges, len(texts)], strict=True)
        ]
        assert np.array_equal(np.concatenate([part.values for part in parts]), values)
        lengths = np.concatenate([np.diff(part.offsets) for part in parts])
        assert np.array_equal(lengths, np.diff(offsets))
    order = rng.permutation(len(texts))
    mixed = encode(encoder, texts.take(pa.array(order)))
    for place, row in enumerate(order.tolist()):
        again = mixed.values[mixed.offsets[place] : mixed.offsets[place + 1]]
        assert np.array_equal(again, values[offsets[row] : offsets[row + 1]])
    assert [len(array) for array in encode(encoder, column())[:2]] == [0, 1]


def test_batches_hold_every_text_once_and_few_bytes() -> None:
    bounds = np.array([0, 5, 5, 9, 30, 31, 31])
    assert list(batches(bounds, 9)) == [(0, 3), (3, 4), (4, 6)]
    assert list(batches(bounds, 1)) == [(0, 1), (1, 2), (2, 3), (3, 4), (4, 6)]
    assert list(batches(bounds[:1], 9)) == []


def test_a_giant_text_is_encoded_as_it_would_be_whole(
    trained: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["the", "a", "don't", "x1", "1234", "(deep)", "caf\u00e9", "\n\n", "  ", "end.", "Zz"]
    rng = np.random.default_rng(5)
    text = " ".join(words[i] for i in rng.integers(0, len(words), 20_000))
    texts = ["small", text, "small", text[:50], text[7:]]
    encoder = encoder_for(load_tokenizer(trained))
    whole = encode(encoder, column(*texts))
    monkeypatch.setattr("curate.tokens.encoding._PIECE_BYTES", 999)
    for one in (encoder, reference(encoder.tokenizer)):
        cut = encode(one, column(*texts))
        assert np.array_equal(cut.values, whole.values)
        assert np.array_equal(cut.offsets, whole.offsets)
        assert cut.torn == 0
        assert first_difference(one, column(*texts), cut, np.arange(len(texts))) is None


def test_a_giant_without_a_place_to_cut_is_torn_between_characters_and_counted(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.tokens.encoding._PIECE_BYTES", 256)
    monkeypatch.setattr("curate.tokens.encoding._GIANT_BYTES", 1000)
    text = "\u4e2d" * 900  # 2,700 bytes and no space
    cut = encode(encoder, column("x", text, "y " * 90))
    assert cut.torn == 1
    assert encoder.tokenizer.model.decode(cut.values[cut.offsets[1] : cut.offsets[2]]) == text
    assert same(encoder, "x", text, "y " * 90, text + "z" * 400)


def edited(trained: bytes, **changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(json.loads(trained)), **changes}


def with_added(trained: bytes, text: str, **flags: bool) -> dict[str, Any]:
    """The tokenizer with a further token that is not special."""
    data = edited(trained)
    token = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    number = len(data["model"]["vocab"])
    data["added_tokens"].append({"id": number, "content": text, **token, **flags})
    return data


_PLAIN = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
_CL100K = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def split_by(pattern: str, *more: dict[str, Any]) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
    return {"type": "Sequence", "pretokenizers": [*more, {**split, "invert": False}, _PLAIN]}


@needs_gigatoken
def test_gigatoken_is_left_where_it_gives_other_ids(trained: bytes) -> None:
    model = json.loads(trained)["model"]
    cases = {
        "does not know": [
            edited(trained, pre_tokenizer=split_by(r"\w+|\s+|[^\w\s]+")),
            edited(trained, normalizer={"type": "Lowercase"}),
        ],
        "gives other ids": [
            edited(trained, pre_tokenizer=_PLAIN),
            edited(trained, pre_tokenizer=None),
            edited(trained, model={**model, "end_of_word_suffix": "</w>"}),
            with_added(trained, "tool", single_word=True),
        ],
    }
    for word, files in cases.items():
        for data in files:
            encoder = encoder_for(load_tokenizer(json.dumps(data).encode()))
            assert (encoder.name, word in encoder.why) == ("tokenizers", True), encoder.why
            assert same(encoder, *HOSTILE)


@needs_gigatoken
def test_gigatoken_is_used_for_other_tokenizers_that_it_knows(trained: bytes) -> None:
    for data in (
        edited(trained, pre_tokenizer=split_by(_CL100K)),
        with_added(trained, "<tool>", lstrip=True),
    ):
        encoder = encoder_for(load_tokenizer(json.dumps(data).encode()))
        assert encoder.name == "gigatoken", encoder.why
        assert same(encoder, *HOSTILE, *TEXTS, "x <tool>", " <tool><tool>")


def test_without_gigatoken_tokenizers_encodes_and_says_so(
    trained: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "gigatoken", None)
    encoder = encoder_for(load_tokenizer(trained))
    assert (encoder.name, encoder.why) == ("tokenizers", "gigatoken is not installed")


@needs_gigatoken
def test_an_encoder_that_gives_up_tells_why(
    trained: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gigatoken

    encoder = encoder_for(load_tokenizer(trained))

    class PanicException(BaseException):  # as Rust's panics come to Python
        pass

    for error in (RuntimeError("no more room\nbacktrace"), PanicException("index 5")):

        def fail(*_: Any, error: BaseException = error, **__: Any) -> None:
            raise error

        monkeypatch.setattr(gigatoken.Tokenizer, "encode_batch", fail)
        with pytest.raises(EncoderError, match=r"^gigatoken fails: (no more room|index 5)$"):
            encode(encoder, column("x"))
    monkeypatch.setattr(gigatoken.Tokenizer, "encode_batch", lambda *_, **__: sys.exit(3))
    with pytest.raises(SystemExit):
        encode(encoder, column("x"))


def test_the_difference_is_found_where_it_is(trained: bytes) -> None:
    encoder = reference(load_tokenizer(trained))
    texts = column("one", "two", "three", "")
    encoded = encode(encoder, texts)
    wrong = encoded.values.copy()
    wrong[encoded.offsets[2] + 1] += 1
    rows = np.arange(4)
    altered = encoded._replace(values=wrong)
    assert first_difference(encoder, texts, encoded, rows) is None
    assert first_difference(encoder, texts, altered, rows) == 2
    assert first_difference(encoder, texts, altered, np.array([0, 1, 3])) is None
