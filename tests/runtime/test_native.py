from __future__ import annotations

from pathlib import Path

import pytest

from sn_deploy.runtime import native

CPU, CUDA = "libsn_deploy_ort.so", "libsn_deploy_ort_cuda.so"
GPU_PROVIDERS = ["CUDAExecutionProvider", "CPUExecutionProvider"]


def built(monkeypatch: pytest.MonkeyPatch, folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()
    monkeypatch.setattr(native, "plugin_folders", lambda: [folder])


def test_the_library_goes_by_the_providers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built(monkeypatch, tmp_path, CPU, CUDA)
    assert native.ort_library() == tmp_path / CPU
    assert native.ort_library(["CPUExecutionProvider"]) == tmp_path / CPU
    assert native.ort_library(GPU_PROVIDERS) == tmp_path / CUDA


def test_without_the_cuda_library_nodes_on_the_cpu_are_still_served(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built(monkeypatch, tmp_path, CPU)
    assert native.ort_library(GPU_PROVIDERS) == tmp_path / CPU


def test_nothing_built_or_turned_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built(monkeypatch, tmp_path)
    assert native.ort_library(GPU_PROVIDERS) is None
    assert native.cuda_library() is None
    built(monkeypatch, tmp_path, CPU, CUDA, "libsn_deploy_cuda.so")
    assert native.cuda_library() == tmp_path / "libsn_deploy_cuda.so"
    monkeypatch.setenv(native.SWITCH, "0")
    assert native.ort_library(GPU_PROVIDERS) is None
    assert native.cuda_library() is None
