"""What Prefect must find in the environment before it is imported: silence, patience, old UI.

Prefect reads its settings once, at import, and hands the environment to every process it starts.
Only what is unset is set: what the user says, stands.
"""

import os

__all__ = ["SETTINGS", "prepare"]

SETTINGS = {
    # Usage statistics need both: the first silences the SDK, the second the server.
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # The V2 pages contact an analytics host from the browser whatever the two above say.
    "PREFECT_SERVER_UI_V2_ENABLED": "false",
    # A cold start takes 10 to 20 s; the default patience of 20 s fails on a busy machine.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    # By default only events are ever removed, and a nightly schedule adds runs for ever.
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    # Prefect prints what every library logs, and Dask logs each connection.
    "DASK_LOGGING__DISTRIBUTED": "error",
}


def prepare() -> None:
    """Set what is unset."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


prepare()
