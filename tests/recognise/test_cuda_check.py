"""Layers whose forward takes CUDA tensors alone: their own code runs, where nothing but that question is in the way."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy.check.backends.torch_model import ModelOptions, load_model
from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_export import export
from sn_deploy.recognise import lift_cuda_checks_, recognise
from sn_deploy.recognise.says_cuda import SaysCuda
from sn_deploy.runtime.ort import OrtSession
from tests.recognise import deviants
from tests.recognise.variants import C, ReferenceSN, Synced, trained_


def net(norm: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, C, 3), trained_(norm()), nn.ReLU(), nn.Conv2d(C, 2, 3), nn.Flatten())


def same_but_not_synced(model: nn.Module) -> nn.Module:
    plain = copy.deepcopy(model)
    layer = ReferenceSN()
    layer.load_state_dict(model[1].state_dict())
    plain[1] = layer
    return plain


def test_the_answer_is_given_inside_alone_and_to_one_question():
    x = torch.zeros(2)
    with SaysCuda():
        assert x.is_cuda
        assert (x + 1).is_cuda
        assert x.device.type == "cpu"
    assert not x.is_cuda


def test_a_lifted_model_runs_its_own_forward():
    model = net(Synced).eval()
    with pytest.raises(RuntimeError, match="only support CUDA"):
        model(torch.zeros(1, 3, 9, 9))
    assert lift_cuda_checks_(model) == ["1"]
    assert isinstance(model[1], Synced)
    assert type(model[1]).__name__ == "Synced"
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(model(x), same_but_not_synced(model).eval()(x), rtol=0, atol=0)
    assert lift_cuda_checks_(model) == []  # a second time changes nothing
    assert recognise(model).layers["1"].ddof == 1


@pytest.mark.parametrize("norm", [ReferenceSN, deviants.NeedsCuda, deviants.NeedsProcessGroup, deviants.Raises])
def test_what_runs_or_fails_for_another_reason_is_left(norm):
    model = net(norm)
    assert lift_cuda_checks_(model) == []
    assert type(model[1]) is norm


def test_training_mode_still_asks_for_a_process_group():
    model = net(Synced)
    lift_cuda_checks_(model)
    with pytest.raises((ValueError, RuntimeError), match=r"process.group|not been initialized"):
        model.train()(torch.randn(2, 3, 9, 9))


def test_export_needs_neither_cuda_nor_a_process_group(tmp_path: Path):
    model = net(Synced)
    report = export(model, torch.randn(1, 3, 9, 9), tmp_path / "model.onnx", dynamic="batch")
    assert [layer.folded.name for layer in report.layers] == ["1"]
    assert type(model[1]) is Synced  # the user's own is as it was
    x = np.random.default_rng(0).standard_normal((3, 3, 9, 9)).astype(np.float32)
    with torch.no_grad():
        expected = same_but_not_synced(model).double().eval()(torch.from_numpy(x).double()).numpy()
    with OrtSession(tmp_path / "model.onnx", native=False) as session:
        (found,) = session.run({session.inputs[0].name: x}).values()
    assert np.linalg.norm(found - expected) <= 1e-6 * np.linalg.norm(expected)


def synced_net() -> nn.Module:
    return net(Synced)


def test_a_check_runs_it_as_its_reference():
    model, _ = load_model(ModelOptions(f"{__name__}:synced_net", {}))
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(model(x), same_but_not_synced(model).eval()(x), rtol=0, atol=0)


def test_a_deviating_one_is_refused_by_name_and_cause(tmp_path: Path):
    with pytest.raises(SnDeployError, match=r"layer '1': .*eps is added outside the square root"):
        export(net(deviants.AsksForCuda), torch.zeros(1, 3, 9, 9), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())
