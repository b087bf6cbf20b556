"""Kill -9 at any write, run again: the same files, bytes and version as if nothing had happened.

A child process dies at the moment it is told. The product has no hooks for that: the child's own
script wraps the one function through which every file becomes visible.
"""

import hashlib
import json
import random
import re
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from curate.corpus.errors import InputError
from curate.corpus.identity import fingerprint
from curate.corpus.storage import Storage
from pipelines.build import PASSES
from pipelines.verify import verify

pytestmark = pytest.mark.slow

_CHILD = """
import json, os, re, signal, sys
from curate.corpus.storage import Storage
from pipelines.build import run
from pipelines.recipe import parse_recipe
spec = json.loads(sys.argv[1])
link, publish, seen = os.link, Storage.publish, 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def link_and_die(*names):
    link(*names)
    die()

def publish_or_die(self, path, name):
    global seen
    matches = bool(re.search(spec["name"], name))
    seen += matches
    if matches and seen == spec["nth"]:
        if spec["moment"] == "torn":
            os.truncate(path, path.stat().st_size // 2)
        if spec["moment"] in ("torn", "before"):
            die()
        os.link = link_and_die
    return publish(self, path, name)

Storage.publish = publish_or_die
run(parse_recipe(spec["recipe"], base=spec["base"]), store=spec["store"])
"""
MOMENTS = ("torn", "before", "after")  # after: the name is there, its temporary twin too


class World:
    """Inputs, an old version, the undisturbed new one, and its write events in order."""

    def __init__(self, lab, folder):
        self.lab, self.folder, self.inputs = lab, folder, folder / "in"
        rows = [{"id": f"d{i}", "text": lab.text(i, 40)} for i in range(20)]
        lab.jsonl(self.inputs / "a.jsonl", [*rows, b"{broken"])
        item = {"text": lab.text(3, 40)}
        lab.jsonl(self.inputs / "bench" / "items.json", [item])
        bench = {"name": "bench", "paths": ["bench/items.json"], "format": "jsonl"}
        self.recipe = lab.recipe(self.inputs, decontaminate={"against": [bench]})
        lab.run(self.recipe, folder / "old")
        rows = [{"id": f"e{i}", "text": lab.text(i, 40)} for i in range(15, 30)]
        lab.jsonl(self.inputs / "b.jsonl", [*rows, rows[0], {"id": "d1", "text": lab.text(99)}])
        self.done = {"": self._undisturbed("fresh"), "old": self._undisturbed("next", "old")}

    def _undisturbed(self, name, start=""):
        store, events, publish = self.folder / name, [], Storage.publish
        if start:
            shutil.copytree(self.folder / start, store)

        def noted(storage, path, name):
            events.append(name)
            return publish(storage, path, name)

        with self.lab.patched(Storage, "publish", noted):
            self.lab.run(self.recipe, store)
        corpus = self.lab.open("tiny", store=str(store))
        self.lab.check_laws(corpus)
        return self.lab.snapshot(store), corpus.version.fingerprint, events

    def die(self, store, name, moment, nth=1):
        """Run until the nth file whose name matches is written, and die there."""
        spec = {
            "recipe": json.dumps(self.recipe.model_dump(mode="json")),
            "base": str(self.inputs),
            "store": str(store),
            "name": name,
            "moment": moment,
            "nth": nth,
        }
        done = self.lab.child(_CHILD, spec, self.folder)
        assert done.returncode == -signal.SIGKILL, f"{name} {moment}: {done.stderr}"

    def check_whole(self, store, start):
        """Every visible file is what its name says; a reader sees the old version or none."""
        for path in store.rglob("*"):
            name = path.relative_to(store).as_posix()
            if not path.is_file() or name.startswith(".tmp/"):
                continue
            data = path.read_bytes()
            if "/data/" in name:
                assert hashlib.sha256(data).hexdigest()[:32] == path.stem, name
            else:
                json.loads(data)
            if "/manifests/" in name:
                assert fingerprint(data) == path.stem, name
        if not (store / "corpora/tiny/log" / f"{2 if start else 1:08d}.json").exists():
            if not start:
                with pytest.raises(InputError, match="no corpus 'tiny'"):
                    self.lab.open("tiny", store=str(store))
            else:
                assert self.lab.open("tiny", store=str(store)).version.number == 1
        if start:
            assert verify(self.lab.open("tiny@1", store=str(store))) == []

    def finish(self, store, start):
        """Run undisturbed and compare with a store that was never disturbed."""
        files, version, _ = self.done[start]
        outcome, _ = self.lab.run(self.recipe, store)
        assert outcome.version.fingerprint == version
        assert self.lab.snapshot(store) == files
        assert self.lab.leftovers(store) == [], "nothing is left of the dead"
        assert verify(self.lab.open("tiny", store=str(store))) == []

    def survive(self, name, kills, start=""):
        """Die at each of the kills in turn, on one store; after each, a copy is finished."""
        store = self.folder / name
        if start:
            shutil.copytree(self.folder / start, store)
        for number, kill in enumerate(kills):
            self.die(store, *kill)
            self.check_whole(store, start)
            copy = self.folder / f"{name}-{number}"
            shutil.copytree(store, copy)
            yield copy, start


@pytest.fixture(scope="module")
def world(lab, tmp_path_factory):
    return World(lab, tmp_path_factory.mktemp("world"))


def _survive_all(world, chains):
    """Run chains of kills side by side (two cores), finishing here what each of them left."""
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(lambda chain=chain: list(world.survive(*chain))) for chain in chains]
        for future in futures:
            for store, start in future.result():
                world.finish(store, start)
                shutil.rmtree(store)


def test_the_write_events_cover_every_pass(world):
    for _, _, events in world.done.values():
        folders = {re.sub(r"[^/]*$", "", name) for name in events}
        assert {f"{name}/{kind}/" for name in PASSES for kind in ("parts", "manifests")} <= folders
        assert events[-1].startswith("corpora/tiny/log/")


def test_dying_between_data_record_manifest_and_log_in_every_pass_changes_nothing(world):
    records = [(f"^{name}/parts/", MOMENTS[i % 2]) for i, name in enumerate(PASSES)]
    records.insert(1 + list(PASSES).index("tokenize"), ("^tokenize/pins/", "before"))
    manifests = [(f"^{name}/manifests/", "before") for name in PASSES]
    log = [("^corpora/", "before"), ("^corpora/", "after")]
    _survive_all(
        world,
        [
            ("records", records, ""),
            ("manifests", [*manifests, *log], "old"),
        ],
    )


def test_dying_ten_times_at_random_after_the_first_commit_changes_nothing(world):
    draw = random.Random(2026)
    chains = []
    for number in range(10):
        start = ("", "old")[number % 2]
        nth = draw.randrange(2, len(world.done[start][2]) + 1)
        chains.append((f"random{number}", [("", draw.choice(MOMENTS), nth)], start))
    _survive_all(world, chains)
