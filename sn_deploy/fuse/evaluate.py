"""A region as a function, in float64: the graph's own nodes, run by ONNX's reference implementation.

Weights and constants are widened from what the file holds; casts between floating point types do nothing. So a region
shows what it computes and not how it is rounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from sn_deploy.errors import first_line
from sn_deploy.folded import Float64Array
from sn_deploy.fuse.growth import most_made
from sn_deploy.fuse.region import FLOATS, Region
from sn_deploy.fuse.sizes import shape_output
from sn_deploy.onnx_nodes import is_standard
from sn_deploy.runtime.tensors import Array

# Numbers that nodes may make of constants alone, and at least of an input, each and all that are held together.
_MOST_MADE: Final = 1 << 22
_MOST_HELD: Final = 1 << 25
# The same for each number of a large input: no node makes more than two for one, and few are held at a time.
_MOST_MADE_EACH: Final = 2
_MOST_HELD_EACH: Final = 16


class EvaluationError(Exception):
    """The region can't be computed on an input; the text is a clause that says why."""


@dataclass(frozen=True)
class _Step:
    """One node: what it reads and makes, by name, and what nobody reads after it."""

    proto: onnx.NodeProto
    node: ReferenceEvaluator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    last_read: tuple[str, ...]

    def run(self, values: dict[str, Array], given: int = 0) -> None:
        """Adds the outputs to ``values``. ``given``: how many numbers the input of it all has."""
        made = most_made(self.proto, [values[name] for name in self.proto.input if name])
        held = sum(array.size for array in values.values())
        if made > max(_MOST_MADE, _MOST_MADE_EACH * given) or made + held > max(_MOST_HELD, _MOST_HELD_EACH * given):
            raise EvaluationError(f"{self.proto.op_type} would make {made:,} numbers, and {held:,} are held")
        results = self.node.run(list(self.outputs), {name: values[name] for name in self.inputs})
        values.update(zip(self.outputs, map(np.asarray, results), strict=True))


class RegionFunction:
    """What a region computes. It holds no more of a large input's intermediate values than are still read.

    Args:
        region: a part of a graph.
        opset: version of the standard operators.

    Raises:
        EvaluationError: the region holds what the reference implementation doesn't know.
    """

    def __init__(self, region: Region, opset: int) -> None:
        self._source = region.sources[-1]
        self._wanted = dict.fromkeys((*region.sources[:-1], *region.results, region.radicand))
        # Names of its own: those of a subgraph may hide outer ones.
        self._names: dict[ir.Value, str] = {}
        self._constants: dict[str, Array] = {}
        kept = {self._name(value) for value in (self._source, *self._wanted)}
        protos = [self._proto(node) for node in region.nodes if node not in set(region.foreign_shapes)]
        self._foreign = {node: self._name(node.outputs[0]) for node in region.foreign_shapes}
        try:
            with np.errstate(all="ignore"):
                self._steps = self._prepared(protos, kept, opset)
        except Exception as error:  # whatever the reference operators raise
            raise EvaluationError(f"it can't be computed: {first_line(error)[:200]}") from error

    def __call__(
        self, x: Float64Array, shapes: Mapping[ir.Node, tuple[int, ...]], *, most_kept: int = 0
    ) -> dict[ir.Value, Array]:
        """The values of the region for ``x``.

        Args:
            x: the region's outermost source, in float64.
            shapes: what each of the region's foreign Shape nodes reads.
            most_kept: give, beside sources, results and the radicand, the values of at most so many elements.

        Raises:
            EvaluationError: ``x`` has a shape that the region doesn't take.
        """
        values = {**self._constants, self._names[self._source]: x}
        for node, shape in shapes.items():
            values[self._foreign[node]] = shape_output(node, shape)
        try:
            with np.errstate(all="ignore"):
                for step in self._steps:
                    step.run(values, x.size)
                    for name in step.last_read:
                        if values[name].size > most_kept:
                            del values[name]
        except Exception as error:  # NumPy's and the reference operators' own
            size = "×".join(map(str, x.shape))
            raise EvaluationError(f"it can't be computed on {size}: {first_line(error)[:200]}") from error
        made = values.keys() - self._constants.keys()
        return {value: values[name] for value, name in self._names.items() if name in made}

    def _name(self, value: ir.Value) -> str:
        if value not in self._names:
            name = self._names[value] = f"v{len(self._names)}"
            if value.is_initializer() and value.const_value is not None:
                self._constants[name] = _widened(value.const_value.numpy())
        return self._names[value]

    def _proto(self, node: ir.Node) -> onnx.NodeProto:
        proto = onnx.NodeProto(op_type=node.op_type, domain="" if is_standard(node) else node.domain)
        proto.input.extend("" if value is None else self._name(value) for value in node.inputs)
        proto.output.extend(self._name(value) for value in node.outputs)
        proto.attribute.extend(_attribute(node, attribute) for attribute in node.attributes.values())
        return proto

    def _prepared(self, protos: Sequence[onnx.NodeProto], kept: set[str], opset: int) -> list[_Step]:
        """The steps that depend on the input; the others are run, once."""
        steps: list[_Step] = []
        read: set[str] = set()
        for proto in reversed(protos):
            inputs = tuple(dict.fromkeys(name for name in proto.input if name))
            last = tuple(name for name in inputs if name not in read | kept | self._constants.keys())
            read.update(inputs)
            node = ReferenceEvaluator(proto, opsets={"": opset})
            steps.insert(0, _Step(proto, node, inputs, tuple(proto.output), last))
        live = []
        for step in steps:
            if all(name in self._constants for name in step.inputs):
                step.run(self._constants)
            else:
                last = tuple(name for name in step.last_read if name not in self._constants)
                live.append(replace(step, last_read=last))
        return live


def _attribute(node: ir.Node, attribute: ir.Attr) -> onnx.AttributeProto:
    """The attribute with floating point types widened to float64."""
    if node.op_type == "Cast" and attribute.name == "to" and attribute.as_int() in FLOATS:
        return helper.make_attribute("to", int(TensorProto.DOUBLE))
    if node.op_type == "Constant" and attribute.name in ("value_float", "value_floats"):
        return helper.make_attribute("value", _tensor(np.asarray(attribute.value, dtype=np.float32)))
    if attribute.type == ir.AttributeType.TENSOR:
        return helper.make_attribute(attribute.name, _tensor(attribute.as_tensor().numpy()))
    proto = ir.serde.serialize_attribute(attribute)
    assert isinstance(proto, onnx.AttributeProto)
    return proto


def _widened(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" or array.dtype.name == "bfloat16" else array


def _tensor(array: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(np.ascontiguousarray(_widened(array)).reshape(array.shape))
