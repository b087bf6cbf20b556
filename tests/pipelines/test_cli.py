"""The command line as its users meet it: every command on a small corpus, and its refusals."""

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console

import pipelines.console
import pipelines.explain
import pipelines.tables
from pipelines import cli
from pipelines.corpus import Corpus, open_corpus

COMMANDS = [
    "init",
    "run",
    "demo",
    "plan",
    "list",
    "table",
    "why",
    "verify",
    "report",
    "train",
    "export",
    "import",
    "schema",
    "doctor",
    "serve",
]
RECIPE = """\
name: small
seed: 7
sources:
  - {name: notes, paths: [notes.jsonl]}
rules:
  add: {long_enough: "num_words >= 5"}
split: {validation: 0.1, test: 0.1}
tokenize: {tokenizer: {train: bpe, vocab_size: 300, sample_bytes: 10000}}
pack: {row_tokens: 64}
"""


class Said(NamedTuple):
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str


def command(*arguments: str, width: int = 100) -> Said:
    """Run `preceptor` in this process, through the entry point that a shell calls."""
    out, err = io.StringIO(), io.StringIO()
    screen = Console(file=out, width=width, highlight=False, emoji=False, color_system=None)
    modules = (pipelines.console, pipelines.tables, pipelines.explain)
    before, code = sys.argv, 0
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.MonkeyPatch.context() as patch,
    ):
        for module in modules:
            patch.setattr(module, "console", screen)
        sys.argv = ["preceptor", *arguments]
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            sys.argv = before
    return Said(code, out.getvalue(), err.getvalue())


def refused(*arguments: str) -> str:
    """Run a command that must be refused; return what it said in its one or two lines."""
    said = command(*arguments)
    assert said.code == 2, said
    assert said.err.startswith("error: "), said
    assert 1 <= len(said.err.splitlines()) <= 2, said.err
    assert said.err.removesuffix("\n").replace("\n", "").isprintable(), said.err
    return said.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    """A folder with a small corpus: 40 texts, one twin, two short ones, one broken line."""
    base = tmp_path_factory.mktemp("cli")
    records = [{"id": f"k{i}", "text": lab.text(i)} for i in range(40)]
    records += [{"id": "twin", "text": lab.text(3)}, {"id": "s1", "text": "too short"}]
    lab.jsonl(base / "notes.jsonl", [*records, {"id": "s2", "text": "short"}, b"{broken"])
    (base / "recipe.yaml").write_text(RECIPE)
    said = command("run", str(base / "recipe.yaml"), "--store", str(base / "st"), "--workers", "1")
    assert said.code == 0, said.err
    assert "small@1" in said.out
    return base


@pytest.fixture(scope="module")
def store(folder: Path) -> Iterator[str]:
    """The corpus's store, said once for all by the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PRECEPTOR_STORE", str(folder / "st"))
        yield str(folder / "st")


@pytest.fixture(scope="module")
def corpus(store: str) -> Corpus:
    return open_corpus("small", store=store)


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_shows_how_a_command_is_used_and_an_example(name: str) -> None:
    said = command(*name.split(), "--help")
    assert said.code == 0
    assert "Usage:" in said.out
    assert "preceptor" in said.out.partition("Options")[2]
    assert ("Example" in said.out) == bool(name)


def test_a_second_run_says_that_there_is_nothing_to_do(folder: Path, store: str) -> None:
    said = command("run", str(folder / "recipe.yaml"), "--workers", "1")
    assert said.code == 0
    assert "small@1 (unchanged)" in said.out
    assert "nothing to do" in said.out


def test_run_tells_sources_and_reasons(folder: Path, store: str) -> None:
    out = command("run", str(folder / "recipe.yaml"), "--workers", "1").out
    assert re.search(r"notes +43 +1 +40 +93\.0", out)
    assert re.search(r"rule:recipe\.long_enough +2 ", out)
    assert re.search(r"duplicate:exact +1 ", out)


def test_until_stops_early_and_makes_no_version(folder: Path, tmp_path: Path) -> None:
    options = ("--store", str(tmp_path / "st"), "--workers", "1")
    said = command(
        "run", str(folder / "recipe.yaml"), *options, "--until", "measure", "--limit", "7"
    )
    assert said.code == 0
    assert "no version was made" in said.out
    assert "documents 7" in said.out
    assert "no corpus yet" in command("list", "--store", str(tmp_path / "st")).out


def test_plan_says_what_is_done_and_what_is_not(folder: Path, store: str, tmp_path: Path) -> None:
    recipe = str(folder / "recipe.yaml")
    done = command("plan", recipe).out
    assert len(re.findall(r"\bdone\b", done)) == 9
    changed = command("plan", recipe, "--set", "rules.add.long_enough=num_words >= 9").out
    assert len(re.findall(r"\bdone\b", changed)) == 5
    assert re.search(r"judge +\d+ of \d+ parts to do", changed)
    fresh = command("plan", recipe, "--store", str(tmp_path / "none")).out
    assert re.search(r"collect +1 of 1 parts to do", fresh)
    assert not (tmp_path / "none").exists()


def test_list_shows_corpora_and_each_kind_of_part(store: str) -> None:
    assert re.search(r"small@1 +43 +40 ", command("list").out)
    for what, word in (
        ("readers", "jsonl"),
        ("signals", "num_words"),
        ("rules", "gopher_quality@paper"),
        ("objectives", "next_token"),
    ):
        assert word in command("list", what).out
    assert "Did you mean 'signals'?" in refused("list", "signal")


@pytest.mark.parametrize("width", [60, 100, 400])
def test_ids_stay_whole_at_any_width(store: str, corpus: Corpus, width: int) -> None:
    ids = set(corpus.table("verdicts").collect()["doc_id"].to_list())
    out = command("table", "small", "verdicts", "--rows", "99", width=width).out
    assert ids <= set(re.findall(r"\b[0-9a-f]{32}\b", out))
    assert "43 of 43 rows" in out


def test_a_table_is_written_whole_in_each_format(store: str, tmp_path: Path) -> None:
    import polars as pl

    where = ("--where", "NOT kept")
    for suffix, read in (
        (".csv", pl.read_csv),
        (".jsonl", pl.read_ndjson),
        (".parquet", pl.read_parquet),
    ):
        path = tmp_path / f"dropped{suffix}"
        assert command("table", "small", "verdicts", *where, "--out", str(path)).code == 0
        assert read(path).height == 3
    out = tmp_path / "tokens.csv"
    assert command("table", "small", "tokens", "--out", str(out)).code == 0
    assert re.fullmatch(r"[\d ]+", pl.read_csv(out)["tokens"][0])
    assert "spans" in refused("table", "small", "plan_train", "--out", str(tmp_path / "p.csv"))
    assert not (tmp_path / "p.csv").exists()


def test_why_explains_a_kept_and_a_dropped_document(store: str, corpus: Corpus) -> None:
    verdicts = corpus.table("verdicts").collect()
    kept = verdicts.filter("kept", split="train")["doc_id"][0]
    out = command("why", "small", kept[:12]).out
    assert out.startswith(f"{kept} in small@1")
    for word in ("origin", "text", "cleaning", "verdict", "passes", "duplicates", "tokens", "plan"):
        assert word in out
    twin = verdicts.filter(~verdicts["kept"] & verdicts["kept_id"].is_not_null()).row(0, named=True)
    out = command("why", "small", twin["doc_id"]).out
    assert "dropped: duplicate:exact" in out
    assert f"{twin['kept_id']} speaks for it" in out
    life = json.loads(command("why", "small", twin["doc_id"], "--json").out)
    assert life["verdict"]["reasons"] == ["duplicate:exact"]
    short = verdicts.filter(verdicts["reasons"].list.contains("rule:recipe.long_enough"))
    out = command("why", "small", short["doc_id"][0]).out
    assert re.search(r"long_enough +num_words >= 5 +num_words = [12] +-[34] +fails", out)


def test_why_works_in_a_process_of_its_own(store: str, corpus: Corpus, lab: Any) -> None:
    kept = corpus.table("verdicts").filter("kept").collect()["doc_id"][0]
    run = subprocess.run(
        [sys.executable, "-P", "-m", "pipelines.cli", "why", "small", kept],
        env=lab.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "kept, in split" in run.stdout


def test_verify_report_export_and_schema_do_their_work(store: str, tmp_path: Path) -> None:
    assert "43 documents = 40 kept + 3 dropped" in command("verify", "small").out
    assert command("report", "small@1", "--out", str(tmp_path / "r.html")).code == 0
    assert (tmp_path / "r.html").read_text().startswith("<!doctype html>")
    out = tmp_path / "export"
    said = command("export", "small", "--format", "parquet", "--out", str(out))
    assert "40 documents" in said.out
    assert json.loads((out / "preceptor.json").read_text())["corpus"] == "small@1"
    assert "not an empty folder" in refused(
        "export", "small", "--format", "parquet", "--out", str(out)
    )
    recipe, train = command("schema"), command("schema", "train")
    assert "sources" in json.loads(recipe.out)["properties"]
    assert "depth" in json.loads(train.out)["properties"]


def test_init_writes_a_recipe_that_runs(folder: Path, tmp_path: Path, lab: Any) -> None:
    data = tmp_path / "data"
    lab.jsonl(data / "a.jsonl", [{"id": i, "text": lab.text(i)} for i in range(12)])
    (data / "b.csv").write_text("body,n\nsome words that are text,1\nand some more of it,2\n")
    (data / "image.png").write_bytes(b"\x89PNG")
    said = command("init", str(data))
    assert "2 sources: a, b" in said.out
    assert "bands: 16, rows: 7," in (data / "recipe.yaml").read_text()  # the defaults
    assert "image.png" in said.out
    assert "exists" in refused("init", str(data))
    run = command(
        "run", str(data / "recipe.yaml"), "--workers", "1", "--store", str(tmp_path / "s")
    )
    assert run.code == 0, run.err


REFUSALS: dict[str, tuple[list[str], str]] = {
    "no such recipe": (["run", "{folder}/recip.yaml"], "Did you mean 'recipe.yaml'?"),
    "recipe is a folder": (["run", "{folder}"], "is no file"),
    "recipe is a device": (["run", "/dev/zero"], "is no file"),
    "limit 0": (["run", "{recipe}", "--limit", "0"], "--limit must be at least 1"),
    "limit x": (["run", "{recipe}", "--limit", "x"], "--limit"),
    "workers 0": (["run", "{recipe}", "--workers", "0"], "--workers must be at least 1"),
    "dask and workers": (
        ["run", "{recipe}", "--dask", "tcp://127.0.0.1:1", "--workers", "2"],
        "leave out --workers",
    ),
    "no dask": (
        ["run", "{recipe}", "--dask", "127.0.0.1:1", "--set", "name=other", "--limit", "3"],
        "no Dask scheduler answers at tcp://127.0.0.1:1",
    ),
    "dask in memory": (
        ["run", "{recipe}", "--dask", "tcp://127.0.0.1:1", "--store", "memory://x"],
        "lives in memory",
    ),
    "serve on dask in memory": (
        ["serve", "{recipe}", "--dask", "tcp://127.0.0.1:1", "--store", "memory://x"],
        "lives in the memory",
    ),
    "until": (["run", "{recipe}", "--until", "mesure"], "Did you mean 'measure'?"),
    "set without =": (["run", "{recipe}", "--set", "nope"], "path.to.key=value"),
    "set with an empty step": (["run", "{recipe}", "--set", "a..b=3"], "path.to.key=value"),
    "set below a list": (["run", "{recipe}", "--set", "sources.0.name=b"], "not a mapping"),
    "set unknown": (["run", "{recipe}", "--set", "pack.row_token=9"], "'row_tokens'"),
    "set type": (["run", "{recipe}", "--set", "seed='7'"], "valid integer"),
    "set date": (["run", "{recipe}", "--set", "seed=2001-99-99"], "quotes"),
    "set code": (["run", "{recipe}", "--set", "seed=!!python/object/apply:os.abort []"], "YAML"),
    "set deep": (["run", "{recipe}", "--set", "seed=" + "[" * 9000], "nested too deeply"),
    "store is empty": (["run", "{recipe}", "--store", ""], "--store is empty"),
    "store is a file": (["run", "{recipe}", "--store", "{recipe}"], "Not a directory"),
    "store protocol": (["run", "{recipe}", "--store", "foo://x"], "Protocol not known"),
    "list store": (["list", "--store", "foo://x"], "Protocol not known"),
    "no such corpus": (["verify", "smal"], "Did you mean 'small'?"),
    "no such version": (["verify", "small@9"], "versions are: 1"),
    "odd version": (["verify", "small@x"], "versions are: 1"),
    "superscript version": (["verify", "small@\u00b2"], "NAME@VERSION"),
    "endless version": (["verify", "small@" + "9" * 5000], "NAME@VERSION"),
    "path for a corpus": (["verify", "../.."], "NAME@VERSION"),
    "empty corpus": (["why", "", "abcd"], "NAME@VERSION"),
    "escape in a corpus": (["list", "\x1b[31m"], "unknown list"),
    "id too short": (["why", "small", "abc"], "hexadecimal"),
    "id no hex": (["why", "small", "xyzw"], "hexadecimal"),
    "id unknown": (["why", "small", "0" * 32], "has no document"),
    "table": (["table", "small", "verdict"], "Did you mean 'verdicts'?"),
    "rows": (["table", "small", "verdicts", "--rows", "-1"], "--rows"),
    "out suffix": (["table", "small", "verdicts", "--out", "{folder}/x.txt"], ".parquet"),
    "out is a folder": (["table", "small", "verdicts", "--out", "{folder}/d.csv"], "is a folder"),
    "report is a folder": (["report", "small", "--out", "{folder}"], "is a folder"),
    "format": (
        ["export", "small", "--format", "parket", "--out", "{folder}/e"],
        "Did you mean 'parquet'?",
    ),
    "train config": (["train", "{recipe}", "--corpus", "small"], "has no setting 'name'"),
    "train nothing": (["train", "{folder}/no.yaml", "--corpus", "small"], "cannot read"),
    "schema": (["schema", "recip"], "Did you mean 'recipe'?"),
    "init nowhere": (["init", "{folder}/nowhere"], "no folder"),
    "init nothing": (["init", "{folder}/d.csv"], "no file"),
    "no such command": (["vrify", "small"], "preceptor --help"),
    "no such option": (["verify", "small", "--fast"], "preceptor verify --help"),
    "no argument": (["verify"], "CORPUS"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_short_and_helpful_and_change_nothing(
    case: str, folder: Path, store: str, lab: Any
) -> None:
    (folder / "d.csv").mkdir(exist_ok=True)
    before = lab.snapshot(folder)
    arguments, word = REFUSALS[case]
    filled = [a.format(folder=folder, recipe=folder / "recipe.yaml") for a in arguments]
    assert word in refused(*filled)
    assert lab.snapshot(folder) == before


HOSTILE = {
    "SELECT * FROM read_csv('/etc/passwd')": "sub-query or a table function",
    "(SELECT 1) = 1": "sub-query",
    "kept; DROP TABLE x": "no SQL condition",
    "AVG(num_bytes) > 3": "aggregate",
    "ROW_NUMBER() OVER () > 1": "window",
    "kept'": "Unterminated",
    "": "write a SQL condition",
    "num_byte > 1": "Did you mean 'num_bytes'?",
    "num_bytes > 'abc'": "compares an integer with a string",
    "1 = 1": "reads no signal",
    "kept AND " * 3000 + "kept": "limit",
    "(" * 4000 + "kept" + ")" * 4000: "condition",
}


@pytest.mark.parametrize("where", HOSTILE)
def test_a_condition_that_is_no_row_condition_is_refused(where: str, store: str) -> None:
    assert HOSTILE[where] in refused("table", "small", "verdicts", "--where", where)


def test_nothing_given_shows_the_help() -> None:
    said = command()
    assert said.code == 2
    assert "Commands" in said.out + said.err


def test_a_closed_pipe_ends_the_command_without_a_word(store: str, lab: Any) -> None:
    script = f"{sys.executable} -P -m pipelines.cli table small verdicts --rows 99 | head -1"
    run = subprocess.run(
        ["sh", "-c", script], env=lab.environment(), capture_output=True, text=True, check=False
    )
    assert run.stderr == ""
    assert run.stdout.startswith("doc_id")


RUN_AND_INTERRUPT = """
import os, signal, sys
import pipelines.passes.{where} as module
from pipelines import cli
from pipelines.build import PASSES
def interrupt(context):
    os.kill(os.getpid(), signal.SIGINT)
    return original(context)
original = PASSES["{where}"]
PASSES["{where}"] = interrupt
sys.argv = ["preceptor", *sys.argv[1:]]
cli.main()
"""


@pytest.mark.parametrize("where", ["collect", "judge"])
def test_an_interrupted_run_ends_with_130_and_one_line_and_can_be_resumed(
    where: str, folder: Path, tmp_path: Path, lab: Any
) -> None:
    arguments = ["run", str(folder / "recipe.yaml"), "--store", str(tmp_path), "--workers", "1"]
    run = subprocess.run(
        [sys.executable, "-P", "-c", RUN_AND_INTERRUPT.format(where=where), *arguments],
        env=lab.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 128 + signal.SIGINT
    assert run.stderr == ("interrupted; what is finished is kept, run the same command to go on\n")
    assert lab.leftovers(tmp_path) == []
    done = len(list(tmp_path.rglob("parts/*.json")))
    assert (done > 0) == (where == "judge")
    assert command(*arguments).code == 0
    undisturbed = open_corpus("small", store=str(folder / "st")).version
    assert open_corpus("small", store=str(tmp_path)).version.fingerprint == undisturbed.fingerprint


def test_an_os_error_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device", "/somewhere/file")

    monkeypatch.setattr("pipelines.corpus.open_corpus", full)
    assert refused("verify", "small") == "error: /somewhere/file: No space left on device\n"


def test_our_own_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch, store: str) -> None:
    def broken(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr("pipelines.corpus.open_corpus", broken)
    with pytest.raises(AssertionError, match="a bug"):
        command("verify", "small")


def test_no_command_needs_a_prefect_server(store: str, lab: Any) -> None:
    script = "import sys; sys.modules['prefect'] = None; from pipelines import cli; cli.main()"
    run = subprocess.run(
        [sys.executable, "-P", "-c", script, "verify", "small"],
        env=lab.environment(PREFECT_API_URL="http://127.0.0.1:9"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "is whole" in run.stdout
