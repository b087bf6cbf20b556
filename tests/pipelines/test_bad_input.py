"""Whatever the files hold, each record is a document or a quarantine row, or the run is refused."""

import bz2
import gzip
import json
import lzma
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curate.corpus.errors import InputError
from pipelines.build import run
from pipelines.corpus import Corpus
from pipelines.verify import verify

ESCAPES = (
    "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] [/] [link=http://e]l[/] \u202eevil \0 \x9b :smile: "
    "\\"
)
LINES = b"".join(json.dumps({"text": f"number {i} " * 9}).encode() + b"\n" for i in range(2000))


def parquet(**columns: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return bytes(sink.getvalue())


GOOD = b'{"text": "one good line that stays whatever happens to the others"}\n'
# file -> bytes; the whole file cannot be read
UNREADABLE: dict[str, bytes] = {
    "cut.jsonl.gz": gzip.compress(LINES)[:-600],
    "cut.jsonl.zst": zstandard.compress(LINES)[:-20],
    "cut.jsonl.bz2": bz2.compress(LINES)[:-20],
    "cut.jsonl.xz": lzma.compress(LINES)[:-20],
    "plain.jsonl.gz": LINES,
    "empty.jsonl.gz": b"",
    "footless.parquet": parquet(text=["a b c"])[:-12],
    "noise.parquet": b"PAR1" + bytes(500),
    "empty.parquet": b"",
    "noise.arrow": b"ARROW1xx",
}
# file -> bytes and the reasons of its quarantined records
QUARANTINED: dict[str, tuple[bytes, list[str]]] = {
    "broken.jsonl": (b"{broken\n[1]\n5\n", ["invalid_json", "not_an_object", "not_an_object"]),
    "types.jsonl": (
        b'{"text": null}\n{"text": 5}\n{"id": "x"}\n{"text": ""}\n',
        ["no_text", "no_text", "no_text", "text_not_string"],
    ),
    "latin.jsonl": (b'{"text": "caf\xe9"}\n', ["invalid_utf8"]),
    "surrogate.jsonl": (b'{"text": "\\ud800"}\n', ["invalid_utf8"]),
    "nul.jsonl": (b"\0\0\0\n", ["invalid_json"]),
    "deep.jsonl": (b'{"text":' + b"[" * 100_000 + b"\n", ["invalid_json"]),
    "utf16.jsonl": ('{"text": "a"}'.encode("utf-16"), ["invalid_utf8"]),
    "latin.txt": (b"caf\xe9", ["invalid_utf8"]),
    "empty.txt": (b"", ["no_text"]),
    "empty.jsonl": (b"", []),
    "blank.jsonl": (b"\n  \n\r\n", []),
    "open.csv": (b'text,n\n"unclosed,1\nx,2\n', ["*"]),
    "header.csv": (b"text,n\n", []),
    "bytes.parquet": (parquet(text=pa.array([b"\xff"], pa.binary())), ["invalid_utf8"]),
    "rows.parquet": (parquet(text=pa.array([], pa.string())), []),
}


def recipe_for(lab: Any, base: Path, name: str, **sections: Any) -> Any:
    (base / "good.jsonl").write_bytes(GOOD)
    sources = [{"name": "notes", "paths": ["good.jsonl", name]}]
    split = {"validation": 0.0, "test": 0.0}
    return lab.recipe(base, sources=sources, split=split, **sections)


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_stops_the_run_unless_a_share_is_allowed(
    name: str, tmp_path: Path, lab: Any
) -> None:
    (tmp_path / name).write_bytes(UNREADABLE[name])
    with pytest.raises(InputError, match="1 of 2 files cannot be read") as caught:
        run(recipe_for(lab, tmp_path, name), store=str(tmp_path / "st"), until="collect")
    assert name in str(caught.value)
    assert "bad_files: 0.5" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2
    allowed = recipe_for(lab, tmp_path, name, collect={"bad_files": 0.5})
    counts = run(allowed, store=str(tmp_path / "st"), until="collect").manifests["collect"].counts
    assert counts["quarantined"] == 1
    assert counts["documents"] >= 1
    assert counts["records"] == counts["documents"] + 1


@pytest.mark.parametrize("name", QUARANTINED)
def test_each_broken_record_is_one_quarantine_row(name: str, tmp_path: Path, lab: Any) -> None:
    data, reasons = QUARANTINED[name]
    (tmp_path / name).write_bytes(data)
    outcome = run(recipe_for(lab, tmp_path, name), store=str(tmp_path / "st"), until="collect")
    counts = outcome.manifests["collect"].counts
    assert counts["documents"] == 1
    found = sorted(
        reason.partition(":")[2]
        for reason, count in counts.items()
        for _ in range(count)
        if reason.startswith("quarantined:")
    )
    assert found == reasons or (reasons == ["*"] and len(found) == 1)
    assert counts["records"] == 1 + len(found)


def test_too_many_broken_records_stop_the_run_where_the_recipe_says_so(
    tmp_path: Path, lab: Any
) -> None:
    (tmp_path / "broken.jsonl").write_bytes(b"{broken\n")
    recipe = recipe_for(lab, tmp_path, "broken.jsonl", collect={"bad_records": 0.4})
    with pytest.raises(InputError, match="1 of 2 records cannot be read.*invalid_json 1"):
        run(recipe, store=str(tmp_path / "st"))


def test_sources_without_a_document_are_refused_and_say_why(tmp_path: Path, lab: Any) -> None:
    (tmp_path / "broken.jsonl").write_bytes(b"{broken\n")
    with pytest.raises(InputError, match="hold no document .1 records in quarantine: invalid_json"):
        run(lab.recipe(tmp_path), store=str(tmp_path / "st"))


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_text_column_that_is_missing_or_no_text_is_refused_before_any_work(
    name: str, tmp_path: Path, lab: Any
) -> None:
    (tmp_path / name).write_bytes(b"body,n\nx,1\n" if name == "a.csv" else parquet(body=[1]))
    recipe = lab.recipe(tmp_path, sources=[{"name": "notes", "paths": [name]}])
    with pytest.raises(InputError, match="no column 'text'; its columns are: body"):
        run(recipe, store=str(tmp_path / "st"))
    assert not (tmp_path / "st").exists()


PEAK = """
import resource, sys
from pipelines.build import run
from pipelines.recipe import load_recipe
import pipelines.passes.tokenize
recipe = load_recipe(sys.argv[1])
run(recipe, store=sys.argv[2], until="tokenize", observe=None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
recipe = load_recipe(sys.argv[3])
counts = run(recipe, store=sys.argv[2]).manifests["collect"].counts
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(counts["documents"], counts["quarantined:too_large"], (after - before) // 1024)
"""


def test_a_line_of_200_mb_costs_bounded_memory_and_one_quarantine_row(
    tmp_path: Path, lab: Any
) -> None:
    (tmp_path / "notes.jsonl").write_bytes(GOOD)
    with (tmp_path / "long.jsonl").open("wb") as stream:
        stream.write(GOOD + b'{"text": "')
        for _ in range(200):
            stream.write(b"x" * 1_000_000)
        stream.write(b'"}\n' + GOOD)
    paths = []
    for name in ("notes", "long"):
        recipe = lab.recipe(
            tmp_path,
            sources=[{"name": "s", "paths": [f"{name}.jsonl"]}],
            split={"validation": 0.0, "test": 0.0},
        )
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(json.dumps(recipe.model_dump(mode="json")))
    child = subprocess.run(
        [sys.executable, "-P", "-c", PEAK, paths[0], tmp_path / "st", paths[1]],
        env=lab.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    documents, quarantined, grown_mib = map(int, child.stdout.split())
    assert (documents, quarantined) == (2, 1)
    assert grown_mib < 180  # one document of max_document_bytes, and no more of the line


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory, lab: Any) -> Path:
    """A store whose corpus carries terminal commands and markup in every place it can."""
    base = tmp_path_factory.mktemp("dirty")
    records = [
        {
            "id": f"k\x1b[3{i}m[bold]\u202e",
            "url": "http://x/\x1b]0;t\x07[red]",
            "license": "[bold]\x1bMIT",
            "text": f"{ESCAPES} {lab.text(i)}",
        }
        for i in range(12)
    ]
    names = ["a.jsonl", "we\nird [bold]\x1b[31m'\"\u00fc.jsonl", "\u202ebidi.jsonl"]
    lab.jsonl(base / "d" / names[0], [*records, b"{broken\x1b[31m"])
    lab.jsonl(base / "d" / names[1], [{"id": "z", "text": "few words"}, b"{bad"])
    lab.jsonl(base / "d" / names[2], [{"id": "z", "text": "other words of the same key"}])
    sources = [{"name": "notes", "paths": ["d"]}]
    split = {"validation": 0.0, "test": 0.0}
    rules = {"add": {"long": "num_words >= 5"}}
    outcome = run(
        lab.recipe(base, sources=sources, split=split, rules=rules), store=str(base / "st")
    )
    assert outcome.manifests["collect"].counts["quarantined"] == 3
    return base


@pytest.mark.parametrize("width", ["60", "400"])
def test_no_text_of_a_corpus_commands_the_terminal(dirty: Path, lab: Any, width: str) -> None:
    from pipelines.corpus import open_corpus

    corpus = open_corpus("tiny", store=str(dirty / "st"))
    verdicts = corpus.table("verdicts").collect()
    ids = [verdicts.filter(verdicts["kept"] == kept)["doc_id"][0] for kept in (True, False)]
    commands = [
        ["table", "tiny", name]
        for name in ("documents", "raw", "quarantine", "verdicts", "signals")
    ]
    commands += [["why", "tiny", doc_id, *more] for doc_id in ids for more in ([], ["--json"])]
    commands += [["list"], ["verify", "tiny"], ["init", "--force", str(dirty / "d")]]
    script = (
        "import json, sys\n"
        "from pipelines import cli\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['preceptor', *arguments]\n"
        "    try:\n        cli.main()\n    except SystemExit as end:\n        assert not end.code\n"
    )
    child = lab.child(
        script, commands, dirty, PRECEPTOR_STORE=str(dirty / "st"), COLUMNS=width, FORCE_COLOR="1"
    )
    assert child.returncode == 0, child.stderr
    said = child.stdout + child.stderr
    assert not {c for c in said if c != "\n" and not c.isprintable()} - {"\x1b"}
    colours = said.count("\x1b")
    assert colours == said.count("\x1b[0m") + len(re.findall(r"\x1b\[[1-9][0-9;]*m", said))
    assert "\x1b[31mred" not in said
    for word in ("[bold]x[/bold]", "[link=http://e]l[/]", ":smile:", "[red]", "[bold]\u00b7MIT"):
        assert word in said


def test_a_dirty_corpus_is_whole(dirty: Path) -> None:
    from pipelines.corpus import open_corpus

    corpus: Corpus = open_corpus("tiny", store=str(dirty / "st"))
    assert verify(corpus) == []
    assert corpus.manifest("collect").counts["documents"] == 13


def test_many_tiny_documents_and_a_large_one_pass_through(tmp_path: Path, lab: Any) -> None:
    records = [{"id": i, "text": lab.text(i, 6)} for i in range(5000)]
    lab.jsonl(tmp_path / "a.jsonl", [*records, {"id": "big", "text": lab.text(1, 300_000)}])
    outcome = run(lab.recipe(tmp_path), store=str(tmp_path / "st"))
    assert outcome.version is not None
    assert outcome.manifests["judge"].counts["documents"] == 5001
