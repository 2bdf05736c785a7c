"""TensorRT engines of the demo's net and of ResNet-50 with SN on a GPU: with the plugin, from the function body, and
the floor, the same net with batch norms in its norms' places, which TensorRT folds into the convolutions.

    python benchmarks/gpu_engines.py --plugins build/plugins/tensorrt --output gpu_engines.json
    python benchmarks/gpu_engines.py --files FOLDER --make-files      # ahead, where no GPU is
    python benchmarks/gpu_engines.py --rehearse --nets digits --output rehearsal.json

Whatever the plugin's engine takes over the floor is what SN costs. A measurement is one net, one precision, one batch,
in an engine for that batch alone (static) or for 1 to 128 (dynamic). Its engines run in turns, from CUDA graphs, beside
torch eager, torch.compile and ONNX Runtime's CUDA provider in the same precision where these are there; each engine's
logits are held against torch's in float32 first. Nothing uses TF32.

Called again with the same output it goes on with what is missing; the exit code is 3 while something is, and 1 where an
engine doesn't agree with torch. Without a GPU or TensorRT nothing is measured and the exit code is 2. --rehearse takes
every step over ONNX Runtime on the CPU in the place of engines, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch
from gpu_nets import DTYPES, FLOAT_OF, FLOOR, FORMS, NETS, PLUGIN, PRECISIONS, Net, at_batch, file_of
from gpu_timing import Clock, GpuClock, RehearsalClock, Timed, in_turns, summary
from interleaved import write_results

from sn_deploy.atomic import check_writable
from sn_deploy.engine.layers import is_plugin, layer_rows
from sn_deploy.engine.layers import layer_counts as counts_of
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.precision.run import write_emulated
from sn_deploy.runtime.native import find_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array

BODY = "function body"
BATCHES = [32, 1, 128, 8]  # in the order of interest: the time may end before the last
STATIC, DYNAMIC = "static", "dynamic"
LARGEST_BATCH = 128
COMPARED_IMAGES = 1000  # of the demo's set
# Relative L2 of the logits to torch in float32: sn_deploy.check.tolerances for half types, and what 8 bits cost.
AGREES = {"fp32": 1e-4, "fp16": 16 * 2.0**-11, "bf16": 16 * 2.0**-8, "int8": 0.15}
UNFINISHED = 3  # the exit code of a call whose time was up
# What is slow to prepare is measured at one batch alone.
SLOW_BATCH = 32

Run = Callable[[Array], Array]


@dataclass(frozen=True, order=True)
class Cell:
    """One measurement."""

    net: str
    precision: str
    shapes: str
    batch: int

    @property
    def path(self) -> tuple[str, ...]:
        """Where it stands in the results."""
        return (self.net, self.precision, self.shapes, str(self.batch))


def cells(nets: Sequence[str], precisions: Sequence[str], batches: Sequence[int]) -> Iterator[Cell]:
    """All, those that goals are set for first."""
    for shapes in (STATIC, DYNAMIC):
        for precision in precisions:
            for net in nets:
                for batch in batches:
                    yield Cell(net, precision, shapes, batch)


# --- Where engines run ----------------------------------------------------------------------------------------------


class Opened(Protocol):
    """An engine with the inputs of one measurement in it."""

    facts: dict[str, Any]

    def timed(self, clock: Any) -> Timed:
        """One run as something that can be timed."""

    def run(self, x: Array) -> Array:
        """Its first output."""

    def close(self) -> None:
        """Frees it."""


class Machine(Protocol):
    """What builds and opens engines."""

    clock: Clock

    def open(self, model: Path, form: str, shapes: Mapping[str, Any], x: Array) -> Opened:
        """An engine of the file for these shapes (of a dynamic file; else none), with X (N, …) in it."""

    def rows(self, cell: Cell, net: Net, module: torch.nn.Module, x: Array, model: Path) -> dict[str, Timed]:
        """What is timed beside engines."""


class TensorRtMachine:
    """The product's own builder and engines."""

    def __init__(self, plugin: Path, compiled: bool, folder: Path) -> None:
        self.clock = GpuClock()
        torch.backends.cudnn.allow_tf32 = False  # as the engines are built
        self._plugin, self._compiled, self._folder = plugin, compiled, folder

    def open(self, model: Path, form: str, shapes: Mapping[str, Any], x: Array) -> Opened:
        """See `Machine`."""
        from sn_deploy.engine.build import build
        from sn_deploy.runtime.trt import Engine

        start = time.monotonic()
        path = self._folder / "net.engine"
        given: dict[str, Any] = (
            {"plugin": "none"} if form == BODY else {"plugin": "auto", "plugin_library": self._plugin}
        )
        if form == FLOOR:
            given = {}
        build(model, path, profiles=[shapes] if shapes else (), timing_cache=self._folder / "timings", **given)
        engine = Engine(path, plugin=None if form != PLUGIN else self._plugin)
        facts = {"build_s": round(time.monotonic() - start, 1), "plan_bytes": path.stat().st_size}
        return _OpenedEngine(engine, x, {**facts, **layer_counts(engine.layers())})

    def rows(self, cell: Cell, net: Net, module: torch.nn.Module, x: Array, model: Path) -> dict[str, Timed]:
        """torch, in channels-last, which its convolutions prefer, and ONNX Runtime's CUDA provider."""
        if cell.precision == "int8" or cell.shapes == DYNAMIC:
            return {}
        dtype = DTYPES[cell.precision]
        half = module.to("cuda", dtype, memory_format=torch.channels_last)
        own = torch.from_numpy(x).to("cuda", dtype).contiguous(memory_format=torch.channels_last)

        def work(call: Callable[..., Any] = half) -> None:
            with torch.no_grad():
                call(own)

        rows = {"torch eager, launched": self.clock.launched(work), "torch eager": self.clock.graph(work)}
        if self._compiled and cell.batch == SLOW_BATCH and cell.precision == "fp16":
            compiled = torch.compile(half, dynamic=False)
            rows["torch.compile"] = self.clock.graph(lambda: work(compiled))
        return {**rows, **_ort_cuda(model, x.astype(np.float16) if cell.precision == "fp16" else x, cell.precision)}


@dataclass
class _OpenedEngine:
    engine: Any
    x: Array
    facts: dict[str, Any]

    def __post_init__(self) -> None:
        (self._input,), (self._output,) = self.engine.inputs, self.engine.outputs
        self._session = self.engine.session(most_shapes=4)
        self._binding = self._session.buffers({self._input.name: self.x.shape})
        self._binding.inputs[self._input.name].copy_(torch.from_numpy(self.x))

    def timed(self, clock: GpuClock) -> Timed:
        return clock.replayed(self._binding.graph.replay)

    def run(self, x: Array) -> Array:
        (y,) = self._session.run({self._input.name: x.astype(self._input.dtype)}).values()
        return np.asarray(y)

    def close(self) -> None:
        self.engine.close()


def _ort_cuda(model: Path, x: Array, precision: str) -> dict[str, Timed]:
    """ONNX Runtime's CUDA provider from memory on the GPU, on the clock of the host; nothing where it isn't there."""
    if precision not in ("fp32", "fp16"):
        return {}
    try:
        session = OrtSession(model, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    except SnDeployError as error:
        print(f"  without ONNX Runtime's CUDA provider: {error}", flush=True)
        return {}
    own = torch.from_numpy(x).to("cuda")
    binding = session._session.io_binding()
    binding.bind_input(session.inputs[0].name, "cuda", 0, x.dtype.type, x.shape, own.data_ptr())
    binding.bind_output(session.outputs[0].name, "cuda")

    def timed() -> float:
        start = time.perf_counter()
        session._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        assert own.is_cuda  # held as long as it is read
        return (time.perf_counter() - start) * 1e6

    return {"ONNX Runtime CUDA, launched": timed}


class RehearsalMachine:
    """ONNX Runtime on the CPU in the place of TensorRT: every step but the builder's."""

    def __init__(self, folder: Path) -> None:
        self.clock = RehearsalClock()
        self._folder = folder

    def open(self, model: Path, form: str, shapes: Mapping[str, Any], x: Array) -> Opened:
        """See `Machine`."""
        emulated = write_emulated(model, self._folder / "emulated.onnx")
        opened = OrtSession(emulated, native=form == PLUGIN, threads=1)
        return _OpenedSession(opened, x, {"build_s": 0.0, **layer_counts([])})

    def rows(self, cell: Cell, net: Net, module: torch.nn.Module, x: Array, model: Path) -> dict[str, Timed]:
        """torch in float32."""

        def work() -> None:
            with torch.no_grad():
                module(torch.from_numpy(x))

        return {"torch eager": self.clock.graph(work)}


@dataclass
class _OpenedSession:
    session: OrtSession
    x: Array
    facts: dict[str, Any]

    def timed(self, clock: RehearsalClock) -> Timed:
        return clock.launched(lambda: self.run(self.x))

    def run(self, x: Array) -> Array:
        (y,) = self.session.run({self.session.inputs[0].name: x.astype(self.session.inputs[0].dtype)}).values()
        return y

    def close(self) -> None:
        self.session.close()


def layer_counts(layers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many layers, plugins and reformats, and reformats that stand next to a plugin."""
    rows = layer_rows(layers)
    return {
        **counts_of(rows),
        "reformats_beside_plugins": [row.name for row in rows if row.beside_plugin],
        "plugin_layers": [
            {key: layer.get(key) for key in ("Name", "TacticValue", "TacticName", "Inputs", "Outputs", "Metadata")}
            for layer in layers
            if is_plugin(layer)
        ],
    }


# --- Measurements ---------------------------------------------------------------------------------------------------


@dataclass
class Bench:
    """What all measurements share, and what they found."""

    machine: Machine
    files: Path
    folder: Path
    rounds: int
    deadline: float
    results: dict[str, Any] = field(default_factory=dict)
    output: Path | None = None

    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline

    def row(self, cell: Cell) -> dict[str, Any]:
        """What is known of it; empty where nothing is."""
        found: dict[str, Any] = self.results["nets"]
        for key in cell.path:
            found = found.get(key, {})
        return found

    def keep(self, cell: Cell, row: dict[str, Any]) -> None:
        """Puts it where it belongs, and writes everything."""
        place = self.results["nets"]
        for key in cell.path[:-1]:
            place = place.setdefault(key, {})
        place[cell.path[-1]] = row
        write_results(self.results, self.output)


def error_of(y: Array, expected: Array) -> float:
    """Relative L2; infinite for a NaN."""
    exact = expected.astype(np.float64)
    error = float(np.linalg.norm(y.astype(np.float64) - exact) / np.linalg.norm(exact))
    return error if np.isfinite(error) else float("inf")


def expected_of(module: torch.nn.Module, x: Array) -> Array:
    """By torch in float32, on the GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.no_grad():
        return module.to(device, torch.float32)(torch.from_numpy(x).to(device)).cpu().numpy()


def measure_cell(bench: Bench, cell: Cell) -> dict[str, Any]:
    """All forms of one net at one batch, in turns."""
    net = NETS[cell.net]
    module = net.make()
    x = net.samples(cell.batch)
    expected = expected_of(module, x)
    timed: dict[str, Timed] = {}
    row: dict[str, Any] = {"engines": {}}
    opened: list[Opened] = []
    with_body = cell.shapes == STATIC and cell.batch == SLOW_BATCH
    try:
        for form in (*FORMS, *([BODY] if with_body else [])):
            source = file_of(net, PLUGIN if form == BODY else form, cell.precision, bench.files)
            engine = _open(bench, source, form, cell, x)
            opened.append(engine)
            row["engines"][form] = engine.facts
            if form != FLOOR:
                engine.facts.update(_parity(engine, net, x, expected, module, cell))
            timed[form] = engine.timed(bench.machine.clock)
        timed.update(bench.machine.rows(cell, net, module, x, file_of(net, PLUGIN, cell.precision, bench.files)))
        times = in_turns(timed, bench.rounds)
    finally:
        for engine in opened:
            engine.close()
    row["us"] = summary(times)
    row["ratio_to_floor"] = {key: round(float(np.median(value / times[FLOOR])), 4) for key, value in times.items()}
    return row


def _open(bench: Bench, source: Path, form: str, cell: Cell, x: Array) -> Opened:
    if cell.shapes == STATIC:
        return bench.machine.open(at_batch(source, cell.batch, bench.folder / "static.onnx"), form, {}, x)
    name = onnx.load(source, load_external_data=False).graph.input[0].name
    image = x.shape[1:]
    shapes = {name: ((1, *image), (SLOW_BATCH, *image), (LARGEST_BATCH, *image))}
    return bench.machine.open(source, form, shapes, x)


def _parity(
    engine: Opened, net: Net, x: Array, expected: Array, module: torch.nn.Module, cell: Cell
) -> dict[str, float]:
    y = engine.run(x)
    found = {
        "relative_l2": error_of(y, expected),
        "top1_agreement": float((y.argmax(1) == expected.argmax(1)).mean()),
    }
    if not found["relative_l2"] <= AGREES[cell.precision]:
        raise CheckFailedError(
            f"relative L2 to torch is {found['relative_l2']:.2e}",
            where="/".join(cell.path),
            expected=f"at most {AGREES[cell.precision]:.1e}",
        )
    if net.name == "digits" and cell.shapes == DYNAMIC and cell.batch == LARGEST_BATCH:
        images = net.samples(COMPARED_IMAGES)
        parts = np.array_split(images, -(-COMPARED_IMAGES // LARGEST_BATCH))
        classes = np.concatenate([engine.run(part).argmax(1) for part in parts])
        found["images"] = COMPARED_IMAGES
        found["top1_agreement"] = float((classes == expected_of(module, images).argmax(1)).mean())
    return found


def measure(bench: Bench, wanted: Sequence[Cell]) -> bool:
    """One after the other, as far as the time goes; whether all that could be measured are."""
    for cell in wanted:
        if "us" in bench.row(cell):
            continue
        if bench.late():
            return False
        try:
            row = measure_cell(bench, cell)
        except CheckFailedError as error:
            row = {"failed": str(error)}
        except (SnDeployError, RuntimeError) as error:  # of CUDA: out of memory, say
            row = {"left_out": str(error).splitlines()[0][:300]}
        bench.keep(cell, row)
        print(report(cell, row), flush=True)
    return True


def report(cell: Cell, row: dict[str, Any]) -> str:
    """One measurement's table."""
    lines = [f"{cell.net}, {cell.precision}, {cell.shapes}, batch {cell.batch}"]
    for key in ("failed", "left_out"):
        if key in row:
            return "\n".join([*lines, f"  {key.replace('_', ' ')}: {row[key]}"])
    for key, values in row["us"].items():
        lines.append(f"  {key:28s} {values['median_us']:10.1f} µs  {row['ratio_to_floor'][key]:6.3f}")
    plugin = row["engines"][PLUGIN]
    lines.append(
        f"  reformats beside plugins: {len(plugin['reformats_beside_plugins'])} of {plugin['plugins']} plugins; "
        f"relative L2 {plugin['relative_l2']:.1e}, top-1 agreement {plugin['top1_agreement']:.2%}"
    )
    return "\n".join(lines)


# --- Command line ---------------------------------------------------------------------------------------------------


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plugins", type=Path, metavar="FOLDER", help="of the plugin; the package's own if none is named"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="of the ONNX files; default: beside the output")
    parser.add_argument("--make-files", action="store_true", help="make the ONNX files, and nothing else")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--budget", type=float, default=600, metavar="SECONDS", help="begin nothing after that")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--rehearse", action="store_true", help="ONNX Runtime on the CPU in the place of engines")
    return parser.parse_args(arguments)


def plugin_or_reason(options: argparse.Namespace) -> Path | str:
    """The plugin library; or why nothing can be measured."""
    if not torch.cuda.is_available():
        return "no GPU"
    from sn_deploy.runtime.trt.library import need_gpu, tensorrt, version_of

    try:
        trt = tensorrt()
        need_gpu("building an engine")
    except SnDeployError as error:
        return f"no TensorRT ({error})"
    name = f"libsn_deploy_trt{version_of(trt)[0]}.so"
    library = options.plugins / name if options.plugins else find_library(name)
    if library is None or not library.is_file():
        return f"no plugin for TensorRT {version_of(trt)[0]} ({library or 'it was not built'})"
    return Path(library)


def earlier(output: Path | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier call with the same output measured on the same GPU and versions."""
    if output is None or not output.is_file():
        return {}
    known = json.loads(output.read_text(encoding="utf-8"))
    same = ("gpu_name", "tensorrt", "torch", "rehearsal")
    return known.get("nets", {}) if all(known["machine"].get(key) == facts.get(key) for key in same) else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    files = options.files or (options.output.parent if options.output else Path("build")) / "gpu-nets"
    wanted = list(cells(options.nets, options.precisions, options.batches))
    if options.make_files:
        for net, form, precision in sorted({(c.net, form, c.precision) for c in wanted for form in FORMS}):
            print(file_of(NETS[net], form, precision, files), flush=True)
        return 0
    found: Path | str = Path() if options.rehearse else plugin_or_reason(options)
    if isinstance(found, str):
        print(f"{found}: not measured", file=sys.stderr)
        return 2
    if options.output is not None:
        check_writable(options.output)
    deadline = time.monotonic() + options.budget
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        machine: Machine = (
            RehearsalMachine(folder)
            if options.rehearse
            else TensorRtMachine(found, compiled=not options.no_compile, folder=folder)
        )
        facts = {**machine.clock.facts(), "tensorrt": _tensorrt_version(options.rehearse)}
        facts["rehearsal"] = options.rehearse
        results = {"command": " ".join(["python", *sys.argv]), "machine": facts, "float_of": FLOAT_OF}
        nets = earlier(options.output, facts)
        bench = Bench(machine, files, folder, options.rounds, deadline, {**results, "nets": nets}, options.output)
        if options.rehearse:
            torch.set_num_threads(1)
            print("A rehearsal: the times mean nothing.")
        bench.results["complete"] = measure(bench, wanted)
    write_results(bench.results, options.output)
    failed = [cell for cell in wanted if "failed" in bench.row(cell)]
    if failed:
        print(
            f"{len(failed)} of {len(wanted)} don't agree with torch, {'/'.join(failed[0].path)} first", file=sys.stderr
        )
        return 1
    if bench.results["complete"]:
        return 0
    print("the time is up, and there is more to measure: call again", file=sys.stderr)
    return UNFINISHED


def _tensorrt_version(rehearsal: bool) -> str | None:
    if rehearsal:
        return None
    from sn_deploy.runtime.trt.library import tensorrt

    return str(tensorrt().__version__)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
