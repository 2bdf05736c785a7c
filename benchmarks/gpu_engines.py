"""TensorRT engines of ResNet-50 with SN on a GPU: with the plugin, from the function body, and the floor, the same net
with batch norms in its norms' places, which TensorRT folds into the convolutions.

    python benchmarks/gpu_engines.py --plugins build/plugins/tensorrt --output gpu_engines.json

Whatever the plugin's engine takes over the floor is what SN costs. All engines of one net run in turns, from CUDA
graphs, beside torch eager and torch.compile in the same precision; each engine's logits are held against torch's in
float32 first. Without a GPU or TensorRT nothing is measured and the exit code is 2.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from function_body import look_trained_
from gpu_timing import GpuClock, Timed, in_turns, summary
from interleaved import write_results
from onnx import helper, numpy_helper

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.engine.layers import is_plugin, layer_rows
from sn_deploy.engine.layers import layer_counts as counts_of
from sn_deploy.errors import SnDeployError
from sn_deploy.graph.op import DOMAIN, SWITCH_NORM
from sn_deploy.models import resnetv1sn50, resnetv2sn50
from sn_deploy.runtime.native import find_library

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for tests.gpu.engines

IMAGE = (3, 224, 224)
NETS = {"resnet50 v1": resnetv1sn50, "resnet50 v2": resnetv2sn50}
PLUGIN, BODY, FLOOR = "plugin", "function body", "floor"
BATCHES = [32, 1, 128, 8]  # in the order of interest: the time may end before the last
GOALS = {1: 1.32, 8: 1.35, 32: 1.40, 128: 1.42}  # of the floor, in fp16
OPSETS = {"fp32": 20, "fp16": 20, "bf16": 22}  # 22 is the first with a convolution in bfloat16
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
# Relative L2 of the logits to torch in float32: tests/tolerances.py's units of roundoff, for some 50 layers.
AGREES = {"fp32": 1e-4, "fp16": 5e-3, "bf16": 4e-2}


@dataclass
class Bench:
    """What all measurements share, and what they found."""

    engines: Any  # tests.gpu.engines
    clock: GpuClock
    rounds: int
    compiled: bool
    deadline: float
    save: Callable[[], None] = lambda: None
    results: dict[str, Any] = field(default_factory=dict)
    cache: bytes = b""  # TensorRT's timings, of one engine for the next

    def late(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() > self.deadline


# --- Files ----------------------------------------------------------------------------------------------------------


def exported(net: torch.nn.Module, precision: str, **options: Any) -> onnx.ModelProto:
    """The file that `sn_deploy.export` writes, for any batch."""
    x = torch.zeros(2, *IMAGE)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        sn_deploy.export(net, x, path, precision=precision, opset=OPSETS[precision], dynamic="batch", **options)
        return onnx.load(path)


def at_batch(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The file with a batch that is known, so that TensorRT plans for nothing else."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.value_info[:]
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    return made


def with_batch_norms(model: onnx.ModelProto) -> onnx.ModelProto:
    """Each SwitchNorm a BatchNormalization with the same scale and bias; its statistics are any constants."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    norms = [node for node in graph.node if node.domain == DOMAIN]
    unused = {name for node in norms for name in node.input[1:5]}
    kept = [tensor for tensor in graph.initializer if tensor.name not in unused]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    element_type = graph.input[0].type.tensor_type.elem_type
    for node in norms:
        assert node.op_type == SWITCH_NORM
        scale, bias, mean, var = (numpy_helper.to_array(values[name]) for name in node.input[1:5])
        names = [f"{node.output[0]}.batch_norm.{part}" for part in ("scale", "bias", "mean", "var")]
        for name, array in zip(names, (scale, bias, np.zeros_like(mean), np.ones_like(var)), strict=True):
            tensor = helper.make_tensor(name, element_type, array.shape, array)
            graph.initializer.append(tensor)
        x, y = node.input[0], node.output[0]
        node.CopyFrom(helper.make_node("BatchNormalization", [x, *names], [y], name=node.name, epsilon=1e-5))
    del made.functions[:]
    return made


def forms(net: torch.nn.Module, precision: str) -> dict[str, onnx.ModelProto]:
    """The net as each engine's file."""
    return {
        PLUGIN: exported(net, precision),
        FLOOR: with_batch_norms(exported(net, precision, fuse=False)),
        BODY: exported(net, precision, inline=True),
    }


# --- Engines --------------------------------------------------------------------------------------------------------


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


def build(bench: Bench, model: onnx.ModelProto) -> tuple[Any, dict[str, Any]]:
    """An engine, and what is known of it."""
    start = time.monotonic()
    built = bench.engines.build(model, bench.engines.Recipe(cache=bench.cache))
    bench.cache = built.cache
    engine = bench.engines.Engine(built.plan)
    facts = {"build_s": round(time.monotonic() - start, 1), "plan_bytes": len(built.plan)}
    return engine, {**facts, **layer_counts(engine.layers())}


def prepared(bench: Bench, engine: Any, x: torch.Tensor) -> tuple[Timed, torch.Tensor]:
    """The engine with X bound, as a graph; and its output."""
    engine.bind({engine.inputs[0]: x})
    torch.cuda.synchronize()
    timed = bench.clock.graph(engine.enqueue)
    timed()
    return timed, engine.tensors[engine.outputs[0]]


def error_of(y: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative L2; infinite for a NaN."""
    error = float((y.double() - expected.double()).norm() / expected.double().norm())
    return error if np.isfinite(error) else float("inf")


# --- Measurements ---------------------------------------------------------------------------------------------------


def torch_rows(bench: Bench, net: torch.nn.Module, x: torch.Tensor) -> dict[str, Timed]:
    """The net by torch, in X's precision and in channels-last, which its convolutions prefer."""
    module = net.to("cuda", x.dtype, memory_format=torch.channels_last)
    own = x.contiguous(memory_format=torch.channels_last)

    def work(call: Callable[..., Any] = module) -> None:
        with torch.no_grad():
            call(own)

    rows = {"torch eager, launched": bench.clock.launched(work), "torch eager": bench.clock.graph(work)}
    if bench.compiled and not bench.late():
        compiled = torch.compile(module, dynamic=False)
        rows["torch.compile"] = bench.clock.graph(lambda: work(compiled))
    return rows


def time_net(
    bench: Bench, net: torch.nn.Module, models: dict[str, onnx.ModelProto], precision: str, batch: int
) -> dict[str, Any]:
    """All forms of one net at one batch, in turns."""
    x = torch.randn(batch, *IMAGE, generator=torch.Generator().manual_seed(batch)).to("cuda")
    with torch.no_grad():
        expected = net.to("cuda", torch.float32)(x)
    x = x.to(DTYPES[precision])
    timed: dict[str, Timed] = {}
    row: dict[str, Any] = {"engines": {}}
    keep = []  # the engines, as long as their graphs
    for form, model in models.items():
        if form == BODY and batch != BATCHES[0]:
            continue
        engine, facts = build(bench, at_batch(model, batch))
        timed[form], y = prepared(bench, engine, x)
        row["engines"][form] = facts
        if form != FLOOR:
            facts["relative_l2"] = error_of(y, expected)
            facts["top1_agreement"] = float((y.argmax(1) == expected.argmax(1)).float().mean())
            if not facts["relative_l2"] <= AGREES[precision]:
                raise SnDeployError(
                    f"relative L2 to torch is {facts['relative_l2']:.2e}", where=f"batch {batch}, {form}"
                )
        keep.append(engine)
    timed.update(torch_rows(bench, net, x))
    times = in_turns(timed, bench.rounds)
    row["us"] = summary(times)
    row["ratio_to_floor"] = {key: round(float(np.median(value / times[FLOOR])), 4) for key, value in times.items()}
    return row


def measure(bench: Bench, nets: Sequence[str], precisions: Sequence[str], batches: Sequence[int]) -> None:
    """One net, precision and batch after the other, as far as the time goes."""
    for name in nets:
        for precision in precisions:
            if bench.late():
                return
            torch.manual_seed(0)
            net = look_trained_(NETS[name]())
            models = forms(net, precision)
            rows = bench.results["nets"].setdefault(name, {}).setdefault(precision, {})
            for batch in batches:
                if bench.late():
                    return
                try:
                    rows[str(batch)] = time_net(bench, net, models, precision, batch)
                except (bench.engines.EngineError, torch.cuda.OutOfMemoryError) as error:
                    rows[str(batch)] = {"left_out": str(error).splitlines()[0]}
                bench.save()
                print(report(name, precision, batch, rows[str(batch)]), flush=True)


def report(name: str, precision: str, batch: int, row: dict[str, Any]) -> str:
    """One measurement's table."""
    lines = [f"{name}, {precision}, batch {batch}"]
    if "left_out" in row:
        return "\n".join([*lines, f"  left out: {row['left_out']}"])
    for key, values in row["us"].items():
        lines.append(f"  {key:24s} {values['median_us']:10.1f} µs  {row['ratio_to_floor'][key]:6.3f}")
    plugin = row["engines"][PLUGIN]
    lines.append(
        f"  reformats beside plugins: {len(plugin['reformats_beside_plugins'])} of {plugin['plugins']} plugins"
    )
    if precision == "fp16" and batch in GOALS:
        ratio, goal = row["ratio_to_floor"][PLUGIN], GOALS[batch]
        lines.append(f"  goal: {goal} of the floor: {ratio:.3f} ({'met' if ratio <= goal else 'missed'})")
    return "\n".join(lines)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--plugins", type=Path, metavar="FOLDER", help="of the plugin; the package's own if none is named"
    )
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--precisions", nargs="+", choices=DTYPES, default=["fp16"])
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--budget", type=float, default=600, metavar="SECONDS", help="begin nothing after that")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    return parser.parse_args(arguments)


def missing(options: argparse.Namespace) -> str | None:
    """Why nothing can be measured; TensorRT's plugin is loaded if something can."""
    if not torch.cuda.is_available():
        return "no GPU"
    try:
        from tests.gpu import engines
    except ImportError as error:
        return f"no TensorRT ({error})"
    name = f"libsn_deploy_trt{engines.MAJOR}.so"
    library = options.plugins / name if options.plugins else find_library(name)
    if library is None or not library.is_file():
        return f"no plugin for TensorRT {engines.MAJOR} ({library or 'it was not built'})"
    try:
        engines.need_builder()
        engines.load_plugin(library)
    except engines.EngineError as error:
        return str(error)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    options = parse(arguments)
    why = missing(options)
    if why is not None:
        print(f"{why}: not measured", file=sys.stderr)
        return 2
    from tests.gpu import engines

    if options.output is not None:
        check_writable(options.output)
    clock = GpuClock()
    deadline = time.monotonic() + options.budget
    bench = Bench(engines, clock, options.rounds, compiled=not options.no_compile, deadline=deadline)
    facts = {**clock.facts(), "tensorrt": engines.trt.__version__}
    bench.results = {"command": " ".join(["python", *sys.argv]), "machine": facts, "nets": {}}
    bench.save = lambda: write_results(bench.results, options.output)
    measure(bench, options.nets, options.precisions, options.batches)
    bench.results["complete"] = not bench.late()
    bench.save()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except SnDeployError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
