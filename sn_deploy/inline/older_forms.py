"""Operators that have an older form which onnx's converter doesn't write: Shape of opset 15, Pad and Split of 18,
GridSample of 20.

The converter passes over operators of other domains. So the nodes get their older form and a domain of ours before it
runs, and the standard one afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.graph.names import taken_names
from sn_deploy.graph.weights import new_weight

_MEANWHILE: Final = "sn_deploy.older"
_PADS: Final = frozenset({"constant", "reflect", "edge"})
_GRID_MODES: Final = {"linear": "bilinear", "bilinear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}


@dataclass(frozen=True)
class _Form:
    """An operator of opset ``first``, another from ``since`` on; ``write`` makes a node the older one, if it can: given
    the names that are taken."""

    first: int
    since: int
    write: Callable[[ir.Node, set[str]], bool]


def write_older_forms(model: ir.Model, opset: int) -> None:
    """Gives nodes that are newer than ``opset`` their older form, for the time of a conversion: see `end_conversion`.

    Args:
        model: its shapes inferred; changed.
        opset: what it is to be brought to.
    """
    before, taken = model.opset_imports.get("", 0), taken_names(model)
    for node in model.graph.all_nodes():
        form = _FORMS.get(node.op_type) if node.domain == "" else None
        if form is not None and before >= form.since > opset >= form.first and form.write(node, taken):
            node.domain = _MEANWHILE
            model.opset_imports[_MEANWHILE] = 1


def end_conversion(model: ir.Model) -> None:
    """Gives the nodes of `write_older_forms` their own domain back. Changes ``model``."""
    for node in model.graph.all_nodes():
        if node.domain == _MEANWHILE:
            node.domain = ""
    model.opset_imports.pop(_MEANWHILE, None)


def _shape(node: ir.Node, _: set[str]) -> bool:
    """Without bounds it is the same; `sn_deploy.graph.shape_parts` takes them away where it can."""
    return not {"start", "end"} & node.attributes.keys()


def _pad(node: ir.Node, _: set[str]) -> bool:
    """Without axes it is the same, but for the mode `wrap`."""
    axes = node.inputs[3] if len(node.inputs) > 3 else None
    return axes is None and _text(node, "mode", "constant") in _PADS


def _split(node: ir.Node, taken: set[str]) -> bool:
    """A number of parts is told by the outputs if the parts are equal, and else by their sizes."""
    if "num_outputs" not in node.attributes:
        return True
    given, axis = node.inputs[0], node.attributes.get_int("axis", 0)
    size = None if given is None or given.shape is None else given.shape[axis]
    if not isinstance(size, int):
        return False
    parts = len(node.outputs)
    part = -(-size // parts)
    if size % parts:
        last = size - part * (parts - 1)
        if last <= 0:
            return False
        numbers = np.array([part] * (parts - 1) + [last], np.int64)
        sizes = new_weight(node.graph, numbers, f"{node.name or 'Split'}.sizes", taken)
        node.resize_inputs(2)
        node.replace_input_with(1, sizes)
    node.attributes.pop("num_outputs")
    return True


def _grid_sample(node: ir.Node, _: set[str]) -> bool:
    """Of images alone, and with other words for the modes."""
    given, mode = node.inputs[0], _GRID_MODES.get(_text(node, "mode", "linear"))
    if given is None or given.shape is None or len(given.shape) != 4 or mode is None:
        return False
    node.attributes["mode"] = ir.AttrString("mode", mode)
    return True


def _text(node: ir.Node, name: str, default: str) -> str:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_string()


_FORMS: Final = {
    "Shape": _Form(13, 15, _shape),
    "Pad": _Form(13, 18, _pad),
    "Split": _Form(13, 18, _split),
    "GridSample": _Form(16, 20, _grid_sample),
}
