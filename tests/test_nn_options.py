"""What ports add to the published layers: biased variances, other orders, (N, C, L), channels last."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy.errors import SnDeployError
from sn_deploy.nn import ChannelsLast, SwitchNorm1d, SwitchNorm2d, SwitchNorm3d, SwitchNormSequence
from sn_deploy.recognise import recognise
from tests.randomise import randomise_

KERAS = {"eps": 1e-3, "momentum": 0.99, "ddof": 0}


def keras_like(layer: nn.Module, x: np.ndarray, *, fault: str = "") -> np.ndarray:
    """(N, *spatial, C) by the equations of the ports: biased moments over axes; weights of BN, IN and LN in turn."""
    w, v = (np.exp(p.detach().double().numpy()) for p in (layer.mean_weight, layer.var_weight))
    w, v = w / w.sum(), v / v.sum()
    if fault == "order":
        w = np.roll(w, 1)
    spatial = tuple(range(1, x.ndim - 1))
    ddof = int(fault == "divisor")
    mean_in, var_in = x.mean(spatial, keepdims=True), x.var(spatial, keepdims=True, ddof=ddof)
    mean_ln, var_ln = (f((*spatial, x.ndim - 1), keepdims=True) for f in (x.mean, x.var))
    mean_bn, var_bn = (b.double().numpy().ravel() for b in (layer.running_mean, layer.running_var))
    mean = w[0] * mean_bn + w[1] * mean_in + w[2] * mean_ln
    var = v[0] * var_bn + v[1] * var_in + v[2] * var_ln
    gamma, beta = (p.detach().double().numpy().ravel() for p in (layer.weight, layer.bias))
    return (x - mean) / np.sqrt(var + (1e-5 if fault == "eps" else layer.eps)) * gamma + beta


LAYERS = {
    3: lambda: SwitchNormSequence(5, **KERAS, order=("bn", "in", "ln")),
    4: lambda: SwitchNorm2d(5, **KERAS, order=("bn", "in", "ln")),
    5: lambda: SwitchNorm3d(5, **KERAS, order=("bn", "in", "ln")),
}
SHAPES = {3: (3, 7, 5), 4: (3, 4, 6, 5), 5: (2, 3, 2, 4, 5)}


def port(rank: int) -> ChannelsLast:
    return randomise_(ChannelsLast(LAYERS[rank]()), rank).double().eval()


def sample(rank: int) -> np.ndarray:
    return np.random.default_rng(rank).normal(1.0, 2.0, SHAPES[rank])


@pytest.mark.parametrize("rank", LAYERS)
def test_a_keras_port_is_expressed_by_options(rank):
    layer, x = port(rank), sample(rank)
    with torch.no_grad():
        y = layer(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(y, keras_like(layer.layer, x), rtol=1e-12, atol=1e-12)
    for fault in ("order", "divisor", "eps"):
        assert np.abs(y - keras_like(layer.layer, x, fault=fault)).max() > 1e-4, fault


@pytest.mark.parametrize("rank", LAYERS)
def test_it_is_recognised_with_its_own_constants(rank):
    layer = port(rank)
    found = recognise(layer)
    assert not found.refused
    folded = found.layers["layer"]
    shares = layer.layer.mean_weight.softmax(0).tolist()
    assert [folded.mean_bn, folded.mean_in, folded.mean_ln] == pytest.approx(shares, rel=1e-12)
    assert folded.ddof == 0
    x = sample(rank)
    y = np.moveaxis(folded.evaluate(np.moveaxis(x, -1, 1)), 1, -1)
    np.testing.assert_allclose(y, keras_like(layer.layer, x), rtol=1e-9, atol=1e-9)


def test_training_records_biased_batch_moments():
    layer = SwitchNorm2d(5, momentum=0.0, ddof=0)
    x = torch.from_numpy(np.random.default_rng(0).normal(1.0, 2.0, (3, 5, 4, 6)))
    layer.double().train()(x)
    torch.testing.assert_close(layer.running_mean.flatten(), x.mean((0, 2, 3)))
    torch.testing.assert_close(layer.running_var.flatten(), x.var((0, 2, 3), correction=0))


def test_one_position_has_a_biased_variance_and_vectors_of_one_channel_too():
    layer = randomise_(SwitchNorm2d(5, ddof=0), 0).double().eval()
    x = torch.randn(2, 5, 1, 1, dtype=torch.float64)
    folded = recognise(layer, input_shapes={"": (2, 5, 1, 1)}).layers[""]
    np.testing.assert_allclose(layer(x).detach().numpy(), folded.evaluate(x.numpy()), rtol=1e-12)
    assert torch.isfinite(SwitchNorm1d(1, ddof=0)(torch.randn(3, 1))).all()
    with pytest.raises(SnDeployError, match="at least 2 spatial positions"):
        SwitchNorm2d(5)(torch.randn(2, 5, 1, 1))


def test_the_state_dict_is_that_of_the_published_layers():
    plain, port = SwitchNorm2d(5), SwitchNorm2d(5, ddof=0, order=("bn", "in", "ln"))
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in port.state_dict().items()}
    assert (
        str(plain)
        == "SwitchNorm2d(5, eps=1e-05, momentum=0.9, using_moving_average=True, using_bn=True, last_gamma=False)"
    )
    assert str(port).endswith("last_gamma=False, ddof=0, order=('bn', 'in', 'ln'))")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SwitchNorm2d(5, ddof=2), "ddof is 2 (expected 0 or 1)"),
        (lambda: SwitchNorm2d(5, order=("bn", "in")), "expected in, ln, bn in some order"),
        (lambda: SwitchNorm2d(5, using_bn=False, order=("bn", "in", "ln")), "expected in, ln in some order"),
        (lambda: SwitchNorm1d(5, order=("in", "bn")), "expected ln, bn in some order"),
        (
            lambda: SwitchNormSequence(5)(torch.zeros(2, 5)),
            "SwitchNormSequence: input has shape (2, 5) (expected (N, 5, L))",
        ),
    ],
)
def test_bad_options_are_refused(make, message):
    with pytest.raises(SnDeployError) as caught:
        make()
    assert message in str(caught.value)
