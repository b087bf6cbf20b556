r"""The words in which two texts differ, in bounded time and few lines, whatever the texts are.

What both begin and end with is set aside. Runs of words that stand once in each text are anchors
(patience diff: Cohen 2008), the longest chain of them that keeps its order cuts the texts into
small gaps, and difflib looks into those that are small enough; the others count as replaced.

>>> found = word_diff("the cat sat on the mat", "the dog sat on the mat")
>>> found.removed, found.added, [str(hunk) for hunk in found.hunks]
(1, 1, ['the [-cat-]{+dog+} sat on the mat'])
"""

import difflib
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["MARKS", "Hunk", "WordDiff", "word_diff"]

MARKS = {"same": ("", ""), "removed": ("[-", "-]"), "added": ("{+", "+}")}

_MAX_CHARS = 2_000_000  # of a text; what lies beyond is not compared
_MAX_WORDS = 250_000
_MAX_WORD_CHARS = 60  # shown
_CHANGES_OF_A_HUNK = 4
_ANCHORS = (8, 3, 1)  # words in a row that must stand once in each text
_PAIRS_OF_A_GAP = 20_000  # equal pairs of words that difflib may look at, in a gap and in all
_PAIRS = 1_000_000

# Scripts that write no blanks between words: each letter is one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")

Match = tuple[int, int, int]  # place in the old words, in the new ones, words


@dataclass(frozen=True, slots=True)
class Hunk:
    """One place where the texts differ, with some words around it.

    Attributes:
        pieces: (`same`, `removed` or `added`; text), in reading order.
    """

    pieces: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        shown = [MARKS[kind][0] + text + MARKS[kind][1] for kind, text in self.pieces]
        return "".join(shown).strip()


@dataclass(frozen=True, slots=True)
class WordDiff:
    """How two texts differ.

    Attributes:
        removed: words of the old text that are not in the new one.
        added: words of the new text that are not in the old one.
        places: runs of changed words.
        hunks: the first of them, neighbours together.
        hidden: places that no hunk shows.
        is_whole: whether both texts were compared to their ends.
    """

    removed: int
    added: int
    places: int
    hunks: tuple[Hunk, ...]
    hidden: int
    is_whole: bool

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "removed_words": self.removed,
            "added_words": self.added,
            "places": self.places,
            "hidden_places": self.hidden,
            "is_whole": self.is_whole,
            "hunks": [[list(piece) for piece in hunk.pieces] for hunk in self.hunks],
        }


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a text, and where they stand in it."""

    words: list[str]
    starts: list[int]
    text: str
    is_whole: bool

    def shown(self, start: int, stop: int, limit: int) -> str:
        """Return words as they stand, blanks as one; of many only the first and the last."""
        if stop - start <= limit:
            return self._piece(start, stop)
        half = limit // 2
        left, right = self._piece(start, start + half), self._piece(stop - half, stop)
        return f"{left.rstrip()} ...({stop - start - 2 * half:,} words)... {right.lstrip()}"

    def _piece(self, start: int, stop: int) -> str:
        parts = []
        for at in range(start, stop):
            word = self.words[at]
            if len(word) > _MAX_WORD_CHARS:
                word = f"{word[: _MAX_WORD_CHARS // 2]}...{word[-_MAX_WORD_CHARS // 2 :]}"
            parts.append(word + (" " if self._blank_after(at) else ""))
        return "".join(parts)

    def has_blank_before(self, at: int) -> bool:
        """Say whether a blank stands before a word."""
        return at > 0 and self._blank_after(at - 1)

    def _blank_after(self, at: int) -> bool:
        end = self.starts[at] + len(self.words[at])
        return end < len(self.text) and self.text[end].isspace()


def _split(text: str) -> _Words:
    words, starts = [], []
    cut = text[:_MAX_CHARS]
    for match in _WORD.finditer(cut):
        words.append(match[0])
        starts.append(match.start())
        if len(words) == _MAX_WORDS:
            return _Words(words, starts, cut, not text[match.end() :].strip())
    return _Words(words, starts, cut, len(text) <= _MAX_CHARS)


def word_diff(old: str, new: str, *, max_hunks: int = 12, context: int = 12) -> WordDiff:
    """Compare two texts word by word; blanks and line ends do not count.

    Args:
        old: the text from which words are removed.
        new: the text to which words are added.
        max_hunks: hunks to return at most.
        context: words to show before and after a change; of longer changes as many.
    """
    before, after = _split(old), _split(new)
    changes = list(_changes(before.words, after.words))
    groups = _groups(changes, context)
    shown = groups[:max_hunks]
    return WordDiff(
        removed=sum(old_stop - old_start for old_start, old_stop, _, _ in changes),
        added=sum(new_stop - new_start for _, _, new_start, new_stop in changes),
        places=len(changes),
        hunks=tuple(_hunk(before, after, group, context) for group in shown),
        hidden=len(changes) - sum(map(len, shown)),
        is_whole=before.is_whole and after.is_whole,
    )


Change = tuple[int, int, int, int]  # old start, old stop, new start, new stop


def _groups(changes: Sequence[Change], context: int) -> list[list[Change]]:
    """Put changes together that stand within a context's length, a few into a hunk."""
    groups: list[list[Change]] = []
    for change in changes:
        near = groups and change[0] - groups[-1][-1][1] <= context
        if near and len(groups[-1]) < _CHANGES_OF_A_HUNK:
            groups[-1].append(change)
        else:
            groups.append([change])
    return groups


def _hunk(before: _Words, after: _Words, group: Sequence[Change], context: int) -> Hunk:
    first, last = group[0], group[-1]
    at = max(0, first[2] - context)
    pieces = [("same", "... ")] if at else []
    for old_start, old_stop, new_start, new_stop in group:
        pieces.append(("same", after.shown(at, new_start, context)))
        glued = old_start < old_stop and before.has_blank_before(old_start)
        if glued and pieces[-1][1] and not pieces[-1][1].endswith(" "):
            pieces.append(("same", " "))  # the new text ends here
        pieces.append(("removed", before.shown(old_start, old_stop, context)))
        pieces.append(("added", after.shown(new_start, new_stop, context)))
        at = new_stop
    end = min(len(after.words), last[3] + context)
    pieces.append(("same", after.shown(at, end, context)))
    if end < len(after.words):
        pieces.append(("same", "..."))
    return Hunk(tuple(_tidy(pieces)))


def _tidy(pieces: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Move the blank at the end of a change behind it, join what is alike, drop what is empty."""
    moved: list[tuple[str, str]] = []
    for place, (kind, text) in enumerate(pieces):
        moved.append((kind, text.removesuffix(" ") if kind != "same" else text))
        replaced = kind == "removed" and pieces[place + 1][1]
        if kind != "same" and text.endswith(" ") and not replaced:
            moved.append(("same", " "))
    tidy: list[tuple[str, str]] = []
    for kind, text in moved:
        if text and tidy and tidy[-1][0] == kind:
            tidy[-1] = (kind, tidy[-1][1] + text)
        elif text:
            tidy.append((kind, text))
    return tidy


def _changes(old: Sequence[str], new: Sequence[str]) -> Iterator[Change]:
    """Yield the runs of words that differ, in order."""
    at_old = at_new = 0
    for start_old, start_new, length in [*_matches(old, new), (len(old), len(new), 0)]:
        if start_old > at_old or start_new > at_new:
            yield at_old, start_old, at_new, start_new
        at_old, at_new = start_old + length, start_new + length


def _matches(old: Sequence[str], new: Sequence[str]) -> list[Match]:
    """Return the runs of equal words, in order."""
    budget = [_PAIRS]
    found: list[Match] = []
    # Gaps still to look into, with the place in _ANCHORS at which to go on.
    gaps = [(0, len(old), 0, len(new), 0)]
    while gaps:
        old_start, old_stop, new_start, new_stop, step = gaps.pop()
        head = _common(old, new, (old_start, old_stop), (new_start, new_stop))
        if head:
            found.append((old_start, new_start, head))
        old_start, new_start = old_start + head, new_start + head
        tail = _common(old, new, (old_start, old_stop), (new_start, new_stop), -1)
        if tail:
            found.append((old_stop - tail, new_stop - tail, tail))
        old_stop, new_stop = old_stop - tail, new_stop - tail
        if old_start == old_stop or new_start == new_stop:
            continue
        left, right = old[old_start:old_stop], new[new_start:new_stop]
        if _is_small(left, right, budget):
            blocks = difflib.SequenceMatcher(None, left, right, autojunk=False)
            found += [
                (old_start + block.a, new_start + block.b, block.size)
                for block in blocks.get_matching_blocks()
                if block.size
            ]
        elif step < len(_ANCHORS):
            at_old, at_new = old_start, new_start
            for a, b in _anchors(left, right, _ANCHORS[step]):
                gaps.append((at_old, old_start + a, at_new, new_start + b, step + 1))
                at_old, at_new = old_start + a, new_start + b
            # An anchor begins the gap after it, where it is found as common to both.
            gaps.append((at_old, old_stop, at_new, new_stop, step + 1))
    return _joined(sorted(found))


def _common(
    old: Sequence[str],
    new: Sequence[str],
    old_range: tuple[int, int],
    new_range: tuple[int, int],
    step: int = 1,
) -> int:
    """Return how many words two ranges begin with (or, with -1, end with) in common."""
    most = min(old_range[1] - old_range[0], new_range[1] - new_range[0])
    a, b = (old_range[0], new_range[0]) if step == 1 else (old_range[1] - 1, new_range[1] - 1)
    count = 0
    while count < most and old[a + step * count] == new[b + step * count]:
        count += 1
    return count


def _is_small(left: Sequence[str], right: Sequence[str], budget: list[int]) -> bool:
    """Say whether difflib may look: its time grows with the pairs of equal words."""
    there = Counter(right)
    pairs = sum(count * there[word] for word, count in Counter(left).items())
    cost = pairs + len(left) + len(right)
    if cost > min(_PAIRS_OF_A_GAP, budget[0]):
        return False
    budget[0] -= cost
    return True


def _anchors(left: Sequence[str], right: Sequence[str], width: int) -> list[tuple[int, int]]:
    """Return the longest ordered chain of runs of `width` words that each side holds once."""
    places = _once(left, width)
    pairs = [(places[run], at) for run, at in _once(right, width).items() if run in places]
    return _longest_chain(sorted(pairs))


def _once(words: Sequence[str], width: int) -> dict[tuple[str, ...], int]:
    first: dict[tuple[str, ...], int] = {}
    for at, run in enumerate(zip(*(words[shift:] for shift in range(width)), strict=False)):
        first[run] = at if run not in first else -1
    return {run: at for run, at in first.items() if at >= 0}


def _longest_chain(pairs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the longest subsequence that rises in its second place (Fredman 1975)."""
    ends: list[int] = []  # smallest last value of a chain, by its length
    last: list[int] = []  # its place in `pairs`
    before = [-1] * len(pairs)
    for place, (_, value) in enumerate(pairs):
        length = bisect_left(ends, value)
        before[place] = last[length - 1] if length else -1
        if length == len(ends):
            ends.append(value)
            last.append(place)
        else:
            ends[length], last[length] = value, place
    chain = []
    place = last[-1] if last else -1
    while place >= 0:
        chain.append(pairs[place])
        place = before[place]
    return chain[::-1]


def _joined(matches: Sequence[Match]) -> list[Match]:
    """Join runs that touch."""
    joined: list[Match] = []
    for old, new, length in matches:
        if joined and (joined[-1][0] + joined[-1][2], joined[-1][1] + joined[-1][2]) == (old, new):
            joined[-1] = (joined[-1][0], joined[-1][1], joined[-1][2] + length)
        else:
            joined.append((old, new, length))
    return joined
