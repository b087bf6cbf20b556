"""`preceptor diff`: what two versions of a corpus hold, and why they differ."""

from pipelines.diff.compare import compare, same_version

__all__ = ["compare", "same_version"]
