"""The JSON schema, with which editors check a recipe, knows every form a recipe may have."""

import pytest
import yaml
from jsonschema import Draft202012Validator

from pipelines.demo import RECIPE
from pipelines.recipe import parse_recipe
from pipelines.sections import Recipe

FORMS = [
    "clean: {redact: [email, ip], lines: c4, whitespace: true, truncate: false}",
    "clean: {redact: {kinds: [email]}, repeated_lines: {above: 10}}",
    "mix: {budget: 20M tokens, strategy: natural}",
    "mix: {budget: 5 GB, strategy: {temperature: 2}, copies: duplicates}",
    "mix: {budget: 1k documents, strategy: {unimax: {epochs: 4}}, copies: {1: 1, 5: 2}}",
    "measure: {word_lists: {food: {words: wine}}, families: [links]}",
    "rules: {add: {n: num_words > 2}, canaries: {n: {catch: a, spare: {repeat: b c, times: 9}}}}",
    "decontaminate: {against: [{name: a, paths: a.jsonl, columns: question}]}",
    "deduplicate: {near: {shingle: 24 characters}}",
]


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(Recipe.model_json_schema())


@pytest.mark.parametrize("section", ["", *FORMS])
def test_a_recipe_that_is_read_fits_the_schema(schema: Draft202012Validator, section: str) -> None:
    text = f"name: a\nsources: [{{name: b, paths: c.jsonl}}]\n{section}\n"
    parse_recipe(text)
    data = yaml.safe_load(text)
    schema.validate(_as_json(data))


def test_the_demo_fits_the_schema(schema: Draft202012Validator) -> None:
    schema.validate(yaml.safe_load(RECIPE))


@pytest.mark.parametrize("section", ["mix: {strategy: fair}", "clean: {redact: 7}", "nmae: 1"])
def test_a_recipe_that_is_refused_does_not(schema: Draft202012Validator, section: str) -> None:
    data = yaml.safe_load(f"name: a\nsources: [{{name: b, paths: c.jsonl}}]\n{section}\n")
    assert not schema.is_valid(data)


def _as_json(data: object) -> object:
    """Return data with JSON's keys."""
    if isinstance(data, dict):
        return {str(key): _as_json(value) for key, value in data.items()}
    return [_as_json(item) for item in data] if isinstance(data, list) else data
