"""FineWeb-2's filters as presets, one per language, from that project's own YAML.

`fineweb2:deu_Latn` has the thresholds of huggingface/fineweb-2, configs/deu_Latn.yml (as of
November 2025); `fineweb2:PATH.yml` reads a file of that form. Which filters there are, and which
settings they share, is fineweb-2-pipeline.py: Gopher's repetition without the rules of paragraphs
and of the characters of lines, FineWeb's without short lines, Gopher's quality.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from curate.corpus.errors import InputError, did_you_mean

__all__ = ["LANGUAGES", "MAX_FILE_BYTES", "fineweb2_settings", "settings_as_preset"]

MAX_FILE_BYTES = 1 << 20
NUMBERS = (
    *("dup_line_frac", "line_punct_thr", "new_line_ratio", "max_non_alpha_words_ratio"),
    *("min_avg_word_length", "max_avg_word_length"),
)
GRAMS = {"top_n_grams": (2, 3, 4), "dup_n_grams": (5, 6, 7, 8, 9, 10)}
KEYS = (*NUMBERS, *GRAMS, "stopwords", "language_score")

# In the order of NUMBERS, then the thresholds of GRAMS, then the language score.
_TABLE: Mapping[str, tuple[float, ...]] = {
    "deu_Latn": (
        *(0.263, 0.0, 0.152, 0.774, 0, 15, 0.169, 0.153, 0.137),
        *(0.141, 0.134, 0.126, 0.117, 0.108, 0.098, 0.821),
    ),
    "fra_Latn": (
        *(0.264, 0.1, 0.185, 0.812, 2, 11, 0.161, 0.149, 0.134),
        *(0.15, 0.141, 0.131, 0.121, 0.111, 0.1, 0.824),
    ),
    "ita_Latn": (
        *(0.246, 0.025, 0.2, 0.807, 3, 21, 0.198, 0.156, 0.133),
        *(0.144, 0.136, 0.127, 0.118, 0.109, 0.1, 0.817),
    ),
    "por_Latn": (
        *(0.325, 0.154, 0.23, 0.814, 3, 13, 0.093, 0.117, 0.139),
        *(0.19, 0.172, 0.154, 0.142, 0.131, 0.12, 0.799),
    ),
    "rus_Cyrl": (
        *(0.322, 0.231, 0.139, 0.713, 3, 11, 0.184, 0.164, 0.146),
        *(0.168, 0.156, 0.145, 0.133, 0.121, 0.109, 0.9),
    ),
    "spa_Latn": (
        *(0.265, 0.3, 0.171, 0.825, 4, 14, 0.077, 0.097, 0.112),
        *(0.152, 0.137, 0.123, 0.114, 0.107, 0.099, 0.84),
    ),
}
LANGUAGES = tuple(_TABLE)

DIALECT = (
    "Words are those of spaCy's English splitter in every language, where FineWeb-2 has a splitter "
    "for each: in languages that write punctuation and spaces as English does the two seldom "
    "differ, and for scripts without spaces this is the wrong preset. A length of 0 switches a "
    "bound off. FineWeb-2 asks for a language score of {score} by GlotLID and removes "
    "near-duplicates before, masks addresses after, and applies none of C4's rules.{stop_words}"
)


def fineweb2_settings(which: str) -> tuple[str, dict[str, Any]]:
    """Return a language and its settings, in the form of FineWeb-2's YAML.

    Args:
        which: a language of `LANGUAGES`, or the path of a YAML file named after its language.

    Raises:
        InputError: no such language or file, or a file of another form.
    """
    if which in _TABLE:
        from curate.signals.fineweb2 import STOP_WORDS

        row = _TABLE[which]
        numbers = dict(zip(NUMBERS, row, strict=False))
        grams = {}
        place = len(NUMBERS)
        for name, widths in GRAMS.items():
            grams[name] = [[w, row[place + i]] for i, w in enumerate(widths)]
            place += len(widths)
        words = STOP_WORDS[which].split()
        return which, {**numbers, **grams, "stopwords": words, "language_score": row[-1]}
    if not which.endswith((".yml", ".yaml")):
        near = did_you_mean(which, LANGUAGES)
        raise InputError(
            f"preset fineweb2:{which}: languages are {', '.join(LANGUAGES)}; for another one write "
            f"the path of its file from huggingface/fineweb-2, configs/, as in "
            f"fineweb2:configs/swh_Latn.yml.{near}"
        )
    path = Path(which)
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"preset fineweb2:{which}: more than {MAX_FILE_BYTES} bytes")
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"preset fineweb2:{which} cannot be read: {error}") from None
    except (yaml.YAMLError, RecursionError) as error:
        first_line = str(error).splitlines()[0]
        raise InputError(f"preset fineweb2:{which} is no YAML: {first_line}") from None
    return path.stem, _checked(which, data)


def _checked(which: str, data: Any) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise InputError(f"preset fineweb2:{which}: found {type(data).__name__}, not a mapping")
    for key in data:
        if key not in KEYS:
            near = did_you_mean(str(key), KEYS)
            raise InputError(f"preset fineweb2:{which}: unknown key {key!r}.{near}")
    for key in KEYS:
        if key not in data:
            raise InputError(f"preset fineweb2:{which}: the key {key!r} is missing")
    for key in (*NUMBERS, "language_score"):
        if not _is_number(data[key]):
            raise InputError(f"preset fineweb2:{which}: {key} is {data[key]!r}, not a number >= 0")
    for key, widths in GRAMS.items():
        pairs = data[key]
        fits = isinstance(pairs, list) and all(
            isinstance(pair, list) and len(pair) == 2 and pair[0] in widths and _is_number(pair[1])
            for pair in pairs
        )
        if not fits or len({pair[0] for pair in pairs}) != len(pairs):
            raise InputError(
                f"preset fineweb2:{which}: {key} is {str(pairs)[:80]}; write a list of "
                f"[words, share] with words of {', '.join(map(str, widths))}"
            )
    words = data["stopwords"]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"preset fineweb2:{which}: stopwords is {str(words)[:80]}, not words")
    return data


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def settings_as_preset(which: str) -> dict[str, Any]:
    """Return the preset of a language or file as data, as a preset's file holds it."""
    from curate.signals.fineweb2 import STOP_WORDS, signal_of

    language, settings = fineweb2_settings(which)
    shortest, longest = settings["min_avg_word_length"], settings["max_avg_word_length"]
    bounds = [f"mean_word_length_datatrove >= {shortest}"] if shortest else []
    bounds += [f"mean_word_length_datatrove <= {longest}"] if longest else []
    repeated, letters = settings["dup_line_frac"], settings["max_non_alpha_words_ratio"]
    keep = {  # an empty one is left out: datatrove takes 0 for `off`
        "duplicate_lines": repeated and f"duplicate_line_fraction_datatrove <= {repeated}",
        **{
            f"top_{n}_grams": f"top_{n}_gram_char_fraction_datatrove <= {most}"
            for n, most in settings["top_n_grams"]
        },
        **{
            f"duplicate_{n}_grams": f"duplicate_{n}_gram_char_fraction_datatrove <= {most}"
            for n, most in settings["dup_n_grams"]
        },
        "terminal_lines": f"terminal_line_fraction_datatrove >= {settings['line_punct_thr']}",
        "repeated_lines": "repeated_line_char_fraction_datatrove <= 0.1",
        "newlines": f"newline_word_ratio_datatrove <= {settings['new_line_ratio']}",
        "num_words": "num_words_datatrove BETWEEN 50 AND 100000",
        "mean_word_length": " AND ".join(bounds),
        "hash_ratio": "hash_word_ratio_datatrove <= 0.1",
        "ellipsis_ratio": "ellipsis_word_ratio_datatrove <= 0.1",
        "bullet_lines": "bullet_line_fraction_datatrove <= 0.9",
        "ellipsis_lines": "ellipsis_line_fraction_datatrove <= 0.3",
        "alpha_words": letters and f"alpha_word_fraction_datatrove >= {letters}",
        "stop_words": f"{signal_of(language)} >= 2",
    }
    told = ""
    if set(STOP_WORDS.get(language, "").split()) != set(settings["stopwords"]):
        del keep["stop_words"]
        told = " The rule of stop words is left out: there is no signal for this list of words."
    rules = {
        name: {"keep": sql, "source": f"configs/{language}.yml", "on_null": "drop"}
        for name, sql in keep.items()
        if sql
    }
    return {
        "name": f"fineweb2:{which}",
        "reference": (
            f"FineWeb-2 (huggingface/fineweb-2, configs/{language}.yml and fineweb-2-pipeline.py), "
            "on the filters of datatrove 0.10.1"
        ),
        "dialect": DIALECT.format(score=settings["language_score"], stop_words=told),
        "rules": rules,
    }
