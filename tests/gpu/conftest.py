"""The devices that the tests of this folder run on."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from sn_deploy.runtime.cuda import CudaKernels
from tests.gpu.device import Device, library_of
from tests.gpu.engine_access import TensorRT, open_tensorrt

MEND = "set SN_PLUGIN_BUILD to a build folder of plugins/ with -DSN_WITH_CUDA=ON"


@cache
def _kernels(kind: str) -> CudaKernels:
    library = library_of(kind)
    if library is None:
        pytest.skip(f"the library of the CUDA kernels ({kind}) was not found: {MEND}")
    return CudaKernels(library)


def need_gpu() -> None:
    """Skips, with the reason, where torch has no GPU."""
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU, or a torch without CUDA")


@pytest.fixture(scope="session", params=["host", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Device:
    """The host's stand-in for a GPU, and a GPU."""
    if request.param == "cuda":
        need_gpu()
    return Device(_kernels(request.param), {"host": "cpu", "cuda": "cuda"}[request.param])


@pytest.fixture(scope="session", params=[pytest.param("cuda", marks=pytest.mark.gpu)])
def gpu() -> Device:
    """A GPU alone: for what the host can't stand in for."""
    need_gpu()
    return Device(_kernels("cuda"), "cuda")


@pytest.fixture(scope="session")
def tensorrt() -> TensorRT:
    """TensorRT with the plugin registered; skipped, with the reason, where engines can't be built."""
    need_gpu()
    return open_tensorrt()
