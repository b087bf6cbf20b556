"""What each package loads, proved in fresh interpreters and read off the sources."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GUARD = Path(__file__).with_name("import_guard.py")


def guarded(package: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(GUARD), package],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("package", ["curate", "curate.corpus", "train"])
def test_every_module_loads_without_what_its_package_must_not_need(
    package: str, tmp_path: Path
) -> None:
    run = guarded(package, tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_guard_sees_a_module_that_needs_too_much(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "__init__.py").touch()
    (tmp_path / "train" / "fine.py").write_text("import torch\nimport curate.corpus\n")
    (tmp_path / "train" / "frames.py").write_text("import polars\n")
    (tmp_path / "train" / "rules.py").write_text("import curate.rules\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = ['', 'train']"
    code += f"; import runpy; runpy.run_path({str(GUARD)!r}, run_name='__main__')"
    run = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1, run.stderr
    assert [line.split(":")[0] for line in run.stdout.split("\n") if line] == [
        "train.frames",
        "train.rules",
    ]


def eager_imports(tree: ast.AST) -> Iterator[str]:
    """Names that a module imports when it is imported: all but those inside functions."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{alias.name}" for alias in names)
            case _:
                yield from eager_imports(node)


@pytest.mark.parametrize(
    ("folder", "allowed"),
    [
        ("train", {"torch", "numpy", "pyarrow", "safetensors", "fsspec", "train"}),
        ("curate/corpus", {"numpy", "pyarrow", "fsspec"}),
    ],
)
def test_eager_imports_are_those_that_were_agreed_on(folder: str, allowed: set[str]) -> None:
    """Stricter than the guard: not even what torch happens to bring along, nor inside a `try`."""
    beyond = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in eager_imports(ast.parse(path.read_text(encoding="utf-8")))
        if name.partition(".")[0] not in allowed | sys.stdlib_module_names
        and name.split(".")[:2] != ["curate", "corpus"]
    ]
    assert beyond == []
