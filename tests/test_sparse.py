"""Sparse SN: its weights against the definition, its state, its choices, and the whole way, where one is exact."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import sn_deploy.models as models
from sn_deploy.nn import SparseSwitchNorm2d, SwitchNorm2d
from sn_deploy.nn.sparsestmax import sparsemax, sparsestmax
from sn_deploy.recognise import recognise
from tests.models.test_resnet import published_shapes
from tests.models.whole_way import through_everything
from tests.randomise import randomise_

LAST_RADIUS = math.sqrt(2 / 3)

logits = st.lists(st.floats(-6, 6), min_size=3, max_size=3).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)


@given(logits)
def test_sparsemax_is_the_nearest_point_of_the_simplex(values: Tensor) -> None:
    found = sparsemax(values)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    steps = np.linspace(0, 1, 41)
    grid = np.array([(a, b, 1 - a - b) for a in steps for b in steps if a + b <= 1 + 1e-9])
    nearest = np.square(grid - values.numpy()).sum(1).min()
    assert float((found - values).square().sum()) <= nearest + 1e-9


@given(logits, st.floats(0, LAST_RADIUS))
def test_sparsestmax_keeps_its_distance_and_the_order(values: Tensor, radius: float) -> None:
    found = sparsestmax(values, radius)
    assert found.sum() == pytest.approx(1)
    assert (found >= 0).all()
    projected = sparsemax(values)
    assert bool((found[projected == 0] == 0).all())  # zeros stay
    order = projected.argsort()
    assert bool((found[order].diff() >= -1e-9).all())
    centre = torch.full((3,), 1 / 3, dtype=torch.float64)
    if not torch.allclose(projected, projected[projected > 0].mean() * (projected > 0)):  # a tie has no direction
        assert float((found - centre).norm()) >= radius - 1e-9


def test_at_the_last_radius_one_weight_is_all() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        values = torch.randn(3, generator=generator, dtype=torch.float64)
        found = sparsestmax(values, 0.8165)
        assert found.tolist() == torch.eye(3, dtype=torch.float64)[values.argmax()].tolist()


def test_at_radius_0_it_is_sparsemax_with_values_worked_out_by_hand() -> None:
    values = torch.tensor([0.5, 0.2, -2.0], dtype=torch.float64)
    torch.testing.assert_close(sparsestmax(values, 0.0), torch.tensor([0.65, 0.35, 0.0], dtype=torch.float64))
    # (0.45, 0.4, 0.15) is √0.052 from the centre; out to 0.3 it goes along the same line, to above zero.
    inside = torch.tensor([0.45, 0.40, 0.15], dtype=torch.float64)
    moved = 1 / 3 + 0.3 / math.sqrt(0.0516666666667) * (inside - 1 / 3)
    torch.testing.assert_close(sparsestmax(inside, 0.3), moved, rtol=1e-9, atol=1e-9)
    # At 0.5 that line leaves the triangle; the circle cuts its edge at √(½² - 1/6) from the edge's middle, (½, ½, 0).
    step = math.sqrt(0.25 - 1 / 6) / math.sqrt(2)
    edge = torch.tensor([0.5 + step, 0.5 - step, 0.0], dtype=torch.float64)
    torch.testing.assert_close(sparsestmax(inside, 0.5), edge, rtol=1e-9, atol=1e-9)


def test_the_state_is_the_published_one() -> None:
    with torch.device("meta"):
        found = {name: tuple(value.shape) for name, value in models.resnetv1ssn50().state_dict().items()}
    expected = published_shapes(1, 50)
    for name in [name for name in expected if name.endswith(".running_mean")]:
        prefix = name.removesuffix("running_mean")
        expected.update({f"{prefix}{key}": (1,) for key in ("mean_fixed", "var_fixed", "radius")})
    assert found == expected
    layer = SparseSwitchNorm2d(2)
    assert layer.mean_fixed.dtype == layer.var_fixed.dtype == torch.int64


def test_a_choice_is_final_once_training_has_made_it() -> None:
    torch.manual_seed(0)
    layer = SparseSwitchNorm2d(4).train()
    with torch.no_grad():
        layer.mean_weight.copy_(torch.tensor([0.1, 1.9, 0.2]))
        layer.var_weight.copy_(torch.tensor([0.6, 0.3, 0.5]))
    x = torch.randn(3, 4, 5, 6)
    layer.eval()(x)
    assert (int(layer.mean_fixed), int(layer.var_fixed)) == (0, 0)
    layer.train()(x)
    assert (int(layer.mean_fixed), int(layer.var_fixed)) == (1, 0)
    assert layer.mean_weight.tolist() == [0, 1, 0]
    layer(x).square().mean().backward()
    assert layer.mean_weight.grad is None or not layer.mean_weight.grad.any()
    assert layer.var_weight.grad.any()
    layer.set_radius(0.82)
    layer(x)
    assert layer.var_weight.tolist() == [1, 0, 0]
    assert int(layer.var_fixed) == 1


def test_evaluation_is_that_of_sn_with_the_same_weights() -> None:
    torch.manual_seed(0)
    sparse = randomise_(SparseSwitchNorm2d(5), 1).double().eval()
    sparse.set_radius(0.3)
    x = torch.randn(2, 5, 4, 3, dtype=torch.float64)
    flat = x.flatten(2)
    mean_in, var_in = flat.mean(2, keepdim=True), flat.var(2, keepdim=True)
    mean_ln = mean_in.mean(1, keepdim=True)
    var_ln = (var_in + mean_in**2).mean(1, keepdim=True) - mean_ln**2
    shares = [sparsestmax(values.detach(), float(sparse.radius)) for values in (sparse.mean_weight, sparse.var_weight)]
    assert all(0 < share < 1 for share in shares[0])
    mean, var = (
        sum(map(torch.mul, share, parts))
        for share, parts in zip(
            shares, ((mean_in, mean_ln, sparse.running_mean), (var_in, var_ln, sparse.running_var)), strict=True
        )
    )
    y = ((flat - mean) / (var + 1e-5).sqrt()).view(x.shape) * sparse.weight + sparse.bias
    torch.testing.assert_close(sparse(x), y, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(("mean", "var"), [("in", "ln"), ("bn", "in"), ("ln", "bn"), ("bn", "bn")])
def test_a_choice_folds_to_exact_ones_and_zeros(mean: str, var: str, fixed: bool) -> None:
    layer = randomise_(SparseSwitchNorm2d(6), 2).eval()
    order = ("in", "ln", "bn")
    with torch.no_grad():
        for which, branch in (("mean", mean), ("var", var)):
            logits, final = getattr(layer, f"{which}_weight"), getattr(layer, f"{which}_fixed")
            logits.copy_(torch.eye(3)[order.index(branch)] if fixed else torch.randn(3))
            if not fixed:
                logits[order.index(branch)] = 5
            final.fill_(int(fixed))
    layer.set_radius(0.82)
    folded = recognise(nn.Sequential(layer)).layers["0"]
    assert {key: getattr(folded, f"mean_{key}") for key in order} == {key: float(key == mean) for key in order}
    assert {key: getattr(folded, f"var_{key}") for key in order} == {key: float(key == var) for key in order}


class Net(nn.Module):
    """One layer that has chosen for both, one for the mean alone, and one for neither."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.sn1 = nn.Conv2d(3, 6, 3, bias=False), SparseSwitchNorm2d(6)
        self.conv2, self.sn2 = nn.Conv2d(6, 6, 3, bias=False), SparseSwitchNorm2d(6)
        self.sn3, self.fc = SwitchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.sn2(self.conv2(self.sn1(self.conv1(x)).relu())).relu()
        return self.fc((x + self.sn3(x)).mean((2, 3)))


def test_the_whole_way(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = randomise_(Net(), 4).eval()
    with torch.no_grad():
        net.sn1.mean_weight.copy_(torch.tensor([0.0, 1.0, 0.0]))
        net.sn1.var_weight.copy_(torch.tensor([0.0, 0.0, 1.0]))
        net.sn1.mean_fixed.fill_(1)
        net.sn1.var_fixed.fill_(1)
        net.sn2.radius.fill_(0.4)
    x = np.random.default_rng(0).standard_normal((5, 3, 12, 9)).astype(np.float32)
    # torch.export takes no branch on a tensor's value, which sparsestmax is made of; the older exporter traces one.
    samples = [{"x": x[:3]}, {"x": x[3:]}]
    through_everything(net, samples, tmp_path, "batch", layers=3, exporter="torchscript")
