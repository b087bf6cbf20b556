"""The fast word kernels against their slow plain twins."""

import re
import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contamination.spans import word_spans
from curate.corpus.errors import InputError
from curate.kernels import fold, scratch
from curate.kernels.fold import fold_character, fold_table, is_alone
from curate.kernels.shingles import Shingling
from curate.kernels.words import (
    ngram_hashes,
    normalise_words,
    shingle_sets,
    unique_sorted,
    word_hashes,
)

MASK = (1 << 64) - 1

TRICKY = (
    "aAzZ09 _-'\n\0\u00e9e\u0301\u00df\u1e9e\u0130\u03a3\u03c3\u03c2\ufb01\uac00\u4e2d\u6587"
    "\u0928\u093f\u0e01\u0e34\u00b2\u00bd\u2167\u200d\U0001d400\U0001f600\U00010400\u0345\u212b\u1fb3\u2260"
    "\u0e51\u3007\uff76\uff9e\U00020000\U0002fa1d\uac01\u1100\u0660\uff11\U0001d7d8\U000e0101\U000f0000\U0010ffff"
)
ascii_text = st.text(alphabet="aB9 -\n", max_size=200)
any_text = st.text() | st.text(alphabet=TRICKY, max_size=60) | ascii_text
any_texts = st.lists(st.none() | any_text, max_size=8)


def array(texts):
    return pa.array(texts, pa.large_string())


UNSPACED = (
    *("AHOM", "BOPOMOFO", "CJK COMPATIBILITY IDEOGRAPH", "CJK UNIFIED IDEOGRAPH"),
    *("HALFWIDTH KATAKANA", "HANGZHOU", "HENTAIGANA", "HIRAGANA", "IDEOGRAPHIC", "KATAKANA"),
    *("KHITAN", "KHMER", "LAO", "MASU MARK", "MYANMAR", "NEW TAI LUE", "NUSHU", "OLD CHINESE"),
    *("TAI ", "TANGUT", "THAI", "VERTICAL IDEOGRAPHIC", "VERTICAL KANA", "YI SYLLABLE"),
)


def slow_is_alone(c):
    """What `is_alone` says by blocks, by the names of characters."""
    if unicodedata.category(c) not in ("Lo", "Lm", "Nl"):
        return False
    tangut = 0x17000 <= ord(c) <= 0x18D8F  # whose characters have no names in Python
    return tangut or unicodedata.name(c, "").startswith(UNSPACED)


def slow_folded(text, numbers="keep"):
    """The text as pieces: a word's letter, None for a separator, and single words alone."""
    lowered = "".join(c.lower() for c in text or "").replace("\u03c2", "\u03c3")
    pieces = []
    for c in unicodedata.normalize("NFD", lowered):
        kind = unicodedata.category(c)
        if kind[0] == "M":
            continue
        if numbers == "zero" and kind == "Nd":
            c = "0"
            if pieces and pieces[-1] == "0":
                continue
        pieces.append(c if kind[0] in "LN" else None)
    return pieces


def slow_words(text, numbers="keep"):
    found, run = [], ""
    for c in [*slow_folded(text, numbers), None]:
        if c is None or slow_is_alone(c):
            found += [run] if run else []
            found += [c] if c else []
            run = ""
        else:
            run += c
    return found


def slow_characters(text, numbers="keep"):
    joined = "".join(c or "\0" for c in slow_folded(text, numbers))
    return list(" ".join(part for part in joined.split("\0") if part))


def slow_fmix64(h):
    h ^= h >> 33
    h = h * 0xFF51AFD7ED558CCD & MASK
    h ^= h >> 33
    h = h * 0xC4CEB9FE1A85EC53 & MASK
    return h ^ h >> 33


def slow_hash(word):
    data = word.encode()
    total = 0
    for k in range(0, len(data), 8):
        key = (k // 8 + 1) * 0x9E3779B97F4A7C15 & MASK
        total += slow_fmix64(int.from_bytes(data[k : k + 8], "little") ^ key)
    return total & MASK


def slow_ngrams(hashes, width):
    found = []
    for start in range(len(hashes) - width + 1):
        total = 0
        for h in hashes[start : start + width]:
            total = (total * 0xD6E8FEB86659FD93 + h) & MASK
        found.append(slow_fmix64(total))
    return found


def ragged(values, offsets):
    return [list(values[a:b]) for a, b in pairwise(offsets)]


@given(any_texts)
def test_words_equal_the_slow_twin(texts):
    found, offsets = normalise_words(array(texts))
    assert found.type == pa.large_string()
    found.validate(full=True)
    assert ragged(found.to_pylist(), offsets) == [slow_words(t) for t in texts]


@given(any_texts, st.integers(1, 6))
def test_hashes_equal_the_slow_twin(texts, width):
    hashes, offsets = word_hashes(array(texts))
    expected = [[slow_hash(w) for w in slow_words(t)] for t in texts]
    assert hashes.dtype == np.uint64
    assert ragged(hashes.tolist(), offsets) == expected

    ngrams = ngram_hashes(hashes, offsets, width)
    expected = [slow_ngrams(h, width) for h in expected]
    assert ragged(ngrams[0].tolist(), ngrams[1]) == expected

    shingles = unique_sorted(*ngrams)
    assert ragged(shingles[0].tolist(), shingles[1]) == [sorted(set(h)) for h in expected]
    for shingling in (width, Shingling(width=width)):
        direct = shingle_sets(array(texts), shingling)
        assert np.array_equal(direct[0], shingles[0])
        assert np.array_equal(direct[1], shingles[1])


@pytest.mark.parametrize("numbers", ["keep", "zero"])
@pytest.mark.parametrize("unit", ["words", "characters"])
@given(any_texts, st.integers(1, 6))
def test_shingles_of_any_kind_equal_the_slow_twin(unit, numbers, texts, width):
    units = {"words": slow_words, "characters": slow_characters}[unit]
    expected = [slow_ngrams([slow_hash(u) for u in units(t, numbers)], width) for t in texts]
    found = shingle_sets(array(texts), Shingling(unit=unit, width=width, numbers=numbers))
    assert ragged(found[0].tolist(), found[1]) == [sorted(set(h)) for h in expected]


@given(any_texts, st.data())
def test_any_slicing_gives_the_same(texts, data):
    whole = array(texts)
    cut = data.draw(st.integers(0, len(texts)))
    hashes, offsets = word_hashes(whole)
    left, right = word_hashes(whole.slice(0, cut)), word_hashes(whole.slice(cut))
    assert np.array_equal(np.concatenate([left[0], right[0]]), hashes)
    assert ragged(*left) + ragged(*right) == ragged(hashes, offsets)
    found, found_offsets = normalise_words(whole.slice(cut))
    assert ragged(found.to_pylist(), found_offsets) == [slow_words(t) for t in texts[cut:]]
    chunked = pa.chunked_array([whole.slice(0, cut), whole.slice(cut)], pa.large_string())
    assert np.array_equal(word_hashes(chunked)[0], hashes)


@pytest.mark.parametrize("slice_bytes", [1, 7, 64, 1000])
@pytest.mark.parametrize("slice_texts", [1, 3])
def test_the_size_of_the_inner_slices_does_not_matter(monkeypatch, slice_bytes, slice_texts):
    texts = array(["", "One two three", None, TRICKY, "a" * 50, "", "x y " * 30, "\u00e9" * 9, ""])
    whole = word_hashes(texts), normalise_words(texts), shingle_sets(texts, 2)
    monkeypatch.setattr(scratch, "SLICE_BYTES", slice_bytes)
    monkeypatch.setattr(scratch, "SLICE_TEXTS", slice_texts)
    again = word_hashes(texts), normalise_words(texts), shingle_sets(texts, 2)
    for (values, offsets), (other, other_offsets) in zip(whole, again, strict=True):
        assert np.array_equal(np.asarray(values), np.asarray(other))
        assert np.array_equal(offsets, other_offsets)


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 4), st.integers(0, 3))
def test_ngrams_never_cross_documents_and_offsets_may_start_anywhere(sizes, width, skip):
    hashes = np.arange(sum(sizes) + skip, dtype=np.uint64) + np.uint64(1)
    offsets = skip + np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ngrams = ngram_hashes(hashes, offsets, width)
    expected = [slow_ngrams(doc, width) for doc in ragged(hashes.tolist(), offsets)]
    assert ragged(ngrams[0].tolist(), ngrams[1]) == expected
    doubled = unique_sorted(np.repeat(hashes, 2), 2 * offsets)
    assert ragged(doubled[0].tolist(), doubled[1]) == ragged(hashes.tolist(), offsets)


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=60), max_size=5))
def test_sets_are_sorted_and_without_repeats(docs):
    bounds = np.cumsum([0, *map(len, docs)])
    hashes = np.array([h for doc in docs for h in doc], dtype=np.uint64)
    found = unique_sorted(hashes, bounds)
    assert ragged(found[0].tolist(), found[1]) == [sorted(set(doc)) for doc in docs]


@pytest.mark.parametrize("spread", ["even", "one bucket", "few values", "two sizes"])
def test_sets_of_any_spread_and_size_are_right(spread):
    draw = np.random.default_rng(1)
    values = {
        "even": draw.integers(0, 2**64, 300_000, dtype=np.uint64),
        "one bucket": np.arange(5000, dtype=np.uint64)[::-1].copy(),
        "few values": draw.choice(draw.integers(0, 2**64, 7, dtype=np.uint64), 5000),
        "two sizes": np.concatenate(
            [draw.integers(0, 99, 4000, np.uint64), draw.integers(0, 2**64, 99, np.uint64)]
        ),
    }[spread]
    for bounds in ([0, values.size], [0, 10, 10, 35, values.size - 1]):
        found = unique_sorted(values, np.array(bounds))
        expected = [np.unique(values[a:b]) for a, b in pairwise(bounds)]
        assert np.array_equal(found[0], np.concatenate(expected))
        assert np.diff(found[1]).tolist() == [one.size for one in expected]


def test_spans_of_words_of_scripts_without_spaces_are_single_letters():
    text = "ab\u6211\u3099\u7231c\u0e01\u0e34\u0e19"
    starts, stops = word_spans(text)
    pieces = [text.encode()[a:b].decode() for a, b in zip(starts, stops, strict=True)]
    assert pieces == ["ab", "\u6211\u3099", "\u7231", "c", "\u0e01\u0e34", "\u0e19"]
    assert len(pieces) == word_hashes(array([text]))[0].size


def test_no_character_folds_to_a_mixture_of_word_and_separator():
    for code in range(0x110000):
        character = chr(code)
        if 0xD800 <= code < 0xE000:
            continue
        decomposed = unicodedata.normalize("NFD", character.lower())
        kinds = {unicodedata.category(c)[0] in "LN" for c in decomposed} if decomposed else set()
        if len(kinds) == 2:  # then the rest are marks only
            assert all(unicodedata.category(c)[0] in "LNM" for c in decomposed), hex(code)


def test_every_character_of_unicode_folds_as_the_slow_twin_says():
    codes = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    text = array(["a".join(map(chr, codes[k : k + 4096])) for k in range(0, len(codes), 4096)])
    found, offsets = normalise_words(text)
    expected = [slow_words(t) for t in text.to_pylist()]
    assert ragged(found.to_pylist(), offsets) == expected


def test_hashes_are_pinned_for_ever():
    # A new value here is a new `hash` in MinHashScheme.
    hashes, offsets = word_hashes(array(["The caf\u00e9 internationalisation"]))
    ngrams, _ = ngram_hashes(hashes, offsets, 3)
    assert [hex(h) for h in hashes] == [
        "0x48d298717f79ea2e",
        "0x19eecb1dd71ff132",
        "0xcff4bfcd435a3803",
    ]
    assert [hex(h) for h in ngrams] == ["0x270159a49264decd"]


def test_case_accents_punctuation_and_final_sigma_do_not_matter():
    one, _ = word_hashes(array(["\u039f\u0394\u039f\u03a3 Caf\u00e9-bar,  NA\u00cfVE"]))
    two, _ = word_hashes(array(["\u03bf\u03b4\u03bf\u03c2\ncafe bar (nai\u0308ve)"]))
    assert np.array_equal(one, two)


def test_every_letter_of_a_script_without_spaces_is_a_word():
    found, _ = normalise_words(array(["\u6211\u7231 Beijing\u5317\u4eac\u3002\u30ab\uff76x"]))
    expected = ["\u6211", "\u7231", "beijing", "\u5317", "\u4eac", "\u30ab", "\uff76", "x"]
    assert found.to_pylist() == expected
    thai, _ = normalise_words(array(["\u0e01\u0e34\u0e19\u0e51\u0e52 \ud55c\uad6d\uc5b4"]))
    hangul = unicodedata.normalize("NFD", "\ud55c\uad6d\uc5b4")
    assert thai.to_pylist() == ["\u0e01", "\u0e19", "\u0e51\u0e52", hangul]


def test_letters_alone_are_those_whose_names_say_so_and_stay_so_when_folded():
    for code in range(0x110000):
        c = chr(code)
        if unicodedata.category(c)[0] == "C":
            continue
        assert is_alone(c) == slow_is_alone(c), hex(code)
        folded = fold_character(c)
        if len(folded) == 1 and folded != "\0":
            assert is_alone(folded) == is_alone(c), hex(code)


def test_numbers_become_one_zero_each():
    texts = array(["v12b 3.14, 007 \u0661\u0662 1\u03012 \uff11\u00b2"])
    found = shingle_sets(texts, Shingling(width=1, numbers="zero"))
    expected = ["v0b", "0", "0", "0", "0", "0", "0\u00b2"]
    assert sorted({slow_ngrams([slow_hash(w)], 1)[0] for w in expected}) == found[0].tolist()
    assert slow_words(texts[0].as_py(), "zero") == expected


def test_characters_are_those_of_the_folded_text_between_single_spaces():
    loud = array(["  \u00c9t\u00e9 -- \u6211\u7231!  ", "ab", "", None, "..."])
    quiet = array(["ete \u6211\u7231", "ab", "", "", ""])
    shingling = Shingling(unit="characters", width=3)
    one, two = shingle_sets(loud, shingling), shingle_sets(quiet, shingling)
    assert one[1].tolist() == two[1].tolist() == [0, 4, 4, 4, 4, 4]
    assert np.array_equal(one[0], two[0])


@given(any_texts, st.integers(1, 40))
def test_a_capped_text_is_the_text_cut_at_a_character(texts, cap):
    capped = Shingling(width=2, max_document_bytes=cap)
    cut = [(t or "").encode()[:cap].decode(errors="ignore") for t in texts]
    one, two = shingle_sets(array(texts), capped), shingle_sets(array(cut), 2)
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_different_words_of_real_text_have_different_hashes(shared_data):
    texts = array([(shared_data / "README.md").read_text()])
    found, _ = normalise_words(texts)
    hashes, _ = word_hashes(texts)
    assert len(set(found.to_pylist())) == len(np.unique(hashes)) > 500


def test_null_hides_what_lies_under_it():
    under = pa.LargeStringArray.from_buffers(
        2,
        pa.py_buffer(np.array([0, 3, 6], dtype=np.int64)),
        pa.py_buffer(b"onetwo"),
        pa.py_buffer(b"\x02"),
    )
    found, offsets = normalise_words(under)
    assert (found.to_pylist(), offsets.tolist()) == (["two"], [0, 0, 1])


def test_other_string_types_are_taken_and_other_types_refused():
    assert word_hashes(pa.array(["a b"]))[1].tolist() == [0, 2]
    assert word_hashes(pa.array(["x", "a b"]).slice(1))[1].tolist() == [0, 2]
    assert word_hashes(pa.array(["a b"], pa.string_view()))[1].tolist() == [0, 2]
    assert word_hashes(pa.array([], pa.large_string()))[1].tolist() == [0]
    with pytest.raises(InputError, match="got int64"):
        word_hashes(pa.array([1, 2]))
    with pytest.raises(InputError, match="width 0"):
        shingle_sets(array(["a"]), 0)


def test_the_input_is_not_touched():
    texts = array(["A b", "\u00c9"])
    word_hashes(texts)
    assert texts.to_pylist() == ["A b", "\u00c9"]
    hashes = np.array([3, 1, 2], dtype=np.uint64)
    unique_sorted(hashes, np.array([0, 3]))
    ngram_hashes(hashes, np.array([0, 3]), 2)
    assert hashes.tolist() == [3, 1, 2]


def test_plain_ascii_does_not_build_the_table_of_unicode():
    fold_table.cache_clear()
    word_hashes(array(["plain text"]))
    assert fold_table.cache_info().currsize == 0


def test_the_table_is_kept_and_made_again_where_it_is_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(fold, "cache_folder", lambda: tmp_path)
    original = fold_table().copy()
    for damage in (b"", b"no table", None):
        fold_table.cache_clear()
        assert np.array_equal(fold_table(), original)
        (kept,) = tmp_path.iterdir()
        data = kept.read_bytes()
        kept.write_bytes(data[:-1] if damage is None else damage)
    monkeypatch.setattr(fold, "cache_folder", lambda: None)
    fold_table.cache_clear()
    assert np.array_equal(fold_table(), original)


@given(st.binary(max_size=100))
def test_bytes_that_are_no_utf8_do_no_harm(data):
    under = pa.LargeStringArray.from_buffers(
        1, pa.py_buffer(np.array([0, len(data)], dtype=np.int64)), pa.py_buffer(data)
    )
    for shingling in (Shingling(width=1), Shingling(unit="characters", width=1, numbers="zero")):
        one, two = shingle_sets(under, shingling), shingle_sets(under, shingling)
        assert np.array_equal(one[0], two[0])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"unit": "word"}, "Did you mean 'words'"),
        ({"numbers": "drop"}, "there are: keep, zero"),
        ({"normaliser": "nemo"}, "there are: datatrove, preceptor"),
        ({"hash": "xxh64"}, "goes with the hash 'mix64', got 'xxh64'"),
        ({"hash": "xxh64", "normaliser": "datatrove"}, "numbers='zero', got 'words' and 'keep'"),
        ({"width": 0}, "got width 0"),
        ({"max_document_bytes": -1}, "0 (no cap) or more, got -1"),
    ],
)
def test_a_wrong_shingling_shows_the_bad_value(wrong, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Shingling(**wrong)


def test_scratch_of_one_name_is_not_shared_by_two_types() -> None:
    arrays = scratch.Scratch()
    words = arrays.uint64("words", 4)
    assert arrays.int64("words", 4).dtype == np.int64
    assert arrays.uint64("words", 4).base is words.base
