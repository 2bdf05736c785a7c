"""Models that are no plain chain of SN layers: every layer is found, exported once, and computes what it did."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.inspection.onnx_file import layers_from_onnx
from tests.models.general import Mixed, Sample, Selected, Shared, Two, images, nested, trained
from tests.models.whole_way import through_everything
from tools.rows.measure import run_check
from tools.rows.row import Place

CASES: dict[str, tuple[type[nn.Module] | object, Sequence[Sample], int]] = {
    "mixed": (Mixed, images((2, 3, 14, 12), (1, 3, 20, 15)), 2),
    "nested": (nested, images((2, 3, 9, 8), (3, 3, 12, 7)), 3),
}


@pytest.mark.parametrize("case", CASES)
def test_the_whole_way(case, tmp_path: Path):
    make, samples, layers = CASES[case]
    through_everything(trained(make()), samples, tmp_path, ("batch", "spatial"), layers=layers, exporter="torchscript")


def test_other_normalisations_stay_what_they_are(tmp_path: Path):
    sn_deploy.export(trained(Mixed()), torch.zeros(1, 3, 14, 12), tmp_path / "net.onnx")
    ops = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert "InstanceNormalization" in ops
    assert "BatchNormalization" not in ops, "it is folded into its convolution"
    assert [layer.name for layer in layers_from_onnx(tmp_path / "net.onnx")] == ["body.1", "last.1"]


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_one_module_called_three_times_is_three_nodes_of_one_layer(
    exporter: Literal["dynamo", "torchscript"], tmp_path
):
    """The older exporter casts between the last two, which follow each other, from float32 to float32."""
    model = trained(Shared())
    samples = images((2, 3, 12, 16), (1, 3, 20, 8))
    through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=3, exporter=exporter)
    ops = [node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node]
    assert len(ops) < 10, "nothing of the layers is left beside their nodes"
    report = sn_deploy.export(model, torch.zeros(2, 3, 12, 16), tmp_path / "again.onnx")
    assert [(layer.folded.name, layer.calls) for layer in report.layers] == [("norm", 3)]
    weights = [tensor.name for tensor in onnx.load(tmp_path / "again.onnx").graph.initializer]
    assert sum("scale" in name for name in weights) == 1, "its constants are in the file once"


def test_several_inputs_and_outputs(tmp_path: Path):
    samples = [
        {**sample, "kind": np.arange(len(sample["x"]), dtype=np.int64) % 7}
        for sample in images((3, 3, 9, 8), (5, 3, 7, 9))
    ]
    model = trained(Two())
    through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=2, exporter="torchscript")
    assert [value.name for value in onnx.load(tmp_path / "exported.onnx").graph.input] == ["x", "kind"]
    assert run_check(model, tmp_path / "exported.onnx", samples[0], Place(tmp_path, tmp_path), ()) == "passed"


def test_shapes_that_depend_on_the_data(tmp_path: Path):
    samples = images((2, 3, 9, 8), (3, 3, 5, 5))
    model = trained(Selected())
    expected, _ = through_everything(model, samples, tmp_path, ("batch", "spatial"), layers=1, exporter="torchscript")
    assert 0 < len(expected[0][0]) < 2 * 72
    assert run_check(model, tmp_path / "exported.onnx", samples[0], Place(tmp_path, tmp_path), ()) == "passed"
