"""From what was seen to what is said: status, note and mend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sn_deploy.doctor import devices, libraries, plugins, requirements
from sn_deploy.doctor.finding import Finding
from sn_deploy.doctor.isolate import Outcome
from sn_deploy.doctor.libraries import LIBRARIES, Library, find_onnxruntime_clash, finding_from_outcome

BY_NAME = {library.module: library for library in LIBRARIES}
RANGES = {"torch": ("2.8", ""), "tensorrt": ("10.6", "12"), "onnx-ir": ("0.1.7", "")}


def finding(name: str, found: dict[str, Any] | None = None, **outcome: Any) -> Finding:
    return finding_from_outcome(BY_NAME[name], Outcome(found or {}, **outcome), RANGES)


def test_missing_is_missing_where_it_is_needed_and_optional_elsewhere() -> None:
    torch = finding("torch", missing=True)
    assert (torch.status, torch.mend, torch.in_the_way) == ("missing", "pip install 'sn-deploy[torch]'", True)
    tensorrt = finding("tensorrt", missing=True)
    assert (tensorrt.status, tensorrt.in_the_way) == ("optional", False)
    assert "engines" in tensorrt.note


def test_broken_is_in_the_way_only_where_it_is_needed() -> None:
    onnx = finding("onnx", error="crashes when it is loaded (SIGSEGV)")
    assert onnx == Finding(
        "onnx", "broken", "", "crashes when it is loaded (SIGSEGV)", "pip install --force-reinstall onnx", needed=True
    )
    assert onnx.in_the_way
    tensorrt = finding("tensorrt", error="ImportError: libnvinfer.so.10: cannot open shared object file")
    assert tensorrt.status == "broken"
    assert "LD_LIBRARY_PATH" in tensorrt.mend
    assert not tensorrt.in_the_way


def test_reinstalling_never_puts_a_second_onnxruntime_beside_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libraries, "installed_distributions", lambda names: {"onnxruntime-gpu": "1.30"})
    assert finding("onnxruntime", error="x").mend == "pip install --force-reinstall onnxruntime-gpu"


@pytest.mark.parametrize(
    ("name", "version", "problem"),
    [
        ("torch", "2.7.1+cu126", "is older than 2.8"),
        ("torch", "2.8.0", ""),
        ("torch", "2.15.0+cu132", ""),  # 2.15 is newer than 2.8: numbers, not text
        ("tensorrt", "12.0.1", "is not supported yet: below 12 is"),
        ("tensorrt", "11.2.1.2", ""),
        ("onnx_ir", "0.1.6", "is older than 0.1.7"),
    ],
)
def test_versions_out_of_range_are_broken(name: str, version: str, problem: str) -> None:
    found = {"version": version, "cuda": None, "devices": [], "reason": ""}
    result = finding(name, found)
    assert result.status == ("broken" if problem else "ok")
    assert result.version == version
    assert problem in result.note
    assert result.mend.startswith("pip install --upgrade") == bool(problem)


@pytest.mark.parametrize(
    ("cuda", "found", "reason", "note", "mend"),
    [
        (None, [], "", "a build without CUDA", ""),
        ("13.2", ["NVIDIA H200"], "", "CUDA 13.2, usable: NVIDIA H200", ""),
        ("13.2", [], "Found no NVIDIA driver on your system.", "runs on the CPU, since no GPU is found", ""),
        ("13.2", [], "The NVIDIA driver on your system is too old", "driver on your system is too old", "update the"),
    ],
)
def test_torch_says_what_it_can_do(cuda: str | None, found: list[str], reason: str, note: str, mend: str) -> None:
    result = finding("torch", {"version": "2.15.0", "cuda": cuda, "devices": found, "reason": reason})
    assert result.status == "ok"
    assert note in result.note
    assert result.mend.startswith(mend)
    assert bool(result.mend) == bool(mend)


def test_onnxruntime_lists_its_providers() -> None:
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert finding("onnxruntime", {"version": "1.30", "providers": providers}).note.endswith(": CUDA, CPU")


def test_two_wheels_of_onnxruntime_are_a_finding_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.31.1"}
    monkeypatch.setattr(libraries, "installed_distributions", lambda names: installed)
    clash = find_onnxruntime_clash()
    assert clash is not None
    assert clash.note.startswith("onnxruntime and onnxruntime-gpu are installed at once")
    assert clash.mend == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
    assert not clash.in_the_way  # what was installed last may well run
    del installed["onnxruntime"]
    assert find_onnxruntime_clash() is None


# --- the package's own metadata -----------------------------------------------------------------------------------


def test_the_ranges_come_from_the_packages_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    declared = [
        "onnx_ir>=0.1.7",
        "tensorrt<12,>=10.6; extra == 'tensorrt'",
        "sn-deploy[torch]; extra == 'demo'",
        "rich",
    ]
    monkeypatch.setattr("importlib.metadata.requires", lambda name: declared)
    assert requirements.declared_ranges() == {"onnx-ir": ("0.1.7", ""), "tensorrt": ("10.6", "12"), "rich": ("", "")}


def test_every_library_that_is_installed_by_pip_has_a_lowest_version() -> None:
    ranges = requirements.declared_ranges()
    for library in LIBRARIES:
        assert ranges[requirements.normalised(library.module)][0], library.module


def test_run_from_the_sources_nothing_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise requirements.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.requires", missing)
    assert requirements.declared_ranges() == {}
    assert finding_from_outcome(Library("x", "x", True, "x"), Outcome({"version": "0"}), {}).status == "ok"


# --- GPU ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a tool to be written: the only one there is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(devices, "_KERNEL_MODULE", tmp_path / "version")
    return tmp_path / "nvidia-smi"


def write_tool(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_gpus_are_listed_with_the_drivers_version(nvidia_smi: Path) -> None:
    write_tool(nvidia_smi, "echo 'NVIDIA H200, 143771 MiB, 580.95.05'; echo 'NVIDIA L4, 23034 MiB, 580.95.05'")
    gpu = devices.find_gpu()
    assert (gpu.status, gpu.version) == ("ok", "580.95.05")
    assert gpu.note.startswith("NVIDIA H200 (143771 MiB), NVIDIA L4 (23034 MiB)")


def test_a_tool_that_fails_is_quoted(nvidia_smi: Path) -> None:
    write_tool(nvidia_smi, "echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    gpu = devices.find_gpu()
    assert gpu.status == "broken"
    assert gpu.note == "nvidia-smi fails: Failed to initialize NVML: Driver/library version mismatch"
    assert "restart" in gpu.mend
    write_tool(nvidia_smi, "echo 'No devices were found'")
    assert devices.find_gpu().note == "nvidia-smi fails: No devices were found"


def test_without_the_tool_the_driver_tells(nvidia_smi: Path) -> None:
    assert devices.find_gpu().status == "optional"
    (nvidia_smi.parent / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23")
    gpu = devices.find_gpu()
    assert (gpu.status, gpu.version) == ("broken", "580.95.05")
    assert "--gpus all" in gpu.mend


# --- TensorRT ------------------------------------------------------------------------------------------------------


def test_nothing_in_the_doctor_makes_a_tensorrt_builder_or_runtime() -> None:
    """A trt.Runtime crashes without a GPU when it is destroyed."""
    for source in Path(plugins.__file__).parent.glob("*.py"):
        assert "Builder(" not in source.read_text()
        assert "Runtime(" not in source.read_text()
