"""What is SN is recognised, whatever it calls itself, and the folded layer computes what the module computes."""

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy import nn as sn
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.recognise import recognise
from tests.randomise import randomise_
from tests.recognise import variants
from tests.recognise.variants import ACCEPTED, C, ReferenceSN, trained_


def only_layer(model: nn.Module, **options) -> FoldedSwitchNorm:
    found = recognise(model, **options)
    assert not found.refused
    (folded,) = found.layers.values()
    return folded


def own_output(module: nn.Module, x: np.ndarray) -> np.ndarray:
    """The module in float64, run without any of the code under test."""
    forward = ReferenceSN.forward if isinstance(module, variants.Synced) else type(module).forward
    with torch.no_grad():
        return forward(module.double().eval(), torch.from_numpy(x)).numpy()


def assert_same(module: nn.Module, folded: FoldedSwitchNorm, shape: tuple[int, ...], tolerance: float = 1e-9) -> None:
    for seed, offset, scale in ((1, 0.0, 1.0), (2, 3.0, 0.05), (3, -1.0, 8.0)):
        x = offset + scale * np.random.default_rng(seed).standard_normal(shape)
        x = x.astype(np.float32).astype(np.float64)
        expected = own_output(module, x)
        np.testing.assert_allclose(folded.evaluate(x), expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("variant", ACCEPTED)
@pytest.mark.parametrize("seed", [0, 1])
def test_variants_fold_to_what_they_compute(variant, seed):
    module = trained_(variant(), seed)
    if variant is variants.RawWeights:
        module.mix_var.data.abs_()  # a negative share can make the variance negative: refused, see below
    folded = only_layer(module)
    shape = (3, C) if "two" in variant.__name__ or issubclass(variant, variants.Vectors) else (3, C, 6, 5)
    assert_same(module, folded, shape, 2e-5 if variant is variants.FloatInside else 1e-9)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (sn.SwitchNorm1d(5), (4, 5)),
        (sn.SwitchNorm2d(5), (2, 5, 4, 3)),
        (sn.SwitchNorm2d(5, using_bn=False), (2, 5, 4, 3)),
        (sn.SwitchNorm2d(5, using_moving_average=False, last_gamma=True), (2, 5, 4, 3)),
        (sn.SwitchNorm3d(5), (2, 5, 2, 4, 3)),
        (sn.SwitchNorm3d(5, using_bn=False, eps=1e-2), (2, 5, 2, 4, 3)),
    ],
)
def test_own_layers(layer, shape):
    folded = only_layer(randomise_(layer, 3))
    shares = torch.softmax(layer.mean_weight.detach().double(), 0)
    order = {2: ("ln", "bn") if len(shape) == 2 else ("in", "ln"), 3: ("in", "ln", "bn")}[len(shares)]
    for branch, share in zip(order, shares, strict=True):
        assert getattr(folded, f"mean_{branch}") == pytest.approx(float(share), abs=1e-14)
    assert folded.ddof == 1
    assert_same(layer, folded, shape)


@pytest.mark.parametrize("channels", [1, 2, 3, 64])
@pytest.mark.parametrize("kind", [sn.SwitchNorm1d, sn.SwitchNorm2d, sn.SwitchNorm3d])
def test_any_number_of_channels(kind, channels):
    if kind is sn.SwitchNorm1d:
        channels += 1  # the unbiased variance over one channel has no value
    assert only_layer(randomise_(kind(channels), 1)).channels == channels


def test_a_fresh_layer_and_one_with_zero_scale_are_recognised():
    assert only_layer(sn.SwitchNorm2d(4)).mean_in == pytest.approx(1 / 3)
    assert not only_layer(sn.SwitchNorm2d(4, last_gamma=True)).scale.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_dtype(dtype):
    layer = randomise_(sn.SwitchNorm2d(6), 2).to(dtype)
    assert_same(layer, only_layer(layer), (2, 6, 3, 4))


def test_constants_are_read_and_not_solved_where_a_published_form_fits():
    layer = trained_(variants.BatchFirst())
    folded = only_layer(layer)
    bn, in_, ln = torch.softmax(layer.mean_weight.detach().double(), 0).tolist()
    assert (folded.mean_in, folded.mean_ln, folded.mean_bn) == pytest.approx((in_, ln, bn), abs=1e-15)


def test_solved_constants_show_as_what_was_meant():
    layer = trained_(variants.Sparsemax(), 4)
    shares = layer.shares(layer.var_weight.detach()).tolist()
    assert 0.0 in shares  # or the test shows nothing
    folded = only_layer(layer)
    assert (folded.var_in, folded.var_ln, folded.var_bn) == pytest.approx(shares, abs=1e-6)
    assert [share == 0 for share in shares] == [value == 0 for value in (folded.var_in, folded.var_ln, folded.var_bn)]


@pytest.mark.parametrize("attribute", ["eps", "epsilon", "variance_epsilon", "something_else"])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-6, 3.3e-4])
def test_eps_is_found_by_attribute_or_behaviour(attribute, eps):
    layer = trained_(variants.WithoutBatch())
    del layer.eps
    setattr(layer, attribute, eps)
    layer.scaled = lambda x, mean, var: (x - mean) / (var + eps).sqrt()
    np.testing.assert_allclose(only_layer(layer).var_offset, eps, rtol=1e-9)


def test_an_eps_attribute_that_forward_does_not_read_is_not_believed():
    layer = trained_(variants.WithoutBatch())
    layer.scaled = lambda x, mean, var: (x - mean) / (var + 1e-3).sqrt()
    np.testing.assert_allclose(only_layer(layer).var_offset, 1e-3, rtol=1e-12)


def test_a_subclass_and_a_function_under_another_name_are_recognised():
    class NothingToSeeHere(sn.SwitchNorm2d):
        pass

    assert_same(layer := randomise_(NothingToSeeHere(4), 1), only_layer(layer), (2, 4, 3, 3))


def test_names_are_qualified_in_module_order_and_shared_modules_come_once():
    shared = sn.SwitchNorm2d(4)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), shared, nn.Sequential(sn.SwitchNorm2d(4), nn.ReLU()), shared)
    model.extra = nn.ModuleDict({"norm": sn.SwitchNorm1d(4)})
    found = recognise(randomise_(model, 1))
    assert list(found.layers) == ["1", "2.0", "extra.norm"]
    assert [folded.name for folded in found.layers.values()] == ["1", "2.0", "extra.norm"]
    assert not found.refused


def test_layers_and_refusals_are_apart():
    model = nn.ModuleDict({"good": sn.SwitchNorm2d(4), "bad": sn.SwitchNorm2d(4)})
    model["bad"].running_mean[0, 2] = torch.nan
    found = recognise(model)
    assert list(found.layers) == ["good"]
    assert list(found.refused) == ["bad"] == [refusal.name for refusal in found.refused.values()]


def test_input_shapes_give_the_rank_and_the_channels():
    layer = trained_(variants.WithoutBatch())
    layer.register_parameter("weight", None)
    layer.register_parameter("bias", None)
    layer.affine = lambda x: x
    assert only_layer(layer, input_shapes={"": (1, 7, 9, 2, 3)}).channels == 7
    assert only_layer(trained_(variants.ReferenceSN()), input_shapes={"": (1, C, 12)}).channels == C


def test_a_layer_made_for_one_size_is_probed_at_it():
    layer = trained_(variants.OneSize())
    assert recognise(layer).refused
    assert_same(layer, only_layer(layer, input_shapes={"": (1, C, 9, 11)}), (2, C, 9, 11))
