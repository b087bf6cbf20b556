"""Imports every module of a package as if some of what is installed were not.

Run as a program, in a fresh interpreter: `python -P import_guard.py PACKAGE`. It exits with 0 if
all modules load, else it prints those that do not, with the reason. What is out of bounds is not
refused but simply not found, as on a machine without it, so that code which can do without passes.
"""

import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.machinery import ModuleSpec

from packaging.requirements import Requirement

# curate never needs these; everything else that is installed it may use.
CURATE_DOES_WITHOUT = {"dask", "distributed", "fastapi", "prefect", "tensorboard", "torch", "train"}
# The format and the trainer need nothing but these (and what these need themselves).
NEEDED_BY = {
    "curate.corpus": {"numpy", "pyarrow", "fsspec"},
    "train": {"numpy", "pyarrow", "fsspec", "torch", "safetensors"},
}


class Hidden:
    """A finder that does not find what is out of bounds."""

    def __init__(self, finder: object, out_of_bounds: Callable[[str], bool]) -> None:
        self.finder = finder
        self.out_of_bounds = out_of_bounds

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if self.out_of_bounds(name):
            return None
        return self.finder.find_spec(name, path, target)  # type: ignore[attr-defined]


def with_what_they_need(packages: set[str]) -> set[str]:
    """Import names of some packages and of all distributions that these require."""
    names_of: dict[str, set[str]] = {}
    distributions_of = metadata.packages_distributions()
    for name, distributions in distributions_of.items():
        for distribution in distributions:
            names_of.setdefault(canonical(distribution), set()).add(name)
    todo = {canonical(one) for name in packages for one in distributions_of.get(name, [])}
    seen: set[str] = set()
    while todo:
        distribution = todo.pop()
        seen.add(distribution)
        if distribution in names_of:
            todo |= set(requirements(distribution)) - seen
    return {name for distribution in seen for name in names_of.get(distribution, ())}


def canonical(distribution: str) -> str:
    return distribution.lower().replace("_", "-").replace(".", "-")


def requirements(distribution: str) -> Iterator[str]:
    for line in metadata.requires(distribution) or []:
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield canonical(need.name)


def bounds(package: str) -> Callable[[str], bool]:
    """Tell whether a module is out of bounds for a package."""
    if package == "curate":
        return lambda name: name.partition(".")[0] in CURATE_DOES_WITHOUT
    allowed = with_what_they_need(NEEDED_BY[package]) | set(sys.stdlib_module_names)

    def out_of_bounds(name: str) -> bool:
        if name.partition(".")[0] == package.partition(".")[0] == "train":
            return False
        if name.partition(".")[0] == "curate":
            return name != "curate" and name.split(".")[1] != "corpus"
        if name.startswith("_sysconfigdata_"):  # of the standard library, named by the platform
            return False
        return name.partition(".")[0] not in allowed

    return out_of_bounds


def failures(package: str) -> Iterator[str]:
    """Import a package and all modules in it; a line for each that does not load."""
    names = [package]
    try:
        root = importlib.import_module(package)
    except ImportError as error:
        yield f"{package}: {error}"
        return
    names = [module.name for module in pkgutil.walk_packages(root.__path__, f"{package}.")]
    for name in names:
        if name.endswith(".__main__"):
            continue
        try:
            importlib.import_module(name)
        except ImportError as error:
            yield f"{name}: {error}"
    print(f"{package}: {len(names) + 1} modules", file=sys.stderr)


def main() -> int:
    (package,) = sys.argv[1:]
    out_of_bounds = bounds(package)
    sys.meta_path[:] = [Hidden(finder, out_of_bounds) for finder in sys.meta_path]  # type: ignore[misc]
    lines = list(failures(package))
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
