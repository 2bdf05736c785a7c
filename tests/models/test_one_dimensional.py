"""1-D: SwitchNorm1d on (N, C), as published, and on (N, C, L) and (N, L, C), as ports have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.nn import ChannelsLast, SwitchNorm1d, SwitchNormSequence
from sn_deploy.recognise import recognise
from tests.models.one_dimensional import PerPosition, PortOfSequences, UnsqueezedSequences, sequences, vectors
from tests.models.whole_way import through_everything
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES
from tools.rows.measure import export_by_torch, onnxruntime_outputs, relative_l2, run_check, torch_outputs
from tools.rows.row import Place

SAMPLES = {
    "vectors": [(3, 12), (1, 12), (5, 12)],
    "sequences": [(2, 4, 21), (1, 4, 33), (3, 4, 10)],
}


def samples(kind: str) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.normal(0.3, 1.5, shape).astype(np.float32)} for shape in SAMPLES[kind]]


def trained(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            module.reset_parameters()
    return randomise_(model, 1).eval()


@pytest.mark.parametrize(
    ("kind", "make", "layers", "dynamic", "exporter"),
    [
        ("vectors", vectors, 2, ("batch",), "dynamo"),
        ("sequences", sequences, 3, ("batch", "spatial"), "dynamo"),
        ("sequences", sequences, 3, ("batch", "spatial"), "torchscript"),
    ],
)
def test_the_whole_way(kind, make, layers, dynamic, exporter, tmp_path: Path):
    model = trained(make())
    through_everything(model, samples(kind), tmp_path, dynamic, layers=layers, exporter=exporter)
    if exporter == "dynamo":
        assert run_check(model, tmp_path / "exported.onnx", samples(kind)[0], Place(tmp_path, tmp_path), ()) == "passed"


def test_vectors_are_not_the_spatial_case_of_one_position():
    """The published SwitchNorm1d: LN over C alone, both variances unbiased, no IN."""
    layer = randomise_(SwitchNorm1d(7), 2).double().eval()
    folded = recognise(layer).layers[""]
    assert (folded.mean_in, folded.var_in) == (0, 0)
    x = np.random.default_rng(1).normal(1, 2, (4, 7))
    w, v = (p.detach().softmax(0).numpy() for p in (layer.mean_weight, layer.var_weight))
    mean = w[0] * x.mean(1, keepdims=True) + w[1] * layer.running_mean.numpy()
    var = v[0] * x.var(1, keepdims=True, ddof=1) + v[1] * layer.running_var.numpy()
    expected = (x - mean) / np.sqrt(var + 1e-5) * layer.weight.detach().numpy() + layer.bias.detach().numpy()
    np.testing.assert_allclose(folded.evaluate(x), expected, rtol=1e-9)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach().numpy(), expected, rtol=1e-12)


def test_statistics_of_each_position_are_named_and_refused(tmp_path: Path):
    model = nn.Sequential(nn.Conv1d(4, 6, 3), randomise_(PerPosition(6), 0))
    with pytest.raises(SnDeployError, match=r"^layer '1': .*the layer statistics are taken at each position apart"):
        sn_deploy.export(model, torch.zeros(2, 4, 9), tmp_path / "never.onnx")


def last_samples() -> list[dict[str, np.ndarray]]:
    return [{"x": sample["x"].swapaxes(1, 2).copy()} for sample in samples("sequences")]


def test_channels_last_inside_a_layer_go_through_fuse(tmp_path: Path):
    """The layer's own input has its channels last: export says so, and fuse takes it from torch's own export."""
    model = nn.Sequential(nn.Linear(4, 6), randomise_(PortOfSequences(6), 0), nn.ReLU(), nn.Linear(6, 3)).eval()
    with pytest.raises(SnDeployError, match=r"^layer '1': .*its channels last.*sn-deploy fuse"):
        sn_deploy.export(model, torch.zeros(2, 9, 4), tmp_path / "never.onnx")
    example = {"x": torch.from_numpy(last_samples()[0]["x"][:1])}
    dynamic = {"input": {0: "batch", 1: "length"}}
    export_by_torch(model, example, tmp_path / "naive.onnx", dynamic, "torchscript")
    report = fuse(tmp_path / "naive.onnx", tmp_path / "fused.onnx", strict=True)
    assert [layer.channels_last for layer in report.layers] == [True]
    expected = torch_outputs(model.double(), last_samples())
    found = onnxruntime_outputs(tmp_path / "fused.onnx", last_samples(), native=False)
    assert relative_l2(expected, found) < TOLERANCES["float32"].rel_l2


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_layers_that_add_an_axis_are_all_found(exporter, tmp_path: Path):
    """Nothing that unsqueezes hides the sizes of what comes behind it: the second layer was missed."""
    model = trained(nn.Sequential(nn.Conv1d(4, 8, 3), UnsqueezedSequences(8), nn.ReLU(), UnsqueezedSequences(8)))
    through_everything(model, samples("sequences"), tmp_path, ("batch", "spatial"), layers=2, exporter=exporter)


def test_channels_last_around_a_layer_are_exported(tmp_path: Path):
    model = nn.Sequential(nn.Linear(4, 6), ChannelsLast(SwitchNormSequence(6)), nn.ReLU(), nn.Linear(6, 3))
    dynamic = {"input": {0: "batch", 1: "length"}}
    through_everything(trained(model), last_samples(), tmp_path, dynamic, layers=1)
