"""Where the engines that are measured are built and run: TensorRT by the product's own builder and engines, and ONNX
Runtime on the CPU in their place, where a benchmark is rehearsed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch
from gpu_nets import DTYPES, FLOOR, PLUGIN
from gpu_timing import Clock, GpuClock, Make, RehearsalClock, Timed

from sn_deploy.engine.layers import layer_counts as counts_of
from sn_deploy.engine.layers import layer_rows
from sn_deploy.errors import SnDeployError
from sn_deploy.precision.run import write_emulated
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array
from sn_deploy.runtime.trt.inspector import is_switch_norm

BODY: Final = "function body"
# Rows beside the engines. What is slow to prepare is measured apart, at one batch.
EAGER, LAUNCHED, COMPILED, ORT = "torch eager", "torch eager, launched", "torch.compile", "ONNX Runtime CUDA, launched"

Shapes = Mapping[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


class TimeUpError(Exception):
    """The hard deadline came in the middle of a build."""


class Opened(Protocol):
    """An engine."""

    facts: dict[str, Any]

    def timed(self, x: Array) -> Timed:
        """One run on X (N, …), which is there already, as something that can be timed."""

    def run(self, x: Array) -> Array:
        """Its output."""

    def close(self) -> None:
        """Frees it."""


class Machine(Protocol):
    """What builds and opens engines."""

    clock: Clock

    def open(self, model: Path, form: str, shapes: Shapes) -> Opened:
        """An engine of the file for these shapes (of a dynamic file; else none)."""

    def beside(self, module: torch.nn.Module, x: Array, precision: str, model: Path) -> dict[str, Make]:
        """What is timed beside engines."""

    def compiled(self, module: torch.nn.Module, x: Array, precision: str) -> dict[str, Make]:
        """What is slow to prepare."""


class TensorRtMachine:
    """The product's own builder and engines.

    Args:
        plugin: the library.
        folder: for engines.
        timings: a file that the builder's timings are kept in, from call to call.
        deadline: in `time.monotonic`; a build that is under way then is ended.
        trial: a library of plugins beside the product's.

    Raises:
        SnDeployError: TensorRT refuses the trial.
    """

    def __init__(
        self, plugin: Path, *, compiled: bool, folder: Path, timings: Path, deadline: float, trial: Path | None = None
    ) -> None:
        self.clock = GpuClock()
        torch.backends.cudnn.allow_tf32 = False  # as the engines are built
        torch.backends.cuda.matmul.allow_tf32 = False
        self._plugin, self._compiled, self._folder = plugin, compiled, folder
        self._timings, self._deadline = timings, deadline
        if trial is not None:
            _load_beside(trial)

    def open(self, model: Path, form: str, shapes: Shapes) -> Opened:
        """See `Machine`.

        Raises:
            SnDeployError: TensorRT refuses.
            TimeUpError: the deadline came.
        """
        from sn_deploy.engine.build import build
        from sn_deploy.runtime.trt import Engine

        start = time.monotonic()
        path = self._folder / "net.engine"
        given: dict[str, Any] = {BODY: {"plugin": "none"}, FLOOR: {}, PLUGIN: {"plugin_library": self._plugin}}[form]
        build(
            model,
            path,
            profiles=[shapes] if shapes else (),
            timing_cache=self._timings,
            on_note=lambda note: print(f"  {form}: {note}", flush=True),
            on_progress=self._check_time,
            **given,
        )
        engine = Engine(path, plugin=self._plugin if form == PLUGIN else None)
        try:
            facts = {"build_s": round(time.monotonic() - start, 1), "plan_bytes": path.stat().st_size}
            return OpenedEngine(engine, self.clock, {**facts, **layer_facts(engine.layers())})
        except BaseException:
            engine.close()
            raise

    def beside(self, module: torch.nn.Module, x: Array, precision: str, model: Path) -> dict[str, Make]:
        """torch, in channels-last, which its convolutions prefer, and ONNX Runtime's CUDA provider."""
        if precision == "int8":
            return {}
        made: dict[str, Make] = {
            LAUNCHED: lambda: self.clock.launched(self._call(module, x, precision)),
            EAGER: lambda: self.clock.graph(self._call(module, x, precision)),
        }
        if precision in ("fp32", "fp16"):
            made[ORT] = lambda: ort_cuda(model, x.astype({"fp32": np.float32, "fp16": np.float16}[precision]))
        return made

    def compiled(self, module: torch.nn.Module, x: Array, precision: str) -> dict[str, Make]:
        """torch.compile, where it is wanted."""
        if not self._compiled or precision == "int8":
            return {}

        def make() -> Timed:
            return self.clock.graph(self._call(module, x, precision, torch.compile(dynamic=False)))

        return {COMPILED: make}

    def _call(
        self,
        module: torch.nn.Module,
        x: Array,
        precision: str,
        wrap: Callable[[torch.nn.Module], Callable[..., Any]] = lambda half: half,
    ) -> Callable[[], object]:
        dtype = DTYPES[precision]
        call = wrap(module.to("cuda", dtype, memory_format=torch.channels_last))
        own = torch.from_numpy(x).to("cuda", dtype).contiguous(memory_format=torch.channels_last)

        def work() -> None:
            with torch.no_grad():
                call(own)

        return work

    def _check_time(self, phase: Any) -> None:
        if time.monotonic() > self._deadline:
            raise TimeUpError(phase.name)


def _load_beside(library: Path) -> None:
    from sn_deploy.runtime.trt.library import MESSAGES, tensorrt

    trt = tensorrt()
    MESSAGES.clear()
    if trt.get_plugin_registry().load_library(str(library.resolve())) is None:
        raise SnDeployError(f"TensorRT refuses it: {MESSAGES.reason()}", where=str(library))


class OpenedEngine:
    """One of `sn_deploy.runtime.trt`, with one input and one output."""

    def __init__(self, engine: Any, clock: GpuClock, facts: dict[str, Any]) -> None:
        (self._input,), (self._output,) = engine.inputs, engine.outputs
        self._engine, self._clock, self.facts = engine, clock, facts
        self._session = engine.session(most_shapes=8)

    def timed(self, x: Array) -> Timed:
        """See `Opened`: its CUDA graph."""
        binding = self._session.buffers({self._input.name: x.shape})
        binding.inputs[self._input.name].copy_(torch.from_numpy(x))
        torch.cuda.synchronize()
        return self._clock.replayed(binding.graph.replay)

    def run(self, x: Array) -> Array:
        """See `Opened`."""
        y = self._session.run({self._input.name: x.astype(self._input.dtype)})[self._output.name]
        return y.astype(np.float32)

    def close(self) -> None:
        """See `Opened`."""
        self._engine.close()


def ort_cuda(model: Path, x: Array) -> Timed:
    """ONNX Runtime's CUDA provider from memory on the GPU, on the clock of the host.

    Raises:
        SnDeployError: it isn't there.
    """
    session = OrtSession(model, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    own = torch.from_numpy(x).to("cuda")
    torch.cuda.synchronize()
    binding = session._session.io_binding()
    binding.bind_input(session.inputs[0].name, "cuda", 0, x.dtype.type, x.shape, own.data_ptr())
    binding.bind_output(session.outputs[0].name, "cuda")

    def timed() -> float:
        start = time.perf_counter()
        session._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        assert own.is_cuda  # held as long as it is read
        return (time.perf_counter() - start) * 1e6

    for _ in range(3):
        timed()
    return timed


class RehearsalMachine:
    """ONNX Runtime on the CPU in the place of TensorRT: every step but the builder's. Its times mean nothing."""

    def __init__(self, folder: Path) -> None:
        self.clock = RehearsalClock()
        self._folder = folder

    def open(self, model: Path, form: str, shapes: Shapes) -> Opened:
        """See `Machine`."""
        emulated = write_emulated(model, self._folder / "emulated.onnx")
        opened = OrtSession(emulated, native=form == PLUGIN, threads=1)
        return _OpenedSession(opened, self.clock, {"build_s": 0.0, **layer_facts([])})

    def beside(self, module: torch.nn.Module, x: Array, precision: str, model: Path) -> dict[str, Make]:
        """torch in float32."""

        def work() -> None:
            with torch.no_grad():
                module(torch.from_numpy(x))

        return {EAGER: lambda: self.clock.graph(work)}

    def compiled(self, module: torch.nn.Module, x: Array, precision: str) -> dict[str, Make]:
        """Nothing: it would take a compiler's time."""
        return {}


class _OpenedSession:
    def __init__(self, session: OrtSession, clock: RehearsalClock, facts: dict[str, Any]) -> None:
        self._session, self._clock, self.facts = session, clock, facts

    def timed(self, x: Array) -> Timed:
        return self._clock.launched(lambda: self.run(x))

    def run(self, x: Array) -> Array:
        (info,) = self._session.inputs
        (y,) = self._session.run({info.name: x.astype(info.dtype)}).values()
        return y.astype(np.float32)

    def close(self) -> None:
        self._session.close()


def layer_facts(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many layers, plugins and reformats, and reformats that stand next to a plugin."""
    rows = layer_rows(layers)
    return {
        **counts_of(rows),
        "reformats_beside_plugins": [row.name for row in rows if row.beside_plugin],
        "plugin_layers": [
            {key: layer.get(key) for key in ("Name", "TacticValue", "TacticName", "Inputs", "Outputs", "Metadata")}
            for layer in layers
            if is_switch_norm(layer)
        ],
    }
