"""Population normalization: what the frozen BN branch is at inference, folded, shown, and beside plain BatchNorm."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import sn_deploy
from sn_deploy.calibrate import POPULATION, calibrate, with_statistics
from sn_deploy.cli import main
from sn_deploy.fuse import fuse
from sn_deploy.inspection.checkpoint_file import layers_from_checkpoint
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.recognise import recognise
from sn_deploy.runtime.ort import OrtSession
from tests.calibrate.oracle import Batches
from tests.models.general import images, trained
from tests.tolerances import TOLERANCES
from tools.rows.measure import export_by_torch, onnxruntime_outputs, relative_l2, torch_outputs

C = 6


def only_bn(seed: int = 0) -> nn.Module:
    """An SN layer that chose BN: with shares of 1 up to rounding it is population normalization."""
    layer = trained(SwitchNorm2d(C), seed)
    with torch.no_grad():
        for weights in (layer.mean_weight, layer.var_weight):
            weights.copy_(torch.tensor([0.0, 0.0, 30.0]))
    return layer


def test_the_frozen_bn_branch_is_population_normalization():
    """(x - population mean) / sqrt(population variance + eps) · gamma + beta, from all data as one batch."""
    layer = only_bn().double()
    x = np.random.default_rng(0).normal(1.5, 2.0, (30, C, 5, 4))
    calibration = calibrate(nn.Sequential(layer), Batches(x, 7), statistics=POPULATION)
    model = nn.Sequential(layer)
    model.load_state_dict(with_statistics(model.state_dict(), calibration.layers))
    folded = recognise(model).layers["0"]
    # The published layer pools unbiased variances of samples; with beta and gamma the rest is PN's equation.
    per_sample = x.reshape(30, C, -1)
    mean = per_sample.mean((0, 2))
    var = per_sample.var(2, ddof=1).mean(0) + per_sample.mean(2).var(0)
    gamma, beta = (p.detach().numpy().reshape(-1, 1, 1) for p in (layer.weight, layer.bias))
    expected = (x - mean[:, None, None]) / np.sqrt(var + 1e-5)[:, None, None] * gamma + beta
    np.testing.assert_allclose(folded.evaluate(x), expected, rtol=1e-9, atol=1e-9)


@pytest.fixture
def net() -> nn.Module:
    """Plain BatchNorm beside SN: behind a convolution, before one, and alone."""
    torch.manual_seed(0)
    behind = (nn.Conv2d(3, C, 3, bias=False), nn.BatchNorm2d(C), nn.ReLU())
    switch = (nn.Conv2d(C, C, 3, bias=False), SwitchNorm2d(C), nn.ReLU())
    return trained(nn.Sequential(*behind, *switch, nn.Conv2d(C, C, 3), nn.BatchNorm2d(C), SwitchNorm2d(C)))


def batch_norms(path: Path) -> int:
    return sum(node.op_type == "BatchNormalization" for node in onnx.load(path).graph.node)


def test_plain_batch_norms_are_folded_into_their_convolutions_by_export(net: nn.Module, tmp_path: Path):
    sn_deploy.export(net, torch.zeros(1, 3, 12, 12), tmp_path / "net.onnx", dynamic=("batch", "spatial"))
    assert batch_norms(tmp_path / "net.onnx") == 0
    ops = [node.op_type for node in onnx.load(tmp_path / "net.onnx").graph.node]
    assert ops == ["Conv", "Relu", "Conv", "SwitchNormRelu", "Conv", "SwitchNorm"]
    samples = images((2, 3, 12, 12), (1, 3, 17, 9))
    expected = torch_outputs(net.double(), samples)
    found = onnxruntime_outputs(tmp_path / "net.onnx", samples, native=False)
    assert relative_l2(expected, found) < TOLERANCES["float32"].rel_l2


def test_those_of_other_files_are_folded_by_the_runtime(net: nn.Module, tmp_path: Path):
    """Torch's older exporter, told to keep them, leaves them in the file; ONNX Runtime's basic level folds them."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.zeros(1, 3, 12, 12),),
            tmp_path / "naive.onnx",
            dynamo=False,
            opset_version=18,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    assert batch_norms(tmp_path / "naive.onnx") == 2
    report = fuse(tmp_path / "naive.onnx", tmp_path / "fused.onnx", strict=True)
    assert len(report.layers) == 2
    assert batch_norms(tmp_path / "fused.onnx") == 2, "fuse changes SN layers alone"
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(tmp_path / "fused.onnx"), options, providers=["CPUExecutionProvider"])
    assert batch_norms(tmp_path / "optimised.onnx") == 0
    with OrtSession(tmp_path / "fused.onnx", native=False) as session, torch.no_grad():
        x = images((1, 3, 12, 12))[0]["x"]
        (y,) = session.run({session.inputs[0].name: x}).values()
        expected = net.double()(torch.from_numpy(x).double()).numpy()
    assert np.linalg.norm(y - expected) < TOLERANCES["float32"].rel_l2 * np.linalg.norm(expected)


def test_inspect_shows_gamma_and_the_population_of_a_file_and_of_a_checkpoint(net, tmp_path: Path, capsys):
    sn_deploy.export(net, torch.zeros(1, 3, 12, 12), tmp_path / "net.onnx")
    torch.save(net.state_dict(), tmp_path / "net.pth")
    from_file, from_checkpoint = layers_from_onnx(tmp_path / "net.onnx"), layers_from_checkpoint(tmp_path / "net.pth")
    assert [layer.name for layer in from_file] == [layer.name for layer in from_checkpoint] == ["4", "8"]
    for one, other in zip(from_file, from_checkpoint, strict=True):
        own = net.get_submodule(one.name)
        for name, values, eps in (
            ("gamma", own.weight, 0),
            ("population_mean", own.running_mean, 0),
            ("population_var", own.running_var, own.eps / one.var[2]),
        ):
            array = values.detach().double().numpy()
            found, exact = getattr(one, name), getattr(other, name)
            expected = [np.median(array), array.min(), array.max()]
            assert [exact.median, exact.smallest, exact.largest] == pytest.approx(expected, rel=1e-6)
            shifted = [value + eps for value in expected]  # an ONNX file has eps in the constant
            assert [found.median, found.smallest, found.largest] == pytest.approx(shifted, rel=1e-4, abs=1e-6)
    main(["inspect", str(tmp_path / "net.onnx"), "--statistics"])
    printed = capsys.readouterr().out
    assert "population mean: median (range)" in printed
    assert f"{from_file[0].gamma.median:.3g} (" in printed
    main(["inspect", str(tmp_path / "net.pth"), "--json", "-"])
    rows = json.loads(capsys.readouterr().out)["layers"]
    assert rows[0]["population_var"]["largest"] == pytest.approx(net[4].running_var.max().item())


def test_a_layer_without_a_bn_branch_has_no_population(tmp_path: Path):
    model = trained(nn.Sequential(nn.Conv2d(3, C, 3), SwitchNorm2d(C, using_bn=False)))
    sn_deploy.export(model, torch.zeros(1, 3, 9, 9), tmp_path / "net.onnx")
    (layer,) = layers_from_onnx(tmp_path / "net.onnx")
    assert layer.gamma is not None
    assert (layer.population_mean, layer.population_var) == (None, None)
    export_by_torch(model, {"x": torch.zeros(2, 3, 9, 9)}, tmp_path / "naive.onnx", (), "torchscript")
    fuse(tmp_path / "naive.onnx", tmp_path / "fused.onnx", strict=True)
    (layer,) = layers_from_onnx(tmp_path / "fused.onnx")
    assert layer.population_mean is None
