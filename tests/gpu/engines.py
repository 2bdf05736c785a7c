"""TensorRT engines of ONNX files for tests and benchmarks: what `sn_deploy` builds and reads, with the memory in hand.

`build` and `Engine` are the product's builder and engine. What is added are models in memory, formats of inputs and
outputs, and runs on torch's current stream in memory that the caller chooses. A process loads one plugin library.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import onnx
import tensorrt as trt
import torch

from sn_deploy.engine.model_file import read_model_file, without_functions
from sn_deploy.engine.profiles import KINDS, resolve_profiles
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime import trt as product
from sn_deploy.runtime.trt.builder import BuildSettings, Source, build_plan
from sn_deploy.runtime.trt.library import MESSAGES, logger, need_gpu
from sn_deploy.runtime.trt.plugin import is_loaded
from sn_deploy.runtime.trt.plugin import load_plugin as load_into_registry

Shapes = tuple[Sequence[int], Sequence[int], Sequence[int]]  # of one input: the least, the best and the largest
LoadBy = Literal["load_library", "dlopen"]

TORCH_DTYPES: Final = {
    trt.DataType.FLOAT: torch.float32,
    trt.DataType.HALF: torch.float16,
    trt.DataType.BF16: torch.bfloat16,
}
WORKSPACE_MIB: Final = 4096
MAJOR: Final = int(trt.__version__.split(".")[0])

EngineError = SnDeployError  # TensorRT gave nothing; the message is what it logged


def load_plugin(library: Path, by: LoadBy = "load_library") -> None:
    """Registers the three operators. Once in a process."""
    if by == "dlopen":  # as Triton does it
        trt.init_libnvinfer_plugins(logger(), "")
        ctypes.CDLL(str(library.resolve()), mode=os.RTLD_NOW | os.RTLD_LOCAL)
        return
    load_into_registry(library)


def need_builder() -> Any:
    """A builder.

    Raises:
        EngineError: TensorRT can make none here.
    """
    need_gpu("building an engine")
    try:
        return trt.Builder(logger())
    except TypeError as error:  # a null pointer, which the binding takes for a wrong argument
        reason = f"TensorRT {trt.__version__} can make no builder: {MESSAGES.reason()} ({error})"
        raise EngineError(reason) from error


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
    """Builds an engine; precisions are those of the file, and float32 is not TF32.

    Raises:
        EngineError: the parser or the builder refused.
    """
    recipe = recipe or Recipe()
    given = [
        {name: dict(zip(KINDS, map(tuple, three), strict=True)) for name, three in shapes.items()}
        for shapes in recipe.shapes
    ]
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "model.onnx", Path(folder) / "timings"
        onnx.save(model, path)
        cache.write_bytes(recipe.cache)
        settings = BuildSettings(
            profiles=resolve_profiles(read_model_file(path).inputs, given).profiles,
            workspace_mib=WORKSPACE_MIB,
            embed=recipe.embed,
            timing_cache=cache,
        )
        # As the product does; without the plugin it is the functions that are looked at.
        content = without_functions(path) if is_loaded() else None
        plan = build_plan(Source(path, content), settings, adjust=lambda *made: _set_formats(*made, recipe.formats))
        return Built(plan, cache.read_bytes())


def _set_formats(network: Any, config: Any, formats: Mapping[str, Any]) -> None:
    tensors = [network.get_input(i) for i in range(network.num_inputs)]
    tensors += [network.get_output(i) for i in range(network.num_outputs)]
    for tensor in tensors:
        if tensor.name in formats:
            tensor.allowed_formats = 1 << int(formats[tensor.name])
    if formats:
        config.set_flag(trt.BuilderFlag.DIRECT_IO)


class Engine:
    """The product's engine and one execution context of its own.

    Attributes:
        product: `sn_deploy.runtime.trt.Engine`.
        inputs, outputs: their names.
        tensors: those that are bound.
    """

    def __init__(self, plan: bytes, *, host_code: bool = False) -> None:
        self.product = product.Engine("model.engine", plan=plan, allow_host_code=host_code)
        self._engine = self.product.handle
        self.inputs = [info.name for info in self.product.inputs]
        self.outputs = [info.name for info in self.product.outputs]
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
            raise EngineError(f"no execution context: {MESSAGES.reason()}")
        return context

    def layers(self) -> list[dict[str, Any]]:
        """What TensorRT's inspector knows of each layer."""
        return self.product.layers()

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
            assert self._context.set_input_shape(name, tuple(tensor.shape)), MESSAGES.reason()
            assert self._context.set_tensor_address(name, tensor.data_ptr() or spare.data_ptr()), MESSAGES.reason()
        self.tensors = {**inputs, "": spare}
        for name in self.outputs:
            given = (outputs or {}).get(name)
            shape = tuple(self._context.get_tensor_shape(name))
            tensor = torch.full(shape, float("nan"), dtype=self.dtype(name), device="cuda") if given is None else given
            assert self._context.set_tensor_address(name, tensor.data_ptr() or spare.data_ptr()), MESSAGES.reason()
            self.tensors[name] = tensor

    def bind_raw(self, shapes: Mapping[str, Sequence[int]], memory: Mapping[str, torch.Tensor]) -> None:
        """As `bind`, of tensors whose memory is in another format than their shapes say."""
        for name, shape in shapes.items():
            assert self._context.set_input_shape(name, tuple(shape)), MESSAGES.reason()
        for name, tensor in memory.items():
            assert self._context.set_tensor_address(name, tensor.data_ptr()), MESSAGES.reason()
        self.tensors = dict(memory)

    def enqueue(self) -> None:
        """Puts it on torch's current stream."""
        assert self._context.execute_async_v3(torch.cuda.current_stream().cuda_stream), MESSAGES.reason()

    def run(self, inputs: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """One run by the product, without a graph, waited for."""
        with self.product.session(cuda_graphs=False) as session:
            outputs = session.run_tensors(inputs)
            torch.cuda.synchronize()
            return outputs
