"""`preceptor --help` answers at once because it loads nothing that takes long to load."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLOW = {
    "dask",
    "datasketch",
    "distributed",
    "numpy",
    "polars",
    "prefect",
    "pyarrow",
    "scipy",
    "tokenizers",
    "torch",
}

HELP = """
import sys
from pipelines.cli import main
sys.argv[0] = "preceptor"
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}))
"""


@pytest.mark.parametrize("command", ["", "run", "demo", "train", "serve", "doctor", "why"])
def test_help_loads_no_slow_package(command: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-P", "-c", HELP, *command.split(), "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    shown, _, loaded = run.stdout.rpartition("LOADED")
    assert "Usage" in shown
    assert SLOW & set(loaded.split()) == set()
    assert list(tmp_path.iterdir()) == []
