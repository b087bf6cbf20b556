"""Prefect, and nothing else: names, retries, schedules, events and artifacts around the pipelines.

Everything also works without this package, from the command line. Importing it sets Prefect's
environment and does not import Prefect.
"""

from flows import environment

__all__ = ["environment"]
