"""The Python libraries: from a probe's outcome to a finding."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

import sn_deploy
from sn_deploy.doctor.finding import Finding, Status
from sn_deploy.doctor.isolate import Outcome, run_probe
from sn_deploy.doctor.requirements import declared_ranges, installed_distributions, normalised, range_problem


@dataclass(frozen=True)
class Library:
    """A Python library to look at.

    Attributes:
        module: what is imported.
        install: what pip is given to install it.
        needed: export and run don't work without it.
        use: what it is for, said where it is missing.
        probe: its own probe, or that of every module.
    """

    module: str
    install: str
    needed: bool
    use: str
    probe: str = "module"


LIBRARIES: Final = (
    Library("numpy", "numpy", True, "everything"),
    Library("ml_dtypes", "ml_dtypes", True, "bfloat16"),
    Library("onnx", "onnx", True, "reading and checking files"),
    Library("onnx_ir", "onnx_ir", True, "editing graphs"),
    Library("safetensors", "safetensors", True, "reading checkpoints"),
    Library("torch", "sn-deploy[torch]", True, "export", "torch"),
    Library("onnxscript", "sn-deploy[torch]", True, "torch's exporter"),
    Library("onnxruntime", "sn-deploy[ort]", True, "running exported files", "onnxruntime"),
    Library("matplotlib", "matplotlib", False, "inspect --picture"),
    Library("tritonclient", "sn-deploy[triton]", False, "serve triton, and check --triton"),
    Library("openvino", "openvino", False, "running files exported with --inline"),
    Library("tensorrt", "sn-deploy[tensorrt]", False, "engines, on a machine with an NVIDIA GPU", "tensorrt"),
    Library("polygraphy", "sn-deploy[tensorrt]", False, "building engines"),
)

# Distributions that install the module onnxruntime: two of them overwrite each other's files.
_ORT_DISTRIBUTIONS: Final = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-training",
)


def find_python() -> Finding:
    """The interpreter that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 10) <= sys.version_info[:2] <= (3, 14)
    mend = "" if supported else "use Python 3.10 to 3.14"
    return Finding("Python", "ok" if supported else "broken", version, sys.executable, mend, needed=True)


def find_sn_deploy() -> Finding:
    """This package."""
    installed = installed_distributions(("sn-deploy",))
    note = "" if installed else "run from its sources, not installed: versions of libraries aren't checked"
    return Finding("sn-deploy", "ok", sn_deploy.__version__, note, needed=True)


def find_library(library: Library) -> Finding:
    """Imports and tries a library in a process of its own."""
    arguments = (library.module,) if library.probe == "module" else ()
    return finding_from_outcome(library, run_probe(library.probe, *arguments), declared_ranges())


def finding_from_outcome(library: Library, outcome: Outcome, ranges: dict[str, tuple[str, str]]) -> Finding:
    """The finding about a library whose probe has run."""

    def finding(status: Status, version: str, note: str, mend: str) -> Finding:
        return Finding(library.module, status, version, note, mend, library.needed)

    install = f"pip install '{library.install}'"
    if outcome.missing:
        status: Status = "missing" if library.needed else "optional"
        return finding(status, "", f"not installed; it is for {library.use}", install)
    if outcome.error:
        return finding("broken", "", outcome.error, _reinstall(library.module))
    version = str(outcome.found["version"])
    problem = range_problem(version, ranges.get(normalised(library.module), ("", "")))
    if problem:
        return finding("broken", version, problem, f"pip install --upgrade '{library.install}'")
    note, mend = _NOTES[library.module](outcome) if library.module in _NOTES else ("", "")
    return finding("ok", version, note, mend)


def _reinstall(module: str) -> str:
    if module == "tensorrt":
        return "put the folder of libnvinfer on LD_LIBRARY_PATH, or pip install --force-reinstall tensorrt"
    # The one that is installed: another one beside it would be the next finding.
    installed = installed_distributions(_ORT_DISTRIBUTIONS) if module == "onnxruntime" else {}
    return f"pip install --force-reinstall {next(iter(installed), normalised(module))}"


def find_onnxruntime_clash() -> Finding | None:
    """Several distributions of ONNX Runtime at once: whichever was installed last wins, file by file."""
    found = installed_distributions(_ORT_DISTRIBUTIONS)
    if len(found) < 2:
        return None
    names = sorted(found)
    keep = "onnxruntime-gpu" if "onnxruntime-gpu" in found else names[-1]
    return Finding(
        "onnxruntime wheels",
        "broken",
        "",
        f"{' and '.join(names)} are installed at once and overwrite each other's files",
        f"pip uninstall -y {' '.join(names)} && pip install {keep}",
    )


def _torch_note(outcome: Outcome) -> tuple[str, str]:
    cuda, devices, reason = (outcome.found[key] for key in ("cuda", "devices", "reason"))
    if cuda is None:
        return "a build without CUDA", ""
    if devices:
        return f"CUDA {cuda}, usable: {', '.join(devices)}", ""
    if not reason or "no NVIDIA driver" in reason or "No CUDA GPUs" in reason:
        return f"CUDA {cuda} build; runs on the CPU, since no GPU is found", ""
    # A driver that is too old for the build, a GPU that is, or devices hidden from the process.
    mend = "update the driver, or install a torch build for its CUDA version"
    return f"CUDA {cuda} build; runs on the CPU: {reason}", mend


def _onnxruntime_note(outcome: Outcome) -> tuple[str, str]:
    names = [str(name).removesuffix("ExecutionProvider") for name in outcome.found["providers"]]
    return f"runs; providers in this build: {', '.join(names)}", ""


def _tensorrt_note(_: Outcome) -> tuple[str, str]:
    return "bindings and libnvinfer load", ""


_NOTES: Final = {"torch": _torch_note, "onnxruntime": _onnxruntime_note, "tensorrt": _tensorrt_note}
