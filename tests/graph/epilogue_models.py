"""Graphs of SwitchNorm nodes and what follows them, written as lines such as ``y = Add a b``, and their meaning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.graph.layers import write_functions
from tests.cases import DTYPES, make_case
from tests.single_node import ELEMENT_TYPES

Array = npt.NDArray[Any]
Axes = Sequence[int | str | None]

SHAPE: Final = (3, 4, 5, 6)
DYNAMIC: Final = ("N", 4, "H", "W")
# What lines may read beside x, r (of x's shape), row (a broadcast) and condition.
CONSTANTS: Final = {
    "zero": np.array(0.0),
    "zeros_1": np.zeros(1),
    "one": np.array(1.0),
    "six": np.array(6.0),
    "inf": np.array(np.inf),
}
# A float64 meaning of each operator that a line may name.
MEANINGS: Final = {
    "Add": np.add,
    "Relu": lambda x: np.maximum(x, 0),
    "Clip": lambda x, low=None, high=None: np.clip(x, low, high),
    "Max": lambda *values: np.max(np.broadcast_arrays(*values), axis=0),
    "Identity": lambda x: x,
    "Neg": np.negative,
    "LeakyRelu": lambda x: np.where(x > 0, x, 0.01 * x),
}


def layer(name: str, dtype: str = "float32") -> FoldedSwitchNorm:
    """The layer that the SN of a line ``name = SN …`` has: each name its own."""
    weights = {"mean_weights": (0.5, 0.3, 0.2), "var_weights": (0.3, 0.5, 0.2)}
    seed = sum(map(ord, name))
    return make_case(SHAPE, dtype, ddof=1, seed=seed, **weights).folded  # type: ignore[arg-type]


def values_of(dtype: str, shape: Sequence[int] = SHAPE) -> dict[str, Array]:
    """Values of the inputs of a model."""
    generator = np.random.default_rng(3)
    made = {"x": generator.normal(1, 2, size=shape), "r": generator.normal(size=shape)}
    made["row"] = generator.normal(size=(1, shape[1], 1, 1))
    return {name: value.astype(DTYPES[dtype]) for name, value in made.items()}


def meaning(lines: Sequence[str], inputs: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """The outputs in float64, no rounding between the lines."""
    values = {name: value.astype(np.float64) for name, value in {**inputs, **CONSTANTS}.items()}
    for line in lines:
        name, kind, sources = _parse(line)
        arguments = [None if source == "-" else values[source] for source in sources]
        if kind == "SN":
            values[name] = layer(name, str(inputs["x"].dtype)).evaluate(arguments[0])
        else:
            values[name] = MEANINGS[kind](*arguments)
    return {name: values[name] for name in outputs}


def graph_of(
    lines: Sequence[str],
    outputs: Sequence[str] = ("y",),
    *,
    dtype: str = "float32",
    shape: Axes = SHAPE,
    name: str = "g",
    unknown: Sequence[str] = (),
) -> onnx.GraphProto:
    """A graph without inputs of its own; SN nodes read their constants as ``<name>.scale`` and so on.

    Args:
        lines: ``OUTPUT = OPERATOR INPUT…``; SN is SwitchNorm, ``-`` an input that is left out.
        unknown: values whose shape the file doesn't state.
    """
    nodes, constants = [], []
    for line in lines:
        target, kind, sources = _parse(line)
        own = ["" if source == "-" else source for source in sources]
        if kind != "SN":
            nodes.append(helper.make_node(kind, own, [target], name=f"{target}_node"))
            continue
        folded = layer(target, dtype)
        parameters = op.parameters_from_folded(folded)
        names = [f"{target}.{parameter}" for parameter in parameters]
        attributes = op.attributes_from_folded(folded)
        node = helper.make_node(
            op.SWITCH_NORM, [*own, *names], [target], name=f"{target}_node", domain=op.DOMAIN, **attributes
        )
        node.metadata_props.add(key=op.METADATA_LAYER, value=f"layer.{target}")
        nodes.append(node)
        constants += [numpy_helper.from_array(v, n) for n, v in zip(names, parameters.values(), strict=True)]
    element_type = ELEMENT_TYPES[dtype]
    made = helper.make_graph(nodes, name, [], [_value(output, element_type, shape) for output in outputs], constants)
    inner = [_parse(line)[0] for line in lines]
    made.value_info.extend(_value(n, element_type, shape) for n in inner if n not in (*outputs, *unknown))
    return made


def model_of(
    lines: Sequence[str],
    outputs: Sequence[str] = ("y",),
    *,
    dtype: str = "float32",
    shape: Axes = SHAPE,
    residual_shape: Axes | None = None,
    opset: int = 20,
    unknown: Sequence[str] = (),
) -> ir.Model:
    """A file of those lines, valid and with its functions, that reads x, r and row."""
    graph = graph_of(lines, outputs, dtype=dtype, shape=shape, unknown=unknown)
    return finished(graph, dtype=dtype, shape=shape, residual_shape=residual_shape, opset=opset)


def finished(
    graph: onnx.GraphProto,
    *,
    dtype: str = "float32",
    shape: Axes = SHAPE,
    residual_shape: Axes | None = None,
    opset: int = 20,
) -> ir.Model:
    """The file of a graph: its inputs, constants and functions added."""
    element_type = ELEMENT_TYPES[dtype]
    graph.input.append(_value("x", element_type, shape))
    graph.input.append(_value("r", element_type, residual_shape or shape))
    graph.input.append(_value("row", element_type, (1, shape[1], 1, 1)))
    # Not numpy_helper: that of older onnx knows no bfloat16.
    constants = [ir.tensor(value.astype(DTYPES[dtype]), name=name) for name, value in CONSTANTS.items()]
    graph.initializer.extend(ir.to_proto(constant) for constant in constants)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(op.DOMAIN, op.VERSION)]
    model = ir.from_proto(helper.make_model(graph, opset_imports=opsets, ir_version=10))
    write_functions(model)
    return model


def _parse(line: str) -> tuple[str, str, list[str]]:
    target, _, rest = line.partition(" = ")
    kind, *sources = rest.split()
    return target, kind, sources


def _value(name: str, element_type: int, shape: Axes) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, list(shape))


def lines_of(model: ir.Model) -> list[str]:
    """The graph as lines again, the constants of SN left out: ``y = SwitchNormAddRelu x r``."""
    return [
        f"{node.outputs[0].name} = {node.op_type} "
        + " ".join(
            "-" if value is None else str(value.name)
            for value in node.inputs
            if value is None or "." not in str(value.name)
        )
        for node in model.graph
    ]
