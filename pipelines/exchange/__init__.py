"""How a corpus meets other tools: files they read, and numbers they computed."""

from pipelines.exchange.exporting import Exported, export, formats

__all__ = ["Exported", "export", "formats"]
