"""What the statistics of each layer's input are on average, and a layer in which some are replaced by that.

Dropped statistics become constants, as the BN branch is one: mean_offset grows by weight·E[mean], var_offset by
weight·E[var]. That leaves each channel's mean and size as they were on average; giving the weight to the other
branches instead would shift them (measured in docs/decisions/0012-specialise.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import onnx_ir as ir

from sn_deploy.check.batch import Batch
from sn_deploy.folded import Float64Array, FoldedSwitchNorm
from sn_deploy.graph.names import taken_names
from sn_deploy.graph.weights import new_weight
from sn_deploy.specialise.layers import Layer
from sn_deploy.specialise.samples import Run

BRANCHES: Final = ("in", "ln")
_PREFIX: Final = "sn_deploy.statistics"


@dataclass(frozen=True)
class Expected:
    """Averages over samples: of IN for each channel, (C,), of LN one number."""

    mean_in: Float64Array
    var_in: Float64Array
    mean_ln: float
    var_ln: float


def add_statistics(model: ir.Model, layers: Sequence[Layer]) -> None:
    """Gives the graph outputs for the moments of each layer's input, (N, C), or (N, 1) for rank 2. Changes ``model``.

    Args:
        layers: of the main graph.
    """
    graph, taken = model.graph, taken_names(model)
    for place, layer in enumerate(layers):
        x = layer.node.inputs[0]
        axes = [1] if layer.rank == 2 else list(range(2, layer.rank))
        x32 = _append(graph, ir.node("Cast", [x], {"to": int(ir.DataType.FLOAT)}))
        mean = _append(graph, _mean(model, x32, axes, taken, keep=True))
        d = _append(graph, ir.node("Sub", [x32, mean]))
        squares = _append(graph, ir.node("Mul", [d, d]))
        for kind, value in (("mean", x32), ("var", squares)):
            output = _append(graph, _mean(model, value, axes, taken, keep=layer.rank == 2))
            output.name, output.type = f"{_PREFIX}.{place}.{kind}", ir.TensorType(ir.DataType.FLOAT)
            output.shape = ir.Shape([None, None])
            graph.outputs.append(output)


def _mean(model: ir.Model, value: ir.Value, axes: list[int], taken: set[str], *, keep: bool) -> ir.Node:
    if model.opset_imports[""] < 18:
        return ir.node("ReduceMean", [value], {"axes": axes, "keepdims": int(keep)})
    positions = new_weight(model.graph, np.array(axes, np.int64), f"{_PREFIX}.axes", taken)
    return ir.node("ReduceMean", [value, positions], {"keepdims": int(keep)})


def _append(graph: ir.Graph, node: ir.Node) -> ir.Value:
    graph.append(node)
    return node.outputs[0]


def expected_statistics(run: Run, batches: Iterable[Batch], layers: Sequence[Layer]) -> dict[str, Expected]:
    """Layer -> its averages.

    Args:
        run: of the model of `add_statistics`.
        layers: those that it was given.
    """
    sums: dict[str, list[Float64Array]] = {}
    rows = dict.fromkeys((layer.name for layer in layers), 0)  # N, which a net may fold other axes into
    for batch in batches:
        outputs = run(batch.inputs)
        for place, layer in enumerate(layers):
            mean, var = (outputs[f"{_PREFIX}.{place}.{kind}"].astype(np.float64) for kind in ("mean", "var"))
            parts = _statistics(layer, mean, var)
            totals = sums.setdefault(layer.name, [np.zeros_like(part[0]) for part in parts])
            for total, part in zip(totals, parts, strict=True):
                total += part.sum(axis=0)
            rows[layer.name] += len(mean)
    averages = {name: [total / rows[name] for total in totals] for name, totals in sums.items()}
    return {name: Expected(a[0], a[1], float(a[2][0]), float(a[3][0])) for name, a in averages.items()}


def _statistics(layer: Layer, mean: Float64Array, var: Float64Array) -> list[Float64Array]:
    """From a batch's moments over positions: mean_in, var_in (N, C), mean_ln, var_ln (N, 1)."""
    ddof = layer.folded.ddof
    count = layer.folded.channels if layer.rank == 2 else layer.positions
    # With dynamic extents HW isn't known here, and HW / (HW - 1) is taken for 1.
    unbiased = var * (count / (count - ddof)) if count is not None and count > ddof else var
    if layer.rank == 2:
        zeros = np.zeros((len(mean), layer.folded.channels))
        return [zeros, zeros, mean, unbiased]
    mean_ln = mean.mean(axis=1, keepdims=True)
    return [mean, unbiased, mean_ln, unbiased.mean(axis=1, keepdims=True) + mean.var(axis=1, keepdims=True)]


def without(folded: FoldedSwitchNorm, branches: Iterable[str], expected: Expected) -> FoldedSwitchNorm:
    """The layer with the statistics of these branches replaced by their averages."""
    for branch in branches:
        mean, var = getattr(folded, f"mean_{branch}"), getattr(folded, f"var_{branch}")
        changed = {
            f"mean_{branch}": 0.0,
            f"var_{branch}": 0.0,
            "mean_bn": folded.mean_bn + mean,
            "var_bn": folded.var_bn + var,
            "mean_offset": folded.mean_offset + mean * getattr(expected, f"mean_{branch}"),
            "var_offset": folded.var_offset + var * getattr(expected, f"var_{branch}"),
        }
        folded = replace(folded, **changed)
    return folded
