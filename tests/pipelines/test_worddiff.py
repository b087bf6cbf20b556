"""What differs between two texts: exact where it is small, bounded whatever the texts are."""

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import worddiff
from pipelines.worddiff import MARKS, word_diff

FEW = st.lists(st.sampled_from(["a", "b", "c", "the", "\u65e5", "x" * 80]), max_size=40)


def _words(pieces: list[tuple[str, str]], *kinds: str) -> list[str]:
    return worddiff._split("".join(text for kind, text in pieces if kind in kinds)).words


def _plain(old: list[str], new: list[str]) -> int:
    """Return the length of the longest common subsequence, the slow way."""
    row = [0] * (len(new) + 1)
    for word in old:
        before = row[:]
        for place, other in enumerate(new):
            row[place + 1] = (
                before[place] + 1 if word == other else max(before[place + 1], row[place])
            )
    return row[-1]


@given(FEW, FEW)
def test_what_is_the_same_stands_in_both_texts_in_order(old: list[str], new: list[str]) -> None:
    matches = worddiff._matches(old, new)
    at_old = at_new = 0
    for start_old, start_new, length in matches:
        assert length > 0
        assert start_old >= at_old
        assert start_new >= at_new
        assert old[start_old : start_old + length] == new[start_new : start_new + length]
        at_old, at_new = start_old + length, start_new + length
    assert sum(length for _, _, length in matches) <= _plain(old, new)


@given(FEW, FEW)
def test_no_chain_of_anchors_breaks_what_holds_without(old: list[str], new: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worddiff, "_PAIRS_OF_A_GAP", 3)
        test_what_is_the_same_stands_in_both_texts_in_order.hypothesis.inner_test(old, new)


@given(FEW, FEW)
def test_hunks_hold_either_text_whole_where_they_are_let(old: list[str], new: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worddiff, "_CHANGES_OF_A_HUNK", 1000)
        patch.setattr(worddiff, "_MAX_WORD_CHARS", 1000)
        found = word_diff(" ".join(old), "\n".join(new), context=1000)
    assert found.hidden == 0
    assert found.is_whole
    assert len(found.hunks) == (found.places > 0) == (old != new)
    assert len(old) - found.removed == len(new) - found.added
    for hunk in found.hunks:
        pieces = list(hunk.pieces)
        assert _words(pieces, "same", "removed") == old
        assert _words(pieces, "same", "added") == new
        assert all(text and kind in MARKS for kind, text in pieces)


@given(FEW)
def test_equal_words_do_not_differ_whatever_the_blanks_between_them(words: list[str]) -> None:
    found = word_diff(" ".join(words), "\t\n".join(words) + "  ")
    assert (found.places, found.removed, found.added, found.hunks) == (0, 0, 0, ())


def test_a_change_reads_without_colours() -> None:
    left = "one two three four five six seven eight nine ten eleven twelve"
    right = left.replace("three", "3").replace(" nine", "").replace("twelve", "twelve more")
    (hunk,) = word_diff(left, right).hunks
    assert str(hunk) == (
        "one two [-three-]{+3+} four five six seven eight [-nine-] ten eleven twelve {+more+}"
    )


def test_letters_of_scripts_without_blanks_are_words() -> None:
    found = word_diff("\u5409\u8f93\u5165\u6cd5", "\u5409\u8f93\u51fa\u6cd5")
    assert str(found.hunks[0]) == "\u5409\u8f93[-\u5165-]{+\u51fa+}\u6cd5"


def test_far_changes_stand_apart_and_their_number_is_limited() -> None:
    words = [f"w{i}" for i in range(2000)]
    changed = [f"changed{i}" if i % 50 == 25 else word for i, word in enumerate(words)]
    found = word_diff(" ".join(words), " ".join(changed))
    assert (found.places, found.removed, found.added) == (40, 40, 40)
    assert len(found.hunks) == 12
    assert found.hidden == 28
    assert str(found.hunks[0]).startswith("... w13 w14")
    assert str(found.hunks[0]).endswith(" w37 ...")


def test_a_long_replacement_shows_its_ends() -> None:
    found = word_diff("a b", " ".join(["a", *(f"n{i}" for i in range(9000)), "b"]))
    assert str(found.hunks[0]) == (
        "a {+n0 n1 n2 n3 n4 n5 ...(8,988 words)... n8994 n8995 n8996 n8997 n8998 n8999+} b"
    )


def _hostile() -> dict[str, tuple[str, str]]:
    choose = random.Random(5).choices
    some = [f"w{i}" for i in range(60_000)]
    return {
        "two letters": (" ".join(choose("ab", k=60_000)), " ".join(choose("ab", k=60_000))),
        "one word": ("x " * 200_000, "x " * 100_000),
        "backwards": (" ".join(some), " ".join(some[::-1])),
        "nothing in common": (" ".join(some), " ".join(f"v{i}" for i in range(60_000))),
        "one endless word": ("x" * 1_000_000, "x" * 999_999 + "y"),
        "blanks": (" " * 1_000_000, "\n" * 1_000_000),
        "many small puzzles": (
            " ".join(f"u{i} a b a b a b a b" for i in range(9000)),
            " ".join(f"u{i} b b a a b b a a" for i in range(9000)),
        ),
        "longer than is compared": ("a " * 400_000, "a " * 400_000 + "b"),
    }


@pytest.mark.parametrize("case", _hostile())
def test_texts_made_to_cost_time_or_lines_do_not(case: str, lab: Any) -> None:
    """A quadratic step would take minutes here."""
    old, new = _hostile()[case]
    looked: list[int] = []
    real = worddiff.difflib.SequenceMatcher

    def matcher(junk: None, left: list[str], right: list[str], autojunk: bool) -> Any:
        looked.append(len(left) + len(right))
        return real(junk, left, right, autojunk=autojunk)

    with lab.patched(worddiff.difflib, "SequenceMatcher", matcher):
        found = word_diff(old, new)
    assert sum(looked) <= worddiff._PAIRS
    assert len(found.hunks) <= 12
    assert len(json.dumps(found.to_dict())) < 30_000
    assert found.is_whole == (case != "longer than is compared")


def test_the_json_form_has_the_hunks() -> None:
    assert word_diff("a b", "a c").to_dict() == {
        "removed_words": 1,
        "added_words": 1,
        "places": 1,
        "hidden_places": 0,
        "is_whole": True,
        "hunks": [[["same", "a "], ["removed", "b"], ["added", "c"]]],
    }
