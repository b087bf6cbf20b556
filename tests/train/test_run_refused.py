"""What cannot be trained on is refused before the first step: what was found, and what to do."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pytest

import train
from curate.corpus.errors import InputError
from train import runfile
from train.__main__ import main

FAILED = {"digest": "0" * 32, "failed": ["enough", "no_secrets"], "despite": None}


def _quiet(*_):
    pass


def _refused(path, said):
    """The run is refused, in a line or two for people, and leaves nothing behind."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(InputError, match=said) as raised:
        train.run(path)
    assert len(str(raised.value).splitlines()) <= 2
    assert sorted(path.parent.iterdir()) == before


def test_a_corpus_whose_checks_fail(make_run, capsys):
    path = make_run(edit=lambda content: content.update(checks=FAILED))
    _refused(path, r"fails its checks \(enough, no_secrets\).*--despite-checks")
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.startswith("error: the corpus of run tiny fails its checks")


def test_a_corpus_whose_checks_fail_is_trained_on_for_a_reason(make_run):
    checks = {**FAILED, "despite": "a drill"}
    path = make_run(steps=1, edit=lambda content: content.update(checks=checks))
    assert train.run(path, _quiet)["steps"] == 1
    lineage = json.loads((path.parent / "model/lineage.json").read_text())
    assert lineage["checks"] == checks


def _flip(path: Path) -> None:
    """Change one bit of the last token, which no size or number of rows tells of."""
    content = bytearray(path.read_bytes())
    batches = pa.ipc.open_file(str(path)).read_all().to_batches()
    tokens = batches[-1]["tokens"].values
    found = content.rindex(tokens.to_numpy()[-20:].tobytes())
    content[found] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-8]), "was cut short or changed"),
        (_flip, "it changed since the run was resolved"),
        (Path.unlink, "does not exist; build it again"),
    ],
)
def test_files_that_are_not_the_manifest_s(make_run, spoil, said):
    path = make_run()
    spoil(Path(json.loads(path.read_text())["shards"][1]["uri"]))
    _refused(path, said)


def test_shards_that_are_too_large_to_be_read_at_every_start_are_known_by_size(
    make_run, monkeypatch
):
    monkeypatch.setattr(runfile, "QUICK_BYTES", 100)
    path = make_run(steps=1)
    _flip(Path(json.loads(path.read_text())["shards"][1]["uri"]))
    assert train.run(path, _quiet)["steps"] == 1


def test_a_tokenizer_that_did_not_make_the_shards(make_run):
    def other(content):
        file = Path(content["tokenizer"]["uri"].removeprefix("file://"))
        tokenizer = json.loads(file.read_text())
        tokenizer["model"]["vocab"] = {"a": 0, "b": 1, "c": 2}
        file.write_text(json.dumps(tokenizer))
        if renamed:
            content["tokenizer"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        if fitted:
            content["tokenizer"]["vocab_size"] = 3

    renamed, fitted = False, False
    _refused(make_run("a", edit=other), "the tokenizer .* it changed since the run was resolved")
    renamed = True
    _refused(make_run("b", edit=other), "has 3 ids, the run says 70; resolve the run again")
    fitted = True
    with pytest.raises(InputError, match="the tokenizer has 3 ids.*tokenize this corpus again"):
        train.run(make_run("c", edit=other))


def test_a_schema_without_what_the_objective_needs(make_run):
    def without(content):
        for entry in content["shards"]:
            file = Path(entry["uri"])
            table = (
                pa.ipc.open_file(file.read_bytes())
                .read_all()
                .rename_columns({"tokens": "token_ids"})
            )
            with pa.ipc.new_file(str(file), table.schema) as sink:
                sink.write_table(table)
            entry["bytes"] = file.stat().st_size
            entry["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()

    _refused(
        make_run(edit=without), "column 'tokens'.*Did you mean 'token_ids'.*'next_token' needs"
    )


def test_an_objective_that_does_not_exist(make_run):
    _refused(make_run(objective="next_tokn"), "Did you mean 'next_token'")
