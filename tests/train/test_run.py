"""Whole runs: killed and resumed, cut short, refused, sampled, and with nothing else installed."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import train
from curate.corpus.errors import InputError
from train.generate import generate, load_model, sample
from train.runfile import load_run

ROOT = Path(train.__file__).resolve().parents[1]


def _trace(path):
    lines = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def _start(code, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_checkpoint_cut_short_falls_back_to_the_one_before_and_says_so(make_run, capsys):
    undisturbed, path = make_run("a"), make_run("b")
    train.run(undisturbed)
    train.run(path)
    newest = sorted((path.parent / "checkpoints").iterdir())
    assert [p.name for p in newest] == ["step-000000010", "step-000000012"]
    tensors = newest[-1] / "tensors.safetensors"
    os.truncate(tensors, tensors.stat().st_size // 2)
    capsys.readouterr()
    train.run(path)
    out = capsys.readouterr().out
    assert "step-000000012 is not whole" in out
    assert "resuming after step 10" in out
    assert _trace(path) == _trace(undisturbed)


def test_a_full_disk_leaves_the_last_good_checkpoint(make_run, monkeypatch):
    path = make_run()
    from train import checkpoint

    real = checkpoint.save_file

    def full(tensors, file):
        if "partial" in str(file) and (path.parent / "checkpoints/step-000000005").exists():
            raise OSError(28, "No space left on device")
        real(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(InputError, match="Last good checkpoint: step-000000005"):
        train.run(path)
    assert [p.name for p in (path.parent / "checkpoints").iterdir()] == ["step-000000005"]


def test_a_run_does_not_go_on_with_other_settings(make_run):
    path = make_run()
    train.run(path)
    content = json.loads(path.read_text())
    content["config"]["learning_rate"] = 0.01
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="learning_rate: 0.0008 -> 0.01"):
        train.run(path)


def test_minutes_become_steps_once(make_run):
    path = make_run(steps=None, max_minutes=0.005, checkpoint_every=0)
    result = train.run(path)
    resolved = json.loads((path.parent / "resolved.json").read_text())
    assert result["steps"] == resolved["steps"] == len(_trace(path)) > 0
    assert train.run(path)["steps"] == result["steps"]


def test_a_run_learns_and_reports_by_source(make_run):
    path = make_run(steps=150, learning_rate=0.004, checkpoint_every=0, log_every=50, eval_every=50)
    seen = []
    result = train.run(path, lambda step, steps, line: seen.append((step, steps, line)))
    assert _trace(path)[0][1] == pytest.approx(math.log(70), rel=1e-4)
    held_out = result["held_out"]
    assert held_out["model"]["bits_per_byte"] < held_out["unigram"]["bits_per_byte"] / 1.5
    assert held_out["documents"] == held_out["documents_planned"] == 12
    assert set(held_out["sources"]) == {"books", "code", "web"}
    assert any("held_out_nats" in line for _, _, line in seen)
    assert json.loads((path.parent / "result.json").read_text()) == result
    total = sum(line["targets"] for line in map(json.loads, _lines(path)) if "targets" in line)
    assert sum(s["targets"] for s in result["train_sources"].values()) == total
    lineage = json.loads((path.parent / "model/lineage.json").read_text())
    assert lineage["corpus"]["name"] == "tiny"


def _lines(path):
    return (path.parent / "metrics.jsonl").read_text().splitlines()


def test_samples_are_seeded_stop_at_the_end_and_never_hold_padded_or_special_ids(make_run):
    path = make_run(steps=1)
    train.run(path)
    model, specials = load_model(path.parent / "model")
    with torch.no_grad():
        model.objective.head.normal_()
        model.objective.head[70:] = 1000
    ids = sample(model, [0], 200, specials=specials, top_k=0, temperature=5.0, seed=1)
    assert len(ids) > 10
    assert all(i < 70 and i not in (0, 2, 3) for i in ids)
    assert 1 not in ids[:-1]
    texts = [generate(path.parent, "w9 w10", 5, seed=s) for s in (1, 1)]
    assert texts[0] == texts[1]
    assert generate(path.parent, "w9", 3, temperature=0) == generate(
        path.parent, "w9", 3, temperature=0, seed=9
    )


BLOCKED = """
import importlib, pkgutil, sys
ALLOWED = set(sys.stdlib_module_names) | {
    "torch", "numpy", "pyarrow", "safetensors", "curate", "train", "fsspec", "__mp_main__",
    # what torch itself needs
    "typing_extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock",
    "setuptools", "triton", "torchgen", "functorch", "packaging", "pydot", "optree",
}
blocked = set()
class Hide:
    # Stand before a finder: what is not allowed is not found, as if it were not installed.
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in ALLOWED and not top.startswith("_"):
            blocked.add(top)
            return None
        return self.finder.find_spec(name, path, target)
sys.meta_path[:] = [Hide(finder) for finder in sys.meta_path]
import train
for module in pkgutil.walk_packages(train.__path__, "train."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
ours = {"tokenizers", "rich", "tensorboard", "polars", "pydantic", "yaml", "dask", "prefect"}
assert not blocked & ours, blocked
assert not any(m.startswith(("pipelines", "curate.readers", "curate.signals")) for m in sys.modules)
result = train.run(sys.argv[1])
assert result["steps"] == 2 and result["sample"] is None
"""


def test_training_needs_only_torch_numpy_pyarrow_and_safetensors(make_run):
    done = _start(BLOCKED, make_run(steps=2))
    assert done.returncode == 0, done.stderr
    assert "no sample: samples need the package tokenizers" in done.stdout


def test_the_settings_need_no_torch():
    code = "import sys, train.config; assert not {'torch', 'numpy', 'pyarrow'} & set(sys.modules)"
    done = _start(code)
    assert done.returncode == 0, done.stderr


def test_the_module_runs_by_its_path_and_a_person_gets_one_line(make_run, tmp_path):
    path = make_run(steps=1)
    (tmp_path / "train.py").write_text("raise SystemExit('the wrong train')")
    command = [sys.executable, "-P", str(ROOT / "train/__main__.py")]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def start(argument):
        return subprocess.run(
            [*command, str(argument)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    good, bad = start(path), start(tmp_path / "absent.json")
    assert good.returncode == 0, good.stderr
    assert "model: " in good.stdout
    assert bad.returncode == 2
    assert bad.stderr.startswith("error: ")
    assert len(bad.stderr.splitlines()) <= 2


def test_loading_a_run_resolves_relative_paths_beside_it(make_run):
    def relative(content):
        for shard in content["shards"]:
            shard["uri"] = Path(shard["uri"]).name

    path = make_run(edit=relative)
    assert load_run(path).shards[0].parent == path.parent
