import os
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from pipelines import doctor

ROOT = Path(__file__).resolve().parents[2]


def by_name(findings: list[doctor.Finding]) -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in findings}


def test_this_environment_has_no_problem_and_no_version_known_to_be_bad(tmp_path: Path) -> None:
    findings = doctor.checkup(str(tmp_path))
    assert [finding for finding in findings if finding.status == "problem"] == []
    assert "prefect" in by_name(findings)["versions"].detail


def test_what_is_not_ok_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.metadata, "version", lambda package: "0.0.1")
    for finding in doctor.checkup(str(tmp_path)):
        assert finding.detail
        assert (finding.remedy != "") == (finding.status != "ok"), finding


@pytest.mark.parametrize("package", ["fastapi", "sqlalchemy"])
def test_the_two_versions_that_break_prefect_in_silence_are_problems(package: str) -> None:
    (finding,) = doctor._known_bad(
        {package: {"fastapi": "0.165.0", "sqlalchemy": "2.1.9"}[package]}
    )
    assert finding.status == "problem"
    assert finding.remedy.startswith(f"pip install '{package}")


@pytest.mark.parametrize("bad", doctor.KNOWN_BAD, ids=lambda bad: bad.package)
def test_every_bound_of_the_known_bad_list_is_where_it_says(bad: doctor.BadVersion) -> None:
    bound = bad.versions.lstrip("<>=")
    at_bound = doctor._known_bad({bad.package: bound})[0]
    far_above = doctor._known_bad({bad.package: "9999.0"})[0]
    if bad.versions.startswith(">="):
        assert at_bound.status == far_above.status == bad.status
    else:
        assert at_bound.status == far_above.status == "ok"
        assert doctor._known_bad({bad.package: "0.0.1"})[0].status == bad.status


def test_a_prerelease_of_a_bad_version_is_bad() -> None:
    assert doctor._known_bad({"sqlalchemy": "2.2.0b1"})[0].status == "problem"


def test_a_local_build_counts_as_its_version() -> None:
    assert doctor._known_bad({"torch": "2.13.0+cpu"})[0].status == "ok"
    assert doctor._known_bad({"torch": "2.9.1+cu128"})[0].status == "warning"


def test_the_declared_requirements_exclude_what_the_list_calls_a_problem() -> None:
    """Pins and list tell the same story; whoever changes one is sent to the other."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needs = {need.name.lower(): need for need in map(Requirement, project["dependencies"])}
    for bad in doctor.KNOWN_BAD:
        if bad.status == "problem":
            bound = bad.versions.lstrip("<>=")
            worst = bound if bad.versions.startswith(">=") else "0.0.1"
            assert not needs[bad.package].specifier.contains(worst)


def test_missing_and_outdated_packages_are_named_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines = ["polars>=9999", "sqlalchemy[asyncio]<2.1", "no-such-package>=1", 'torch; extra == "x"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda package: lines)
    findings = by_name(doctor._packages())
    assert set(findings) == {"polars", "no-such-package"}
    assert "does not satisfy >=9999" in findings["polars"].detail
    assert findings["no-such-package"].detail == "not installed"
    assert findings["no-such-package"].remedy == "pip install 'no-such-package>=1'"


def test_running_from_a_folder_that_is_not_installed_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(package: str) -> list[str]:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(doctor.metadata, "requires", absent)
    (finding,) = doctor._packages()
    assert finding.status == "warning"
    assert "not installed" in finding.detail


def test_without_pytorch_the_device_costs_a_line_of_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert doctor._device().detail == "not looked at: PyTorch is not installed"


def test_a_scheduler_that_cannot_be_imported_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    finding = doctor._scheduler()
    assert finding.status == "problem"
    assert "--workers 1" in finding.remedy


def test_telemetry_switched_on_by_the_user_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DO_NOT_TRACK")
    assert doctor._prefect_silence().status == "ok"
    monkeypatch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "True")
    finding = doctor._prefect_silence()
    assert finding.status == "warning"
    assert finding.remedy == "unset PREFECT_SERVER_ANALYTICS_ENABLED"


def test_a_store_that_does_not_exist_yet_is_fine_and_is_not_made(tmp_path: Path) -> None:
    store = tmp_path / "a" / "b"
    for name in (str(store), f"file://{store}"):
        findings = by_name(doctor._store(name))
        assert findings["store"].status == "ok"
        assert findings["disk"].detail.endswith(str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = doctor._store(str(tmp_path / "file" / "store"))
    assert finding.status == "problem"
    assert finding.detail.endswith("is a file")


def test_a_store_that_cannot_be_written_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(dir: Path) -> None:
        raise OSError(30, os.strerror(30), str(dir))

    monkeypatch.setattr(doctor.tempfile, "TemporaryFile", refuse)
    (finding,) = doctor._store(str(tmp_path))
    assert finding.status == "problem"
    assert "cannot be written" in finding.detail


def test_little_disk_is_a_warning_and_hardly_any_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 2 * 10**9

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: Usage)
    assert doctor._disk(tmp_path).status == "warning"
    Usage.free = 10**8
    assert doctor._disk(tmp_path).status == "problem"
    assert "0.1 GB" in doctor._disk(tmp_path).detail


def test_a_uri_of_an_unknown_kind_is_a_problem_and_a_known_one_is_not_contacted() -> None:
    (unknown,) = doctor._store("sss3://bucket/store")
    assert unknown.status == "problem"
    assert "'sss3'" in unknown.detail
    (known,) = doctor._store("memory://store")
    assert known.status == "ok"


def test_an_object_store_without_its_extra_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    (finding,) = doctor._store("s3://bucket/store")
    assert (finding.status, finding.remedy) == ("problem", "pip install 'preceptor[s3]'")
