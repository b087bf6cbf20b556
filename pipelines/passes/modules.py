"""The modules of a package that is found by walking, for its code digest."""

import pkgutil
from types import ModuleType

__all__ = ["submodules"]


def submodules(package: ModuleType) -> list[str]:
    """Return the full names of a package's modules, itself first, without importing them."""
    prefix = f"{package.__name__}."
    return [
        package.__name__,
        *sorted(module.name for module in pkgutil.iter_modules(package.__path__, prefix)),
    ]
