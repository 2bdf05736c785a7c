"""Where the project's own shared libraries are, and whether they are to be used."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import sn_deploy

# SN_DEPLOY_NATIVE=0 turns them off: a file then runs by the function inside it.
SWITCH: Final = "SN_DEPLOY_NATIVE"


def plugin_folders() -> list[Path]:
    """The folders that may hold libraries: ``plugins`` beside the package, in each place that the package is made of.

    An editable install has two: the checkout with the Python files, and the one that was built into.
    """
    return [Path(place) / "plugins" for place in sn_deploy.__path__]


def find_library(pattern: str) -> Path | None:
    """The library whose file name matches ``pattern``, or None where it wasn't built or is turned off."""
    if os.environ.get(SWITCH, "1") == "0":
        return None
    return next((file for folder in plugin_folders() for file in sorted(folder.glob(pattern))), None)


def ort_library() -> Path | None:
    """The custom-op library for ONNX Runtime's CPU provider, or None."""
    return find_library("libsn_deploy_ort.so")
