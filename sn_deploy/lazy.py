"""Names of a package that are imported when they are first asked for: what they need may be missing, or take long."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(package: str, places: Mapping[str, str]) -> Callable[[str], Any]:
    """The package's ``__getattr__``.

    Args:
        package: its ``__name__``.
        places: name -> module that has it.
    """

    def get(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(places[name]), name)

    return get


def listed(names: Mapping[str, Any]) -> Callable[[], list[str]]:
    """The package's ``__dir__``, for who completes a name: also what hasn't been asked for yet.

    Args:
        names: its ``globals()``, with ``__all__``.
    """
    return lambda: sorted({*names, *names["__all__"]})
