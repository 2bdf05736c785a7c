"""Graphs of any of ONNX's operators, drawn by chance, that say what no exporter would.

Attributes of any value and sometimes of another type, inputs that are missing, constants of other types and ranks,
sizes up to 2^62, shapes stated of tensors that have others. What makes sizes fall below 0 (windows, padding) and what
then takes parts of axes is drawn more often, and so that it fits.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection
from typing import Any, Final

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, defs, helper, numpy_helper

OPSETS: Final = (7, 9, 10, 11, 12, 13, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25)
EXTREMES: Final = (7, 100, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**31), -(2**32), -(2**62), -(2**63))
NUMBERS: Final = (0, 0, 1, 1, 1, 2, 2, 3, 4, 5, -1, -1, -2, -3, -6)
FLOATS: Final = (0.0, 1.0, 2.0, 0.5, -1.0, 1e30, float("nan"))
TEXTS: Final = ("", "x", "SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET", "ij->ji", "...a->a", "ab,bc->ac",
                "bidirectional", "reverse", "linear", "cubic", "not_larger", "reflect", "mean")  # fmt: skip
_SCHEMAS: Final = defs.get_all_schemas_with_history()
OPERATORS: Final = tuple(sorted({(schema.domain, schema.name) for schema in _SCHEMAS}))
FITTING: Final = ("Conv", "MaxPool", "AveragePool", "ConvTranspose", "Pad", "Slice", "Split", "Reshape", "Expand")
_OTHER_DOMAINS: Final = {"ai.onnx.ml": 3, "ai.onnx.preview": 1, "ai.onnx.preview.training": 1}


class _Drawing:
    def __init__(self, seed: str, allowed: Collection[str] | None) -> None:
        self.random = random.Random(seed)
        self.opset = self.random.choice(OPSETS)
        names = [one for one in OPERATORS if allowed is None or (not one[0] and one[1] in allowed)]
        self.operators = names
        self.fitting = [name for name in FITTING if ("", name) in names]
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self.ranks: dict[str, int] = {}  # of what nodes make, as far as that is meant
        self.count = itertools.count()

    def number(self) -> int:
        return self.random.choice(EXTREMES if self.random.random() < 0.08 else NUMBERS)

    def numbers(self, *counts: int) -> list[int]:
        return [self.number() for _ in range(self.random.choice(counts))]

    def name(self) -> str:
        return f"v{next(self.count)}"

    def value(self) -> str:
        return self.random.choice(list(self.ranks)[-4:])

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        name = self.name()
        tensor = numpy_helper.from_array(np.array(values, dtype), name)
        if self.random.random() < 0.3:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        return name

    def any_constant(self) -> str:
        shape = self.random.choice([(), (1,), (2,), (3,), (4,), (0,), (8,), (2, 2), (1, 3), (3, 2, 3, 3)])
        count = int(np.prod(shape))
        dtype = self.random.choice([np.int64] * 5 + [np.float32, np.float16, np.bool_, np.int32, np.uint8])
        if dtype is np.int64:
            return self.constant(np.array(self.numbers(count), np.int64).reshape(shape))
        values = FLOATS if dtype is np.float32 else (0, 1, 2, 3)
        return self.constant(np.array(self.random.choices(values, k=count)).reshape(shape), dtype)

    def attributes(self, schema: defs.OpSchema) -> dict[str, Any]:
        kinds = defs.OpSchema.AttrType
        found: dict[str, Any] = {}
        for name, attribute in schema.attributes.items():
            if not attribute.required and self.random.random() < 0.5:
                continue
            if attribute.type == kinds.INT:
                found[name] = self.number()
            elif attribute.type == kinds.INTS:
                found[name] = self.numbers(0, 1, 2, 2, 3, 4, 4, 8)
            elif attribute.type == kinds.FLOAT:
                found[name] = self.random.choice(FLOATS)
            elif attribute.type == kinds.FLOATS:
                found[name] = self.random.choices(FLOATS, k=self.random.randint(0, 4))
            elif attribute.type == kinds.STRING:
                found[name] = self.random.choice(TEXTS)
            elif attribute.type == kinds.STRINGS:
                found[name] = self.random.choices(TEXTS, k=self.random.randint(0, 2))
            elif attribute.type == kinds.TENSOR:
                found[name] = numpy_helper.from_array(np.array(self.numbers(1, 1, 2)))
            elif attribute.type == kinds.GRAPH:
                found[name] = self.branch()
        return found

    def branch(self) -> onnx.GraphProto:
        inputs = [self.info(self.name()) for _ in range(self.random.randint(0, 3))]
        sources = [info.name for info in inputs] + list(self.ranks)
        nodes, outputs = [], []
        for _ in range(self.random.randint(0, 3)):
            kind, name = self.random.choice(["Identity", "Relu", "Not", "Shape"]), self.name()
            nodes.append(helper.make_node(kind, [self.random.choice(sources)], [name]))
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        return helper.make_graph(nodes, "branch", inputs, outputs)

    def info(self, name: str) -> onnx.ValueInfoProto:
        sizes = (0, 1, 1, 2, 3, 4, 5, "N", "M", 2**31, 2**62)
        shape = (
            None if self.random.random() < 0.1 else self.random.choices(sizes, k=self.random.choice((0, 1, 2, 3, 4, 4)))
        )
        kinds = (TensorProto.FLOAT,) * 5 + (
            TensorProto.INT64,
            TensorProto.BOOL,
            TensorProto.FLOAT16,
            TensorProto.STRING,
        )
        return helper.make_tensor_value_info(name, self.random.choice(kinds), shape)

    def any_node(self) -> None:
        domain, name = self.random.choice(self.operators)
        try:
            schema = defs.get_schema(name, self.opset if not domain else _OTHER_DOMAINS.get(domain, 1), domain)
        except defs.SchemaError:
            return  # none of this opset
        most = min(schema.max_input, schema.min_input + 4)
        count = self.random.choice((schema.min_input, most, self.random.randint(max(schema.min_input - 1, 0), most)))
        inputs = [
            "" if lot < 0.05 else self.any_constant() if lot < 0.4 else self.value()
            for lot in (self.random.random() for _ in range(count))
        ]
        most = max(min(schema.max_output, schema.min_output + 3), schema.min_output)
        outputs = [self.name() for _ in range(self.random.randint(schema.min_output, most))]
        if self.random.random() < 0.03:
            outputs = []
        try:
            node = helper.make_node(name, inputs, outputs, domain=domain, **self.attributes(schema))
        except (ValueError, TypeError, OverflowError):
            return  # what protobuf doesn't hold
        self.lie(node)
        self.nodes.append(node)
        self.ranks.update(dict.fromkeys(outputs, 4))

    def lie(self, node: NodeProto) -> None:
        """Other types of attributes, now and then."""
        for attribute in node.attribute:
            lot = self.random.random()
            if lot < 0.02:
                attribute.type = self.random.choice([AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.INTS])
            elif lot < 0.03:
                attribute.ref_attr_name = "x"

    def fitting_node(self) -> None:
        """One of FITTING, of the number of axes that its input has."""
        value, kind = self.value(), self.random.choice(self.fitting)
        rank, name = self.ranks[value], self.name()
        inputs, outputs, attributes = [value], [name], {}
        spatial = max(rank - 2, 1)
        if kind in ("Conv", "ConvTranspose", "MaxPool", "AveragePool"):
            window = [self.random.choice((1, 2, 3, 5, 7)) for _ in range(spatial)]
            if kind.startswith("Conv"):
                inputs.append(self.constant(np.zeros((self.random.choice((1, 3)), 3, *window)), np.float32))
            else:
                attributes["kernel_shape"] = window
            for option, count in (("pads", 2 * spatial), ("strides", spatial), ("dilations", spatial)):
                if self.random.random() < 0.3:
                    attributes[option] = self.numbers(count)
            if self.random.random() < 0.1:
                attributes["auto_pad"] = self.random.choice(TEXTS)
        elif kind == "Slice":
            axes = self.random.sample(range(rank), self.random.randint(1, rank))
            parts = [self.numbers(len(axes)), self.numbers(len(axes)), axes]
            if self.opset < 10:
                attributes = dict(zip(("starts", "ends", "axes"), parts, strict=True))
            else:
                steps = [self.numbers(len(axes))] if self.random.random() < 0.4 else []
                inputs += [self.constant(part) for part in (*parts, *steps)]
        elif kind == "Split":
            outputs.append(self.name())
            attributes["axis"] = self.random.randint(-rank, rank - 1)
            if self.opset >= 18 and self.random.random() < 0.5:
                attributes["num_outputs"] = self.random.choice((2, 2, self.number()))
            elif self.opset >= 13 and self.random.random() < 0.7:
                inputs.append(self.constant(self.numbers(2)))
            elif self.random.random() < 0.7:
                attributes["split"] = self.numbers(2)
        elif kind == "Pad" and self.opset < 11:
            attributes["pads"] = self.numbers(2 * rank)
        else:
            rank = self.random.randint(1, 5) if kind == "Reshape" else rank
            inputs.append(self.constant(self.numbers(2 * rank if kind == "Pad" else rank)))
        self.nodes.append(helper.make_node(kind, inputs, outputs, **attributes))
        self.ranks.update(dict.fromkeys(outputs, rank))

    def images(self) -> onnx.ValueInfoProto:
        """Small ones, as windows are then soon too large for them."""
        sizes = self.random.choices((1, 2, 3, 4, 4, "N"), k=self.random.choice((3, 4, 4, 5)))
        return helper.make_tensor_value_info("x0", TensorProto.FLOAT, sizes)

    def model(self) -> onnx.ModelProto:
        inputs = [self.images(), *(self.info(f"x{index}") for index in range(1, self.random.randint(1, 3)))]
        self.ranks.update({info.name: len(info.type.tensor_type.shape.dim) or 1 for info in inputs})
        for _ in range(self.random.randint(2, 12)):
            if self.fitting and self.random.random() < 0.6:
                self.fitting_node()
            else:
                self.any_node()
        made = [name for node in self.nodes for name in node.output if name]
        stated = [self.info(name) for name in made if self.random.random() < 0.15]
        last = helper.make_tensor_value_info(made[-1] if made else "x0", TensorProto.FLOAT, None)
        graph = helper.make_graph(self.nodes, "drawn", inputs, [last], self.initializers, value_info=stated)
        versions = {"": self.opset, **_OTHER_DOMAINS}
        opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def drawn_model(seed: str, allowed: Collection[str] | None = None) -> onnx.ModelProto:
    """The model of a seed.

    Args:
        allowed: names of standard operators to take; None for all operators of all domains.
    """
    return _Drawing(seed, allowed).model()
