"""One run after the other of an engine: its stream, its buffers on the GPU, and CUDA graphs by shape.

With CUDA graphs a session owns the inputs' and outputs' memory for each set of shapes, since a graph has the addresses
in it: inputs are copied there, on the GPU, unless they are those buffers already. Without, it works on the caller's
tensors. A graph belongs to the context that it was captured from, which must not get other shapes afterwards: each set
of shapes has a context of its own. All of them share one memory for what is between the layers, since they run on one
stream.

Outputs whose size depends on the data (`Engine.data_dependent`) get their memory while it runs, which waits for the GPU
and can't be captured: an engine with such outputs runs without CUDA graphs.
"""

from __future__ import annotations

import collections
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from sn_deploy.collector import no_collection
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import Array, TensorInfo, check_inputs
from sn_deploy.runtime.torch import array_from_tensor, tensor_from_array
from sn_deploy.runtime.trt.allocator import OutputMemory, output_allocator
from sn_deploy.runtime.trt.builder import Profile
from sn_deploy.runtime.trt.contexts import MAKING, make_context
from sn_deploy.runtime.trt.lent import Lent
from sn_deploy.runtime.trt.library import MESSAGES, tensorrt
from sn_deploy.runtime.trt.profile_choice import check_profile, choose_profile
from sn_deploy.runtime.trt.session_inputs import given_shapes, given_tensors
from sn_deploy.runtime.trt.stream_locks import lock_of
from sn_deploy.runtime.trt.types import torch_dtype
from sn_deploy.text import typed_shape

LAYER_CALLS: Final = 20
LAYER_WARMUP: Final = 5
_SPARE_BYTES: Final = 256  # TensorRT takes no null address, which an empty tensor has
_ALIGNMENT: Final = 256  # of each address that TensorRT is given

ShapeKey = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True)
class SessionFacts:
    """What a session knows of its engine. It doesn't hold that: the engine keeps a session of its own.

    Attributes: as `Engine` has them.
    """

    name: str
    device: int
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    profiles: Sequence[Profile]
    data_dependent: tuple[str, ...]


@dataclass
class Binding:
    """Buffers for one set of shapes, and how they are run.

    Attributes:
        inputs, outputs: torch tensors on the GPU; whoever fills the inputs in place saves a copy.
    """

    context: Any
    inputs: dict[str, Any]
    outputs: dict[str, Any]
    graph: Any = None


class Session:
    """Made by `Engine.session`. Several threads may call one session, and wait for each other.

    With CUDA graphs, the tensors that `run_tensors` gives are the session's own: they hold until the next run with the
    same shapes. Without, they are new each time.

    Attributes:
        stream: torch's, of the 32 that it has: other sessions may have the same, and take turns with this one.
    """

    _closed = True  # until it's made

    def __init__(
        self, handle: Any, facts: SessionFacts, *, cuda_graphs: bool, most_shapes: int, profile: int | None
    ) -> None:
        import torch

        if most_shapes < 1:
            raise SnDeployError(f"{most_shapes} shapes", where="most_shapes", expected="1 or more")
        check_profile(facts.profiles, profile, facts.name)
        self._handle, self._torch = handle, torch
        self.name, self.inputs, self.outputs = facts.name, facts.inputs, facts.outputs
        _check_linear(facts, handle)
        self._profiles, self._profile = facts.profiles, profile
        self._cuda_graphs, self._most_shapes = cuda_graphs and not facts.data_dependent, most_shapes
        self._own_memory = {info.name: OutputMemory(info) for info in self.outputs if info.name in facts.data_dependent}
        self.device = torch.device("cuda", facts.device)
        self._bindings: collections.OrderedDict[ShapeKey, Binding] = collections.OrderedDict()
        self._contexts: dict[int, Any] = {}  # profile -> a context whose shapes change from run to run
        self._allocators = {name: output_allocator(memory) for name, memory in self._own_memory.items()}
        self._lent = Lent()
        with torch.cuda.device(self.device):
            # Not the default stream: TensorRT would synchronise the device each time.
            self.stream: Any = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
            self._lock = lock_of(self.stream)
            with self._lock, torch.cuda.stream(self.stream):
                size = max(int(handle.device_memory_size_v2), _SPARE_BYTES)
                self._scratch: Any = torch.empty(size, dtype=torch.uint8, device=self.device)
                self._spare: Any = torch.empty(_SPARE_BYTES, dtype=torch.uint8, device=self.device)
        self._closed = False

    @property
    def cuda_graphs(self) -> bool:
        """Whether it launches what was captured."""
        return self._cuda_graphs

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs it once, from arrays on the host to arrays on the host.

        Raises:
            SnDeployError: wrong names, shapes or dtypes, a failure within TensorRT, or a closed session.
        """
        with self._active():
            outputs = self._launch_arrays(inputs)
            return {name: array_from_tensor(tensor) for name, tensor in outputs.items()}

    def run_tensors(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Runs it once on tensors on the GPU, behind what the caller's current stream was given; waits for nothing.

        Args:
            inputs: by name: torch tensors, or anything with DLPack (CuPy, JAX), on the session's GPU, contiguous.
                What starts at an address that is no multiple of 256, within a larger tensor, is copied first. What
                came by DLPack is held until a later call finds that the run is over, or `close`.

        Returns:
            torch tensors, which any library takes by DLPack. The caller's current stream waits for them.

        Raises:
            SnDeployError: as `run`.
        """
        with self._active() as outer:
            tensors, lent = given_tensors(self.inputs, inputs, self.device, self.name)
            try:
                outputs = self._launch_tensors(tensors, outer)
            finally:  # part of it may have been enqueued
                self._lent.hold(lent, self.stream)
            outer.wait_stream(self.stream)
            return outputs

    def buffers(self, shapes: Mapping[str, Sequence[int]]) -> Binding:
        """The session's own inputs and outputs for these shapes, to be filled in place; with CUDA graphs only.

        Given to `run_tensors`, such inputs aren't copied. They go when `most_shapes` others have been used.

        Raises:
            SnDeployError: these are no shapes of the inputs, no profile has them, or the session has no CUDA graphs.
        """
        if not self._cuda_graphs:
            why = f": the size of output {next(iter(self._own_memory))} depends on the data" if self._own_memory else ""
            raise SnDeployError(
                f"without CUDA graphs a session has no buffers of its own{why}",
                where=self.name,
                mend="give it your tensors",
            )
        with self._active() as outer:
            binding = self._binding(given_shapes(self.inputs, shapes, self.name))
            outer.wait_stream(self.stream)
            return binding

    def device_time_ms(self, inputs: Mapping[str, Array]) -> float:
        """Time of one run on the GPU alone, by its own events, with the inputs there already."""
        torch = self._torch
        with self._active():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._launch_arrays(inputs, (start, end))
            end.synchronize()
            return float(start.elapsed_time(end))

    def layer_times_ms(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """Layer -> ms in one call: the median over some calls, by TensorRT's profiler, which launches them apart."""
        check_inputs(self.inputs, inputs, where=self.name)
        times: dict[str, list[float]] = collections.defaultdict(list)
        with self._active():
            tensors = {name: self._to_device(array) for name, array in inputs.items()}
            context = self._new_context(self._profile_for(_shapes_of(tensors)))
            profiler = _profiler(times)  # must outlive the runs
            context.profiler = profiler
            self._set_inputs(context, tensors)
            outputs = self._set_outputs(context, self.stream)
            for _ in range(LAYER_WARMUP + LAYER_CALLS):
                self._enqueue(context)
            self.stream.synchronize()
            with MAKING:
                del context
            del outputs, profiler
        return {name: statistics.median(values[LAYER_WARMUP:] or values) for name, values in times.items()}

    def close(self) -> None:
        """Waits for what runs, then frees graphs, contexts and buffers. A second call does nothing."""
        if not self._closed:
            with self._lock:
                self._free()

    def _free(self) -> None:
        if self._closed:
            return
        self._closed = True
        with MAKING:
            try:
                self.stream.synchronize()
            finally:  # whatever failed on the GPU
                self._lent.clear()
                for binding in self._bindings.values():
                    binding.graph = None  # before the context that it was captured from
                    binding.context = None
                self._bindings.clear()
                self._contexts.clear()
                self._allocators.clear()  # behind the contexts that ask them
                self._scratch = self._spare = self._handle = None

    def __del__(self) -> None:
        # Nobody can run it now. Others may be using its stream, but capture nothing while `_free` is in there.
        self._free()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # --- Runs -------------------------------------------------------------------------------------------------------

    @contextmanager
    def _active(self) -> Iterator[Any]:
        """This thread alone, on the session's device and stream; yields the caller's stream.

        The session's stream waits for the caller's: inputs may still be written there, and outputs of an earlier run
        still be read.
        """
        with self._lock:
            if self._closed:
                raise SnDeployError("the session is closed", where=self.name, mend="open another")
            outer = self._torch.cuda.current_stream(self.device)
            with self._torch.cuda.device(self.device), self._torch.cuda.stream(self.stream):
                self.stream.wait_stream(outer)
                self._lent.release()
                yield outer

    def _launch_arrays(self, inputs: Mapping[str, Array], events: tuple[Any, Any] | None = None) -> dict[str, Any]:
        check_inputs(self.inputs, inputs, where=self.name)
        if not self._graphs_for({name: array.shape for name, array in inputs.items()}):
            return self._launch_plainly({name: self._to_device(array) for name, array in inputs.items()}, events)
        binding = self._binding({name: array.shape for name, array in inputs.items()})
        for name, array in inputs.items():
            binding.inputs[name].copy_(tensor_from_array(array), non_blocking=True)
        return self._replay(binding, events)

    def _launch_tensors(self, inputs: Mapping[str, Any], outer: Any) -> dict[str, Any]:
        if not self._graphs_for(_shapes_of(inputs)):
            aligned = {name: x.clone() if x.data_ptr() % _ALIGNMENT else x for name, x in inputs.items()}
            return self._launch_plainly(aligned, outer=outer)
        binding = self._binding(_shapes_of(inputs))
        for name, tensor in inputs.items():
            if tensor.data_ptr() != binding.inputs[name].data_ptr():
                binding.inputs[name].copy_(tensor, non_blocking=True)
        return self._replay(binding)

    def _graphs_for(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        # An empty tensor launches nothing that could be captured.
        return self._cuda_graphs and all(0 not in shape for shape in shapes.values())

    def _replay(self, binding: Binding, events: tuple[Any, Any] | None = None) -> dict[str, Any]:
        if events is not None:
            events[0].record(self.stream)
        binding.graph.replay()
        if events is not None:
            events[1].record(self.stream)
        return dict(binding.outputs)

    def _launch_plainly(
        self, inputs: Mapping[str, Any], events: tuple[Any, Any] | None = None, outer: Any = None
    ) -> dict[str, Any]:
        profile = self._profile_for(_shapes_of(inputs))
        if profile not in self._contexts:
            self._contexts[profile] = self._new_context(profile)
        context = self._contexts[profile]
        self._set_inputs(context, inputs)
        # The caller will free what it is given while its own stream may still read it: that memory has to be that
        # stream's, or the next run here would get it too early.
        outputs = self._set_outputs(context, self.stream if outer is None else outer)
        if events is not None:
            events[0].record(self.stream)
        self._enqueue(context)
        if events is not None:
            events[1].record(self.stream)
        taken = {name: memory.take(self.name) for name, memory in self._own_memory.items()}
        return {info.name: taken[info.name] if info.name in taken else outputs[info.name] for info in self.outputs}

    # --- Contexts ---------------------------------------------------------------------------------------------------

    def _binding(self, shapes: Mapping[str, tuple[int, ...]]) -> Binding:
        """The buffers and the graph for these shapes, made where they aren't there."""
        key: ShapeKey = tuple(sorted((name, tuple(shape)) for name, shape in shapes.items()))
        if key in self._bindings:
            self._bindings.move_to_end(key)
            return self._bindings[key]
        torch = self._torch
        profile = self._profile_for(shapes)
        while len(self._bindings) >= self._most_shapes:
            self.stream.synchronize()
            _, oldest = self._bindings.popitem(last=False)
            with MAKING:
                oldest.graph = oldest.context = None
        inputs = {
            info.name: torch.zeros(shapes[info.name], dtype=torch_dtype(info.dtype), device=self.device)
            for info in self.inputs
        }
        with MAKING:
            context = self._new_context(profile)
            self._set_inputs(context, inputs)
            binding = Binding(context, inputs, self._set_outputs(context, self.stream))
            binding.graph = self._captured(context)
        self._bindings[key] = binding
        return binding

    def _captured(self, context: Any) -> Any:
        """A CUDA graph of one run."""
        self._enqueue(context)  # what TensorRT does once for new shapes isn't to be captured
        self.stream.synchronize()
        graph = self._torch.cuda.CUDAGraph()
        try:
            # Not torch.cuda.graph(), which waits for the whole device. Other threads may use CUDA meanwhile.
            # In the midst of a capture the collector might free contexts and memory that are in a cycle.
            with no_collection():
                graph.capture_begin(capture_error_mode="thread_local")
                try:
                    self._enqueue(context)
                finally:
                    graph.capture_end()
        except (RuntimeError, SnDeployError) as error:
            raise SnDeployError(
                f"can't be captured in a CUDA graph: {_why_not_captured(error)}",
                where=self.name,
                mend="run it without: cuda_graphs=False, in a check --backend NAME=trt-no-graph:FILE",
            ) from error
        return graph

    def _new_context(self, profile: int) -> Any:
        with MAKING:
            context = make_context(self._handle, self.name)
            self._set_up(context, profile)
        return context

    def _set_up(self, context: Any, profile: int) -> None:
        context.set_device_memory(self._scratch.data_ptr(), self._scratch.numel())
        try:
            chosen = context.set_optimization_profile_async(profile, self.stream.cuda_stream)
        except RuntimeError:  # what the binding gives in the place of False
            chosen = False
        if not chosen:
            raise SnDeployError(f"TensorRT refuses profile {profile}: {MESSAGES.reason()}", where=self.name)
        for name, allocator in self._allocators.items():
            if not context.set_output_allocator(name, allocator):
                raise SnDeployError(f"TensorRT takes no allocator for {name}: {MESSAGES.reason()}", where=self.name)

    def _profile_for(self, shapes: Mapping[str, tuple[int, ...]]) -> int:
        return choose_profile(self._profiles, shapes, self._profile, self.name)

    def _set_inputs(self, context: Any, tensors: Mapping[str, Any]) -> None:
        MESSAGES.clear()
        for name, tensor in tensors.items():
            if not context.set_input_shape(name, tuple(tensor.shape)):
                raise SnDeployError(
                    f"TensorRT refuses {name} {typed_shape(tensor.shape)}: {MESSAGES.reason()}", where=self.name
                )
            self._set_address(context, name, tensor)

    def _set_outputs(self, context: Any, owner: Any) -> dict[str, Any]:
        """New tensors for the outputs, of the shapes that the inputs' lead to, in memory of the stream ``owner``.

        Outputs whose size depends on the data aren't among them: TensorRT asks for their memory.
        """
        torch, device = self._torch, self.device

        def allocate(size: int) -> Any:  # without the session in it, which holds it
            with torch.cuda.stream(owner):
                return torch.empty(size, dtype=torch.uint8, device=device)

        outputs = {}
        for info in self.outputs:
            if info.name in self._own_memory:
                self._own_memory[info.name].begin(allocate)
                context.set_tensor_address(info.name, 0)  # so that it asks each time
                continue
            shape = tuple(context.get_tensor_shape(info.name))
            if any(size < 0 for size in shape):
                raise SnDeployError(f"TensorRT tells no shape of output {info.name}: {shape}", where=self.name)
            with torch.cuda.stream(owner):
                outputs[info.name] = torch.empty(shape, dtype=torch_dtype(info.dtype), device=device)
            self._set_address(context, info.name, outputs[info.name])
        return outputs

    def _set_address(self, context: Any, name: str, tensor: Any) -> None:
        if not context.set_tensor_address(name, tensor.data_ptr() or self._spare.data_ptr()):
            raise SnDeployError(f"TensorRT refuses the memory of {name}: {MESSAGES.reason()}", where=self.name)

    def _enqueue(self, context: Any) -> None:
        MESSAGES.clear()
        if not context.execute_async_v3(self.stream.cuda_stream):
            for memory in self._own_memory.values():
                memory.check(self.name)
            raise SnDeployError(f"TensorRT failed: {MESSAGES.reason()}", where=self.name)

    # --- Inputs -----------------------------------------------------------------------------------------------------

    def _to_device(self, array: Array) -> Any:
        return tensor_from_array(array).to(self.device, non_blocking=True)


def _check_linear(facts: SessionFacts, handle: Any) -> None:
    """Tensors hold linear formats only; other builders' engines may have inputs and outputs in others."""
    trt = tensorrt()
    for info in (*facts.inputs, *facts.outputs):
        found = handle.get_tensor_format(info.name)
        if found != trt.TensorFormat.LINEAR:
            raise SnDeployError(
                f"{info.name} is in the format {found.name}, not in a tensor's order",
                where=facts.name,
                expected="linear inputs and outputs",
                mend="build it without formats of inputs and outputs",
            )


def _profiler(times: dict[str, list[float]]) -> Any:
    """TensorRT's IProfiler that adds to ``times``."""
    trt = tensorrt()

    class Profiler(trt.IProfiler):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.IProfiler.__init__(self)

        def report_layer_time(self, layer_name: str, ms: float) -> None:
            times[layer_name].append(ms)

    return Profiler()


def _why_not_captured(error: BaseException) -> str:
    # A function, since a variable that holds an error is in a cycle with it, and the session with both.
    first = error.__context__ if isinstance(error.__context__, SnDeployError) else error
    return first_line(first)  # a capture that failed can't be ended well: that comes second


def _shapes_of(tensors: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
