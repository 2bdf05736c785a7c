"""From a folded layer to its node: what is written, and that anything else written there changes the result."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch

from sn_deploy.capture.capture import capture
from sn_deploy.capture.inputs import bind_inputs
from sn_deploy.capture.swap import swap
from sn_deploy.compare.parity import compare
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.graph.layers import complete
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.recognise import recognise
from sn_deploy.runtime.ort import OrtSession
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES


def difference() -> float:
    """Relative L2 between a layer's node in ONNX Runtime and the layer itself in float64."""
    layer = randomise_(SwitchNorm2d(6), seed=3)
    x = torch.randn(2, 6, 5, 7, generator=torch.Generator().manual_seed(0)) + torch.arange(6.0).view(6, 1, 1)
    swapped_in = swap(torch.nn.Sequential(copy.deepcopy(layer)), {"0": recognise(layer).layers[""]})
    model = capture(swapped_in, bind_inputs(swapped_in, x, ["x"]), {}, opset=20)
    complete(model)
    with OrtSession(ir.to_proto(model).SerializeToString()) as session:
        (output,) = session.run({"x": x.numpy()}).values()
    with torch.no_grad():
        return compare(layer.double().eval()(x.double()), output).rel_l2


def swapped(first: str, second: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda values: {**values, first: values[second], second: values[first]}


FAULTS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "IN and LN of the mean swapped": ("attributes_from_folded", swapped("mean_in", "mean_ln")),
    "IN and LN of the variance swapped": ("attributes_from_folded", swapped("var_in", "var_ln")),
    "the mean's weights for the variance": (
        "attributes_from_folded",
        lambda values: {**values, "var_in": values["mean_in"], "var_ln": values["mean_ln"]},
    ),
    "a biased variance": ("attributes_from_folded", lambda values: {**values, "ddof": 0}),
    "scale and bias swapped": ("parameters_from_folded", swapped("scale", "bias")),
    "a channel off by one": (
        "parameters_from_folded",
        lambda values: {**values, "mean_offset": np.roll(values["mean_offset"], 1)},
    ),
    "no BN branch in the mean": (
        "parameters_from_folded",
        lambda values: {**values, "mean_offset": np.zeros_like(values["mean_offset"])},
    ),
    "the offsets swapped": ("parameters_from_folded", swapped("mean_offset", "var_offset")),
    "raw sums of 100 batches": (
        "parameters_from_folded",
        lambda values: {**values, "var_offset": 100 * values["var_offset"]},
    ),
    "parameters rounded to half precision": (
        "parameters_from_folded",
        lambda values: {name: value.astype(np.float16).astype(np.float32) for name, value in values.items()},
    ),
}


def test_without_a_fault_the_layer_is_exported_right() -> None:
    assert difference() < TOLERANCES["float32"].rel_l2 / 10


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, spoil = FAULTS[fault]
    honest = getattr(op, name)
    monkeypatch.setattr(op, name, lambda folded: spoil(honest(folded)))
    assert not difference() < 5 * TOLERANCES["float32"].rel_l2


def test_parameters_are_float32_and_the_namespace_is_there() -> None:
    ones = np.ones(3)
    folded = FoldedSwitchNorm("sn", ones, ones, ones / 3, ones, 0.5, 0.2, 0.3, 0.1, 0.6, 0.3, 1)
    assert {value.dtype for value in op.parameters_from_folded(folded).values()} == {np.dtype(np.float32)}
    assert op.attributes_from_folded(folded)["plugin_namespace"] == ""
    assert op.metadata_from_folded(folded)[op.METADATA_MEAN_BN] == "0.3"
