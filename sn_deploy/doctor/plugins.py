"""The project's own shared libraries. The wheel carries those that were built, in ``sn_deploy/plugins``."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from sn_deploy.doctor.finding import Finding
from sn_deploy.doctor.isolate import run_probe
from sn_deploy.doctor.trials import (
    Trial,
    try_cuda_kernels,
    try_ort_cuda_library,
    try_ort_library,
    try_tensorrt_plugin,
    without_tensorrt_plugin,
)
from sn_deploy.runtime.native import SWITCH, plugin_folders

_BODY: Final = "the function in each file runs instead, slower"
_BUILD_AGAIN: Final = "build it again: pip install --force-reinstall --no-deps, with the same options"


@dataclass(frozen=True)
class PluginLibrary:
    """A library that may be there.

    Attributes:
        name: for people.
        file: its file name in the folder.
        symbol: what it has to export; another library under its name has not.
        without: what happens where it isn't.
        try_it: what it does in the program that it is for, given its path, once it has been seen to load.
        wanted: how to get it, where it isn't there but the program that it is for is; ``''`` elsewhere.
    """

    name: str
    file: str
    symbol: str
    without: str
    try_it: Callable[[Path], Trial]
    wanted: Callable[[], str] = lambda: ""


# A new library is one more entry here.
LIBRARIES: Final = (
    PluginLibrary("ONNX Runtime custom op", "libsn_deploy_ort.so", "RegisterCustomOps", _BODY, try_ort_library),
    PluginLibrary(
        "ONNX Runtime CUDA custom op", "libsn_deploy_ort_cuda.so", "RegisterCustomOps", _BODY, try_ort_cuda_library
    ),
    PluginLibrary(
        "CUDA kernels", "libsn_deploy_cuda.so", "sn_cuda_launch", "only programs that call it need it", try_cuda_kernels
    ),
    *(
        PluginLibrary(
            f"TensorRT {major} plugin",
            f"libsn_deploy_trt{major}.so",
            "getCreators",
            _BODY,
            partial(try_tensorrt_plugin, major),
            partial(without_tensorrt_plugin, major),
        )
        for major in (10, 11)
    ),
)


def find_plugin(library: PluginLibrary, folders: Sequence[Path] | None = None) -> Finding:
    """Whether the library was built, in one of the package's folders or in those given, loads and does its work."""
    places = plugin_folders() if folders is None else folders
    files = [place / library.file for place in places if (place / library.file).is_file()]
    if not files:
        return Finding(library.name, "optional", "", f"not built: {library.without}", library.wanted())
    for file in files:
        outcome = run_probe("library", str(file), library.symbol)
        if not outcome.usable:
            return Finding(library.name, "broken", "", f"{file.name}: {outcome.error}", _BUILD_AGAIN)
    trial = library.try_it(files[0])
    note = f"{library.file} loads; {trial.note}"
    if os.environ.get(SWITCH, "1") == "0":
        note += f"; turned off by {SWITCH}=0"
    return Finding(library.name, "ok" if trial.works else "broken", "", note, trial.mend)
