"""TensorRT's builder and runtime on the host whose engines are the ONNX file itself, run by ONNX Runtime.

For what is above engines: what is built of a file computes what the file says, in the shapes that it was built for.
"""

from __future__ import annotations

import base64
import ctypes
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorrt as trt

from sn_deploy.runtime.ort import OrtSession
from tests.tensorrt.stand_in import builder, engine
from tests.tensorrt.stand_in.device import CUDAGraph
from tests.tensorrt.stand_in.names import standing_in_for

TYPES = {"float32": trt.DataType.FLOAT, "float16": trt.DataType.HALF}


@standing_in_for(trt.Builder)
class Builder(builder.Builder):
    """Notes what it was asked for, and gives the file and the profiles."""

    def build_serialized_network(self, network: builder.Network, config: builder.Config) -> builder.Memory | None:
        if super().build_serialized_network(network, config) is None:
            return None
        assert network._model is not None
        content = base64.b64encode(network._model.SerializeToString()).decode()
        profiles = [profile._shapes for profile in config._profiles]
        return builder.Memory(json.dumps({"content": content, "profiles": profiles}).encode())


@standing_in_for(trt.IExecutionContext)
class Context(engine.Counted):
    def __init__(self, of: Engine) -> None:
        super().__init__("context")
        self._engine, self._profile, self._scratch = of, 0, 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self.profiler = None

    def set_device_memory(self, address: int, size: int) -> None:
        self._scratch = address

    def set_optimization_profile_async(self, index: int, stream: int) -> bool:
        self._profile = index
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        low, _, high = self._engine._profiles[self._profile][name]
        self._shapes[name] = shape
        return all(least <= size <= most for least, size, most in zip(low, shape, high, strict=True))

    def _knows_shapes(self) -> bool:
        return bool(self._shapes)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        (given,) = self._shapes.values()
        own = self._engine._info(name).shape or ()
        return tuple(size if isinstance(size, int) else given[0] for size in own)

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return address != 0

    def execute_async_v3(self, stream: int) -> bool:
        assert self._scratch
        shapes, addresses = dict(self._shapes), dict(self._addresses)

        def work() -> None:
            session = self._engine._session
            inputs = {
                info.name: memory(addresses[info.name], shapes[info.name], info.dtype).copy() for info in session.inputs
            }
            for name, value in session.run(inputs).items():
                memory(addresses[name], value.shape, value.dtype)[...] = value

        (CUDAGraph.capturing.work.append if CUDAGraph.capturing is not None else lambda now: now())(work)
        return True


def memory(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray[Any, Any]:
    """What is at an address."""
    count = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * count).from_address(address), dtype=dtype).reshape(shape)


@standing_in_for(trt.ICudaEngine)
class Engine(engine.Counted):
    def __init__(self, content: bytes, profiles: list[Mapping[str, Any]]) -> None:
        super().__init__("engine")
        self._session = OrtSession(content, threads=1)  # by the native operators, as TensorRT by its plugin
        self._profiles = profiles

    device_memory_size_v2 = engine.SCRATCH

    @property
    def num_io_tensors(self) -> int:
        return len(self._infos())

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    def _infos(self) -> list[Any]:
        return [*self._session.inputs, *self._session.outputs]

    def _info(self, name: str) -> Any:
        return next(info for info in self._infos() if info.name == name)

    def get_tensor_name(self, index: int) -> str:
        return str(self._infos()[index].name)

    def get_tensor_mode(self, name: str) -> Any:
        is_input = any(info.name == name for info in self._session.inputs)
        return trt.TensorIOMode.INPUT if is_input else trt.TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._info(name).shape)

    def get_tensor_dtype(self, name: str) -> Any:
        return TYPES[str(self._info(name).dtype)]

    def get_tensor_format(self, name: str) -> Any:
        return trt.TensorFormat.LINEAR

    def get_tensor_location(self, name: str) -> Any:
        return trt.TensorLocation.DEVICE

    def is_shape_inference_io(self, name: str) -> bool:
        return False

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [tuple(shape) for shape in self._profiles[index][name]]

    def create_execution_context(self, strategy: Any = trt.ExecutionContextAllocationStrategy.STATIC) -> Context:
        return Context(self)

    def create_engine_inspector(self) -> engine.Inspector:
        return engine.Inspector()


@standing_in_for(trt.Runtime)
class Runtime(engine.Counted):
    def __init__(self, logger: Any) -> None:
        super().__init__("runtime")
        self.engine_host_code_allowed = False

    def deserialize_cuda_engine(self, plan: bytes) -> Engine:
        known = json.loads(plan)
        return Engine(base64.b64decode(known["content"]), known["profiles"])
