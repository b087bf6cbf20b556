"""Dolma's own taggers, with the thresholds of its published mixing configurations."""

PACKAGE = "dolma"
# Its s3fs leaves pip thousands of versions of boto3 to try; these are the ones that fit.
REQUIREMENTS = (
    "dolma[code]==1.2.1",
    "boto3==1.28.17",
    "botocore==1.31.17",
    "aiobotocore==2.5.4",
)
PRESETS = ("gopher_quality@dolma", "gopher_repetition@dolma", "c4@dolma", "code@redpajama")

TOP = {2: 0.2, 3: 0.18, 4: 0.16}
DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def judge(preset):
    """Return the function that judges one text."""
    return {
        "gopher_quality@dolma": _quality,
        "gopher_repetition@dolma": _repetition,
        "c4@dolma": _c4,
        "code@redpajama": _redpajama,
    }[preset]()


def _with_verdict(decisions):
    return {**decisions, "*": all(decisions.values())}


def _attributes():
    # Each preset has the tagger run for itself, so that the seconds are its own.
    from dolma.taggers.gopher import get_attributes

    return get_attributes


def _quality():
    attributes = _attributes()

    def one(text):
        found = attributes(text)
        return _with_verdict(
            {
                "num_words": not (found.word_count < 50 or found.word_count > 100000),
                "median_word_length": not (
                    found.median_word_length < 3 or found.median_word_length > 10
                ),
                "symbols": not found.symbol_to_word_ratio > 0.1,
                "alpha_words": not found.fraction_of_words_with_alpha_character < 0.8,
                "stop_words": not found.required_word_count < 2,
                "bullet_lines": not found.fraction_of_lines_starting_with_bullet_point > 0.9,
                "ellipsis_lines": not found.fraction_of_lines_ending_with_ellipsis > 0.3,
            }
        )

    return one


def _repetition():
    attributes = _attributes()

    def one(text):
        found = attributes(text)
        top = dict(found.fraction_of_characters_in_most_common_ngram)
        duplicate = dict(found.fraction_of_characters_in_duplicate_ngrams)
        return _with_verdict(
            {
                "duplicate_lines": not found.fraction_of_duplicate_lines > 0.3,
                "duplicate_line_chars": not found.fraction_of_characters_in_duplicate_lines > 0.3,
                **{f"top_{n}gram": not top.get(n, 0.0) > most for n, most in TOP.items()},
                **{
                    f"duplicate_{n}grams": not duplicate.get(n, 0.0) > most
                    for n, most in DUPLICATE.items()
                },
            }
        )

    return one


def _scores(tagger, text):
    from dolma.core.data_types import Document

    spans = tagger.predict(Document(source="", id="", text=text)).spans
    return {span.type: span.score for span in spans}


def _c4():
    from dolma.taggers.c4 import FasterC4Tagger

    tagger = FasterC4Tagger()

    def one(text):
        found = _scores(tagger, text)
        return _with_verdict(
            {
                "curly_bracket": not found.get("has_curly_brace", 0) > 0.5,
                "lorem_ipsum": not found.get("has_lorem_ipsum", 0) > 0.5,
                "javascript": not found.get("has_javascript", 0) > 0.5,
            }
        )

    return one


def _redpajama():
    from dolma.taggers.code import CodeRedPajamaTaggers

    tagger = CodeRedPajamaTaggers()

    def one(text):
        found = _scores(tagger, text)
        return _with_verdict(
            {
                "max_line_length": not found["max_line_length_doc"] > 1000,
                "mean_line_length": not found["avg_line_length_doc"] > 100,
                "alnum_fraction": not found["alnum_prop_doc"] < 0.25,
                "letters_per_token": not found["alpha_token_prop_doc"] < 1.5,
            }
        )

    return one
