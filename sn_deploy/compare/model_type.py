"""The type of number that limits how near two evaluations of a file can be."""

from __future__ import annotations

import onnx_ir as ir

from sn_deploy.compare.tolerances import TOLERANCES, coarsest


def coarsest_type(model: ir.Model) -> str:
    """The coarsest floating-point type of any value in the file, float32 at least: SwitchNorm's statistics are that.

    One of `sn_deploy.compare.tolerances.TOLERANCES`.
    """
    made = {value.dtype for node in model.graph.all_nodes() for value in node.outputs}
    held = {value.dtype for value in (*model.graph.inputs, *model.graph.initializers.values())}
    return coarsest(["float32", *(name for name in map(_name, made | held) if name in TOLERANCES)])


def _name(dtype: ir.DataType | None) -> str:
    """NumPy's name of it; ``""`` where it has none."""
    try:
        return "" if dtype is None else dtype.numpy().name
    except TypeError:
        return ""
