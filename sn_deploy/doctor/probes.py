"""What runs in a probe's own process: imports one thing and tries it. Imports nothing else, so the blame is right."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from sn_deploy.doctor.isolate import MARKER

# A model of one Neg node from x to y, (1,) float32, opset 13: built here it would need onnx, which may be broken.
_NEG_MODEL: Final = (
    b'\x08\x08:2\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01b\x0f\n'
    b"\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


def probe_module(name: str) -> dict[str, Any]:
    """Imports a module and tells its version."""
    module = importlib.import_module(name)
    version = getattr(module, "__version__", None)
    if not isinstance(version, str):
        version = importlib.metadata.version(name.replace("_", "-"))
    return {"version": version.partition("-")[0]}  # OpenVINO adds its build and branch


def probe_torch() -> dict[str, Any]:
    """torch's version, the CUDA version it was built for, and the GPUs it can use or why it can't."""
    found = probe_module("torch")
    torch = importlib.import_module("torch")
    found |= {"cuda": torch.version.cuda, "devices": [], "reason": ""}
    if torch.version.cuda is not None:
        try:
            torch.cuda.init()
            # A kernel, since a device that is seen may still be too old or too new for this build.
            float(torch.ones(1, device="cuda").sum())
            found["devices"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        except Exception as error:  # noqa: BLE001
            # Whatever it is: torch itself works, on the CPU.
            found["reason"] = str(error).split("\n")[0]
    return found


def probe_onnxruntime() -> dict[str, Any]:
    """ONNX Runtime's version and providers, after a model has run on its CPU provider."""
    found = probe_module("onnxruntime")
    numpy = importlib.import_module("numpy")
    ort = importlib.import_module("onnxruntime")
    session = ort.InferenceSession(_NEG_MODEL, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": numpy.ones(1, numpy.float32)})
    if float(y[0]) != -1.0:
        raise RuntimeError(f"computes -1 as {float(y[0])}")
    return found | {"providers": ort.get_available_providers()}


def probe_tensorrt() -> dict[str, Any]:
    """TensorRT's version. Makes no Builder and no Runtime: without a GPU the first fails and the second crashes."""
    return probe_module("tensorrt")


def probe_library(path: str, symbol: str) -> dict[str, Any]:
    """Loads a shared library that has to export a symbol."""
    if not hasattr(ctypes.CDLL(path), symbol):
        raise RuntimeError(f"has no {symbol}: another library under this name")
    return {}


def probe_ort_library(path: str) -> dict[str, Any]:
    """Registers a custom-op library with ONNX Runtime; its version."""
    found = probe_module("onnxruntime")
    importlib.import_module("onnxruntime").SessionOptions().register_custom_ops_library(path)
    return found


def probe_cuda_kernels(path: str) -> dict[str, Any]:
    """Why the kernels' library can't use the current GPU, or ``''``."""
    library = ctypes.CDLL(path)
    library.sn_cuda_reason.restype = library.sn_cuda_device_error.restype = ctypes.c_char_p
    status = library.sn_cuda_choose_tactic(ctypes.byref(_CudaProblem.smallest()), ctypes.byref(ctypes.c_int32()))
    reason = library.sn_cuda_reason(status).decode()
    if status not in (0, _STATUS_DEVICE):
        raise RuntimeError(f"refuses a problem that is good: {reason}")
    return {"reason": library.sn_cuda_device_error().decode() if status else ""}


def probe_tensorrt_plugin(path: str) -> dict[str, Any]:
    """Loads a plugin library into TensorRT's registry; the names of the creators that it brings."""
    trt = importlib.import_module("tensorrt")

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        """Keeps what TensorRT says of errors, for the finding."""

        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.INTERNAL_ERROR, trt.ILogger.ERROR):
                self.errors.append(message)

    logger = Logger()
    trt.init_libnvinfer_plugins(logger, "")
    registry = trt.get_plugin_registry()
    before = {creator.name for creator in registry.all_creators}
    if registry.load_library(path) is None:
        raise RuntimeError(" ".join(logger.errors) or "load_library gives None")
    brought = {creator.name for creator in registry.all_creators} - before
    if not brought:
        raise RuntimeError("it brings no creators")
    return {"creators": sorted(brought)}


class _CudaProblem(ctypes.Structure):
    """``SnCudaProblem`` of plugins/include/sn_deploy/cuda.h."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("batch", "channels", "spatial", "stored_channels")),
        *((name, ctypes.c_int32) for name in ("has_in", "ddof", "data_type", "layout", "epilogue")),
        *((name, ctypes.c_float) for name in ("mean_in", "mean_ln", "var_in", "var_ln")),
    )

    @classmethod
    def smallest(cls) -> _CudaProblem:
        """One sample of one channel and two values, float32."""
        return cls(1, 1, 2, 0, 1, 1, 0, 0, 0, 0.5, 0.5, 0.5, 0.5)


_STATUS_DEVICE: Final = 16  # Status::kDevice of plugins/core/problem.h


PROBES: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "module": probe_module,
    "torch": probe_torch,
    "onnxruntime": probe_onnxruntime,
    "tensorrt": probe_tensorrt,
    "library": probe_library,
    "ort_library": probe_ort_library,
    "cuda_kernels": probe_cuda_kernels,
    "tensorrt_plugin": probe_tensorrt_plugin,
}


# The module that a probe is about, where that isn't the probe's name.
_MODULES: Final = {"ort_library": "onnxruntime", "tensorrt_plugin": "tensorrt"}


def main(probe: str, *arguments: str) -> None:
    """Runs one probe, prints its outcome on a line of its own and ends the process."""
    answer: dict[str, Any] = {"found": {}, "missing": False, "error": ""}
    wanted = arguments[0] if probe == "module" else _MODULES.get(probe, probe)
    try:
        answer["found"] = PROBES[probe](*arguments)
    except ModuleNotFoundError as error:
        if error.name == wanted:
            answer["missing"] = True
        else:
            answer["error"] = f"needs the module {error.name}, which is missing"
    except BaseException as error:  # noqa: BLE001
        # SystemExit too: a module that ends the process is broken.
        answer["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    print(f"\n{MARKER}{json.dumps(answer)}", flush=True)  # noqa: T201
    sys.stderr.flush()
    # Not sys.exit: a library whose threads never end, or that crashes at exit, has answered already.
    os._exit(0)
