"""Presets, orders and verdicts: what a person writes in a recipe, and what comes of it."""

from importlib import resources
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
import yaml

from curate.corpus.errors import InputError
from curate.rules.expression import Rule, parse_rule, reason
from curate.rules.order import parse_order
from curate.rules.preset import load_preset, preset_names, preset_rules
from curate.rules.ruleset import build_rules
from curate.rules.verdict import evaluate, margins, parse_exemptions
from curate.signals.registry import available_columns, families_giving, measure_families

PROSE = "The cat sat with the dog, and that was the end of a long day to be told. " * 5
COLUMNS = {"n": pl.Int64(), "score": pl.Float64(), "source": pl.String()}
COLUMN_NAMES = ["num_words", "score", "doc_id"]


def rule(name: str, sql: str, on_null: str = "refuse", preset: str = "recipe") -> Rule:
    return parse_rule(name, sql, COLUMNS, on_null=on_null, preset=preset)


def frame(n: list[int | None], source: list[str] | None = None) -> pl.DataFrame:
    columns = {"n": n, "score": [0.5] * len(n), "source": source or ["a"] * len(n)}
    return pl.DataFrame(columns, schema=COLUMNS)


def measured(rules: list[Rule], texts: list[str | None]) -> pl.DataFrame:
    """Return the signals that the rules read."""
    read = {column for one in rules for column in one.columns}
    chosen = families_giving(read)
    return pl.DataFrame(measure_families(pa.array(texts, pa.large_string()), chosen))


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_names_its_reference_and_answers_for_every_document(name: str) -> None:
    preset = load_preset(name)
    assert preset.name == name
    assert preset.reference
    assert preset.dialect
    assert all(one.source for one in preset.rules.values())
    rules = preset_rules(name, available_columns())
    assert [one.name for one in rules] == list(preset.rules)
    assert all(one.preset == name for one in rules)
    signals = measured(rules, [PROSE, "", None])
    outcome = evaluate(rules, signals)
    assert outcome.columns == [reason(name, rule_name) for rule_name in preset.rules]
    assert outcome.null_count().transpose().sum().item() == 0
    assert margins(rules, signals).columns == outcome.columns


# fineweb2:LANGUAGE is fineweb_quality@datatrove with the thresholds of a language; images and
# sounds are no texts, test_media_signals.py has canaries of theirs.
OTHERS = ("fineweb2:", "image_", "audio_", "pair_")


@pytest.mark.parametrize("name", [n for n in preset_names() if not n.startswith(OTHERS)])
def test_every_rule_of_a_preset_catches_its_canary_and_spares_the_other(name: str) -> None:
    rules = preset_rules(name, available_columns())
    texts = load_preset(name).rules
    assert all(one.catch is not None and one.spare is not None for one in texts.values())
    caught = evaluate(rules, measured(rules, [one.catch for one in texts.values()]))
    spared = evaluate(rules, measured(rules, [one.spare for one in texts.values()]))
    for row, rule_name in enumerate(texts):
        assert not caught[reason(name, rule_name)][row], rule_name
        assert spared[reason(name, rule_name)][row], rule_name


def test_gopher_quality_keeps_prose_and_says_all_that_is_wrong_with_a_list() -> None:
    rules = preset_rules("gopher_quality@paper", available_columns())
    bullets = "- 1 ...\n" * 60
    signals = measured(rules, [PROSE, bullets])
    kept, dropped = evaluate(rules, signals).rows(named=True)
    assert all(kept.values())
    assert [name.rpartition(".")[2] for name, passes in dropped.items() if not passes] == [
        "mean_word_length",
        "ellipsis_ratio",
        "bullet_lines",
        "ellipsis_lines",
        "alpha_words",
        "stop_words",
    ]


def test_gopher_quality_has_the_paper_s_thresholds() -> None:
    kept = {name: one.keep for name, one in load_preset("gopher_quality@paper").rules.items()}
    assert kept == {
        "num_words": "num_words BETWEEN 50 AND 100000",
        "mean_word_length": "mean_word_length BETWEEN 3 AND 10",
        "hash_ratio": "hash_word_ratio <= 0.1",
        "ellipsis_ratio": "ellipsis_word_ratio <= 0.1",
        "bullet_lines": "bullet_line_fraction <= 0.9",
        "ellipsis_lines": "ellipsis_line_fraction <= 0.3",
        "alpha_words": "alpha_word_fraction >= 0.8",
        "stop_words": "num_stop_words >= 2",
    }


def test_a_threshold_itself_is_kept() -> None:
    rules = preset_rules("gopher_quality@paper", available_columns())
    ratio_rule = next(one for one in rules if one.name == "hash_ratio")
    signals = pl.DataFrame({"hash_word_ratio": [1 / 10, 0.1 + 1e-16, 2 / 19]})
    assert evaluate([ratio_rule], signals).to_series().to_list() == [True, False, False]


def test_presets_are_shipped_as_package_data() -> None:
    folder = resources.files("curate.rules") / "presets"
    found = {yaml.safe_load(file.read_text(encoding="utf-8"))["name"] for file in folder.iterdir()}
    assert found <= set(preset_names())


def test_an_unknown_preset_lists_what_there_is_and_the_nearest() -> None:
    message = "unknown preset 'gopher_quality'; there are: .*gopher_quality@paper, .*Did you mean"
    with pytest.raises(InputError, match=message):
        load_preset("gopher_quality")


def test_a_preset_whose_signal_is_absent_says_so() -> None:
    with pytest.raises(InputError, match="'num_words' of gopher_quality@paper reads 'num_words'"):
        preset_rules("gopher_quality@paper", {"num_lines": pl.Int64()})


def test_a_verdict_has_one_column_for_each_rule_and_stops_at_none() -> None:
    rules = [rule("small", "n < 3"), rule("even", "n % 2 = 0", preset="mine@here")]
    outcome = evaluate(rules, frame([2, 5]))
    assert outcome.to_dict(as_series=False) == {
        "rule:recipe.small": [True, False],
        "rule:mine@here.even": [True, False],
    }
    assert margins(rules, frame([2, 5])).to_dict(as_series=False) == {
        "rule:recipe.small": [1.0, -2.0],
        "rule:mine@here.even": [None, None],
    }


def test_a_null_outcome_is_kept_or_dropped_as_asked() -> None:
    rules = [rule("a", "n > 1", "keep"), rule("b", "n > 1", "drop")]
    assert evaluate(rules, frame([None, 0, 5])).rows() == [
        (True, False),
        (False, False),
        (True, True),
    ]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        (
            "n > 1",
            r"rule:recipe.a \(n > 1\) has no answer for 2 documents: 'n' is null there. Set "
            r"`rules.on_null` to keep or drop, or write COALESCE\(n, 0\)",
        ),
        ("1 / (score - 0.5) > 1", "has no answer for 3 documents: it is undefined there"),
    ],
)
def test_a_null_outcome_is_refused_by_default(sql: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate([rule("a", sql)], frame([None, None, 5]))


def test_an_exempt_source_passes_also_where_the_rule_has_no_answer() -> None:
    rules = [rule("a", "n > 1"), rule("b", "n > 1", "drop")]
    exemptions = parse_exemptions({"tickets": ["a"]}, rules, ["books", "tickets"])
    assert exemptions == {"rule:recipe.a": frozenset({"tickets"})}
    signals = frame([0, 0, None], ["books", "tickets", "tickets"])
    outcome = evaluate(rules, signals, exemptions)
    assert outcome.rows() == [(False, False), (True, False), (True, False)]


def test_a_preset_or_one_rule_of_it_can_be_exempt() -> None:
    rules = [rule("a", "n > 1", preset="p@x"), rule("b", "n > 2", preset="p@x"), rule("c", "n > 3")]
    exempt = {"books": ["p@x"], "tickets": ["p@x.b", "c"]}
    assert parse_exemptions(exempt, rules, ["books", "tickets"]) == {
        "rule:p@x.a": frozenset({"books"}),
        "rule:p@x.b": frozenset({"books", "tickets"}),
        "rule:recipe.c": frozenset({"tickets"}),
    }


@pytest.mark.parametrize(
    ("exempt", "message"),
    [
        ({"bokks": ["a"]}, "unknown source 'bokks'; sources are: books. Did you mean 'books'"),
        ({"books": ["gopher"]}, "unknown rule 'gopher'; there are: a"),
        ({"books": "a"}, "found 'a'; write a list"),
    ],
)
def test_an_exemption_for_nobody_or_from_nothing_is_refused(
    exempt: dict[str, list[str]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        parse_exemptions(exempt, [rule("a", "n > 1")], ["books"])


def test_nan_is_refused_because_it_would_pass_every_lower_bound() -> None:
    signals = pl.DataFrame({"n": [1], "score": [float("nan")], "source": ["a"]})
    with pytest.raises(InputError, match="signal 'score' has NaN"):
        evaluate([rule("a", "score > 0.5")], signals)


def test_a_missing_or_mistyped_column_is_named() -> None:
    with pytest.raises(InputError, match=r"recipe\.a reads 'n', which is not among the columns"):
        evaluate([rule("a", "n > 1")], pl.DataFrame({"m": [1]}))
    with pytest.raises(InputError, match=r"recipe\.a cannot be evaluated"):
        evaluate([rule("a", "n > 1")], pl.DataFrame({"n": ["x"]}))


def test_no_document_and_no_rule_are_no_error() -> None:
    assert evaluate([rule("a", "n > 1")], frame([])).shape == (0, 1)
    assert evaluate([], frame([1])).width == 0
    assert margins([], frame([1])).width == 0


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("num_words DESC, doc_id", [("num_words", True), ("doc_id", False)]),
        ("num_words", [("num_words", False), ("doc_id", False)]),
        ("doc_id", [("doc_id", False)]),
        ("doc_id desc", [("doc_id", True)]),
        (
            ' "num_words"  asc ,score Desc',
            [("num_words", False), ("score", True), ("doc_id", False)],
        ),
    ],
)
def test_an_order_ends_in_the_id(text: str, order: list[tuple[str, bool]]) -> None:
    assert parse_order(text, COLUMN_NAMES) == order
    assert parse_order(text, ["num_words", "score"]) == order


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_word DESC", "reads 'num_word'; columns are: .* Did you mean 'num_words'"),
        ("doc_id, num_words", "'num_words' stands after 'doc_id'"),
        ("num_words, num_words DESC", "names 'num_words' twice"),
        ("num_words DESC NULLS LAST", "is no column with ASC or DESC"),
        ("num_words + 1", "is no column with ASC or DESC"),
        ("num_words,", "'' is no column"),
        ("", "'' is no column"),
        ("LOWER(source)", "is no column with ASC or DESC"),
    ],
)
def test_another_order_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_order(text, COLUMN_NAMES)


def test_an_overridden_rule_asks_each_source_for_its_own_predicate() -> None:
    rules = build_rules(
        use=[],
        add={"long": "n >= 3"},
        exempt={"mail": ["long"]},
        override={"chat": {"long": "n >= 1 AND m < 9"}},
        on_null="refuse",
        columns={"n": pl.Int64(), "m": pl.Int64()},
        sources=["books", "chat", "mail"],
    )
    (rule_,) = rules.rules
    assert rule_.columns == ("m", "n")
    assert rule_.of("chat").sql == "n >= 1 AND m < 9"
    signals = pl.DataFrame(
        {
            "n": [1, 1, 1, 5, 5],
            "m": [0, 0, 9, 9, 9],
            "source": ["books", "chat", "chat", "books", "chat"],
        }
    )
    outcome = evaluate(rules.rules, signals, rules.exemptions)
    assert outcome.to_series().to_list() == [False, True, False, True, False]
    assert margins(rules.rules, signals).to_series().to_list() == [-2.0, 0.0, 0.0, 2.0, 0.0]
    assert rules.to_dict()["rules"][0]["overrides"] == {"chat": "n >= 1 AND m < 9"}


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ({"chatt": {"long": "n > 1"}}, "unknown source 'chatt'.*Did you mean 'chat'"),
        ({"chat": {"lnog": "n > 1"}}, "unknown rule 'lnog'.*Did you mean 'long'"),
        ({"chat": {"gopher_quality@paper": "n > 1"}}, "names a whole preset"),
        ({"chat": {"long": "k > 1"}}, "reads 'k'"),
    ],
)
def test_an_override_of_nothing_is_refused(override: dict[str, Any], told: str) -> None:
    columns = {**available_columns(), "n": pl.Int64()}
    with pytest.raises(InputError, match=told):
        build_rules(
            use=["gopher_quality@paper"],
            add={"long": "n >= 3"},
            exempt={},
            override=override,
            on_null="refuse",
            columns=columns,
            sources=["chat"],
        )
