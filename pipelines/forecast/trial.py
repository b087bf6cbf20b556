"""One trial: the recipe's passes on one sample, in a fresh process, with every stage measured.

A process of its own pays what a run pays once (imports, compiled kernels loaded), so that two
trials of two sizes tell the fixed part from the part that grows.

    python -P -m pipelines.forecast.trial REQUEST.json
"""

import contextlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.corpus.errors import InputError
from pipelines.forecast.sampling import Sample
from pipelines.recipe import Recipe

__all__ = ["Meter", "disk_bytes", "run_trial", "table_bytes"]

_COMMAND = ("-m", "pipelines.forecast.trial")
# What a sample must not stop at: guards over shares, and what lies in another store.
_UNGUARDED: dict[str, Any] = {"source_loss": None, "cluster_size": None, "verified_share": None}


def run_trial(recipe: Recipe, sample: Sample, folder: Path) -> dict[str, Any]:
    """Run the passes on a sample in a process of its own; return what `measure` returns there.

    Raises:
        InputError: the sample cannot be curated; the message is the run's own.
    """
    store = Path(tempfile.mkdtemp(prefix="store-", dir=folder))
    request = store / "request.json"
    told = {
        "recipe": _sampled(recipe, sample),
        "base": recipe.base,
        "allow": sorted(recipe.allowed),
        "store": str(store / "store"),
    }
    request.write_text(json.dumps(told), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-P", *_COMMAND, str(request)],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise InputError(f"the sample cannot be curated: {said[-1].removeprefix('error: ')}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _sampled(recipe: Recipe, sample: Sample) -> dict[str, Any]:
    """Return the recipe for a sample, as data."""
    data = recipe.model_dump(mode="json", exclude_unset=True)
    for source in data["sources"]:
        source["paths"] = sample.paths[source["name"]]
    data["sources"] = [source for source in data["sources"] if source["paths"]]
    left_out = {"checks", "mix"}  # a budget is of the whole; what fails a check is no matter here
    data = {name: value for name, value in data.items() if name not in left_out}
    data["collect"] = {**data.get("collect", {}), "bad_files": 1.0, "bad_records": 1.0}
    dedup = {**data.get("deduplicate", {}), "guardrails": _UNGUARDED}
    dedup.pop("against", None)
    names = [source["name"] for source in data["sources"]]
    for key in ("priority", "exempt"):
        if key in dedup:
            dedup[key] = [name for name in dedup[key] if name in names]
    data["deduplicate"] = dedup
    lines = (data.get("clean") or {}).get("repeated_lines")
    if lines:
        lines["source_loss"] = None
    return data


class Meter:
    """Measures passes and their stages: seconds, processor seconds, peak memory."""

    def __init__(self) -> None:
        self.passes: dict[str, dict[str, Any]] = {}
        self._at: dict[str, float] = {}
        self._stages: dict[str, list[float]] = {}
        self._stage = ""

    def begin(self) -> None:
        """Start a pass."""
        with contextlib.suppress(OSError):  # the kernel forgets the high-water mark so far
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        self._stages, self._stage, self._at = {}, "", _clock()

    def observe(self, event: Any) -> None:
        """Take the time at a stage's start."""
        if event.kind == "start":
            self._lap()
            self._stage = event.stage
            self._stages.setdefault(event.stage, [0.0, 0.0, 0])[2] += event.total

    def end(self, name: str) -> None:
        """End a pass."""
        self._lap()
        self.passes[name] = {"stages": self._stages, "peak_bytes": peak_bytes()}

    def _lap(self) -> None:
        now = _clock()
        spent = self._stages.setdefault(self._stage, [0.0, 0.0, 0])
        spent[0] += now["wall"] - self._at["wall"]
        spent[1] += now["cpu"] - self._at["cpu"]
        self._at = now


def _clock() -> dict[str, float]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"wall": time.monotonic(), "cpu": used.ru_utime + used.ru_stime}


def peak_bytes() -> int:
    """Return the most memory this process has had since its pass began, mapped files included."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def disk_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def table_bytes(folder: Path) -> dict[str, int]:
    """Return the bytes of a pass's tables, read off its part records; the rest is `""`."""
    found = {"": disk_bytes(folder)}
    seen: set[str] = set()
    for path in sorted((folder / "parts").glob("*.json")):
        for table, shards in json.loads(path.read_text(encoding="utf-8"))["tables"].items():
            for shard in shards:
                if shard["path"] in seen or not shard["path"].startswith(f"{folder.name}/"):
                    continue
                seen.add(shard["path"])
                found[table] = found.get(table, 0) + shard["bytes"]
                found[""] -= shard["bytes"]
    return found


def measure(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run every pass in this process and tell what each took, left and found."""
    began = _clock()
    from pipelines.build import PASSES
    from pipelines.engine import SerialEngine
    from pipelines.passes.base import Context
    from pipelines.store import Store

    recipe = Recipe.model_validate(request["recipe"])
    recipe._base, recipe._allowed = request["base"], frozenset(request["allow"])
    meter = Meter()
    store = Store(request["store"])
    context = Context(store=store, engine=SerialEngine(), recipe=recipe, observe=meter.observe)
    start = {name: value - began[name] for name, value in _clock().items()}
    for name, step in PASSES.items():
        meter.begin()
        step(context)
        meter.end(name)
        meter.passes[name]["disk_bytes"] = table_bytes(Path(request["store"]) / name)
        meter.passes[name]["counts"] = dict(context.manifests[name].counts)
    return {
        "passes": meter.passes,
        "start": start,
        "text_bytes": _texts(store, context.manifests["judge"]),
        "encoders": [one["name"] for one in context.manifests["tokenize"].info["encoders"]],
    }


def _texts(store: Any, judged: Any) -> dict[str, int]:
    """Return the bytes of all documents and of those kept."""
    import polars as pl

    from curate.corpus.shard import read_shard

    total = kept = 0
    for shard in judged.tables["verdicts"]:
        frame = pl.from_arrow(read_shard(store.storage, shard, ["kept", "num_bytes"]))
        assert isinstance(frame, pl.DataFrame)
        total += int(frame["num_bytes"].sum())
        kept += int(frame.filter("kept")["num_bytes"].sum())
    return {"all": total, "kept": kept}


def main() -> None:
    """Answer one request; the result is the last line printed."""
    try:
        found = measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    except InputError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(2) from None
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
