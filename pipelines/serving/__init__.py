"""`preceptor report --serve`: a store in one local page, read only, for this machine alone."""

from pipelines.serving.server import serve

__all__ = ["serve"]
