"""TensorRT's runtime, which reads engines: the installed version's, or the lean one of the version that built them."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.library import MESSAGES, logger, tensorrt


def make_runtime(*, allow_host_code: bool, lean_runtime: Path | None = None, plugin: Path | None = None) -> Any:
    """An IRuntime, on the current GPU.

    Args:
        allow_host_code: let code in an engine run on this host.
        lean_runtime: ``libnvinfer_lean`` of the version that built the engine; None for the installed TensorRT. It is
            loaded into this process.
        plugin: a library for that lean runtime, which has a registry of its own.

    Raises:
        SnDeployError: TensorRT refuses one of the libraries.
    """
    MESSAGES.clear()
    runtime = tensorrt().Runtime(logger()) if lean_runtime is None else _load(lean_runtime)
    runtime.engine_host_code_allowed = allow_host_code
    if lean_runtime is None or plugin is None:
        return runtime
    if runtime.get_plugin_registry().load_library(str(plugin.resolve())) is None:
        raise SnDeployError(f"{lean_runtime} refuses it: {MESSAGES.reason()}", where=str(plugin))
    return runtime


def read_plan(runtime: Any, plan: bytes) -> tuple[Any, list[str]]:
    """The ICudaEngine of an engine's bytes, None where TensorRT can't read it, and what TensorRT warns of."""
    MESSAGES.clear()
    return runtime.deserialize_cuda_engine(plan), MESSAGES.warnings()


def _load(lean_runtime: Path) -> Any:
    runtime = _loader().load_runtime(str(lean_runtime.resolve()))
    if runtime is None:
        raise SnDeployError(
            f"TensorRT {tensorrt().__version__} takes it for no lean runtime: {MESSAGES.reason()}",
            where=str(lean_runtime),
            expected="libnvinfer_lean of the version that built the engine",
        )
    return runtime


@functools.cache
def _loader() -> Any:
    """What lean runtimes are loaded with. It stays: they need it, and TensorRT doesn't keep it for them."""
    return tensorrt().Runtime(logger())
