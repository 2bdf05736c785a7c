"""TensorRT engines of ONNX files, built and run as plainly as TensorRT allows, with torch's memory.

One plugin library is loaded in a process. What the builder and the runtime log is kept: a failure gives it as its
reason.
"""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import onnx
import tensorrt as trt
import torch

Shapes = tuple[Sequence[int], Sequence[int], Sequence[int]]  # of one input: the least, the best and the largest
LoadBy = Literal["load_library", "dlopen"]

TORCH_DTYPES: Final = {
    trt.DataType.FLOAT: torch.float32,
    trt.DataType.HALF: torch.float16,
    trt.DataType.BF16: torch.bfloat16,
}
WORKSPACE: Final = 4 << 30
MAJOR: Final = int(trt.__version__.split(".")[0])


class Log(trt.ILogger):
    """Keeps what TensorRT says, from warnings up."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.messages: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        """Called by TensorRT."""
        if int(severity) <= int(trt.ILogger.Severity.WARNING):
            self.messages.append(message)

    def end(self) -> str:
        """What was said last."""
        return " | ".join(self.messages[-5:]) or "TensorRT said nothing"


LOG: Final = Log()


class EngineError(Exception):
    """TensorRT gave nothing; the message is what it logged."""


def load_plugin(library: Path, by: LoadBy = "load_library") -> None:
    """Registers the three operators. Once in a process."""
    trt.init_libnvinfer_plugins(LOG, "")
    if by == "dlopen":  # as Triton does it
        ctypes.CDLL(str(library.resolve()), mode=os.RTLD_NOW | os.RTLD_LOCAL)
        return
    if trt.get_plugin_registry().load_library(str(library.resolve())) is None:
        raise EngineError(f"{library}: not a plugin library for TensorRT {trt.__version__}; {LOG.end()}")


def need_builder() -> Any:
    """A builder.

    Raises:
        EngineError: TensorRT can make none here.
    """
    try:
        builder = trt.Builder(LOG)
    except TypeError as error:  # a null pointer, which the binding takes for a wrong argument
        raise EngineError(f"TensorRT {trt.__version__} can make no builder: {LOG.end()} ({error})") from error
    return builder


@dataclass
class Recipe:
    """How an engine is built.

    Attributes:
        shapes: of the inputs with symbolic extents, one profile each.
        formats: of network inputs and outputs, by name; linear else. An engine then takes and gives exactly these.
        cache: a serialized timing cache to begin with.
        embed: a plugin library to be put into a version-compatible engine.
    """

    shapes: Sequence[Mapping[str, Shapes]] = ()
    formats: Mapping[str, Any] = field(default_factory=dict)
    cache: bytes = b""
    embed: Path | None = None


@dataclass(frozen=True)
class Built:
    """An engine's bytes, and the timing cache behind it."""

    plan: bytes
    cache: bytes


def build(model: onnx.ModelProto, recipe: Recipe | None = None) -> Built:
    """Builds an engine; precisions are those of the file.

    Raises:
        EngineError: the parser or the builder refused.
    """
    recipe = recipe or Recipe()
    LOG.messages.clear()
    builder = need_builder()
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, LOG)
    if not parser.parse(model.SerializeToString()):
        errors = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(f"the parser refused: {errors}; {LOG.end()}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    config.clear_flag(trt.BuilderFlag.TF32)
    _set_formats(network, config, recipe.formats)
    for shapes in recipe.shapes:
        profile = builder.create_optimization_profile()
        for name, (least, best, largest) in shapes.items():
            profile.set_shape(name, tuple(least), tuple(best), tuple(largest))
        config.add_optimization_profile(profile)
    if recipe.embed is not None:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
        config.plugins_to_serialize = [str(recipe.embed.resolve())]
    cache = config.create_timing_cache(recipe.cache)
    config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"the builder gave no engine: {LOG.end()}")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _set_formats(network: Any, config: Any, formats: Mapping[str, Any]) -> None:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    for tensor in tensors:
        if tensor.name in formats:
            tensor.allowed_formats = 1 << int(formats[tensor.name])
    if formats:
        config.set_flag(trt.BuilderFlag.DIRECT_IO)


class Engine:
    """A deserialized engine and one execution context."""

    def __init__(self, plan: bytes, *, host_code: bool = False) -> None:
        self._runtime = trt.Runtime(LOG)
        self._runtime.engine_host_code_allowed = host_code
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineError(f"the engine can't be read: {LOG.end()}")
        names = [self._engine.get_tensor_name(i) for i in range(self._engine.num_io_tensors)]
        self.inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        self.outputs = [name for name in names if name not in self.inputs]
        self._context = self._new_context()

    def second_context(self) -> Engine:
        """The same engine with a context of its own."""
        other = object.__new__(Engine)
        other.__dict__.update(self.__dict__)
        other._context = other._new_context()
        return other

    def _new_context(self) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise EngineError(f"no execution context: {LOG.end()}")
        return context

    def layers(self) -> list[dict[str, Any]]:
        """What TensorRT's inspector knows of each layer."""
        inspector = self._engine.create_engine_inspector()
        inspector.execution_context = self._context
        said = json.loads(inspector.get_engine_information(trt.LayerInformationFormat.JSON))
        return [layer for layer in said["Layers"] if isinstance(layer, dict)]

    def dtype(self, name: str) -> torch.dtype:
        """Of an input or output."""
        return TORCH_DTYPES[self._engine.get_tensor_dtype(name)]

    def bind(self, inputs: Mapping[str, torch.Tensor], outputs: Mapping[str, torch.Tensor] | None = None) -> None:
        """Sets shapes and addresses, and makes the outputs that aren't given. Tensors are on the GPU.

        Of inputs and outputs in the linear format; for others see `bind_raw`.
        """
        spare = torch.empty(256, dtype=torch.uint8, device="cuda")  # an empty tensor has no address
        for name, tensor in inputs.items():
            assert tensor.is_cuda
            assert tensor.is_contiguous()
            assert tensor.dtype == self.dtype(name)
            assert self._context.set_input_shape(name, tuple(tensor.shape)), LOG.end()
            assert self._context.set_tensor_address(name, tensor.data_ptr() or spare.data_ptr()), LOG.end()
        self.tensors = {**inputs, "": spare}
        for name in self.outputs:
            given = (outputs or {}).get(name)
            shape = tuple(self._context.get_tensor_shape(name))
            tensor = torch.full(shape, float("nan"), dtype=self.dtype(name), device="cuda") if given is None else given
            assert self._context.set_tensor_address(name, tensor.data_ptr() or spare.data_ptr()), LOG.end()
            self.tensors[name] = tensor

    def bind_raw(self, shapes: Mapping[str, Sequence[int]], memory: Mapping[str, torch.Tensor]) -> None:
        """As `bind`, of tensors whose memory is in another format than their shapes say."""
        for name, shape in shapes.items():
            assert self._context.set_input_shape(name, tuple(shape)), LOG.end()
        for name, tensor in memory.items():
            assert self._context.set_tensor_address(name, tensor.data_ptr()), LOG.end()
        self.tensors = dict(memory)

    def enqueue(self) -> None:
        """Puts it on torch's current stream."""
        assert self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream), LOG.end()

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Binds, enqueues and waits."""
        self.bind(inputs)
        torch.cuda.synchronize()
        self.enqueue()
        torch.cuda.synchronize()
        return {name: self.tensors[name] for name in self.outputs}
