"""What a layer's weights make of it: the cheapest form that computes the same, and why no cheaper one does.

The rules rest on what was measured (docs/decisions/0012-specialise.md), not on a timing of the moment: the same file
gives the same result.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from sn_deploy.graph.function_body import MOST_POSITIONS_OF_ONE_SUM
from sn_deploy.graph.overloads import CONSTANT, GENERAL
from sn_deploy.specialise.fold import why_not_foldable
from sn_deploy.specialise.layers import Layer


class Runtime(enum.Enum):
    """Who the file is to be cheap for."""

    ORT = "ort"  # the functions inside the file
    ORT_NATIVE = "ort-native"  # the native operators


class Form(enum.Enum):
    """What becomes of a layer."""

    FOLDED = "folded"  # into the operator before it
    INSTANCE_NORM = "InstanceNormalization"
    FEWER = "fewer statistics"
    KEPT = "kept"


@dataclass(frozen=True)
class Choice:
    """A form, and why it isn't a cheaper one; None where there is none cheaper, or nothing suggests one."""

    form: Form
    reason: str | None = None


def choose(layer: Layer, runtime: Runtime) -> Choice:
    """The form of a layer."""
    if layer.overload == CONSTANT:
        reason = why_not_foldable(layer)
        return Choice(Form.FOLDED) if reason is None else Choice(Form.FEWER, reason)
    fewer = Choice(Form.KEPT if layer.overload == GENERAL else Form.FEWER)
    if _is_one_hot(layer, "in"):
        reason = _why_no_instance_norm(layer, runtime)
        return Choice(Form.INSTANCE_NORM) if reason is None else Choice(fewer.form, reason)
    if _is_one_hot(layer, "ln"):
        return Choice(fewer.form, _why_no_layer_norm(layer))
    return fewer


def _is_one_hot(layer: Layer, branch: str) -> bool:
    """Whether mean and variance are this branch's alone."""
    weights = {name: 1.0 if name.endswith(branch) else 0.0 for name in layer.weights}
    return layer.weights == weights and not layer.folded.mean_offset.any()


def _why_no_instance_norm(layer: Layer, runtime: Runtime) -> str | None:
    folded, positions, x = layer.folded, layer.positions, layer.node.inputs[0]
    assert x is not None
    if runtime is Runtime.ORT_NATIVE:
        return "the native operator is faster than InstanceNormalization, and takes in what follows"
    if np.ptp(folded.var_offset) > 0:
        return "its epsilon differs from channel to channel, and InstanceNormalization has one"
    if x.dtype not in (None, ir.DataType.FLOAT):
        return "InstanceNormalization would round its parameters to half precision"
    if positions is None:
        return "its extents are dynamic, and InstanceNormalization sums long rows less exactly" + (
            " and divides by HW, not HW - 1" if folded.ddof else ""
        )
    if positions > MOST_POSITIONS_OF_ONE_SUM:
        return f"InstanceNormalization sums rows of {positions} less exactly"
    return None


def _why_no_layer_norm(layer: Layer) -> str:
    if layer.rank == 2:
        return "LayerNormalization may subtract squares, which costs digits"
    if layer.folded.ddof:
        return "its variances are unbiased, channel by channel: no GroupNormalization computes that"
    return "ONNX Runtime has no faster kernel of GroupNormalization"
