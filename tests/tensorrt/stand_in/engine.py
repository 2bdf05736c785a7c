"""TensorRT's runtime on the host: an engine that computes y = 2 x + 1, and z, the sums of x's rows.

Of a data-dependent engine y has those rows alone whose sum is above 0. It reads and writes the memory whose addresses
it is given, as TensorRT does, and refuses what TensorRT refuses.
"""

from __future__ import annotations

import ctypes
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorrt as trt

from tests.tensorrt.stand_in.device import CUDAGraph
from tests.tensorrt.stand_in.names import standing_in_for

SCRATCH = 1000  # bytes
# The first axis of the two profiles.
PROFILES = [(1, 2, 4), (8, 16, 32)]
COLUMNS = 3
LAYERS = [
    {"Name": "scale", "LayerType": "PluginV3", "Inputs": [{"Name": "x"}], "Outputs": [{"Name": "y"}]},
    {"Name": "copy", "LayerType": "Reformat", "Inputs": [{"Name": "y"}], "Outputs": [{"Name": "y2"}]},
    {"Name": "sum", "LayerType": "Reduce", "Inputs": [{"Name": "x"}], "Outputs": [{"Name": "z"}]},
]
LAYER_MS = {"scale": 0.5, "copy": 0.25, "sum": 0.25}
NO_FORMAT = {"Format/Datatype": "N/A due to dynamic shapes"}
alive: set[str] = set()
contexts: list[Context] = []


class Counted:
    """Tells whether it is still there."""

    def __init__(self, kind: str) -> None:
        self._name = f"{kind} {id(self)}"
        alive.add(self._name)

    def __del__(self) -> None:
        alive.discard(self._name)


@standing_in_for(trt.EngineInspector)
class Inspector:
    """Tells formats where it has a context that knows all shapes, in the words of each version."""

    execution_context: Any = None

    def get_engine_information(self, form: Any) -> str:
        assert form == trt.LayerInformationFormat.JSON
        told = self.execution_context is not None and self.execution_context._knows_shapes()

        def tensors(own: list[dict[str, str]]) -> list[dict[str, Any]]:
            return [{**tensor, **(format_of(trt.__version__) if told else NO_FORMAT)} for tensor in own]

        layers = [
            {**layer, "Inputs": tensors(layer["Inputs"]), "Outputs": tensors(layer["Outputs"])}  # type: ignore[arg-type]
            for layer in LAYERS
        ]
        return json.dumps({"Layers": layers, "Bindings": []})


def format_of(version: str) -> dict[str, str]:
    """What the inspector says of a tensor in float16, channels last."""
    layout = "Channel major FP16 format where channel % 8 == 0"
    return {"Format/Datatype": layout} if version.startswith("10.") else {"Datatype": "Half", "Format": layout}


@standing_in_for(trt.Refitter)
class Refitter:
    given: ClassVar[list[str]] = []  # the files whose weights were put in
    _hidden = ("given",)

    def __init__(self, engine: Engine, logger: Any) -> None:
        assert isinstance(logger, trt.ILogger)
        self._engine, self._path = engine, ""

    def get_missing_weights(self) -> list[str]:
        return ["conv2.weight"] if "partial" in self._path else []

    def refit_cuda_engine(self) -> bool:
        Refitter.given.append(self._path)
        return True


@standing_in_for(trt.OnnxParserRefitter)
class ParserRefitter:
    def __init__(self, refitter: Refitter, logger: Any) -> None:
        self._refitter, self._logger = refitter, logger

    def refit_from_file(self, path: str) -> bool:
        self._refitter._path = path
        if "other" in path:
            self._logger.log(trt.ILogger.Severity.ERROR, "Could not refit weights: conv1.weight")
            return False
        return True


@standing_in_for(trt.IExecutionContext)
class Context(Counted):
    def __init__(self, engine: Engine) -> None:
        super().__init__("context")
        self._engine, self._profile = engine, 0
        self._shape: tuple[int, ...] | None = None
        self._addresses: dict[str, int] = {}
        self._scratch = 0
        self._allocators: dict[str, Any] = {}
        self.profiler = None
        contexts.append(self)

    def set_device_memory(self, address: int, size: int) -> None:
        assert size >= SCRATCH
        self._scratch = address

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        assert stream
        self._profile, self._shape = index, None
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = PROFILES[self._profile]
        if name != "x" or shape[1:] != (COLUMNS,) or not (low <= shape[0] <= high or shape[0] == 0):
            return False
        self._shape = shape
        return True

    def _knows_shapes(self) -> bool:
        return self._shape is not None

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self._shape is not None
        if self._engine._data_dependent and name == "y":
            return (-1, COLUMNS)
        return self._shape[:1] if name == "z" else self._shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        assert isinstance(address, int)
        self._addresses[name] = address
        return address != 0 or name in self._allocators

    def set_output_allocator(self, name: str, allocator: Any) -> bool:
        assert isinstance(allocator, trt.IOutputAllocator)
        assert name in ("y", "z")
        self._allocators[name] = allocator
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream
        assert self._scratch
        assert self._shape is not None
        if self._engine._fails:
            self._engine._logger.log(trt.ILogger.Severity.ERROR, "Cask convolution execution")
            return False
        shape, addresses = self._shape, dict(self._addresses)

        def work() -> None:
            rows = shape[0]
            x = memory(addresses["x"], rows * COLUMNS).reshape(rows, COLUMNS)
            y = 2 * x + 1
            if self._engine._data_dependent:
                # An upper bound of its size, in a thread of TensorRT's own; the shape behind it.
                assert addresses["y"] == 0
                addresses["y"] = apart(
                    lambda: self._allocators["y"].reallocate_output_async("y", None, 4 * y.size + 1, 256, stream)
                )
                y = y[x.sum(1) > 0]
                self._allocators["y"].notify_shape("y", y.shape)
                if addresses["y"] == 0:
                    self._engine._logger.log(trt.ILogger.Severity.ERROR, "Out of memory")
                    raise MemoryError
            memory(addresses["y"], y.size)[:] = y.reshape(-1)
            memory(addresses["z"], rows)[:] = x.sum(1)
            if self.profiler is not None:
                for name, ms in LAYER_MS.items():
                    self.profiler.report_layer_time(name, ms)

        if CUDAGraph.capturing is not None:
            assert not self._engine._data_dependent
            if self._engine._uncapturable:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nand more")
            CUDAGraph.capturing.work.append(work)
        else:
            try:
                work()
            except MemoryError:
                return False
        return True


def apart(call: Callable[[], int]) -> int:
    """What it gives in another thread."""
    given: list[int] = []
    thread = threading.Thread(target=lambda: given.append(call()))
    thread.start()
    thread.join()
    return given[0]


def memory(address: int, count: int) -> np.ndarray[Any, Any]:
    """Floats at an address."""
    if count == 0:
        return np.zeros(0, np.float32)
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address))


@standing_in_for(trt.ISerializationConfig)
class SerializationConfig:
    def __init__(self) -> None:
        self._flags = {trt.SerializationFlag.EXCLUDE_WEIGHTS}

    def clear_flag(self, flag: Any) -> bool:
        self._flags.discard(flag)
        return True

    def set_flag(self, flag: Any) -> bool:
        assert isinstance(flag, trt.SerializationFlag)
        self._flags.add(flag)
        return True


@standing_in_for(trt.ICudaEngine)
class Engine(Counted):
    def __init__(self, traits: dict[str, Any], logger: Any) -> None:
        super().__init__("engine")
        self._logger, self._traits = logger, traits
        self._data_dependent, self._fails = traits.get("data_dependent", False), traits.get("fails", False)
        self._hwc = traits.get("hwc", False)
        self._opaque = traits.get("opaque", False)
        self._uncapturable, self._shape_input = traits.get("uncapturable", False), traits.get("shape_input", False)

    num_io_tensors = 3
    num_optimization_profiles = len(PROFILES)
    device_memory_size_v2 = SCRATCH

    def get_tensor_name(self, index: int) -> str:
        return ("x", "y", "z")[index]

    def get_tensor_mode(self, name: str) -> Any:
        return trt.TensorIOMode.INPUT if name == "x" else trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1,) if name == "z" else (-1, COLUMNS)

    def get_tensor_dtype(self, name: str) -> Any:
        return trt.DataType.FLOAT

    def get_tensor_format(self, name: str) -> Any:
        return trt.TensorFormat.HWC8 if self._hwc and name == "x" else trt.TensorFormat.LINEAR

    def get_tensor_location(self, name: str) -> Any:
        return trt.TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        return bool(self._shape_input) and name == "x"

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert name == "x"
        return [(rows, COLUMNS) for rows in PROFILES[index]]

    def create_execution_context(self, strategy: Any = trt.ExecutionContextAllocationStrategy.STATIC) -> Context:
        return Context(self)

    def create_serialization_config(self) -> SerializationConfig:
        return SerializationConfig()

    def serialize_with_config(self, config: SerializationConfig) -> bytes | None:
        if self._traits.get("unwritable"):
            return None
        return json.dumps({**self._traits, "written": sorted(flag.name for flag in config._flags)}).encode()

    def create_engine_inspector(self) -> Inspector | None:
        return None if self._opaque else Inspector()


@standing_in_for(trt.IPluginRegistry)
class Registry:
    """Of a lean runtime: takes libraries whose name has no "wrong" in it."""

    def __init__(self) -> None:
        self._libraries: list[str] = []

    def load_library(self, path: str) -> object | None:
        self._libraries.append(path)
        return None if "wrong" in path else self


@standing_in_for(trt.Runtime)
class Runtime(Counted):
    """Reads plans that are JSON: "host_code" in one needs to be allowed, "lean" a lean runtime of that content."""

    lean: ClassVar[list[Runtime]] = []  # those that were loaded
    _hidden = ("lean",)

    def __init__(self, logger: Any, content: str | None = None) -> None:
        assert isinstance(logger, trt.ILogger)
        super().__init__("runtime")
        self._logger, self._content = logger, content
        self._registry = Registry()
        self.engine_host_code_allowed = False

    def load_runtime(self, path: str) -> Runtime | None:
        content = Path(path).read_text()
        if not content.startswith("lean"):
            self._logger.log(trt.ILogger.Severity.ERROR, "Could not load library")
            return None
        Runtime.lean.append(Runtime(self._logger, content))
        return Runtime.lean[-1]

    def get_plugin_registry(self) -> Registry:
        return self._registry

    def deserialize_cuda_engine(self, plan: bytes) -> Engine | None:
        traits = json.loads(plan)
        for warning in traits.get("warns", ()):
            self._logger.log(trt.ILogger.Severity.WARNING, warning)
        if traits.get("lean") != self._content:
            self._logger.log(trt.ILogger.Severity.ERROR, "Version tag does not match")
            return None
        if traits.get("host_code") and not self.engine_host_code_allowed:
            self._logger.log(trt.ILogger.Severity.ERROR, "Host code isn't allowed")
            return None
        return Engine(traits, self._logger)
