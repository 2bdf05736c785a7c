"""One-hot SN layers, ReLU behind them, as SwitchNorm and as standard operators, in ONNX Runtime on the CPU.

    python benchmarks/specialised_forms.py --output benchmarks/results/specialised_forms.json

The baseline is the general function body, which computes all statistics whatever their weights are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from interleaved import command_line, machine, summary, table, times_of, write_results
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph.function_body import function_body
from sn_deploy.graph.op import (
    DOMAIN,
    FLOAT_ATTRIBUTES,
    SWITCH_NORM_RELU,
    VERSION,
    attributes_from_folded,
    parameters_from_folded,
)
from sn_deploy.graph.overloads import overload_from_weights
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession

SHAPES = [(1, 64, 112, 112), (1, 256, 56, 56), (1, 512, 28, 28), (1, 2048, 7, 7), (8, 256, 56, 56)]
OPSET = 21
GENERAL = "the general function body"


def layer(channels: int, mean: str, var: str) -> FoldedSwitchNorm:
    """One that has chosen, with a biased variance, so that all forms compute the same."""
    shares = {f"{statistic}_{branch}": float(branch == chosen)
              for statistic, chosen in (("mean", mean), ("var", var)) for branch in ("in", "ln", "bn")}  # fmt: skip
    draw = np.random.default_rng(0)
    return FoldedSwitchNorm(
        name="layer",
        scale=draw.uniform(0.5, 1.5, channels),
        bias=draw.normal(size=channels),
        mean_offset=shares["mean_bn"] * draw.normal(size=channels),
        var_offset=shares["var_bn"] * draw.uniform(0.5, 2, channels) + 1e-5,
        ddof=0,
        **shares,
    ).as_float32()


def model(
    nodes: list[onnx.NodeProto],
    weights: dict[str, np.ndarray],
    shape: tuple[int, ...],
    functions: list[onnx.FunctionProto] = [],  # noqa: B006
) -> onnx.ModelProto:
    """From X to Y."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "XY"]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "layer", ends[:1], ends[1:], initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def switch_norm(folded: FoldedSwitchNorm, shape: tuple[int, ...], overload: str = "") -> onnx.ModelProto:
    """One node, with its function."""
    parameters = parameters_from_folded(folded)
    node = helper.make_node(
        SWITCH_NORM_RELU, ["X", *parameters], ["Y"], domain=DOMAIN, **attributes_from_folded(folded)
    )
    node.overload = overload
    positions = int(np.prod(shape[2:]))
    body = function_body(OPSET, {4}, most_positions=positions, op_type=SWITCH_NORM_RELU, overload=overload)
    return model([node], parameters, shape, [body])


def standard(folded: FoldedSwitchNorm, branch: str, shape: tuple[int, ...]) -> dict[str, onnx.ModelProto]:
    """The same as standard operators."""
    made, parameters = helper.make_node, parameters_from_folded(folded)
    affine = {"scale": parameters["scale"], "bias": parameters["bias"]}
    column = {name: value.reshape(-1, 1, 1) for name, value in affine.items()}
    relu = made("Relu", ["y"], ["Y"])
    eps = float(folded.var_offset[0])
    if branch == "in":
        node = made("InstanceNormalization", ["X", "scale", "bias"], ["y"], epsilon=eps)
        return {"InstanceNormalization": model([node, relu], affine, shape)}
    if branch == "bn":
        a = folded.scale / np.sqrt(folded.var_offset)
        b = folded.bias - folded.mean_offset * a
        map_ = {name: value.astype(np.float32).reshape(-1, 1, 1) for name, value in (("a", a), ("b", b))}
        nodes = [made("Mul", ["X", "a"], ["scaled"]), made("Add", ["scaled", "b"], ["y"]), relu]
        return {"Mul and Add": model(nodes, map_, shape)}
    group = made("GroupNormalization", ["X", "scale", "bias"], ["y"], num_groups=1, epsilon=eps)
    one = {"rows": np.array([shape[0], 1, -1]), "own": np.array(shape), "one": np.ones(1, np.float32),
           "zero": np.zeros(1, np.float32), **column}  # fmt: skip
    nodes = [
        made("Reshape", ["X", "rows"], ["x"]),
        made("InstanceNormalization", ["x", "one", "zero"], ["n"], epsilon=eps),
        made("Reshape", ["n", "own"], ["m"]),
        made("Mul", ["m", "scale"], ["s"]),
        made("Add", ["s", "bias"], ["y"]),
        relu,
    ]
    return {
        "GroupNormalization": model([group, relu], affine, shape),
        "InstanceNormalization of one row": model(nodes, one, shape),
    }


def measure(mean: str, var: str, shape: tuple[int, ...], threads: int, rounds: int) -> dict[str, Any]:
    """All forms in turn, once their outputs agree."""
    folded = layer(shape[1], mean, var)
    overload = overload_from_weights({name: getattr(folded, name) for name in FLOAT_ATTRIBUTES}, 4)
    forms = {GENERAL: switch_norm(folded, shape)}
    forms |= {f"its overload {overload!r}": switch_norm(folded, shape, overload)} if overload else {}
    forms |= standard(folded, mean, shape) if mean == var else {}
    sessions = {
        name: OrtSession(one.SerializeToString(), threads=threads, spinning=False, native=False)
        for name, one in forms.items()
    }
    if ort_library() is not None:
        native = forms[GENERAL].SerializeToString()
        sessions["the native operator"] = OrtSession(native, threads=threads, spinning=False)
    x = {"X": np.random.default_rng(1).normal(size=shape).astype(np.float32)}
    exact = np.maximum(folded.evaluate(x["X"]), 0)
    for name, session in sessions.items():
        difference = np.linalg.norm(session.run(x)["Y"] - exact) / np.linalg.norm(exact)
        if not difference < 1e-5:
            raise SystemExit(f"{name}: relative L2 difference of {difference:.1e} from float64")
    calls = {name: lambda one=one: one.run(x) for name, one in sessions.items()}  # type: ignore[misc]
    return summary(times_of(calls, rounds=rounds), GENERAL)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="JSON file of the results")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=60)
    arguments = parser.parse_args()
    results: dict[str, Any] = {
        "command": command_line(),
        "machine": machine(["onnxruntime", "onnx", "numpy"], arguments.threads),
        "layers_with_relu": {},
    }
    for mean, var in (("in", "in"), ("ln", "ln"), ("bn", "bn"), ("in", "bn"), ("bn", "in"), ("ln", "bn")):
        for shape in SHAPES:
            rows = measure(mean, var, shape, arguments.threads, arguments.rounds)
            case = f"mean {mean.upper()}, variance {var.upper()}, {'×'.join(map(str, shape))}"
            results["layers_with_relu"][case] = rows
            print(f"\n{case}\n{table(rows)}", flush=True)
            write_results(results, arguments.output)


if __name__ == "__main__":
    main()
