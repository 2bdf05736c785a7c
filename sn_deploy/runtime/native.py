"""Where the project's own shared libraries are, and whether they are to be used."""

from __future__ import annotations

import os
from collections.abc import Sequence
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


def ort_library(providers: Sequence[str] = ()) -> Path | None:
    """The custom-op library for ONNX Runtime, or None.

    Args:
        providers: the session's execution providers. With CUDA's among them it is the library for that, where it was
            built: it serves the CPU too, since a session takes operators of one name from one library only.
    """
    cuda = find_library("libsn_deploy_ort_cuda.so") if "CUDAExecutionProvider" in providers else None
    return cuda or find_library("libsn_deploy_ort.so")


def cuda_library() -> Path | None:
    """The CUDA kernels behind their C interface (plugins/include/sn_deploy/cuda.h), or None."""
    return find_library("libsn_deploy_cuda.so")
