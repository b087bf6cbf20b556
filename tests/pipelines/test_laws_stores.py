"""Any fsspec uri is a store, without renaming or listing; and two runs may share one."""

import hashlib
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
import yaml
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from pipelines.store import Store
from pipelines.verify import verify

_FORBIDDEN = ("mv", "move", "rename", "ls", "listdir", "find", "glob", "walk", "du", "tree")
_watched: list[str] = []
_offences: list[tuple[str, list[str]]] = []


def _audit(event, arguments):
    if not _watched or event not in ("os.rename", "os.listdir", "os.scandir"):
        return
    paths = [str(path) for path in arguments[: 2 if event == "os.rename" else 1]]
    own = _watched[0]  # its .tmp may be listed: that is how leftovers of the dead are found
    if any(p.startswith(own) and not p.startswith(f"{own}/.tmp") for p in paths):
        _offences.append((event, paths))


@pytest.fixture
def no_renaming_and_no_listing(monkeypatch, tmp_path):
    """The file systems refuse what an object store has not (or not at once)."""

    def refuse(name):
        def call(*_arguments, **_options):
            raise AssertionError(f"the store was asked to {name}")

        return call

    for system in (MemoryFileSystem, LocalFileSystem):
        for name in _FORBIDDEN:
            monkeypatch.setattr(system, name, refuse(name))
    sys.addaudithook(_audit)
    _watched[:] = [str(tmp_path / "store")]
    yield
    _watched.clear()
    assert _offences == []


@pytest.fixture
def recipe(lab, tmp_path):
    folder = tmp_path / "in"
    rows = [{"id": f"d{i}", "text": lab.text(i, 50)} for i in range(24)]
    lab.jsonl(folder / "a.jsonl", [*rows, b"{broken", rows[2]])
    lab.jsonl(folder / "b.jsonl", [{"text": lab.near(i)} for i in range(4)])
    return lab.recipe(folder, collect={"part_bytes": 3000})


def test_a_store_in_memory_holds_the_same_files(lab, recipe, tmp_path, no_renaming_and_no_listing):
    uri = f"memory://laws-{uuid.uuid4().hex}"
    remote, _ = lab.run(recipe, uri)
    local, _ = lab.run(recipe, f"file://{tmp_path}/store")
    assert remote.version == local.version
    again, executed = lab.run(recipe, uri)
    assert (again.published, executed.total()) == (False, 0)
    corpora = [lab.open("tiny", store=uri), lab.open("tiny", store=f"file://{tmp_path}/store")]
    for corpus in corpora:
        lab.check_laws(corpus)
        assert verify(corpus) == []
    _watched.clear()
    root = "/" + uri.removeprefix("memory://") + "/"
    files = {
        name.removeprefix(root): hashlib.sha256(file.getvalue()).hexdigest()
        for name, file in MemoryFileSystem.store.items()
        if name.startswith(root)
    }
    assert files == lab.snapshot(tmp_path / "store")


def test_the_only_listing_is_of_corpora(lab, recipe, tmp_path):
    uri = f"memory://laws-{uuid.uuid4().hex}"
    assert Store(uri).corpora() == Store(str(tmp_path / "none")).corpora() == []
    lab.run(recipe, uri)
    lab.run(recipe, tmp_path / "store")
    assert Store(uri).corpora() == Store(str(tmp_path / "store")).corpora() == ["tiny"]


def _race(lab, recipes, store):
    """Run recipes at once on one store, each with a Store of its own; return the outcomes."""
    barrier, outcomes, errors = threading.Barrier(len(recipes)), [], []

    def run(recipe):
        try:
            barrier.wait()
            outcomes.append(lab.run(recipe, Store(store))[0])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(recipe,)) for recipe in recipes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    return outcomes


@pytest.mark.parametrize("attempt", range(3))
def test_two_runs_at_once_make_one_version(lab, recipe, tmp_path, attempt):
    store = str(tmp_path / "store")
    outcomes = _race(lab, [recipe, recipe], store)
    assert len({outcome.version.fingerprint for outcome in outcomes}) == 1
    assert [outcome.version.number for outcome in outcomes] == [1, 1]
    assert sum(outcome.published for outcome in outcomes) == 1, "one wins, one finds it done"
    assert Store(store).versions("tiny").length() == 1
    assert verify(lab.open("tiny", store=store)) == []
    assert lab.leftovers(Path(store)) == []
    lab.run(recipe, tmp_path / "alone")
    assert lab.snapshot(tmp_path / "alone") == lab.snapshot(tmp_path / "store")


def test_two_different_runs_at_once_make_two_versions_one_after_the_other(lab, recipe, tmp_path):
    longer = recipe.model_copy(
        update={"rules": recipe.rules.model_copy(update={"add": {"long": "num_words >= 60"}})}
    )
    longer._base = recipe.base
    store = str(tmp_path / "store")
    outcomes = _race(lab, [recipe, longer], store)
    assert {outcome.version.number for outcome in outcomes} == {1, 2}
    versions = [lab.open(f"tiny@{number}", store=store) for number in (1, 2)]
    assert [corpus.version.parent for corpus in versions] == [0, 1]
    for corpus in versions:
        assert verify(corpus) == []
        lab.check_laws(corpus)


_CHILD = """
import json, sys
from pipelines.build import run
from pipelines.recipe import parse_recipe
spec = json.loads(sys.argv[1])
recipe = parse_recipe(spec["recipe"], base=spec["base"])
print("ready", flush=True)
sys.stdin.readline()
outcome = run(recipe, store=spec["store"])
print(outcome.version.fingerprint, outcome.version.number, outcome.published)
"""


def test_two_processes_at_once_make_one_version(lab, recipe, tmp_path):
    import json

    spec = {
        "recipe": yaml.safe_dump(recipe.model_dump(mode="json")),
        "base": recipe.base,
        "store": str(tmp_path / "store"),
    }
    children = [
        subprocess.Popen(
            [sys.executable, "-c", _CHILD, json.dumps(spec)],
            cwd=tmp_path,
            env=lab.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    told = [child.communicate(timeout=240)[0].split() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert told[0][:2] == told[1][:2]
    assert sorted(line[2] for line in told) == ["False", "True"]
    assert verify(lab.open("tiny", store=str(tmp_path / "store"))) == []
    lab.run(recipe, tmp_path / "alone")
    assert lab.snapshot(tmp_path / "alone") == lab.snapshot(tmp_path / "store")
