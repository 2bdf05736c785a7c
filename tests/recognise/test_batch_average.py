"""Sums over batches: divided on request, and told by their size."""

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy import nn as sn
from sn_deploy.errors import SnDeployError
from sn_deploy.recognise import finalize_batch_average_, recognise
from sn_deploy.recognise.raw_sums import refuse_raw_sums, suspect_raw_sums
from tests.randomise import randomise_

BATCHES = 40


def batches(count: int = BATCHES) -> torch.Tensor:
    """(count, N, C, H, W), with a mean and a deviation of each channel's own."""
    generator = torch.Generator().manual_seed(3)
    offset, size = torch.linspace(-2, 3, 6).view(6, 1, 1), torch.linspace(0.5, 2, 6).view(6, 1, 1)
    return offset + size * torch.randn(count, 4, 6, 5, 5, generator=generator)


def with_sums(layer: nn.Module | None = None) -> nn.Module:
    layer = layer or randomise_(sn.SwitchNorm2d(6, using_moving_average=False), 1)
    layer.running_mean.zero_()
    layer.running_var.zero_()
    with torch.no_grad():
        for batch in batches():
            layer.train()(batch)
    return layer.eval()


def observed(data: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """(C,) mean and variance over everything but the channels."""
    flat = data.reshape(-1, *data.shape[-3:]).transpose(0, 1).flatten(1).double()
    return flat.mean(1).numpy(), flat.var(1, correction=0).numpy()


def test_sums_become_the_moments_of_the_data():
    model = nn.ModuleDict({"relu": nn.ReLU(), "norm": with_sums(), "plain": sn.SwitchNorm2d(6, using_bn=False)})
    assert finalize_batch_average_(model, BATCHES) == ["norm"]
    mean, var = observed(batches())
    np.testing.assert_allclose(model["norm"].running_mean.flatten(), mean, rtol=1e-4)
    np.testing.assert_allclose(model["norm"].running_var.flatten(), var, rtol=0.05)  # unbiased batches of 100 values
    assert recognise(model).layers["norm"].mean_bn > 0


def test_the_formula_is_mean_and_square_minus_square_of_mean():
    layer = sn.SwitchNorm2d(2)
    layer.running_mean.copy_(torch.tensor([10.0, -5.0]).view(1, 2, 1))
    layer.running_var.copy_(torch.tensor([50.0, 20.0]).view(1, 2, 1))
    finalize_batch_average_(layer, 5)
    assert layer.running_mean.flatten().tolist() == [2.0, -1.0]
    assert layer.running_var.flatten().tolist() == [6.0, 3.0]


def test_sums_kept_apart_are_moved_to_where_evaluation_reads():
    layer = sn.SwitchNorm2d(2)
    layer.register_buffer("batch_mean", torch.tensor([10.0, -5.0]))
    layer.register_buffer("batch_var", torch.tensor([50.0, 20.0]))
    finalize_batch_average_(layer, 5)
    assert layer.running_mean.shape == (1, 2, 1)
    assert layer.running_mean.flatten().tolist() == [2.0, -1.0]
    assert layer.running_var.flatten().tolist() == [6.0, 3.0]


def test_shared_modules_and_shared_buffers_are_divided_once():
    first, second = sn.SwitchNorm2d(2), sn.SwitchNorm2d(2)
    first.running_mean.fill_(4)
    first.running_var.fill_(16)
    second.running_mean, second.running_var = first.running_mean, first.running_var
    assert finalize_batch_average_(nn.Sequential(first, second, first), 2) == ["0", "1"]
    assert first.running_mean.flatten().tolist() == [2.0, 2.0]
    assert first.running_var.flatten().tolist() == [4.0, 4.0]


def test_a_number_that_makes_a_variance_negative_names_the_layer_and_changes_nothing():
    model = nn.ModuleDict({"first": with_sums(), "second": with_sums()})
    model["second"].running_var *= 0.3
    before = model["first"].running_mean.clone()
    with pytest.raises(SnDeployError, match=r"^layer 'second': sums over batches, divided by 40, give the variance -"):
        finalize_batch_average_(model, BATCHES)
    assert torch.equal(model["first"].running_mean, before)


@pytest.mark.parametrize("number", [0, -3, 2.5, True])
def test_the_number_must_be_a_positive_integer(number):
    with pytest.raises(SnDeployError, match="expected a positive integer"):
        finalize_batch_average_(with_sums(), number)


def test_a_model_without_statistics_is_refused():
    model = nn.Sequential(sn.SwitchNorm2d(2, using_bn=False), nn.BatchNorm2d(2))
    with pytest.raises(SnDeployError, match="no SN layer has running statistics") as caught:
        finalize_batch_average_(model, 5)
    assert "--finalize-batch-average" in str(caught.value)


def test_sums_are_suspected_on_real_data_and_the_estimate_is_their_number():
    layer = with_sums()
    assert suspect_raw_sums(layer, *observed(batches(2))) == pytest.approx(BATCHES, rel=0.1)
    with pytest.raises(SnDeployError) as caught:
        refuse_raw_sums("body.norm", layer, *observed(batches(2)))
    text = str(caught.value)
    assert text.startswith("layer 'body.norm': running_var is about ")
    assert "--finalize-batch-average N" in text
    assert caught.value.exit_code == 2


def test_divided_statistics_are_not_suspected():
    layer = with_sums()
    finalize_batch_average_(layer, BATCHES)
    assert suspect_raw_sums(layer, *observed(batches(2))) is None
    refuse_raw_sums("norm", layer, *observed(batches(2)))


@pytest.mark.parametrize("factor", [0.01, 0.1, 3.0, 50.0])
def test_averages_are_not_suspected_on_data_of_the_wrong_size(factor):
    """Data t times too small make averages look t² times too large, but their means only t times."""
    layer = with_sums()
    finalize_batch_average_(layer, BATCHES)
    assert suspect_raw_sums(layer, *observed(factor * batches(2))) is None


def test_sums_are_suspected_on_noise_of_about_the_right_size():
    noise = torch.randn(2, 4, 6, 5, 5, generator=torch.Generator().manual_seed(1))
    assert suspect_raw_sums(with_sums(), *observed(noise)) is not None


def test_inputs_that_say_nothing_raise_no_suspicion():
    layer = with_sums()
    zero = np.zeros(6)
    assert suspect_raw_sums(layer, zero, zero) is None
    assert suspect_raw_sums(layer, np.full(6, np.nan), zero) is None
    assert suspect_raw_sums(layer, np.ones(3), np.ones(3)) is None
    assert suspect_raw_sums(sn.SwitchNorm2d(6, using_bn=False), zero, zero + 1) is None
    assert suspect_raw_sums(nn.BatchNorm2d(6), zero, zero + 1) is None
