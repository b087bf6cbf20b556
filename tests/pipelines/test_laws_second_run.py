"""What is done stays done: a run does exactly the work that its changes ask for."""

import json
import os
import shutil
from collections import Counter

import pytest

from curate.corpus.errors import InputError
from pipelines.build import PASSES, plan
from pipelines.engine import DaskEngine
from pipelines.passes import decontaminate

_WATCHED = """
import json, os, sys
from pipelines.build import run
from pipelines.engine import DaskEngine
from pipelines.recipe import parse_recipe
spec = json.loads(sys.argv[1])
recipe = parse_recipe(spec["recipe"], base=spec["base"])
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
changing = (
    "os.link", "os.symlink", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate",
    "os.utime", "os.chmod", "shutil.", "tempfile.",
    "subprocess.Popen", "os.posix_spawn", "os.fork", "socket.bind",
)
armed, seen = False, []

def watch(event, arguments):
    if not armed:
        return
    if event == "open":
        _, mode, flags = arguments
        if set(mode or "") & set("wax+") or (flags or 0) & writing:
            seen.append([event, repr(arguments)])
    elif event.startswith(changing):
        seen.append([event, repr(arguments)])

sys.addaudithook(watch)
with DaskEngine(2) as engine:
    armed = True
    outcome = run(recipe, store=spec["store"], engine=engine)
    armed = False
    started = engine._client is not None
told = [outcome.executed, outcome.published, started, "distributed" in sys.modules, seen]
print(json.dumps(told))
"""


def _states(folder):
    """Return when anything last happened to every file and folder."""
    return {
        str(path): (stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
        for path in [folder, *folder.rglob("*")]
        for stat in [path.stat()]
    }


@pytest.fixture(scope="module")
def base(lab, tmp_path_factory):
    """A folder with inputs and the store of a run over them, to be copied."""
    folder = tmp_path_factory.mktemp("base")
    for name in "abc":
        rows = [{"id": f"{name}{i}", "text": lab.text(ord(name) * 50 + i, 60)} for i in range(12)]
        lab.jsonl(folder / "in" / f"{name}.jsonl", rows)
    lab.jsonl(folder / "in" / "bench.json", [{"text": lab.text(5000, 30)}])
    for i in range(40):
        path = folder / "in" / "texts" / f"{i}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(lab.text(7000 + i, 60))
    lab.run(_recipe(lab, folder / "in"), folder / "store")
    return folder


def _recipe(lab, folder, limit=None, **sections):
    bench = {"name": "bench", "paths": ["bench.json"], "format": "jsonl"}
    sources = [
        {"name": "notes", "paths": ["*.jsonl"]},
        {"name": "texts", "paths": ["texts"]},
    ]
    common = {
        "sources": sources,
        "collect": {"part_bytes": 6000},
        "decontaminate": {"against": [bench]},
        "rules": {"add": {"long": "num_words >= 20"}},
        "mix": {"weights": {"notes": 1.0, "texts": 1.0}},
    }
    return lab.recipe(folder, limit, **{**common, **sections})


@pytest.fixture
def world(base, tmp_path):
    """Inputs and a store that a test may change (same uris cannot be had: so `base` runs there)."""
    shutil.copytree(base, tmp_path / "world")  # copies times too, but the folder has another name
    return tmp_path / "world"


@pytest.fixture
def settled(lab, world):
    """`world` after a run: inputs have new uris, hence collect reads again and nothing else."""
    recipe = _recipe(lab, world / "in")
    _, executed = lab.run(recipe, world / "store")
    assert set(executed) == {"collect", "decontaminate"}  # the benchmark is read again too
    assert executed["decontaminate"] == 1
    return world


def test_a_second_run_writes_nothing_and_starts_nobody(lab, base, tmp_path):
    import yaml

    recipe = _recipe(lab, base / "in")
    before = _states(base)
    spec = {
        "recipe": yaml.safe_dump(recipe.model_dump(mode="json")),
        "base": recipe.base,
        "store": str(base / "store"),
    }
    done = lab.child(_WATCHED, spec, tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, False, False, False, []]
    assert _states(base) == before


def test_the_watch_of_the_second_run_sees_a_first_run(lab, base, tmp_path):
    """The test above can fail: the same watch, on a store where something is left to do."""
    import yaml

    shutil.copytree(base / "store", tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "corpora")
    recipe = _recipe(lab, base / "in")
    spec = {
        "recipe": yaml.safe_dump(recipe.model_dump(mode="json")),
        "base": recipe.base,
        "store": str(tmp_path / "store"),
    }
    done = lab.child(_WATCHED, spec, tmp_path)
    assert done.returncode == 0, done.stderr
    executed, published, started, _, seen = json.loads(done.stdout)
    assert (executed, published, started) == (0, True, False)
    assert {"open", "os.link", "os.remove", "os.mkdir"} <= {event for event, _ in seen}


def test_nothing_to_do_asks_nothing_of_the_engine(lab, base):
    engine = DaskEngine(2)

    def start():
        raise AssertionError("the cluster is not needed")

    with lab.patched(engine, "_start", start):
        outcome, _ = lab.run(_recipe(lab, base / "in"), base / "store", engine=engine)
    assert outcome.executed == 0


def test_a_changed_threshold_runs_judge_and_what_follows(lab, settled):
    corpus = lab.open("tiny", store=str(settled / "store"))
    middle = int(lab.frame(corpus, "signals")["num_chars"].median())
    recipe = _recipe(lab, settled / "in", rules={"add": {"long": f"num_chars > {middle}"}})
    outcome, executed = lab.run(recipe, settled / "store")
    assert outcome.version.number == 2
    assert set(executed) == {"judge", "tokenize", "mix", "pack"}
    assert 20 < outcome.manifests["judge"].counts["dropped"] < 56


def test_a_threshold_that_changes_no_verdict_runs_judge_alone(lab, settled):
    recipe = _recipe(lab, settled / "in", rules={"add": {"long": "num_words IS NOT NULL"}})
    _, executed = lab.run(recipe, settled / "store")
    assert executed == {"judge": 1}


def test_a_changed_weight_runs_mix_and_pack(lab, settled):
    recipe = _recipe(lab, settled / "in", mix={"weights": {"notes": 1.0, "texts": 3.0}})
    outcome, executed = lab.run(recipe, settled / "store")
    assert set(executed) == {"mix", "pack"}
    assert outcome.version.number == 2


def test_one_more_file_of_records_is_the_only_one_that_is_worked_on(lab, settled):
    lab.jsonl(settled / "in" / "d.jsonl", [{"id": f"d{i}", "text": lab.text(i)} for i in range(5)])
    stages = Counter()
    outcome, executed = lab.run(_recipe(lab, settled / "in"), settled / "store", stages)
    assert outcome.manifests["collect"].counts["documents"] == 36 + 40 + 5
    assert executed["collect"] == executed["clean"] == executed["measure"] == 1
    assert stages["deduplicate sketch"] == 1, "the joins are for all"
    assert executed["decontaminate"] == 1
    assert executed["tokenize"] == 1
    assert executed["judge"] == executed["mix"] == 1


def test_one_more_small_file_costs_its_bin_alone(lab, settled):
    before = lab.open("tiny", store=str(settled / "store")).shards("documents")
    assert len(before) >= 7, "several bins"
    # A name whose bin has room: the bin is read again, and nobody else.
    (settled / "in" / "texts" / "new-0.txt").write_text("a short new text " * 6)
    stages = Counter()
    outcome, executed = lab.run(_recipe(lab, settled / "in"), settled / "store", stages)
    assert outcome.manifests["collect"].counts["documents"] == 36 + 40 + 1
    assert executed["collect"] == executed["clean"] == executed["measure"] == 1
    assert stages["deduplicate sketch"] == 1
    assert executed["decontaminate"] == executed["tokenize"] == 1
    after = lab.open("tiny", store=str(settled / "store")).shards("documents")
    assert len(set(before) - set(after)) == len(set(after) - set(before)) == 1


def test_a_touched_file_is_read_again_and_nothing_behind_it_runs(lab, settled):
    recipe = _recipe(lab, settled / "in")
    for name in ("a.jsonl", "bench.json"):
        os.utime(settled / "in" / name, ns=(1, 1))
    outcome, executed = lab.run(recipe, settled / "store")
    assert executed == {"collect": 1, "decontaminate": 1}
    assert not outcome.published


def test_an_edited_reader_reads_the_benchmarks_again(lab, settled):
    real = decontaminate.code_digest

    def edited(*modules):
        return "edited" if modules == ("curate.readers.jsonl",) else real(*modules)

    with lab.patched(decontaminate, "code_digest", edited):
        _, executed = lab.run(_recipe(lab, settled / "in"), settled / "store")
    assert executed == {"decontaminate": 1}


def test_a_run_until_a_pass_stops_there_and_publishes_nothing(lab, base, tmp_path):
    recipe = _recipe(lab, base / "in")
    for name in ("collect", "measure", "judge"):
        outcome, executed = lab.run(recipe, tmp_path / "store", until=name)
        assert outcome.version is None
        assert not outcome.published
        assert list(outcome.manifests)[-1] == name
    assert set(executed) == {"deduplicate", "decontaminate", "judge"}
    with pytest.raises(InputError, match="no corpus 'tiny'"):
        lab.open("tiny", store=str(tmp_path / "store"))
    with pytest.raises(InputError, match="unknown pass 'juge'.*Did you mean 'judge'"):
        lab.run(recipe, tmp_path / "store", until="juge")


def test_a_limit_reads_so_many_records_of_each_source(lab, base, tmp_path):
    recipe = _recipe(lab, base / "in", limit=7)
    outcome, _ = lab.run(recipe, tmp_path / "store")
    corpus = lab.open("tiny", store=str(tmp_path / "store"))
    lab.check_laws(corpus)
    sizes = lab.frame(corpus, "documents").group_by("source").len()
    assert dict(sizes.iter_rows()) == {"notes": 7, "texts": 7}
    assert outcome.manifests["collect"].settings["limit"] == 7


def test_the_plan_of_an_empty_store_is_the_first_pass_and_it_writes_nothing(lab, base, tmp_path):
    plans = plan(_recipe(lab, base / "in"), store=str(tmp_path / "store"))
    assert [p.name for p in plans] == list(PASSES)
    assert [p.state for p in plans] == ["todo", *["unknown"] * 8]
    assert plans[0].todo == plans[0].total >= 7
    assert not (tmp_path / "store").exists()


def test_the_plan_tells_what_is_done_and_what_is_next(lab, base):
    before = _states(base)
    store = str(base / "store")
    assert {p.state for p in plan(_recipe(lab, base / "in"), store=store)} == {"done"}
    stricter = _recipe(lab, base / "in", rules={"add": {"long": "num_words >= 70"}})
    states = [p.state for p in plan(stricter, store=store)]
    assert states == ["done"] * 5 + ["todo"] + ["unknown"] * 3
    assert _states(base) == before


def test_the_plan_writes_no_pin_for_a_tokenizer_that_is_fitted_but_not_pinned(lab, base, tmp_path):
    shutil.copytree(base / "store", tmp_path / "store")
    shutil.rmtree(tmp_path / "store" / "tokenize" / "pins")
    before = _states(tmp_path / "store")
    plans = plan(_recipe(lab, base / "in"), store=str(tmp_path / "store"))
    assert {p.state for p in plans} == {"done"}
    assert _states(tmp_path / "store") == before
