"""One virtual environment per peer, made with pip, and remembered by what was asked for.

An environment that cannot be made is a line in the results, never a gap in them.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ARROW = "pyarrow==26.0.1"
TORCH = "2.13.0"
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True, kw_only=True)
class Environment:
    """What one peer is installed from.

    Attributes:
        name: of its folder.
        package: the distribution whose version the results name.
        requirements: for pip, pinned.
        python: the (major, minor) it must have; None: the one that runs the benchmark.
        needs_torch: whether PyTorch's CPU build is installed first.
    """

    name: str
    package: str
    requirements: tuple[str, ...]
    python: tuple[int, int] | None = None
    needs_torch: bool = False


ENVIRONMENTS = {
    one.name: one
    for one in (
        Environment(
            name="datasketch", package="datasketch", requirements=("datasketch==2.0.0", ARROW)
        ),
        Environment(name="rensa", package="rensa", requirements=("rensa==0.5.0", ARROW)),
        Environment(name="gaoya", package="gaoya", requirements=("gaoya==0.2.2", ARROW)),
        Environment(
            name="text-dedup",
            package="text-dedup",
            requirements=("text-dedup==0.4.1",),
            python=(3, 12),
        ),
        # aiohttp is imported and not declared; ray and torch (with CUDA, 5 GB) it would install by
        # itself in the middle of its first run.
        Environment(
            name="data-juicer",
            package="py-data-juicer",
            requirements=("py-data-juicer==1.6.1", "aiohttp==3.14.5", "ray==2.60.0"),
            needs_torch=True,
        ),
        Environment(
            name="datatrove",
            package="datatrove",
            requirements=(
                "datatrove[io,processing]==0.10.1",
                "spacy==3.8.18",
                "orjson",
                "xxhash==3.8.2",
            ),
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Made:
    """An environment as it came out: either a Python that works or the reason why not."""

    python: Path | None
    version: str
    reason: str = ""


def find_python(version: tuple[int, int]) -> Path | None:
    """Return a Python of this version: from PATH, pyenv or uv; None where there is none."""
    name = f"python{version[0]}.{version[1]}"
    homes = (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python")
    candidates = [Path(found) for found in (shutil.which(name),) if found]
    for home in homes:
        candidates += sorted(home.glob(f"*/bin/{name}"))
    for candidate in candidates:  # a shim of pyenv exists and refuses to run: ask each
        probe = [str(candidate), "-c", "import sys, venv; print(*sys.version_info[:2])"]
        answer = subprocess.run(probe, capture_output=True, text=True, check=False)
        if answer.returncode == 0 and answer.stdout.split() == [str(part) for part in version]:
            return candidate
    return None


def ensure(environment: Environment, home: Path) -> Made:
    """Make the environment under `home` unless it stands there already as asked for."""
    folder = home / environment.name
    python = folder / "bin" / "python"
    mark = folder / "made.json"
    asked = {
        "requirements": list(environment.requirements),
        "python": environment.python or list(sys.version_info[:2]),
    }
    asked = json.loads(json.dumps(asked))
    if mark.is_file() and python.exists():
        made = json.loads(mark.read_text())
        if made["asked"] == asked:
            return Made(python=python, version=made["version"])
    base = Path(sys.executable) if environment.python is None else find_python(environment.python)
    if base is None:
        wanted = ".".join(str(part) for part in environment.python or ())
        return Made(python=None, version="", reason=f"needs Python {wanted}, and none was found")
    print(f"Installing {' '.join(environment.requirements)} into {folder} ...", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    quiet = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    quiet.pop("PYTHONPATH", None)
    pip = [str(python), "-m", "pip", "install", "-q"]
    steps = [[[str(base), "-m", "venv", str(folder)]], [[*pip, *environment.requirements]]]
    if environment.needs_torch:
        steps.insert(1, _torch(pip))
    for alternatives in steps:
        for step in alternatives:
            done = subprocess.run(step, capture_output=True, text=True, check=False, env=quiet)
            if done.returncode == 0:
                break
        else:
            shutil.rmtree(folder, ignore_errors=True)
            return Made(python=None, version="", reason=_last_line(done.stderr or done.stdout))
    version = _version(python, environment.package)
    mark.write_text(json.dumps({"asked": asked, "version": version}))
    return Made(python=python, version=version)


def _torch(pip: list[str]) -> list[list[str]]:
    """Return the ways to install PyTorch without CUDA: from where pip looks, from its own index."""
    if sys.platform != "linux":
        return [[*pip, f"torch=={TORCH}"]]
    wanted = [*pip, f"torch=={TORCH}+cpu"]
    return [wanted, [*wanted, "--extra-index-url", TORCH_INDEX]]


def _version(python: Path, package: str) -> str:
    """Return the installed version and that of its Python."""
    code = (
        "import platform; from importlib.metadata import version; "
        f"print(version({package!r}), platform.python_version())"
    )
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True, check=True)
    version, running = answer.stdout.split()
    return f"{version} (Python {running})"


def _last_line(text: str) -> str:
    """Return the last line that says something, short enough for a table."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip said nothing"])[-1][:160]
