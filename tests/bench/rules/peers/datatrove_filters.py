"""datatrove's filters, one rule at a time: everything else is switched off for it."""

import warnings
from collections.abc import Callable

PACKAGE = "datatrove"
REQUIREMENTS = (
    "datatrove[io,processing]==0.10.1",
    "spacy==3.8.18",
    "orjson",
    "xxhash==3.8.2",
)
PRESETS = (
    "gopher_quality@datatrove",
    "gopher_repetition@datatrove",
    "c4@datatrove",
    "fineweb_quality@datatrove",
    "fineweb",
)

QUALITY = {
    "num_words": ("min_doc_words", "max_doc_words"),
    "mean_word_length": ("min_avg_word_length", "max_avg_word_length"),
    "hash_ratio": ("max_symbol_word_ratio",),
    "ellipsis_ratio": ("max_symbol_word_ratio",),
    "bullet_lines": ("max_bullet_lines_ratio",),
    "ellipsis_lines": ("max_ellipsis_lines_ratio",),
    "alpha_words": ("max_non_alpha_words_ratio",),
    "stop_words": ("min_stop_words",),
}
REPETITION = {
    "duplicate_lines": "dup_line_frac",
    "duplicate_paragraphs": "dup_para_frac",
    "duplicate_line_chars": "dup_line_char_frac",
    "duplicate_paragraph_chars": "dup_para_char_frac",
}
C4 = {
    "lorem_ipsum": {"filter_lorem_ipsum"},
    "curly_bracket": {"filter_curly_bracket"},
    "sentences": {"min_num_sentences"},
}
FINEWEB = {
    "terminal_lines": {"line_punct_thr": 0.12},
    "short_lines": {"short_line_thr": 0.67},
    "repeated_lines": {"char_duplicates_ratio": 0.01},
    "newlines": {"new_line_ratio": 0.3},
}
NO_FINEWEB = {
    "line_punct_thr": -1.0,
    "short_line_thr": 2.0,
    "char_duplicates_ratio": 2.0,
    "new_line_ratio": 1e12,
}

_LAST: dict = {}

Judge = Callable[[str], dict[str, bool | None]]


def judge(preset: str) -> Judge:
    """Return the judge of one text under the filter that the preset reproduces."""
    from datatrove.utils.text import split_into_words

    warnings.simplefilter("ignore")
    filters, whole = _filters(preset)

    def judge_one(text: str) -> dict[str, bool | None]:
        if text != _LAST.get("text"):
            _LAST.clear()
            _LAST["text"] = text
        found = {}
        for rule, steps in filters.items():
            if rule not in QUALITY and "_grams" not in rule and rule not in REPETITION:
                found[rule] = _asked(steps, text)
            else:  # the same in two presets, and each asks spaCy
                if rule not in _LAST:
                    _LAST[rule] = _asked(steps, text)
                found[rule] = _LAST[rule]
        if not split_into_words(text):  # a mean of nothing is kept, and a document never is
            found = {rule: None if "word" in rule else kept for rule, kept in found.items()}
        return found | {"*": _asked(whole, text)}

    return judge_one


def _asked(steps: list, text: str) -> bool | None:
    """Return whether a document passes the filters, one after the other; None where one fails."""
    from datatrove.data import Document

    document = Document(text=text, id="")
    try:
        for step in steps:
            answer = step.filter(document)
            if answer is not True:
                return False
    except (ZeroDivisionError, AssertionError):
        return None
    return True


def _filters(preset: str) -> tuple[dict[str, list], list]:
    """Return the filters of each rule, and those of the whole."""
    from datatrove.pipeline import filters as of

    quality = {rule: [_quality(of, rule)] for rule in QUALITY}
    repetition = {rule: [_repetition(of, **{name: None})] for rule, name in REPETITION.items()}
    for width, most in ((2, 0.2), (3, 0.18), (4, 0.16)):
        repetition[f"top_{width}_grams"] = [_repetition(of, top_n_grams=((width, most),))]
    for width in range(5, 11):
        most = (20 - width) / 100
        repetition[f"duplicate_{width}_grams"] = [_repetition(of, dup_n_grams=((width, most),))]
    if preset == "gopher_quality@datatrove":
        return quality, [of.GopherQualityFilter()]
    if preset == "gopher_repetition@datatrove":
        return repetition, [of.GopherRepetitionFilter()]
    if preset == "c4@datatrove":
        return {rule: [_c4(of, rule)] for rule in C4}, [of.C4QualityFilter()]
    if preset == "fineweb_quality@datatrove":
        alone = {rule: [_fineweb(of, own)] for rule, own in FINEWEB.items()}
        return alone, [of.FineWebQualityFilter()]
    mild = {"filter_no_terminal_punct": False}
    cleaned = {rule: [_c4(of, "", **mild), _fineweb(of, own)] for rule, own in FINEWEB.items()}
    c4 = {rule: [_c4(of, rule, **mild)] for rule in C4}
    whole = [
        of.GopherRepetitionFilter(),
        of.GopherQualityFilter(),
        of.C4QualityFilter(**mild),
        of.FineWebQualityFilter(),
    ]
    return repetition | quality | c4 | cleaned, whole


def _quality(of, rule: str):
    own = QUALITY[rule]
    off = {name: None for names in QUALITY.values() for name in names if name not in own}
    if rule in ("hash_ratio", "ellipsis_ratio"):
        return _OneSymbol(of.GopherQualityFilter(**off), rule)
    return of.GopherQualityFilter(**off)


class _OneSymbol:
    """The two symbols share a threshold there: the filter tells by its reason which it was.

    It looks for hashes first, so a text that it drops for those is asked for ellipses by hand.
    """

    def __init__(self, step, rule: str) -> None:
        self.step, self.rule = step, rule

    def filter(self, document) -> bool:
        from datatrove.utils.text import split_into_words

        answer = self.step.filter(document)
        reason = "" if answer is True else answer[1]
        if self.rule == "hash_ratio":
            return reason != "gopher_too_many_hashes"
        if reason == "gopher_too_many_hashes":
            text = document.text
            dots = text.count("...") + text.count("\u2026")
            return not dots / len(split_into_words(text)) > 0.1
        return reason != "gopher_too_many_ellipsis"


def _repetition(of, **own):
    off = {name: None for name in REPETITION.values() if name not in own}
    grams = {"top_n_grams": (), "dup_n_grams": ()}
    return of.GopherRepetitionFilter(
        **off, **(grams | {name: value for name, value in own.items() if value is not None})
    )


def _c4(of, rule: str, **settings):
    off = {"filter_lorem_ipsum": False, "filter_curly_bracket": False, "min_num_sentences": -1}
    for name in C4.get(rule, ()):
        del off[name]
    return of.C4QualityFilter(**off, **settings)


def _fineweb(of, own: dict[str, float]):
    return of.FineWebQualityFilter(**(NO_FINEWEB | own))
