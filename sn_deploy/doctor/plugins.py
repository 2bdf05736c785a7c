"""The project's own shared libraries. The wheel carries those that were built, in ``sn_deploy/plugins``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sn_deploy.doctor.finding import Finding
from sn_deploy.doctor.isolate import run_probe
from sn_deploy.runtime.native import plugin_folders


@dataclass(frozen=True)
class PluginLibrary:
    """A library that may be there.

    Attributes:
        name: for people.
        pattern: its file name in the folder; ``*`` for a part that differs between builds.
        without: what happens where it isn't.
    """

    name: str
    pattern: str
    without: str


# A new library is one more line here.
LIBRARIES: Final = (
    PluginLibrary("ONNX Runtime custom op", "libsn_deploy_ort*.so", "the function in each file runs instead, slower"),
    PluginLibrary("TensorRT 10 plugin", "libsn_deploy_trt10*.so", "the function in each file runs instead, slower"),
    PluginLibrary("TensorRT 11 plugin", "libsn_deploy_trt11*.so", "the function in each file runs instead, slower"),
)


def find_plugin(library: PluginLibrary, folders: Sequence[Path] | None = None) -> Finding:
    """Whether the library was built, in one of the package's folders or in those given, and loads."""
    places = plugin_folders() if folders is None else folders
    files = [file for place in places for file in sorted(place.glob(library.pattern))]
    if not files:
        return Finding(library.name, "optional", "", f"not built: {library.without}")
    for file in files:
        outcome = run_probe("library", str(file))
        if not outcome.usable:
            return Finding(library.name, "broken", "", f"{file.name}: {outcome.error}", "build it again, or reinstall")
    return Finding(library.name, "ok", "", ", ".join(file.name for file in files))
