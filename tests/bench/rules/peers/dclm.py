"""DCLM's filters for RefinedWeb, said again as a slow twin; words by the package it uses, uniseg.

DCLM is no package, and its modules import Ray, fastText and transformers. Left out as in our
preset: taking addresses out of the text, language, lists of addresses. uniseg cuts some 20 KB a
second, so texts of more than MAX_CHARS characters are not judged by their n-grams.
"""

import re
from collections import Counter

PACKAGE = "uniseg"
REQUIREMENTS = ("uniseg==0.10.1",)
PRESETS = ("refinedweb@dclm",)
_WORDS = "uniseg's word boundaries differ from ours in Hebrew, in emoji and in newer scripts"
EXPLAINED = {
    **{("refinedweb@dclm", f"top_{n}gram"): _WORDS for n in (2, 3, 4)},
    **{("refinedweb@dclm", f"duplicate_{n}grams"): _WORDS for n in range(5, 11)},
    ("refinedweb@dclm", "removed_words"): "white space at the beginning or end of the whole text",
    ("refinedweb@dclm", "*"): "the rules above",
}

MAX_CHARS = 3_000
STOPS = {"the", "be", "to", "of", "and", "that", "have", "with"}
TOP = {2: 0.2, 3: 0.18, 4: 0.16}
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
GRAM_RULES = (*(f"top_{n}gram" for n in TOP), *(f"duplicate_{n}grams" for n in DUPLICATE))
COUNTER = re.compile(
    r"^\W*\d[,.\d]*[kmb]?\s+(likes|shares|comments|retweets|reposts|quotes|bookmarks|upvotes"
    r"|downvotes|downloads|views|followers)\W*$"
)
PHRASES = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (r"\s?items in cart", r"\s?read more...$", r"^sign-in\s?")
)


def judge(preset):
    """Return the function that judges one text."""
    from uniseg.wordbreak import words

    return judge_with(lambda text: [word for word in words(text) if word[0].isalnum()])


def judge_with(cut_words):
    """Return the function that judges one text, given one that cuts words for n-grams."""

    def one(text):
        short = len(text) <= MAX_CHARS
        found = {**quality(text), **parts(text)}
        found |= grams(cut_words(text)) if short else dict.fromkeys(GRAM_RULES)
        before = counted(text)
        after = counted(without_lines(text))
        found["removed_words"] = before > 0 and (before - after) / before <= 0.05
        verdict = False if False in found.values() else None if None in found.values() else True
        return {**found, "*": verdict}

    return one


def counted(text):
    """Return how many words begin with a letter or a number, cut as fastText cuts."""
    return sum(1 for word in re.split("[\0\t\n\x0b\x0c\r ]", text) if word and word[0].isalnum())


def quality(text):
    """Judge Gopher's quality rules."""
    words = text.split()
    lines = trimmed(text, "\n")
    symbols = sum(text.count(symbol) for symbol in ("#", "...", ". . .", "\u2026"))
    bullets = sum(line.startswith(("\u25cf", "\u2022", "*", "-")) for line in lines)
    dots = sum(line.endswith(("...", ". . .", "\u2026")) for line in lines)
    without = sum(not any(c.isalpha() for c in word) for word in words)
    return {
        "num_words": 50 <= counted(text) <= 100000,
        "mean_word_length": bool(words) and 3 <= sum(map(len, words)) / len(words) <= 10,
        "symbols": bool(words) and symbols / len(words) <= 0.1,
        "bullet_lines": bullets <= 0.9 * len(lines),
        "ellipsis_lines": dots <= 0.3 * len(lines),
        "nonalpha_words": bool(words) and without / len(words) <= 0.2,
        "stop_words": sum(word.lower() in STOPS for word in words) >= 2,
    }


def trimmed(text, end):
    """Return the parts of the text between `end`, trimmed, without blank ones."""
    return [part.strip() for part in text.split(end) if part.strip()]


def parts(text):
    """Judge the lines and paragraphs that occur twice."""
    found = {}
    for name, end in (("line", "\n"), ("paragraph", "\n\n")):
        pieces = trimmed(text, end)
        again = [
            piece for piece, count in Counter(pieces).items() for _ in range(count * (count > 1))
        ]
        total = sum(map(len, pieces))
        found[f"duplicate_{name}s"] = bool(pieces) and len(again) / len(pieces) <= 0.3
        found[f"duplicate_{name}_chars"] = bool(pieces) and sum(map(len, again)) / total <= 0.2
    return found


def grams(words):
    """Judge the n-grams."""
    found = {}
    total = sum(map(len, words))
    for n in range(2, 11):
        places = list(zip(*(words[k:] for k in range(n)), strict=False))
        counts = Counter(places)
        most = max(counts.values(), default=0)
        size = 0
        if most > 1 and n in TOP:
            size = most * max(len("".join(gram)) for gram, m in counts.items() if m == most)
        elif most > 1:
            inside = {k + j for k, gram in enumerate(places) if counts[gram] > 1 for j in range(n)}
            size = sum(len(words[k]) for k in inside)
        name, limit = (
            (f"top_{n}gram", TOP[n]) if n in TOP else (f"duplicate_{n}grams", DUPLICATE[n])
        )
        found[name] = not size or size / total <= limit
    return found


def without_lines(text):
    """Return the text after the steps that remove lines, each of which trims the text."""
    keeps = (
        lambda line: sum(c.isupper() for c in line) / len(line) <= 0.5,
        lambda line: sum(c.isdigit() for c in line) / len(line) <= 0.999999,
        lambda line: not COUNTER.search(line.lower()),
        lambda line: len(line.split()) >= 2,
    )
    for step, keep in enumerate(keeps):
        text = "\n".join(line for line in text.split("\n") if not line or keep(line))
        text = text if step == 3 else text.strip()
    for phrase in PHRASES:
        left = []
        for line in text.split("\n"):
            shorter = phrase.sub("", line) if len(line.split()) <= 10 else line
            if not line or shorter.strip():
                left.append(shorter)
        text = "\n".join(left).strip()
    return text
