"""Checks stand between a corpus and training: they pass, or nobody trains without saying why."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from curate.corpus.errors import InputError
from pipelines.build import plan, run
from pipelines.checking import READY_MADE, Check
from pipelines.checks import results_of
from pipelines.checks.evaluate import check_columns, evaluate, offenders
from pipelines.checks.records import admit, history, in_force, settle
from pipelines.cli import app
from pipelines.corpus import Corpus
from pipelines.recipe import parse_recipe
from pipelines.training import prepare_run

BASE = "name: x\nsources: [{name: a, paths: [a.jsonl]}]\n"
COUNT = "SELECT COUNT(*) FROM verdicts"

# a check, and whether it passes on `corpus` (24 documents), what it found, what it says
CASES: dict[str, tuple[dict[str, Any], bool, Any, str]] = {
    "equals": ({"sql": COUNT, "equals": 24}, True, 24, ""),
    "not equal": ({"sql": COUNT, "equals": 0}, False, 24, ""),
    "at least": ({"sql": COUNT, "at_least": 24}, True, 24, ""),
    "above": ({"sql": COUNT, "above": 24}, False, 24, ""),
    "at most": ({"sql": COUNT, "at_most": 23.5}, False, 24, ""),
    "below": ({"sql": COUNT, "below": 24.5}, True, 24, ""),
    "between": ({"sql": COUNT, "between": [24, 200]}, True, 24, ""),
    "one of": ({"sql": COUNT, "one_of": [1, 24]}, True, 24, ""),
    "truth": ({"sql": "SELECT COUNT(*) > 3 FROM verdicts", "equals": True}, True, True, ""),
    "truth is no number": (
        {"sql": "SELECT COUNT(*) > 3 FROM verdicts", "equals": 1},
        False,
        True,
        "gives true or false where a number is wanted",
    ),
    "nor one of them": (
        {"sql": "SELECT COUNT(*) > 3 FROM verdicts", "one_of": [1, 2]},
        False,
        True,
        "",
    ),
    "text": ({"sql": "SELECT MIN(source) FROM verdicts", "equals": "notes"}, True, "notes", ""),
    "text is no number": (
        {"sql": "SELECT MIN(source) FROM verdicts", "at_least": 0},
        False,
        "notes",
        "gives text where a number is wanted",
    ),
    "null": (
        {"sql": "SELECT SUM(num_bytes) FROM verdicts WHERE source = 'nobody'", "at_least": 0},
        False,
        None,
        "gives NULL",
    ),
    "no row": (
        {"sql": "SELECT source FROM verdicts WHERE source = 'nobody'", "equals": "notes"},
        False,
        None,
        "gives no row",
    ),
    "two rows": (
        {"sql": "SELECT DISTINCT source FROM verdicts", "equals": "notes"},
        False,
        None,
        "gives more than one row",
    ),
    "two columns": (
        {"sql": "SELECT COUNT(*) AS a, COUNT(*) AS b FROM verdicts", "equals": 0},
        False,
        None,
        "gives 2 columns (a, b); one is wanted",
    ),
    "by zero": (
        {"sql": "SELECT COUNT(*) / (COUNT(*) - COUNT(*)) FROM verdicts", "at_least": 1},
        False,
        "inf",
        "gives no finite number",
    ),
    "no number": (
        {"sql": "SELECT (COUNT(*) - 24) / (COUNT(*) - 24) FROM verdicts", "below": 1},
        False,
        "nan",
        "gives no finite number",
    ),
    "fails on data": (
        {"sql": "SELECT SUM(CAST(source AS BIGINT)) FROM verdicts", "at_least": 0},
        False,
        None,
        "conversion from `str` to `i64` failed",
    ),
    "a list": (
        {"sql": "SELECT reasons FROM verdicts LIMIT 1", "equals": "x"},
        False,
        None,
        "reasons is a list; one value is wanted, as of ARRAY_LENGTH",
    ),
    "lists": (
        {"sql": "SELECT reasons FROM verdicts", "within": ["x"]},
        False,
        None,
        "reasons is a list",
    ),
    "too large for any number": (
        {"sql": "SELECT POW(10, 400) FROM verdicts LIMIT 1", "below": 5},
        False,
        "inf",
        "gives no finite number",
    ),
    "a large product": (
        {"sql": "SELECT MAX(9223372036854775807 * 4) FROM verdicts", "below": 5},
        False,
        4.0 * 2**63,
        "",
    ),
    "a large sum": (
        {"sql": "SELECT 9223372036854775807 + COUNT(*) FROM verdicts", "below": 5},
        False,
        2**63 + 23,
        "",
    ),
    "each large sum": (
        {
            "sql": "SELECT 9223372036854775807 + COUNT(*) AS n FROM verdicts",
            "each": {"above": 2**63 - 1},
        },
        True,
        "all of 1",
        "",
    ),
    "a limit no integer has": ({"sql": COUNT, "each": {"below": 2**200}}, True, "all of 1", ""),
    "each one of all kinds": (
        {"sql": COUNT, "each": {"one_of": ["a", 24, 2.5, True, 2**200]}},
        True,
        "all of 1",
        "",
    ),
    "a float within integers": (
        {"sql": "SELECT COUNT(*) * 0.5 FROM verdicts", "within": [1, 12]},
        True,
        "all of 1",
        "",
    ),
    "an integer within floats": ({"sql": COUNT, "within": [24.0]}, True, "all of 1", ""),
    "an integer near a float": (
        {"sql": COUNT, "within": [24.5, "24", True, None, 1e300]},
        False,
        "1 of 1 are not: 24",
        "",
    ),
    "long text": (
        {
            "sql": "SELECT CONCAT(MAX(source), '\n', '" + "x" * 99 + "') FROM verdicts",
            "equals": "a",
        },
        False,
        "texts " + "x" * 51 + "...",
        "",
    ),
    "long texts": (
        {
            "sql": "SELECT source, CONCAT(source, '\n', '" + "x" * 99 + "') AS t FROM verdicts "
            "WHERE source = 'texts'",
            "each": {"equals": "a"},
        },
        False,
        "6 of 6 are not: texts texts " + "x" * 45 + "...",
        "",
    ),
    "within": (
        {"sql": "SELECT source FROM verdicts", "within": ["notes", "table", "texts", "more"]},
        True,
        "all of 24",
        "",
    ),
    "not within": (
        {"sql": "SELECT DISTINCT source FROM verdicts", "within": ["notes", "table", 3]},
        False,
        "1 of 3 are not: texts",
        "",
    ),
    "null is not within": (
        {"sql": "SELECT license FROM documents", "within": ["CC0-1.0"]},
        False,
        "18 of 24 are not: null",
        "",
    ),
    "unless it is named": (
        {"sql": "SELECT license FROM documents", "within": ["CC0-1.0", None]},
        True,
        "all of 24",
        "",
    ),
    "nothing is within": (
        {"sql": "SELECT source FROM verdicts WHERE num_bytes < 0", "within": ["notes"]},
        False,
        None,
        "gives no row",
    ),
    "unless said": (
        {
            "sql": "SELECT source FROM verdicts WHERE num_bytes < 0",
            "within": ["notes"],
            "empty": "passes",
        },
        True,
        None,
        "gives no row",
    ),
    "each": ({"use": "share_of_tokens_by_source", "each": {"below": 0.9}}, True, "all of 3", ""),
    "not each": (
        {
            "sql": "SELECT source, COUNT(*) AS n FROM verdicts GROUP BY source",
            "each": {"between": [6, 11]},
        },
        False,
        "1 of 3 are not: notes 12",
        "",
    ),
    "each null": (
        {"sql": "SELECT NULLIF(num_bytes, num_bytes) AS n FROM verdicts", "each": {"at_least": 0}},
        False,
        "24 of 24 are not: null",
        "",
    ),
    "each without end": (
        {"sql": "SELECT source, 1 / 0 AS n FROM verdicts GROUP BY source", "each": {"above": 0}},
        False,
        "3 of 3 are not: notes inf, table inf, texts inf",
        "",
    ),
    "each text": (
        {"sql": "SELECT source FROM verdicts", "each": {"below": 1}},
        False,
        None,
        "gives text where a number is wanted",
    ),
    "each of three": (
        {"sql": "SELECT source, split, num_bytes FROM verdicts", "each": {"below": 1}},
        False,
        None,
        "gives 3 columns (source, split, num_bytes); too many",
    ),
    "tokens are counted": (
        {"sql": "SELECT SUM(tokens) - SUM(CAST(tokens AS DOUBLE)) FROM tokens", "equals": 0},
        True,
        0.0,
        "",
    ),
}

# a section `checks`, and what refuses it: with its line
WRONG = {
    "": "`checks.c`: wants exactly one of equals, at_least",
    "below: 1": "`checks.c`: wants a query: either `sql`, or `use`",
    "sql: SELECT 1 FROM tokens": "wants exactly one of equals, at_least",
    "sql: SELECT 1 FROM tokens, equals: 1, below: 2": "; found equals and below",
    "use: tokens, sql: SELECT 1 FROM tokens, equals: 1": "wants a query: either",
    "use: token, equals: 1": "Did you mean 'tokens'?",
    "sql: DROP TABLE tokens, equals: 1": "`checks.c.sql`: DROP is not allowed",
    "use: tokens, equals: 1, show: SELECT 1": "`checks.c.show`: it reads no table",
    "use: tokens, between: [2, 1]": "nothing is between 2 and 1",
    "use: tokens, between: [2]": "`checks.c.between`",
    "use: tokens, below: .inf": "`checks.c.below",
    "use: tokens, equal: 1": "Did you mean 'equals'?",
    "use: tokens, within: []": "`checks.c.within`",
    "use: tokens, each: {}": "`checks.c.each`: wants exactly one of equals, at_least, at_most, "
    "above, below, between, one_of; found none",
}


@pytest.fixture(scope="module")
def corpus(lab: Any, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """12 notes, one of them short, 6 rows of a table, and 6 texts under a licence."""
    folder = tmp_path_factory.mktemp("checked")
    texts = [lab.text(i) for i in range(23)]
    lab.jsonl(folder / "notes.jsonl", [{"text": text} for text in [*texts[:11], "short one"]])
    lab.jsonl(folder / "table.jsonl", [{"text": text} for text in texts[11:17]])
    lab.jsonl(folder / "texts.jsonl", [{"text": text} for text in texts[17:]])
    sources = [{"name": name, "paths": [f"{name}.jsonl"]} for name in ("notes", "table", "texts")]
    sources[2]["license"] = "CC0-1.0"
    store = folder / "store"
    lab.run(lab.recipe(folder, sources=sources, deduplicate={"near": None}), store)
    return lab.open("tiny", store=str(store))


@pytest.fixture
def own(lab: Any, corpus: Corpus, tmp_path: Path) -> Corpus:
    """The same corpus in a store that may be changed."""
    return lab.open("tiny", store=str(shutil.copytree(corpus.store.uri, tmp_path / "store")))


def asked(**checks: dict[str, Any]) -> dict[str, Check]:
    return {name: Check.model_validate(check) for name, check in checks.items()}


def test_checks_pass_or_fail_as_they_say(corpus: Corpus) -> None:
    checks = {name: Check.model_validate(case[0]) for name, case in CASES.items()}
    results = {result["name"]: result for result in evaluate(corpus, checks)}
    for name, (_, passed, found, message) in CASES.items():
        result = results[name]
        assert (result["passed"], result["found"]) == (passed, found), (name, result)
        assert message in result["message"] if message else not result["message"], (name, result)
    assert json.loads(json.dumps(list(results.values()))) == list(results.values())


def test_what_the_engine_says_of_data_is_told_without_the_data(corpus: Corpus) -> None:
    queries = (
        "SELECT SUM(CAST(source AS BIGINT)) FROM verdicts",
        "SELECT COUNT(*) FROM verdicts WHERE REGEXP_LIKE(source, CONCAT('(', source))",
        "SELECT CAST(CONCAT(source, '\n', doc_id) AS DOUBLE) AS n FROM verdicts",
    )
    for sql in queries:
        (row,) = evaluate(corpus, asked(c={"sql": sql, "each": {"at_least": 0}}))
        assert (row["passed"], row["found"]) == (False, None)
        assert row["message"], row
        assert not any(name in row["message"] for name in ("notes", "table", "texts")), row


@pytest.mark.parametrize("check", WRONG)
def test_a_check_that_means_nothing_is_refused_with_its_line(check: str) -> None:
    with pytest.raises(InputError) as refusal:
        parse_recipe(BASE + "checks:\n  c: {" + check + "}\n")
    assert str(refusal.value).startswith("recipe:4:")
    assert WRONG[check] in str(refusal.value)


@pytest.mark.parametrize(
    ("sql", "told"),
    [
        (
            "SELECT COUNT(*) FROM verdicts WHERE kep",
            "checks.c reads 'kep'; columns of verdicts are",
        ),
        ("SELECT COUNT(*) FROM verdicts WHERE kep", "Did you mean 'kept'?"),
        ("SELECT text FROM verdicts", "checks.c reads 'text'"),
        ("SELECT source FROM documents JOIN verdicts USING (doc_id)", "ambiguous reference"),
        ("SELECT COUNT(*) FROM verdicts WHERE source > 3", "cannot compare string with numeric"),
        ("SELECT source, num_bytes FROM verdicts GROUP BY source", "participate in the GROUP BY"),
        ("SELECT COUNT(*) FROM verdicts WHERE kept AND", "found: EOF"),
        (
            "SELECT " + "kept OR 1 = 1 - 2 * ABS(" * 14 + "1" + ")" * 14 + " FROM verdicts",
            "checks.c cannot be evaluated: it is nested too deeply",
        ),
    ],
)
def test_columns_are_known_before_any_work(lab: Any, tmp_path: Path, sql: str, told: str) -> None:
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(1)}])
    recipe = lab.recipe(tmp_path, checks={"c": {"sql": sql, "equals": 0}})
    with pytest.raises(InputError, match="checks.c") as refusal:
        plan(recipe, store=str(tmp_path / "store"))
    assert told in str(refusal.value)
    assert "Line" not in str(refusal.value), "that would be one of the statement written anew"
    assert not (tmp_path / "store").exists()


def test_ready_made_queries_fit_the_tables(lab: Any, tmp_path: Path, corpus: Corpus) -> None:
    checks: dict[str, Any] = {name: {"use": name, "at_least": 0} for name in READY_MADE}
    checks["licenses"] = {"use": "licenses", "within": ["CC0-1.0", None]}
    checks["share_of_tokens_by_source"] = {"use": "share_of_tokens_by_source", "each": {"below": 1}}
    sections: dict[str, Any] = {
        "clean": {"redact": ["email"]},
        "decontaminate": {"against": [{"name": "b", "paths": ["b.jsonl"]}]},
    }
    check_columns(lab.recipe(tmp_path, checks=checks, **sections))
    for section, told in (("clean", "redacts nothing"), ("decontaminate", "names no benchmark")):
        fewer = {name: value for name, value in sections.items() if name != section}
        with pytest.raises(InputError, match=told):
            check_columns(lab.recipe(tmp_path, checks=checks, **fewer))
    del checks["share_of_english"]  # its signals were not asked for there
    results = evaluate(corpus, asked(**checks))
    assert [result["passed"] for result in results] == [True] * len(results), results


def test_a_failed_check_names_documents_where_it_can(corpus: Corpus) -> None:
    short = Check(sql="SELECT COUNT(*) FROM signals WHERE num_words < 20", equals=0)
    (found,) = offenders(corpus, short)
    assert corpus.rows("signals", found)[0]["num_words"] < 20
    shown = Check(use="tokens", below=0, show="SELECT doc_id FROM tokens WHERE source = 'table'")
    ids = offenders(corpus, shown)
    assert len(ids) == 5
    assert {corpus.rows("documents", one)[0]["source"] for one in ids} == {"table"}
    assert offenders(corpus, Check(use="tokens", below=0)) == []
    assert offenders(corpus, Check(use="tokens", below=0, show="SELECT source FROM tokens")) == []


def test_results_lie_beside_the_version_and_are_found_again(own: Corpus, lab: Any) -> None:
    assert results_of(own) is None
    before = lab.snapshot(Path(own.store.uri))
    assert settle(own, {}) == []
    assert lab.snapshot(Path(own.store.uri)) == before, "no checks, nothing written"

    checks = asked(enough={"use": "tokens", "above": 1}, all={"sql": COUNT, "equals": 0})
    first = settle(own, checks)
    assert [(one["name"], one["passed"]) for one in first] == [("enough", True), ("all", False)]
    assert results_of(own) == first
    assert list(in_force(own)) == ["enough", "all"], "in the recipe's order"
    after = lab.snapshot(Path(own.store.uri))
    assert settle(own, checks) == first
    assert lab.snapshot(Path(own.store.uri)) == after, "the second time nothing is written"

    fewer = settle(own, asked(enough={"use": "tokens", "above": 1}))
    assert fewer == results_of(own) == first[:1], "the newest run's checks are in force"
    assert settle(own, {}) == []
    assert results_of(own) is None
    assert in_force(own) == {}


def test_training_refuses_a_corpus_whose_checks_fail_and_says_so_for_good(own: Corpus) -> None:
    config = {"depth": 1}
    prepare_run(own, {"depth": 2})
    assert history(own) == []
    settle(own, asked(fine={"sql": COUNT, "above": 0}, none={"sql": COUNT, "equals": 0}))
    for _ in range(2):
        with pytest.raises(InputError, match="tiny@1 fails 1 of its 2 checks: none; `preceptor"):
            prepare_run(own, config)
    (refused,) = history(own)
    assert (refused["event"], refused["failed"]) == ("refused", ["none"])
    assert refused["at"].endswith("+00:00")
    with pytest.raises(InputError, match="wants the reason"):
        prepare_run(own, config, None, "  ")

    path = prepare_run(own, config, None, "a smoke test")
    assert prepare_run(own, config, None, "a smoke test") == path
    told = json.loads(path.read_text(encoding="utf-8"))["checks"]
    assert (told["failed"], told["despite"]) == (["none"], "a smoke test")
    events = [(one["event"], one["run"], one.get("reason")) for one in history(own)]
    assert events == [
        ("refused", path.parent.name, None),
        ("overridden", path.parent.name, "a smoke test"),
    ]
    with pytest.raises(InputError, match="fails 1"):
        prepare_run(own, config)
    assert len(history(own)) == 3, "each change of mind is on record"


def test_training_runs_checks_that_never_ran(own: Corpus) -> None:
    recipe = {**own.recipe, "checks": {"none": {"sql": COUNT, "equals": 0}}}
    own = Corpus(own.store, replace(own.version, recipe=recipe))  # of a run that was cut off
    assert results_of(own) is None
    with pytest.raises(InputError, match="fails 1 of its 1 checks: none"):
        admit(own, "run")
    assert results_of(own) is not None


def test_from_the_recipe_to_the_refusal_on_the_command_line(lab: Any, tmp_path: Path) -> None:
    lab.jsonl(tmp_path / "a.jsonl", [{"text": lab.text(i)} for i in range(12)])
    store = ["--store", str(tmp_path / "store")]
    data = {
        "name": "tiny",
        "sources": [{"name": "notes", "paths": ["*.jsonl"]}],
        "tokenize": {"tokenizer": {"vocab_size": 300, "sample_bytes": 10_000}},
        "pack": {"row_tokens": 64},
        "deduplicate": {"near": None},
        "checks": {
            "enough": {"use": "tokens", "at_least": 10},
            "few": {"sql": "SELECT COUNT(*) FROM verdicts WHERE kept", "below": 10},
        },
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    config = tmp_path / "train.yaml"
    config.write_text("depth: 1\n", encoding="utf-8")

    def call(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, [*arguments, *store])
        return result.exit_code, result.output + str(result.exception or "")

    code, told = call("run", str(recipe), "--workers", "1")
    assert code == 1, told
    assert "tiny@1 fails 1 of its 2 checks; it is not ready to train on" in told
    code, told = call("check", "tiny")
    assert code == 1
    assert "few: such as " in told
    code, told = call("train", str(config), "--corpus", "tiny")
    assert "--despite-checks" in told
    code, told = call("check", "tiny", "--json")
    assert code == 1
    found = json.loads(told[: told.rindex("}") + 1])
    assert [one["passed"] for one in found["checks"]] == [True, False]
    assert len(found["checks"][1]["documents"]) == 5
    assert [one["event"] for one in found["history"]] == ["refused"]

    data["checks"] = {"enough": {"use": "tokens", "at_least": 10}}
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(data), encoding="utf-8")
    assert call("check", "tiny", "--recipe", str(other))[0] == 0
    assert call("check", "tiny")[0] == 1, "trying changes nothing"
    outcome = run(other, store=str(tmp_path / "store"))
    assert (outcome.executed, outcome.published) == (0, False), "checks change no corpus"
    assert call("check", "tiny")[0] == 0
