"""What could go wrong on this machine, found before it does.

Each check looks at one thing and answers with findings; a finding that is not `ok` says what to
do. Versions are read from the installed metadata, so that a broken package is reported and not
imported; PyTorch alone is imported, because only it can tell what the device is capable of.
"""

import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

__all__ = ["KNOWN_BAD", "BadVersion", "Finding", "checkup"]

Status = Literal["ok", "warning", "problem"]

LITTLE_DISK_BYTES = 5 * 10**9
NO_DISK_BYTES = 10**9


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing looked at.

    Attributes:
        name: what was looked at, in a word or two.
        status: `ok`; `warning` for what may surprise; `problem` for what will fail.
        detail: what was found.
        remedy: what to do about it; empty when there is nothing to do.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class BadVersion:
    """Versions of a package that install without complaint and then do harm.

    Attributes:
        package: the distribution's name.
        versions: the bad ones, as a version specifier (PEP 440).
        status: how bad they are for Preceptor.
        harm: what happens.
        remedy: the requirement to install instead.
    """

    package: str
    versions: str
    status: Status
    harm: str
    remedy: str


KNOWN_BAD = (
    BadVersion(
        package="fastapi",
        versions=">=0.151",
        status="problem",
        harm="every Prefect flow and server start fails",
        remedy="fastapi<0.151",
    ),
    BadVersion(
        package="sqlalchemy",
        versions=">=2.1",
        status="problem",
        harm="Prefect's server runs, but its cron schedules never fire",
        remedy="sqlalchemy[asyncio]<2.1",
    ),
    BadVersion(
        package="prefect",
        versions="<3.8.8",
        status="warning",
        harm="flows were never tried with it",
        remedy="prefect>=3.8.8,<4",
    ),
    BadVersion(
        package="dask",
        versions="<2026.6",
        status="warning",
        harm="its dataframe merge loses rows (Preceptor does not use it; your own code may)",
        remedy="dask>=2026.6",
    ),
    BadVersion(
        package="distributed",
        versions="<2026.6",
        status="warning",
        harm="its dataframe merge loses rows (Preceptor does not use it; your own code may)",
        remedy="distributed>=2026.6",
    ),
    BadVersion(
        package="pyarrow",
        versions="<14.0.1",
        status="problem",
        harm="a crafted Arrow or Parquet file runs code (CVE-2023-47248)",
        remedy="pyarrow>=24",
    ),
    BadVersion(
        package="torch",
        versions="<2.10",
        status="warning",
        harm="a crafted checkpoint corrupts memory in torch.load (CVE-2026-24747); Preceptor "
        "reads safetensors only",
        remedy="torch>=2.10",
    ),
)


def checkup(store: str | None) -> list[Finding]:
    """Look at everything that runs depend on; nothing is created, changed or contacted.

    Args:
        store: a folder or fsspec uri to look at, existing or not yet; None leaves it out.

    Returns:
        The findings, the good ones too, in a fixed order.
    """
    findings = [_python(), *_packages(), *_known_bad(_installed_versions())]
    findings += [_training(), _device(), _cpus(), _scheduler(), _prefect_silence()]
    if store is not None:
        findings += _store(store)
    return findings


def _python() -> Finding:
    # An older Python than ours cannot even compile this; pip refuses it by requires-python.
    detail = f"{platform.python_version()} at {sys.executable}"
    return Finding(name="Python", status="ok", detail=detail)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _requirements(extra: str = "") -> list[Requirement]:
    """Preceptor's own requirements that hold here; with an extra, those of that extra alone."""
    declared = [Requirement(line) for line in metadata.requires("preceptor") or []]
    held = [need for need in declared if not need.marker or need.marker.evaluate({"extra": extra})]
    return [need for need in held if not extra or (need.marker and "extra" in str(need.marker))]


def _unmet(requirements: list[Requirement]) -> Iterator[tuple[Requirement, str | None]]:
    """The requirements that the environment does not meet, with the version there is."""
    for need in requirements:
        found = _version(need.name)
        if found is None or not need.specifier.contains(found, prereleases=True):
            yield need, found


def _install(need: Requirement) -> str:
    extras = f"[{','.join(sorted(need.extras))}]" if need.extras else ""
    return f"pip install '{need.name}{extras}{need.specifier}'"


def _packages() -> list[Finding]:
    try:
        requirements = _requirements()
    except metadata.PackageNotFoundError:
        return [
            Finding(
                name="packages",
                status="warning",
                detail="preceptor runs from a folder and is not installed, so its requirements "
                "cannot be read",
                remedy="make setup, or: pip install -c constraints.txt .",
            )
        ]
    unmet = [
        Finding(
            name=need.name,
            status="problem",
            detail=f"{found} does not satisfy {need.specifier}" if found else "not installed",
            remedy=_install(need),
        )
        for need, found in _unmet(requirements)
    ]
    if unmet:
        return unmet
    detail = f"all {len(requirements)} that preceptor {_version('preceptor')} requires"
    return [Finding(name="packages", status="ok", detail=detail)]


def _installed_versions() -> dict[str, str]:
    found = {bad.package: _version(bad.package) for bad in KNOWN_BAD}
    return {package: version for package, version in found.items() if version is not None}


def _known_bad(versions: Mapping[str, str]) -> list[Finding]:
    """Hold installed versions (package to version) against the list of those known to be bad."""
    found = [
        Finding(
            name=bad.package,
            status=bad.status,
            detail=f"{versions[bad.package]}: {bad.harm}",
            remedy=f"pip install '{bad.remedy}'",
        )
        for bad in KNOWN_BAD
        if bad.package in versions
        and SpecifierSet(bad.versions).contains(versions[bad.package], prereleases=True)
    ]
    if found:
        return found
    listed = ", ".join(f"{package} {version}" for package, version in versions.items())
    return [Finding(name="versions", status="ok", detail=f"none known to be bad: {listed}")]


def _training() -> Finding:
    try:
        requirements = _requirements("train")
    except metadata.PackageNotFoundError:
        requirements = [Requirement("torch"), Requirement("safetensors")]
    unmet = list(_unmet(requirements))
    if unmet:
        found = "; ".join(
            f"{need.name} {version} does not satisfy {need.specifier}"
            if version
            else f"{need.name} is not installed"
            for need, version in unmet
        )
        return Finding(
            name="training",
            status="warning",
            detail=f"{found}; curating works without",
            remedy="pip install 'preceptor[train]', or: make setup",
        )
    versions = ", ".join(f"{need.name} {_version(need.name)}" for need in requirements)
    return Finding(name="training", status="ok", detail=versions)


def _device() -> Finding:
    try:
        import torch
    except ImportError:
        return Finding(name="device", status="ok", detail="not looked at: PyTorch is not installed")
    except OSError as error:  # a library that PyTorch links to is missing or broken
        return Finding(
            name="device",
            status="problem",
            detail=f"PyTorch does not load: {error}",
            remedy="install PyTorch again, by itself: make torch",
        )
    if not torch.cuda.is_available():
        built = "has no CUDA in it" if torch.version.cuda is None else "finds no CUDA device"
        return Finding(
            name="device",
            status="ok",
            detail=f"CPU ({platform.machine()}), {torch.get_num_threads()} threads; "
            f"PyTorch {torch.__version__} {built}",
        )
    properties = torch.cuda.get_device_properties(0)
    bf16 = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no bf16"
    return Finding(
        name="device",
        status="ok",
        detail=f"{torch.cuda.device_count()} x {properties.name}, "
        f"{properties.total_memory / 2**30:.0f} GiB, {bf16}, CUDA {torch.version.cuda}",
    )


def _cpus() -> Finding:
    # The affinity mask, where there is one, is what a container or a batch system left us.
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else (os.cpu_count() or 1)
    return Finding(name="CPUs", status="ok", detail=f"{count} for this process")


def _scheduler() -> Finding:
    """Whether a local Dask cluster could start: its package loads and loopback can be listened on.

    No cluster is started: that takes seconds and processes.
    """
    try:
        from distributed import LocalCluster

        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
    except ImportError as error:
        return Finding(
            name="scheduler",
            status="problem",
            detail=f"Dask's cluster does not load: {error}",
            remedy="pip install 'dask>=2026.6' 'distributed>=2026.6', or run with --workers 1",
        )
    except OSError as error:
        return Finding(
            name="scheduler",
            status="problem",
            detail=f"no port of 127.0.0.1 can be listened on: {error}",
            remedy="allow loopback connections, or run with --workers 1",
        )
    detail = f"{LocalCluster.__name__} of distributed {_version('distributed')} on loopback"
    return Finding(name="scheduler", status="ok", detail=detail)


def _prefect_silence() -> Finding:
    """Preceptor switches Prefect's usage statistics off, except where the user switched them on."""
    silent = {"DO_NOT_TRACK": {"1", "true"}, "PREFECT_SERVER_ANALYTICS_ENABLED": {"0", "false"}}
    loud = [
        f"{name}={os.environ[name]}"
        for name, values in silent.items()
        if os.environ.get(name, min(values)).lower() not in values
    ]
    if loud:
        return Finding(
            name="telemetry",
            status="warning",
            detail=f"{' and '.join(loud)} in the environment: Prefect sends usage statistics",
            remedy="unset " + " ".join(setting.partition("=")[0] for setting in loud),
        )
    return Finding(name="telemetry", status="ok", detail="Prefect's usage statistics are off")


def _store(store: str) -> list[Finding]:
    protocol, separator, rest = store.partition("://")
    if not separator:
        return _local_store(Path(store))
    if protocol == "file":
        return _local_store(Path(rest))
    import fsspec

    try:
        fsspec.get_filesystem_class(protocol)
    except ImportError as error:
        extra = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}.get(protocol)
        return [
            Finding(
                name="store",
                status="problem",
                detail=f"{store}: {error}",
                remedy=f"pip install 'preceptor[{extra}]'" if extra else "",
            )
        ]
    except ValueError:
        return [
            Finding(
                name="store",
                status="problem",
                detail=f"{store}: no file system is called {protocol!r}",
                remedy="give a folder, or a uri such as s3://bucket/folder",
            )
        ]
    return [Finding(name="store", status="ok", detail=f"{store} (not contacted)")]


def _local_store(folder: Path) -> list[Finding]:
    existing = next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )
    coming = "" if existing == folder.absolute() else " (made by the first run)"
    if not existing.is_dir():
        return [
            Finding(
                name="store",
                status="problem",
                detail=f"{existing} is a file",
                remedy="give a folder with --store or PRECEPTOR_STORE",
            )
        ]
    try:
        # Permission bits do not know of read-only mounts and quotas; a file that vanishes does.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return [
            Finding(
                name="store",
                status="problem",
                detail=f"{existing} cannot be written: {error.strerror}",
                remedy="give another folder with --store or PRECEPTOR_STORE",
            )
        ]
    return [Finding(name="store", status="ok", detail=f"{folder}{coming}"), _disk(existing)]


def _disk(folder: Path) -> Finding:
    free_bytes = shutil.disk_usage(folder).free
    status: Status = "ok"
    if free_bytes < LITTLE_DISK_BYTES:
        status = "problem" if free_bytes < NO_DISK_BYTES else "warning"
    return Finding(
        name="disk",
        status=status,
        detail=f"{free_bytes / 10**9:,.1f} GB free at {folder}",
        remedy="" if status == "ok" else "free some space, or put the store on another disk",
    )
