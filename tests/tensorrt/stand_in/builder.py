"""TensorRT's builder: it notes what it was asked for, and gives that as the engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import onnx
import tensorrt as trt

from sn_deploy.runtime.trt.library import logger
from tests.tensorrt.stand_in.names import standing_in_for


@standing_in_for(trt.IOptimizationProfile)
class Profile:
    def __init__(self) -> None:
        self._shapes: dict[str, Any] = {}

    def set_shape(self, name: str, low: tuple[int, ...], best: tuple[int, ...], high: tuple[int, ...]) -> None:
        assert all(isinstance(shape, tuple) for shape in (low, best, high))
        self._shapes[name] = [low, best, high]

    def get_shape(self, name: str) -> list[tuple[int, ...]]:
        return list(self._shapes[name])

    def __bool__(self) -> bool:
        return True


@standing_in_for(trt.ITimingCache)
class TimingCache:
    def __init__(self, content: bytes) -> None:
        self._content = content

    def combine(self, other: TimingCache, ignore_mismatch: bool) -> bool:
        self._content += other._content
        return True

    def serialize(self) -> Any:
        return Memory(self._content)


class Memory(bytes):
    """IHostMemory: a buffer that `with` frees."""

    def __enter__(self) -> Memory:
        return self

    def __exit__(self, *what: object) -> None:
        return


@standing_in_for(trt.IBuilderConfig)
class Config:
    def __init__(self) -> None:
        self._flags = {trt.BuilderFlag.TF32}
        self._profiles: list[Profile] = []
        self._pools: dict[Any, int] = {}
        self._cache: TimingCache | None = None
        self.plugins_to_serialize: list[str] = []
        self.progress_monitor = None
        self.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
        self.engine_capability = trt.EngineCapability.STANDARD
        self.builder_optimization_level = 3
        self.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE
        self.default_device_type = trt.DeviceType.GPU
        self.DLA_core = -1
        self.avg_timing_iterations = 1
        self.max_aux_streams = -1

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._profiles)

    @property
    def flags(self) -> int:
        return sum(1 << int(flag) for flag in self._flags)

    def set_flag(self, flag: Any) -> None:
        assert isinstance(flag, trt.BuilderFlag)
        self._flags.add(flag)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(flag)

    def get_flag(self, flag: Any) -> bool:
        return flag in self._flags

    def add_optimization_profile(self, profile: Profile) -> int:
        self._profiles.append(profile)
        return len(self._profiles) - 1

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        assert isinstance(pool, trt.MemoryPoolType)
        self._pools[pool] = size

    def get_memory_pool_limit(self, pool: Any) -> int:
        return self._pools.get(pool, 0)

    def get_tactic_sources(self) -> int:
        return 0

    def get_preview_feature(self, feature: Any) -> bool:
        return False

    def create_timing_cache(self, content: bytes) -> TimingCache | None:
        return None if content == b"damaged" else TimingCache(bytes(content))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        self._cache = cache
        if cache._content == b"logged":
            logger().log(trt.ILogger.Severity.ERROR, "The timing cache will not be used!")
        return cache._content != b"of another GPU"

    def get_timing_cache(self) -> TimingCache | None:
        return self._cache


@standing_in_for(trt.ITensor)
class Tensor:
    def __init__(self, name: str, dtype: Any, shape: tuple[int, ...], is_shape: bool) -> None:
        self.name, self.dtype, self.shape = name, dtype, shape
        self._is_shape = is_shape
        self.allowed_formats = 0

    @property
    def is_shape_tensor(self) -> bool:
        return self._is_shape


TYPES = {
    onnx.TensorProto.FLOAT: trt.DataType.FLOAT,
    onnx.TensorProto.FLOAT16: trt.DataType.HALF,
    onnx.TensorProto.BFLOAT16: trt.DataType.BF16,
    onnx.TensorProto.INT64: trt.DataType.INT64,
}


@standing_in_for(trt.INetworkDefinition)
class Network:
    """The inputs and outputs of an ONNX model, and the operators of its nodes."""

    def __init__(self, flags: int) -> None:
        self._strong = bool(flags & 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        self._inputs: list[Tensor] = []
        self._outputs: list[Tensor] = []
        self._operators: list[str] = []
        self._model: onnx.ModelProto | None = None
        self.name = "network"

    num_layers = 0

    @property
    def num_inputs(self) -> int:
        return len(self._inputs)

    @property
    def num_outputs(self) -> int:
        return len(self._outputs)

    def get_input(self, index: int) -> Tensor:
        return self._inputs[index]

    def get_output(self, index: int) -> Tensor:
        return self._outputs[index]

    def get_flag(self, flag: Any) -> bool:
        return self._strong and flag == trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED

    def __iter__(self) -> Any:
        return iter(())


@standing_in_for(trt.ParserError)
class Error:
    def __init__(self, node: str, operator: str, text: str) -> None:
        self._said = node, operator, text

    def node_name(self) -> str:
        return self._said[0]

    def node_operator(self) -> str:
        return self._said[1]

    def desc(self) -> str:
        return self._said[2]


@standing_in_for(trt.OnnxParser)
class Parser:
    """Refuses nodes of the type Refused; an input named "sizes" is one of shapes."""

    def __init__(self, network: Network, logger: Any) -> None:
        assert isinstance(logger, trt.ILogger)
        self._network = network
        self._errors: list[Error] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Error:
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        return self._take(onnx.load(path, load_external_data=False))

    def parse(self, content: bytes, path: str | None = None) -> bool:
        assert path is not None
        return self._take(onnx.ModelProto.FromString(content))

    def _take(self, model: onnx.ModelProto) -> bool:
        def tensor(value: onnx.ValueInfoProto) -> Tensor:
            own = value.type.tensor_type
            shape = tuple(dim.dim_value or -1 for dim in own.shape.dim)
            return Tensor(value.name, TYPES[own.elem_type], shape, value.name == "sizes")

        self._network._model = model
        self._network._inputs = [tensor(value) for value in model.graph.input]
        self._network._outputs = [tensor(value) for value in model.graph.output]
        self._network._operators = [node.op_type for node in model.graph.node]
        self._errors = [
            Error(node.name, node.op_type, "no importer") for node in model.graph.node if node.op_type == "Refused"
        ]
        return not self._errors


@standing_in_for(trt.Builder)
class Builder:
    """`during` is called in the midst of a build; the plan is what was asked for, as JSON; `gives` None refuses."""

    during: ClassVar[Callable[[], None]] = staticmethod(lambda: None)
    gives: ClassVar[bool] = True
    built: ClassVar[list[dict[str, Any]]] = []
    _hidden = ("during", "gives", "built")

    def __init__(self, logger: Any) -> None:
        assert isinstance(logger, trt.ILogger)
        self._logger = logger

    def create_network(self, flags: int = 0) -> Network:
        return Network(flags)

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Profile:
        return Profile()

    def build_serialized_network(self, network: Network, config: Config) -> Memory | None:
        request = {
            "strongly_typed": network._strong,
            "operators": network._operators,
            "functions": [] if network._model is None else [own.name for own in network._model.functions],
            "flags": sorted(flag.name for flag in config._flags),
            "profiles": [profile._shapes for profile in config._profiles],
            "pools": {pool.name: size for pool, size in config._pools.items()},
            "embedded": config.plugins_to_serialize,
            "verbosity": config.profiling_verbosity.name,
            "level": config.builder_optimization_level,
            "hardware": config.hardware_compatibility_level.name,
            "timings": None if config._cache is None else config._cache._content.decode(),
            "inputs": [[tensor.name, tensor.dtype.name, list(tensor.shape)] for tensor in network._inputs],
            "formats": {tensor.name: tensor.allowed_formats for tensor in network._inputs + network._outputs},
            "outputs": [[tensor.name, tensor.dtype.name, list(tensor.shape)] for tensor in network._outputs],
        }
        Builder.built.append(request)
        if not self._goes_on(config.progress_monitor) or not Builder.gives:
            self._logger.log(trt.ILogger.Severity.ERROR, "Could not find any implementation: out of memory")
            return None
        if config._cache is not None:
            config._cache._content += b"+timed"
        return Memory(json.dumps(request).encode())

    def _goes_on(self, monitor: Any) -> bool:
        """Tells the monitor of a build, part of it in a thread that TensorRT made."""
        going = [True]

        def inside() -> None:
            monitor.phase_start("Timing", "Building", 3)
            Builder.during()
            for step in range(3):
                going[0] = going[0] and monitor.step_complete("Timing", step)
            monitor.phase_finish("Timing")

        monitor.phase_start("Building", None, 1)
        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        going[0] = going[0] and monitor.step_complete("Building", 0)
        monitor.phase_finish("Building")
        return going[0]
