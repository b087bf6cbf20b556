"""Every token format, found by walking the package.

>>> sorted(token_formats())
['datatrove', 'mds', 'megatron', 'olmo']
"""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

import curate.tokens.exporters
from curate.tokens.exporters.base import TokenFormat

__all__ = ["token_formats"]


@cache
def token_formats() -> Mapping[str, TokenFormat]:
    """Return every format by name, in alphabetical order."""
    found: dict[str, TokenFormat] = {}
    for info in pkgutil.iter_modules(curate.tokens.exporters.__path__):
        module = importlib.import_module(f"curate.tokens.exporters.{info.name}")
        one = getattr(module, "FORMAT", None)
        if one is not None:
            assert one.name == info.name, f"{info.name} publishes the format {one.name}"
            found[one.name] = one
    return dict(sorted(found.items()))
