"""What the project's libraries do in the programs that they are for, as far as those are installed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sn_deploy.doctor.isolate import run_probe

_BUILD_PLUGIN: Final = "pip install . -C cmake.define.SN_WITH_TENSORRT=ON (docs/guides/tensorrt-plugin.md)"


@dataclass(frozen=True)
class Trial:
    """What came of it: whether the library is fit for use, what was seen, and how to mend it or get further."""

    works: bool
    note: str
    mend: str = ""


def try_ort_library(file: Path) -> Trial:
    """Registers the library with ONNX Runtime."""
    outcome = run_probe("ort_library", str(file))
    if outcome.missing:
        return Trial(True, "onnxruntime, which it is for, is not installed")
    if outcome.error:
        return Trial(
            False, f"ONNX Runtime refuses it: {outcome.error}", "see the row of onnxruntime; or build it again"
        )
    return Trial(True, f"ONNX Runtime {outcome.found['version']} takes it")


def try_ort_cuda_library(file: Path) -> Trial:
    """The same, where ONNX Runtime has the provider that the library is for."""
    outcome = run_probe("onnxruntime")
    if outcome.usable and "CUDAExecutionProvider" not in outcome.found["providers"]:
        mend = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"  # beside each other they clash
        return Trial(True, "ONNX Runtime here has no CUDA provider, which it is for", mend)
    return try_ort_library(file)


def try_cuda_kernels(file: Path) -> Trial:
    """Asks the library about the current GPU."""
    outcome = run_probe("cuda_kernels", str(file))
    if outcome.error:
        return Trial(False, outcome.error, "build it again, from the sources of this version")
    if outcome.found["reason"]:
        return Trial(True, f"no GPU to run on: {outcome.found['reason']}")
    return Trial(True, "they run on this GPU")


def try_tensorrt_plugin(major: int, file: Path) -> Trial:
    """Loads the plugin into the registry of the installed TensorRT, where that is of the same major version."""
    installed = run_probe("tensorrt")
    if installed.missing:
        return Trial(True, f"tensorrt, to try it in, is not installed for this Python; it is for TensorRT {major}")
    if installed.error:
        return Trial(True, "tensorrt, to try it in, is broken: see its row")
    version = str(installed.found["version"])
    if _major(version) != major:
        return Trial(True, f"it is for TensorRT {major}, and {version} is installed")
    outcome = run_probe("tensorrt_plugin", str(file))
    if outcome.error:
        return Trial(False, f"TensorRT {version} refuses it: {outcome.error}", f"build it again: {_BUILD_PLUGIN}")
    return Trial(True, f"TensorRT {version} takes {', '.join(outcome.found['creators'])} from it")


def without_tensorrt_plugin(major: int) -> str:
    """How to build the plugin, where a TensorRT that would load it is installed."""
    installed = run_probe("tensorrt")
    return _BUILD_PLUGIN if installed.usable and _major(str(installed.found["version"])) == major else ""


def _major(version: str) -> int:
    return int(version.partition(".")[0])
