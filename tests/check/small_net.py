"""A small net with two SN layers as an ONNX file, built by hand: quick to write, to run and to spoil."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph.function_body import function_body
from sn_deploy.graph.op import DOMAIN, PARAMETERS, SWITCH_NORM, VERSION, attributes_from_folded, parameters_from_folded
from tests.single_node import ELEMENT_TYPES

CLASSES, CHANNELS, SIZE = 10, 6, 8

Weights = dict[str, npt.NDArray[Any]]


def weights(dtype: str = "float32") -> Weights:
    """The net's tensors by name; the same in every call."""
    generator = np.random.default_rng(7)
    made: Weights = {
        "conv1.weight": generator.standard_normal((CHANNELS, 3, 3, 3)) / 5,
        "conv2.weight": generator.standard_normal((CHANNELS, CHANNELS, 3, 3)) / 7,
        "fc.weight": generator.standard_normal((CLASSES, CHANNELS)),
        "fc.bias": generator.standard_normal(CLASSES) / 10,
        "head.weight": generator.standard_normal((CLASSES, CHANNELS, 1, 1)),
    }
    made = {name: value.astype(dtype) for name, value in made.items()}
    for layer in ("sn1", "sn2"):
        made |= {f"{layer}.{name}": value for name, value in parameters_from_folded(folded(layer)).items()}
    return made


def folded(name: str) -> FoldedSwitchNorm:
    """One of the two layers."""
    generator = np.random.default_rng(len(name) + ord(name[-1]))
    shares = {"mean_in": 0.5, "mean_ln": 0.3, "mean_bn": 0.2, "var_in": 0.2, "var_ln": 0.5, "var_bn": 0.3}
    return FoldedSwitchNorm(
        name=name,
        scale=generator.uniform(0.5, 1.5, CHANNELS),
        bias=generator.standard_normal(CHANNELS) / 10,
        mean_offset=generator.standard_normal(CHANNELS) / 10,
        var_offset=generator.uniform(0.1, 0.5, CHANNELS),
        ddof=1,
        **shares,
    )


def small_net(
    *,
    batch: int | str = "batch",
    size: int | str = SIZE,
    dtype: str = "float32",
    outputs: tuple[str, ...] = ("logits",),
    input_name: str = "image",
    spoil: Callable[[Weights], None] = lambda tensors: None,
    shift: bool = False,
) -> onnx.ModelProto:
    """The net from (batch, 3, size, size).

    Args:
        outputs: of ``logits`` (batch, classes) and ``map`` (batch, classes, size, size).
        spoil: changes the weights in place.
        shift: moves the image by a pixel before anything else.
    """
    tensors = weights(dtype)
    spoil(tensors)
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight"], ["c1"], pads=[1] * 4),
        _switch_norm("sn1", "c1"),
        helper.make_node("Relu", ["sn1.y"], ["r1"]),
        helper.make_node("Conv", ["r1", "conv2.weight"], ["c2"], pads=[1] * 4),
        _switch_norm("sn2", "c2"),
        helper.make_node("Relu", ["sn2.y"], ["r2"]),
    ]
    if shift:
        tensors |= {"pads": np.array([0, 0, 0, 1, 0, 0, 0, -1])}
        nodes.insert(0, helper.make_node("Pad", [input_name, "pads"], ["x"]))
    else:
        nodes.insert(0, helper.make_node("Identity", [input_name], ["x"]))
    shapes: dict[str, list[int | str]] = {}
    if "logits" in outputs:
        tensors["axes"] = np.array([2, 3])
        nodes.append(helper.make_node("ReduceMean", ["r2", "axes"], ["pooled"], keepdims=0))
        nodes.append(helper.make_node("Gemm", ["pooled", "fc.weight", "fc.bias"], ["logits"], transB=1))
        shapes["logits"] = [batch, CLASSES]
    if "map" in outputs:
        nodes.append(helper.make_node("Conv", ["r2", "head.weight"], ["map"]))
        shapes["map"] = [batch, CLASSES, size, size]
    used = {name for node in nodes for name in node.input}
    element_type = ELEMENT_TYPES[dtype]
    graph = helper.make_graph(
        nodes,
        "small_net",
        [helper.make_tensor_value_info(input_name, element_type, [batch, 3, size, size])],
        [helper.make_tensor_value_info(name, element_type, shapes[name]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in tensors.items() if name in used],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(DOMAIN, VERSION)],
        functions=[function_body(18, {4})],
        ir_version=10,
    )


def _switch_norm(layer: str, x: str) -> onnx.NodeProto:
    parameters = [f"{layer}.{name}" for name in PARAMETERS]
    attributes = attributes_from_folded(folded(layer))
    return helper.make_node(SWITCH_NORM, [x, *parameters], [f"{layer}.y"], name=layer, domain=DOMAIN, **attributes)


def write_net(path: Path, **options: Any) -> Path:
    """Writes `small_net` and gives its path."""
    onnx.save(small_net(**options), path)
    return path
