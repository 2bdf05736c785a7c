"""What the user gives an engine beside itself to be loaded with: code, all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

# For `naming_arguments` of functions that take an `Access`.
OPTIONS_IN_PYTHON: Final = {
    "allow_host_code": "Access.allow_host_code",
    "plugin_library": "Access.plugin",
    "lean_runtime": "Access.lean_runtime",
}


@dataclass(frozen=True)
class Access:
    """Arguments of `Engine`, by their names there: ``Engine(path, **vars(access))``."""

    allow_host_code: bool = False
    plugin: Path | None = None
    lean_runtime: Path | None = None
