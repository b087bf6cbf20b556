"""Rules in a run: canaries that must be caught or spared, and sources with rules of their own."""

from pathlib import Path
from typing import Any

import pytest

from curate.corpus.errors import InputError
from pipelines.build import preflight
from pipelines.store import Store

LONG = {"repeat": "word{n} ", "times": 30}


def rules(**more: Any) -> dict[str, Any]:
    return {"add": {"long": "num_words >= 20"}, **more}


def write(lab: Any, folder: Path) -> None:
    lab.jsonl(folder / "notes.jsonl", [{"text": lab.text(n, words=15 + n)} for n in range(12)])
    lab.jsonl(folder / "mail.jsonl", [{"text": lab.text(50 + n, words=9)} for n in range(3)])


def test_a_canary_never_enters_the_corpus_and_its_numbers_are_told(lab: Any, tmp_path: Path):
    write(lab, tmp_path)
    canaries = {"long": {"catch": "too short", "spare": LONG}}
    recipe = lab.recipe(tmp_path, rules=rules(canaries=canaries))
    outcome, _ = lab.run(recipe, tmp_path / "store")
    judge = outcome.manifests["judge"]
    assert judge.counts["documents"] == 15
    flown = [(one["kind"], one["values"], one["passed"]) for one in judge.info["canaries"]]
    assert flown == [("catch", {"num_words": 2}, True), ("spare", {"num_words": 30}, True)]
    again, executed = lab.run(recipe, tmp_path / "store")
    assert not executed
    assert again.manifests["judge"].fingerprint == judge.fingerprint


@pytest.mark.parametrize(
    ("pair", "told"),
    [
        ({"catch": LONG}, "must drop its canary but keeps it .num_words = 30."),
        ({"spare": "too short"}, "drops its canary .num_words = 2.: 'too short'"),
    ],
)
def test_a_canary_that_fares_otherwise_stops_the_run(
    lab: Any, tmp_path: Path, pair: dict[str, Any], told: str
) -> None:
    write(lab, tmp_path)
    recipe = lab.recipe(tmp_path, rules=rules(canaries={"long": pair}))
    with pytest.raises(InputError, match=told):
        lab.run(recipe, tmp_path / "store")
    assert Store(str(tmp_path / "store")).current("tiny") is None


def test_canaries_see_the_text_as_it_is_after_cleaning(lab: Any, tmp_path: Path) -> None:
    write(lab, tmp_path)
    split_by_a_control = "\u0007".join(["word"] * 30)  # one word once the controls are gone
    canaries = {"long": {"catch": split_by_a_control}}
    recipe = lab.recipe(tmp_path, rules=rules(canaries=canaries))
    outcome, _ = lab.run(recipe, tmp_path / "store", until="judge")
    assert outcome.manifests["judge"].info["canaries"][0]["values"] == {"num_words": 1}


def test_canaries_of_a_preset_are_of_no_concern_to_cleaning(lab: Any, tmp_path: Path) -> None:
    write(lab, tmp_path)
    clean = {"truncate": {"max_characters": 20}}
    recipe = lab.recipe(tmp_path, clean=clean, rules={"use": ["gopher_quality@paper"]})
    outcome, _ = lab.run(recipe, tmp_path / "store", until="judge")
    assert len(outcome.manifests["judge"].info["canaries"]) == 16


def test_a_canary_of_no_rule_is_refused_before_any_work(lab: Any, tmp_path: Path) -> None:
    write(lab, tmp_path)
    recipe = lab.recipe(tmp_path, rules=rules(canaries={"lnog": {"catch": "a"}}))
    with pytest.raises(InputError, match="unknown rule 'lnog'.*Did you mean 'long'"):
        preflight(recipe, Store(str(tmp_path / "store")))


def test_a_source_with_a_predicate_of_its_own_is_judged_by_it(lab: Any, tmp_path: Path) -> None:
    write(lab, tmp_path)
    sources = [{"name": name, "paths": [f"{name}.jsonl"]} for name in ("notes", "mail")]
    own = rules(override={"mail": {"long": "num_words >= 5"}})
    recipe = lab.recipe(tmp_path, sources=sources, rules=own)
    outcome, _ = lab.run(recipe, tmp_path / "store", until="judge")
    counts = outcome.manifests["judge"].counts
    assert counts["reason:rule:recipe.long"] == 5  # of the notes; 15 to 19 words
    assert counts["kept"] == 10
