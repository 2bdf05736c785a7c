"""Nodes that ONNX's inference is not to follow the values of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final

import onnx_ir as ir

# What makes the same shape and type, and isn't followed.
ALIKE: Final = {"Add": "Div", "Sub": "Div", "Mul": "Div", "Cast": "RandomUniformLike"}


@contextlib.contextmanager
def hidden_nodes(model: ir.Model, nodes: Iterable[ir.Node]) -> Iterator[None]:
    """``nodes`` of ``model`` are others meanwhile: ones that make the same shapes, or that ONNX knows nothing of, so
    that what they make has the shape that is stated, or none. Changes ``model``, and changes it back."""
    unknown = "Hidden"
    while any(function.name == unknown for function in model.functions.values()):
        unknown += "_"
    before = [(node, node.op_type, list(node.attributes.values())) for node in nodes]
    try:
        for node, kind, _ in before:
            node.op_type = ALIKE.get(kind, unknown)
            if kind == "Cast" and "to" in node.attributes:
                node.attributes["dtype"] = _renamed(node.attributes["to"], "dtype")
        yield
    finally:
        for node, kind, attributes in before:
            node.op_type = kind
            node.attributes.clear()
            node.attributes.update({attribute.name: attribute for attribute in attributes})


def _renamed(attribute: ir.Attr, name: str) -> ir.Attr:
    if attribute.is_ref():
        return ir.RefAttr(name, attribute.ref_attr_name or "", attribute.type)
    return ir.Attr(name, attribute.type, attribute.value)
