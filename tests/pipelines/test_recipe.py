"""A recipe is data: what is wrong with it is said with its line, before any work."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from curate.corpus.errors import InputError
from pipelines.build import plan, run
from pipelines.mixing import parse_budget
from pipelines.recipe import load_recipe, parse_override, parse_recipe

BASE = "name: x\nsources: [{name: a, paths: [a.jsonl]}]\n"
_BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


def source(**keys: Any) -> str:
    return yaml.safe_dump({"name": "x", "sources": [{"name": "a", "paths": ["a.jsonl"], **keys}]})


# text of the recipe, then what the refusal must say
WRONG: dict[str, tuple[str, str]] = {
    "unknown key": (BASE + "rulez: {}\n", ":3: unknown key `rulez`"),
    "nearest key": (BASE + "rules: {ad: {}}\n", "Did you mean 'add'?"),
    "key of a source": (source(pathz=[]), "`sources.0.pathz`"),
    "not built yet": (
        BASE + "retain: {}\n",
        ":3: `retain` (dropping the raw text) is not built yet",
    ),
    "redact": (BASE + "clean: {redact: [emial]}\n", ":3: `clean.redact.kinds.0`"),
    "weight of nobody": (BASE + "mix:\n  weights: {b: 1}\n", ":4: mix.weights names the source"),
    "exempt nobody": (BASE + "rules: {exempt: {b: [x]}}\n", "rules.exempt names the source 'b'"),
    "key twice": ("name: x\n" + BASE, ":2: the key 'name' is given twice"),
    "rule twice": (BASE + "rules: {add: {a: 'num_words > 1', a: 'num_words > 2'}}\n", "twice"),
    "code": ("name: !!python/object/apply:os.system ['x']\n", "not valid YAML"),
    "bomb": (_BOMB + BASE, "more than 100,000 values"),
    "knot": ("name: x\nsources: &s [*s]\n", "nested too deeply"),
    "knot in a map": ("name: x\nsources: [&s {name: a, columns: *s}]\n", "nested too deeply"),
    "deep": ("name: " + "[" * 20_000, "nested too deeply"),
    "huge": ("name: x\n" + "#" * 1_000_001, "are too many"),
    "tab": ("name: x\nsources:\n\t- {name: a}\n", ":3: not valid YAML"),
    "control": ("name: x\x07\n", "not valid YAML"),
    "empty": ("", "a recipe is a mapping"),
    "list": ("- a\n", "a recipe is a mapping"),
    "word": ("hello\n", "a recipe is a mapping"),
    "two documents": (BASE + "---\n" + BASE, "another document"),
    "list as a key": (BASE + "[a, b]: 2\n", "cannot be a key"),
    "number as a key": (BASE + "1: 2\n", "`1`"),
    "no date": (BASE + "seed: 2001-99-99\n", "quotes"),
    "endless number": (BASE + f"seed: {'9' * 5000}\n", "not valid YAML"),
    "budget number": (BASE + "mix: {budget: 20}\n", ":3: `mix.budget`: write a budget as"),
    "budget unit": (BASE + "mix: {budget: 20 rows}\n", "'5 GB' or '10k documents'"),
    "budget none": (BASE + "mix: {budget: 0 tokens}\n", "at least 1 token"),
    "budget endless": (BASE + f"mix: {{budget: {'9' * 400} tokens}}\n", "write a budget as"),
    "name number": ("name: 1\nsources: []\n", "`name`: it should be a valid string, found 1"),
    "name yes": ("name: yes\nsources: []\n", "found True"),
    "seed negative": (BASE + "seed: -1\n", "`seed`: it should be greater than or equal to 0"),
    "seed float": (BASE + "seed: 1.5\n", "`seed`: it should be a valid integer"),
    "seed bool": (BASE + "seed: true\n", "`seed`: it should be a valid integer"),
    "seed text": (BASE + "seed: '7'\n", "`seed`: it should be a valid integer"),
    "seed large": (BASE + f"seed: {10**30}\n", "`seed`"),
    "weight nan": (BASE + "mix: {weights: {a: .nan}}\n", "finite number"),
    "weight inf": (BASE + "mix: {weights: {a: .inf}}\n", "finite number"),
    "weight negative": (BASE + "mix: {weights: {a: -1}}\n", "greater than or equal to 0"),
    "weight text": (BASE + "mix: {weights: {a: '1'}}\n", "valid number"),
    "weight bool": (BASE + "mix: {weights: {a: true}}\n", "valid number"),
    "weights zero": (BASE + "mix: {weights: {a: 0}}\n", "all zero"),
    "section empty": (BASE + "rules:\n", "`rules`: it should be a mapping, found None"),
    "no sources": ("name: x\nsources: []\n", "at least 1 item"),
    "sources text": ("name: x\nsources: a.jsonl\n", "valid list"),
    "no paths": (source(paths=[]), "at least 1 item"),
    "empty path": (source(paths=[""]), "at least 1 character"),
    "path number": (source(paths=[1]), "valid string"),
    "path surrogate": ('name: x\nsources: [{name: a, paths: ["\\ud800"]}]\n', "unicode"),
    "column": (source(columns={"txt": "b"}), "columns maps text, key, url, license and timestamp"),
    "delimiter": (source(delimiter="||"), "at most 1 character"),
    "split": (BASE + "split: {validation: 0.5, test: 0.5}\n", "nothing to train on"),
    "cap": (BASE + "mix: {repeat_cap: 0}\n", "`mix.repeat_cap`"),
    "row": (BASE + "pack: {row_tokens: 1}\n", "`pack.row_tokens`"),
    "shingle none": (BASE + "deduplicate: {near: {shingle: 0 words}}\n", "1 to 100"),
    "shingle chars": (BASE + "deduplicate: {near: {shingle: 5 chars}}\n", "24 characters"),
    "tokenizer twice": (
        BASE + "tokenize: {tokenizer: {train: bpe, path: x}}\n",
        "either 'train' or 'path'",
    ),
    "rule number": (BASE + "rules: {add: {r: 5}}\n", "`rules.add.r`"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_recipe_is_refused_in_two_lines_that_say_where(case: str) -> None:
    text, word = WRONG[case]
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        parse_recipe(text, where="recipe.yaml")
    said = str(caught.value)
    assert said.startswith("recipe.yaml")
    assert word in said
    assert len(said.splitlines()) <= 2
    assert len(said) < 500
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "name", ["a/b", "..", ".hidden", "a b", "a\nb", "a\x1b[31mb", "", "a" * 65, "na\u00efve", "-a"]
)
def test_names_that_could_be_paths_or_commands_are_refused(name: str) -> None:
    for data in (
        {"name": name, "sources": [{"name": "a", "paths": ["a"]}]},
        {"name": "x", "sources": [{"name": name, "paths": ["a"]}]},
    ):
        with pytest.raises(InputError, match="pattern"):
            parse_recipe(yaml.safe_dump(data))


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(InputError, match="two sources are called 'a'"):
        parse_recipe("name: x\nsources: [{name: a, paths: [a]}, {name: a, paths: [b]}]")


# sections, then what the refusal must say; these need the folder
LATER: dict[str, tuple[dict[str, Any], str]] = {
    "no file": ({"sources": [{"name": "s", "paths": ["nots.jsonl"]}]}, "'notes.jsonl'?"),
    "glob": ({"sources": [{"name": "s", "paths": ["x*.jsonl"]}]}, "matches no file"),
    "folder of nothing": ({"sources": [{"name": "s", "paths": ["empty"]}]}, "known suffix"),
    "absolute": ({"sources": [{"name": "s", "paths": ["/no/such/file.txt"]}]}, "no file"),
    "home": ({"sources": [{"name": "s", "paths": ["~nobody-here/x.txt"]}]}, "home directory"),
    "nul": ({"sources": [{"name": "s", "paths": ["a\0b.txt"]}]}, "null"),
    "long": ({"sources": [{"name": "s", "paths": ["a" * 3000]}]}, "too long"),
    "loop": ({"sources": [{"name": "s", "paths": ["loop.jsonl"]}]}, "matches no file"),
    "pipe": ({"sources": [{"name": "s", "paths": ["pipe.jsonl"]}]}, "is a pipe"),
    "device": ({"sources": [{"name": "s", "paths": ["/dev/zero"], "format": "text"}]}, "a device"),
    "protocol": ({"sources": [{"name": "s", "paths": ["foo://x/y.jsonl"]}]}, "not known"),
    "suffix": ({"sources": [{"name": "s", "paths": ["a.pyy"]}]}, "no reader for"),
    "format": ({"sources": [{"name": "s", "paths": ["*.jsonl"], "format": "jsnl"}]}, "'jsonl'?"),
    "no column": (
        {"sources": [{"name": "s", "paths": ["notes.jsonl"], "columns": {"text": "body"}}]},
        "no column 'body'",
    ),
    "rule column": ({"rules": {"add": {"r": "num_word > 3"}}}, "Did you mean 'num_words'?"),
    "rule constant": ({"rules": {"add": {"r": "true"}}}, "reads no signal"),
    "rule files": ({"rules": {"add": {"r": "(SELECT 1 FROM read_csv('x')) > 0"}}}, "sub-query"),
    "preset": ({"rules": {"use": ["gopher"]}}, "unknown preset"),
    "exempt rule": ({"rules": {"exempt": {"notes": ["nope"]}}}, "unknown rule 'nope'"),
    "keep": ({"deduplicate": {"keep": "num_wordz DESC"}}, "'num_words'?"),
    "tokenizer": ({"tokenize": {"tokenizer": {"path": "no.json"}}}, "cannot read"),
    "not a tokenizer": ({"tokenize": {"tokenizer": {"path": "notes.jsonl"}}}, "tokenizer"),
    "benchmark": ({"decontaminate": {"against": [{"name": "b", "paths": ["no.jsonl"]}]}}, "'b'"),
    "benchmark column": (
        {"decontaminate": {"against": [{"name": "b", "paths": "notes.jsonl", "columns": "q"}]}},
        "no column 'q'",
    ),
    "budget": ({"mix": {"budget": "900T tokens"}}, "mix.budget asks for 900,000,000,000,000"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    base = tmp_path_factory.mktemp("recipe")
    lab.jsonl(base / "notes.jsonl", [{"text": lab.text(i)} for i in range(5)])
    (base / "a.pyy").write_text("x")
    (base / "empty").mkdir()
    (base / "loop.jsonl").symlink_to("loop.jsonl")
    os.mkfifo(base / "pipe.jsonl")
    return base


@pytest.mark.parametrize("case", LATER)
def test_a_wrong_recipe_leaves_the_store_untouched(
    case: str, folder: Path, tmp_path: Path, lab: Any
) -> None:
    sections, word = LATER[case]
    sources = {"sources": [{"name": "notes", "paths": ["notes.jsonl"]}]}
    recipe = lab.recipe(folder, **{**sources, **sections})
    for work in (run, plan):
        with pytest.raises(InputError) as caught:
            work(recipe, store=str(tmp_path / "store"))
        assert word in str(caught.value)
        assert len(str(caught.value).splitlines()) <= 2
        assert not (tmp_path / "store").exists()


def test_a_budget_that_filtering_made_impossible_is_refused_with_the_largest(
    folder: Path, tmp_path: Path, lab: Any
) -> None:
    sources = [{"name": "notes", "paths": ["notes.jsonl"]}]
    split = {"validation": 0.0, "test": 0.0}
    recipe = lab.recipe(folder, sources=sources, split=split, mix={"budget": "15K tokens"})
    with pytest.raises(InputError, match="largest feasible budget is ([0-9,]+) tokens") as caught:
        run(recipe, store=str(tmp_path))
    text = str(caught.value)
    largest = int(text.partition("budget is ")[2].partition(" tokens")[0].replace(",", ""))
    mix = {"budget": f"{largest} tokens"}
    recipe = lab.recipe(folder, sources=sources, split=split, mix=mix)
    outcome = run(recipe, store=str(tmp_path))
    assert outcome.version is not None


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(bytes(range(256)))
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbf" + BASE.encode())
    os.mkfifo(tmp_path / "pipe.yaml")
    for name, word in (
        ("binary.yaml", "cannot read the recipe"),
        ("pipe.yaml", "is no file"),
        (".", "is no file"),
        ("bim.yaml", "Did you mean 'bom.yaml'?"),
        ("bom.yaml/x", "cannot read the recipe"),
        ("nul\0.yaml", "cannot read the recipe"),
    ):
        with pytest.raises(InputError, match=word.replace("?", "[?]")) as caught:
            load_recipe(tmp_path / name)
        assert len(str(caught.value).splitlines()) == 1
    assert load_recipe(tmp_path / "bom.yaml").name == "x"


def test_aliases_that_stay_small_are_fine() -> None:
    text = "name: x\nsources:\n- {name: a, paths: &p [a, b]}\n- {name: b, paths: *p}\n"
    assert parse_recipe(text).sources[1].paths == ["a", "b"]


@given(st.text(max_size=60))
def test_any_text_is_a_recipe_or_is_refused(text: str) -> None:
    for recipe in (text, BASE + text, f"{BASE}name: {text}"):
        said = ""
        try:
            parse_recipe(recipe)
        except InputError as error:
            said = str(error)
        assert len(said.splitlines()) <= 2


@given(st.text(max_size=40))
def test_any_override_is_understood_or_refused(text: str) -> None:
    for override in (text, f"seed={text}"):
        try:
            path, value = parse_override(override)
            parse_recipe(BASE, overrides={path: value})
        except InputError:
            pass


@given(st.integers(0, 10**12), st.sampled_from(["", "K", "M", "B", "T"]))
def test_budgets_are_exact(number: int, unit: str) -> None:
    scale = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}[unit]
    for what in ("tokens", "documents"):
        assert parse_budget(f"{number}{unit} {what}") == (number * scale, what)
        assert parse_budget(f"{number}.5{unit} {what}") == (number * scale + scale // 2, what)
    bytes_of = {"": "B", "K": "kB", "M": "MB", "B": "GB", "T": "TB"}
    assert parse_budget(f"{number} {bytes_of[unit]}") == (number * scale, "bytes")
