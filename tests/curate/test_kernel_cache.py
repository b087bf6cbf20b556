"""Where compiled kernels are kept, and that no edit, full disk or neighbour spoils them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

KERNEL = """
import sys
import numba
from curate.kernels.compiled import compiled
from curate.kernels.part import twice

@compiled
def kernel(x: int) -> int:
    return twice(x) + 1
"""
PART = """
from curate.kernels.compiled import part_of_kernels

@part_of_kernels
def twice(x: int) -> int:
    return FACTOR * x
"""
PROGRAM = """
import numba
before = numba.config.CACHE_DIR
from curate.kernels.whole import kernel
assert numba.config.CACHE_DIR == before, "others' setting has changed"
result = kernel(20)
stats = getattr(kernel, "stats", None)
print(result, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


@pytest.fixture
def package(tmp_path):
    """A copy of the kernels with one kernel more, which swallows a function of another module."""
    for name in ("__init__.py", "kernels/__init__.py", "kernels/compiled.py", "kernels/cache.py"):
        target = tmp_path / "src" / "curate" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "curate" / name, target)
    kernels = tmp_path / "src" / "curate" / "kernels"
    (kernels / "whole.py").write_text(KERNEL)
    (kernels / "part.py").write_text(PART.replace("FACTOR", "2"))
    return kernels


def run(package, cache, program=PROGRAM, **variables):
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "PYTHON"))},
        "PYTHONPATH": str(package.parents[1]),
        "XDG_CACHE_HOME": str(cache),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_an_edit_in_a_swallowed_function_is_noticed(package, tmp_path):
    cache = tmp_path / "cache"
    assert run(package, cache) == ["41", "0", "1"]
    assert run(package, cache) == ["41", "1", "0"]
    (package / "part.py").write_text(PART.replace("FACTOR", "3"))
    assert run(package, cache) == ["61", "0", "1"]
    assert len(list((cache / "preceptor").iterdir())) == 2
    assert not list(package.rglob("*.nb?"))  # nothing lies beside the sources


def test_kernels_work_where_nothing_can_be_kept(package, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    assert run(package, file / "cache") == ["41", "0", "1"]
    assert run(package, "", HOME=str(file)) == ["41", "0", "1"]
    open_to_all = tmp_path / "open"
    run(package, open_to_all)
    (folder,) = (open_to_all / "preceptor").iterdir()
    folder.chmod(0o777)  # somebody else could have put code there
    assert run(package, open_to_all) == ["41", "0", "1"]


def test_damaged_machine_code_is_compiled_again(package, tmp_path):
    cache = tmp_path / "cache"
    run(package, cache)
    for damage in (b"", b"no machine code"):
        for file in cache.rglob("*.nb?"):
            file.write_bytes(damage)
        assert run(package, cache)[0] == "41"


def test_the_setting_of_other_users_of_numba_stays(package, tmp_path):
    theirs = tmp_path / "theirs"
    assert run(package, tmp_path / "cache", NUMBA_CACHE_DIR=str(theirs)) == ["41", "0", "1"]
    assert not theirs.exists()
    assert run(package, tmp_path / "cache", NUMBA_DISABLE_JIT="1", program=PLAIN) == ["41"]


PLAIN = "from curate.kernels.whole import kernel; print(kernel(20))"


def test_naming_kernels_does_not_import_numba():
    program = """
import sys
import curate.contamination.index, curate.dedup.exact, curate.dedup.minhash
import curate.kernels.shingles, curate.kernels.words
assert "numba" not in sys.modules and "datasketch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=True)
