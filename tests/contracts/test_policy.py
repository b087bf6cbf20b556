"""House rules that no linter has: read off the sources, each with its reason."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ["curate", "pipelines", "train", "flows"]
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
SHIPPED = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*"))
    if path.is_file() and "__pycache__" not in path.parts
]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 450

# Whoever can write the file can run code in whoever reads it.
PICKLES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
# Text becomes code or a command, an archive chooses where it is written, or threads are forked.
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "os.fork",
    "os.popen",
    "os.system",
    "torch.load",
    "torch.save",
    "yaml.full_load",
    "yaml.load",
    "yaml.unsafe_load",
}
FORBIDDEN_METHODS = {"extractall", "map_elements"}


def offences(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The line and name of everything in a module that the house does not use."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                roots = {alias.name.partition(".")[0] for alias in names}
                yield from ((node.lineno, name) for name in sorted(roots & PICKLES))
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in PICKLES:
                yield node.lineno, module
            case ast.Call(func=function, keywords=keywords):
                name = ast.unparse(function)
                if name in FORBIDDEN_CALLS:
                    yield node.lineno, name
                if isinstance(function, ast.Attribute) and function.attr in FORBIDDEN_METHODS:
                    yield node.lineno, function.attr
                for keyword in keywords:
                    if keyword.arg == "shell" and ast.unparse(keyword.value) != "False":
                        yield node.lineno, "shell=True"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from dill import loads",
        "import yaml\nyaml.load(text)",
        "eval('1')",
        "exec(code)",
        "import subprocess\nsubprocess.run(line, shell=True)",
        "torch.load(path, weights_only=True)",
        "tarfile.open(path).extractall()",
        "os.fork()",
    ],
)
def test_the_lint_sees_what_it_is_for(source: str) -> None:
    assert len(list(offences(ast.parse(source)))) == 1


@pytest.mark.parametrize(
    "source", ["model.eval()", "yaml.safe_load(text)", "run(line, shell=False)", "import json"]
)
def test_the_lint_leaves_the_harmless_alone(source: str) -> None:
    assert list(offences(ast.parse(source))) == []


def test_nothing_turns_data_into_code() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in MODULES
        for line, name in offences(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)


def test_no_module_is_too_long_to_read_in_one_sitting() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    long = {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MAX_LINES}
    assert long == {}


def test_sources_are_ascii() -> None:
    """What looks alike is alike; text that needs other letters writes them as escapes."""
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*SHIPPED, *TESTS]
        for number, line in enumerate(path.read_bytes().splitlines(), 1)
        if not line.isascii()
    ]
    assert not found, "\n".join(found)


def test_no_path_of_one_machine_is_written_down() -> None:
    homes = "root|tmp|work|home|Users|scratch"
    machine_path = re.compile(rf"(?<![\w.:/\-]){re.escape('/')}(?:{homes})/")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in [*SHIPPED, *TESTS]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if machine_path.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_module_shadows_the_standard_library() -> None:
    """The wheel's four names stand at the top of site-packages: they must be nobody else's."""
    assert set(PACKAGES) & sys.stdlib_module_names == set()
    assert all((ROOT / package / "__init__.py").is_file() for package in PACKAGES)


def test_nothing_is_committed_that_does_not_belong_to_the_house() -> None:
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    rooms = {"curate", "flows", "pipelines", "tests", "train", ".ci"}
    folders = {name.partition("/")[0] for name in listed.stdout.splitlines() if "/" in name}
    assert folders <= rooms
