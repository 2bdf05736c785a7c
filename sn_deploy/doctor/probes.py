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


def probe_library(path: str) -> dict[str, Any]:
    """Loads a shared library."""
    ctypes.CDLL(path)
    return {}


PROBES: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "module": probe_module,
    "torch": probe_torch,
    "onnxruntime": probe_onnxruntime,
    "tensorrt": probe_tensorrt,
    "library": probe_library,
}


def main(probe: str, arguments: list[str]) -> None:
    """Runs one probe, prints its outcome on a line of its own and ends the process."""
    answer: dict[str, Any] = {"found": {}, "missing": False, "error": ""}
    wanted = arguments[0] if probe == "module" else probe
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
