"""A region as a function, in float64: the graph's own nodes, run by ONNX's reference implementation.

Weights and constants are widened from what the file holds; casts between floating point types do nothing. So a region
shows what it computes and not how it is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.errors import first_line
from sn_deploy.folded import Float64Array
from sn_deploy.fuse.facts import STANDARD_DOMAINS
from sn_deploy.fuse.region import Region
from sn_deploy.fuse.sizes import shape_output

Array = np.ndarray[Any, np.dtype[Any]]

_FLOATS: Final = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


class EvaluationError(Exception):
    """The region can't be computed on an input; the text is a clause that says why."""


class RegionFunction:
    """What a region computes.

    Args:
        region: a part of a graph.
        opset: version of the standard operators.

    Raises:
        EvaluationError: the region holds what the reference implementation doesn't know.
    """

    def __init__(self, region: Region, opset: int) -> None:
        self._source = region.sources[-1]
        self._wanted = dict.fromkeys((*region.sources[:-1], *region.results, region.radicand))
        self._small = [
            value for node in region.nodes if node not in region.foreign_shapes for value in node.outputs if value.name
        ]
        names = {self._source: "source"}
        graph = _graph(region, names)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        self._names = names
        try:
            from onnx.reference import ReferenceEvaluator

            self._evaluator = ReferenceEvaluator(model)
        except Exception as error:  # whatever its operators raise when they are made
            raise EvaluationError(f"it can't be computed: {first_line(error)[:200]}") from error

    def __call__(
        self, x: Float64Array, shapes: Mapping[ir.Node, tuple[int, ...]], *, every: bool = False
    ) -> dict[ir.Value, Array]:
        """The values of the region for ``x``.

        Args:
            x: the region's outermost source, in float64.
            shapes: what each of the region's foreign Shape nodes reads.
            every: give all values, and not only sources, results and the radicand.

        Raises:
            EvaluationError: ``x`` has a shape that the region doesn't take.
        """
        feeds: dict[str, Array] = {"source": x}
        for node, shape in shapes.items():
            feeds[self._names[node.outputs[0]]] = shape_output(node, shape)
        values = [value for value in (self._small if every else self._wanted) if value is not self._source]
        try:
            with np.errstate(all="ignore"):
                outputs = self._evaluator.run([self._names[value] for value in values], feeds)
        except Exception as error:  # NumPy's and the reference operators' own
            raise EvaluationError(
                f"it can't be computed on {'×'.join(map(str, x.shape))}: {first_line(error)[:200]}"
            ) from error
        found = {value: np.asarray(output) for value, output in zip(values, outputs, strict=True)}
        return {**found, self._source: x}


def _graph(region: Region, names: dict[ir.Value, str]) -> onnx.GraphProto:
    """The region's nodes with names of their own: those of a subgraph may hide outer ones."""
    weights: list[onnx.TensorProto] = []
    inputs = [helper.make_tensor_value_info("source", TensorProto.DOUBLE, None)]
    nodes = []
    foreign = set(region.foreign_shapes)

    def name(value: ir.Value | None) -> str:
        if value is None:
            return ""
        if value not in names:
            names[value] = f"v{len(names)}"
            if value.is_initializer() and value.const_value is not None:
                weights.append(_widened(value.const_value.numpy(), names[value]))
        return names[value]

    for node in region.nodes:
        if node in foreign:
            inputs.append(helper.make_tensor_value_info(name(node.outputs[0]), TensorProto.INT64, None))
            continue
        proto = onnx.NodeProto(op_type=node.op_type, domain="" if node.domain in STANDARD_DOMAINS else node.domain)
        proto.input.extend(name(value) for value in node.inputs)
        proto.output.extend(name(value) for value in node.outputs)
        proto.attribute.extend(_attribute(node, attribute) for attribute in node.attributes.values())
        nodes.append(proto)
    outputs = [helper.make_tensor_value_info(made, TensorProto.UNDEFINED, None) for made in _made(nodes)]
    return helper.make_graph(nodes, "region", inputs, outputs, weights)


def _made(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    return [name for node in nodes for name in node.output if name]


def _attribute(node: ir.Node, attribute: ir.Attr) -> onnx.AttributeProto:
    """The attribute with floating point types widened to float64."""
    if node.op_type == "Cast" and attribute.name == "to" and attribute.as_int() in _FLOATS:
        return helper.make_attribute("to", int(TensorProto.DOUBLE))
    if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
        return helper.make_attribute("value", _widened(np.asarray(attribute.value, dtype=np.float32), ""))
    if attribute.type == ir.AttributeType.TENSOR:
        return helper.make_attribute(attribute.name, _widened(attribute.as_tensor().numpy(), ""))
    proto = ir.serde.serialize_attribute(attribute)
    assert isinstance(proto, onnx.AttributeProto)
    return proto


def _widened(array: Array, name: str) -> onnx.TensorProto:
    if array.dtype.kind == "f" or array.dtype.name == "bfloat16":
        array = array.astype(np.float64)
    return numpy_helper.from_array(np.ascontiguousarray(array).reshape(array.shape), name)
