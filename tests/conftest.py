"""What every test may rely on: a silent environment, few deterministic examples, real data."""

import atexit
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports Prefect, polars or tokenizers. Subprocesses of tests inherit it.
_scratch = tempfile.TemporaryDirectory(prefix="preceptor-tests-")
atexit.register(_scratch.cleanup)
os.environ.update(
    {
        "COLUMNS": "100",  # what rich prints must not depend on somebody's window
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
        "PREFECT_HOME": _scratch.name,
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "TOKENIZERS_PARALLELISM": "false",  # it warns when a process with threads forks
    }
)
os.environ.setdefault("POLARS_MAX_THREADS", "2")
for name in ("FORCE_COLOR", "PRECEPTOR_STORE", "PREFECT_API_URL", "PREFECT_PROFILE"):
    os.environ.pop(name, None)

# Deadlines measure the machine's neighbours. HYPOTHESIS_PROFILE=thorough looks harder.
_quiet = [HealthCheck.too_slow]
settings.register_profile(
    "few",
    max_examples=25,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=_quiet,
)
settings.register_profile("thorough", max_examples=500, deadline=None, suppress_health_check=_quiet)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "few"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real, labelled data: PRECEPTOR_SHARED_DATA, else one beside the checkout."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("PRECEPTOR_SHARED_DATA", beside))
    if not folder.is_dir():
        pytest.skip(f"no labelled data: {folder} is no folder (name one in PRECEPTOR_SHARED_DATA)")
    return folder
