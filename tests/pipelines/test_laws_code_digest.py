"""An edit in a pass changes that pass's code digest, and nobody else's."""

import json
import shutil

_DIGESTS = """
import json, sys
from pathlib import Path
tree, edits = json.loads(sys.argv[1])
sys.path.insert(0, tree)
from curate import cleaning, signals
from pipelines import digest
from pipelines.build import PASSES
from pipelines.passes.modules import submodules
assert digest.__file__.startswith(tree), digest.__file__
modules = {name: [f"pipelines.passes.{name}"] for name in PASSES}
modules["clean"] += submodules(cleaning)
modules["measure"] += submodules(signals)
modules["jsonl"], modules["csv"] = ["curate.readers.jsonl"], ["curate.readers.csv"]

def digests():
    for value in vars(digest).values():
        if hasattr(value, "cache_clear"):
            value.cache_clear()
    return {name: digest.code_digest(*names) for name, names in modules.items()}

untouched, changed = digests(), {}
for edit in edits:
    path = Path(tree, edit)
    source = path.read_bytes()
    path.write_bytes(source + b"\\n# A thought.\\n")
    found = digests()
    changed[edit] = sorted(name for name in found if found[name] != untouched[name])
    path.write_bytes(source)
assert digests() == untouched
print(json.dumps(changed))
"""
_CHANGES = {
    "pipelines/passes/collect.py": ["collect"],
    "pipelines/passes/identify.py": ["collect"],
    "pipelines/passes/deduplicate.py": ["deduplicate"],
    "pipelines/passes/judge.py": ["judge"],
    "pipelines/passes/splits.py": ["judge"],
    "pipelines/passes/tokenize.py": ["tokenize"],
    "curate/signals/document.py": ["measure"],
    "curate/cleaning/control.py": ["clean"],
    "curate/readers/jsonl.py": ["jsonl"],
    "curate/dedup/survivors.py": ["judge"],
    "curate/mixture/queue.py": ["mix"],
    "curate/tokens/packing.py": ["pack"],
    "pipelines/passes/base.py": [],
    "pipelines/passes/tally.py": ["mix", "pack"],
    "pipelines/mixing.py": [],
    "pipelines/report/page.py": [],
    "pipelines/store.py": [],
    "pipelines/engine.py": [],
    "pipelines/build.py": [],
}


def test_a_comment_changes_the_digests_that_reach_it_and_no_other(lab, tmp_path):
    for name in ("curate", "pipelines"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(lab.root / name, tmp_path / name, ignore=ignored)
    done = lab.child(_DIGESTS, [str(tmp_path), list(_CHANGES)], tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == _CHANGES
