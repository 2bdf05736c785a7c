"""What the user gives an engine beside itself to be loaded with: code, all of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Access:
    """Arguments of `Engine`, by their names there: ``Engine(path, **vars(access))``."""

    allow_host_code: bool = False
    plugin: Path | None = None
    lean_runtime: Path | None = None
