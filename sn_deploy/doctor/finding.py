"""One line of `sn-deploy doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "missing", "broken", "optional"]


@dataclass(frozen=True)
class Finding:
    """What is known about one library, tool or device.

    Attributes:
        name: as its package or people call it.
        status: ``ok``, ``missing`` (and needed), ``broken`` (there, but not usable), ``optional`` (not there, and
            needed for some uses alone).
        version: its version, or ``''``.
        note: what it can do here, or what is wrong.
        mend: what to do about it, or ``''``.
        needed: export and a run in ONNX Runtime don't work without it.
    """

    name: str
    status: Status
    version: str = ""
    note: str = ""
    mend: str = ""
    needed: bool = False

    @property
    def in_the_way(self) -> bool:
        """Whether export and run fail because of it."""
        return self.needed and self.status != "ok"
