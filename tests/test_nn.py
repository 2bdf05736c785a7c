"""The SN layers against a float64 loop written from the paper's equations, one sample and one channel at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import sn_deploy.nn as sn
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from tests.randomise import randomise_

SHAPES = {1: (5, 7), 2: (4, 3, 5, 2), 3: (3, 4, 2, 3, 2)}
LAYERS = {1: sn.SwitchNorm1d, 2: sn.SwitchNorm2d, 3: sn.SwitchNorm3d}
# (rank, using_moving_average, using_bn)
VARIANTS = [(1, True, True), (1, False, True)] + [
    (r, a, b) for r in (2, 3) for a in (True, False) for b in (True, False)
]
FAULTS = ["weights as BN, IN, LN", "mean and var weights swapped", "biased variance", "eps outside", "no bias"]


def layer_of(rank: int, average: bool = True, bn: bool = True, channels: int | None = None) -> sn.SwitchNorm:
    options = {} if rank == 1 else {"using_bn": bn}
    layer = LAYERS[rank](channels or SHAPES[rank][1], using_moving_average=average, **options)
    return randomise_(layer, seed=rank).double()


def batch_of(rank: int, seed: int) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(1.0, 2.0, SHAPES[rank]))


def variance(values: list[float], ddof: int = 1) -> float:
    centre = sum(values) / len(values)
    return sum((value - centre) ** 2 for value in values) / (len(values) - ddof)


def batch_statistics(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance per channel as the published code takes them: over N in 1-D, else as E[var + mean²] - mean²."""
    mean, var = np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for c in range(x.shape[1]):
        rows = [list(sample[c].ravel()) for sample in x]
        if x.ndim == 2:
            mean[c], var[c] = np.mean(rows), variance([row[0] for row in rows])
        else:
            mean[c] = np.mean([np.mean(row) for row in rows])
            var[c] = np.mean([variance(row) + np.mean(row) ** 2 for row in rows]) - mean[c] ** 2
    return mean, var


def oracle(layer: sn.SwitchNorm, x: np.ndarray, fault: str = "") -> np.ndarray:
    """The layer's output; ``fault`` plants one of FAULTS."""

    def numbers(tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().double().numpy().ravel()

    def softmax(tensor: torch.Tensor) -> np.ndarray:
        powers = np.exp(numbers(tensor))
        return powers / powers.sum()

    w, v = softmax(layer.mean_weight), softmax(layer.var_weight)
    if fault == "weights as BN, IN, LN":
        w, v = np.roll(w, -1), np.roll(v, -1)
    if fault == "mean and var weights swapped":
        w, v = v, w
    ddof = 0 if fault == "biased variance" else 1
    weight, bias = numbers(layer.weight), numbers(layer.bias) * (fault != "no bias")
    if layer.using_bn:
        bn_mean, bn_var = (
            batch_statistics(x) if layer.training else (numbers(layer.running_mean), numbers(layer.running_var))
        )
    y = np.empty_like(x)
    for n, sample in enumerate(x):
        if x.ndim == 2:
            ln = [(np.mean(sample), variance(list(sample), ddof))] * x.shape[1]
            columns = [ln]
        else:
            instance = [(np.mean(row), variance(list(row.ravel()), ddof)) for row in sample]
            ln_mean = np.mean([m for m, _ in instance])
            ln_var = np.mean([s + m**2 for m, s in instance]) - ln_mean**2
            columns = [instance, [(ln_mean, ln_var)] * x.shape[1]]
        if layer.using_bn:
            columns.append(list(zip(bn_mean, bn_var, strict=True)))
        for c in range(x.shape[1]):
            mean = sum(w[k] * column[c][0] for k, column in enumerate(columns))
            var = sum(v[k] * column[c][1] for k, column in enumerate(columns))
            root = np.sqrt(var) + layer.eps if fault == "eps outside" else np.sqrt(var + layer.eps)
            y[n, c] = (sample[c] - mean) / root * weight[c] + bias[c]
    return y


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("rank", "average", "bn"), VARIANTS)
def test_forward_is_the_papers_equation(rank: int, average: bool, bn: bool, training: bool) -> None:
    layer = layer_of(rank, average, bn).train(training)
    x = batch_of(rank, seed=1)
    np.testing.assert_allclose(layer(x).detach().numpy(), oracle(layer, x.numpy()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_oracle_tells_a_planted_fault(rank: int, fault: str) -> None:
    layer = layer_of(rank).eval()
    x = batch_of(rank, seed=1)
    difference = np.abs(layer(x).detach().numpy() - oracle(layer, x.numpy(), fault)).max()
    assert difference > 1e-6


@pytest.mark.parametrize(("rank", "average", "bn"), [variant for variant in VARIANTS if variant[2]])
def test_training_records_the_published_statistics(rank: int, average: bool, bn: bool) -> None:
    layer = layer_of(rank, average, bn)
    mean, var = layer.running_mean.numpy().ravel().copy(), layer.running_var.numpy().ravel().copy()
    old = {1: 0.997, 2: 0.9, 3: 0.997}[rank]
    for seed in range(4):
        x = batch_of(rank, seed)
        batch_mean, batch_var = batch_statistics(x.numpy())
        mean = old * mean + (1 - old) * batch_mean if average else mean + batch_mean
        var = old * var + (1 - old) * batch_var if average else var + batch_mean**2 + batch_var
        layer(x)
    np.testing.assert_allclose(layer.running_mean.numpy().ravel(), mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy().ravel(), var, rtol=1e-12)


def test_eval_records_nothing() -> None:
    layer = layer_of(2).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(batch_of(2, seed=1))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(("rank", "bn"), [(1, True), (2, True), (2, False), (3, True)])
def test_gradients_are_those_of_finite_differences(rank: int, bn: bool, training: bool) -> None:
    layer = layer_of(rank, bn=bn).train(training)
    names, parameters = zip(*layer.named_parameters(), strict=True)

    def call(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (batch_of(rank, seed=2).requires_grad_(), *parameters))


@pytest.mark.parametrize("training", [True, False])
def test_a_mean_far_above_the_deviation_stays_exact(training: bool) -> None:
    # The published var_ln subtracts squares of 1e6 in float32 there, and gives NaN.
    rng = np.random.default_rng(0)
    x = (1000 + 0.1 * rng.standard_normal((4, 6, 8, 8))).astype(np.float32)
    layer = sn.SwitchNorm2d(6).train(training)
    if not training:
        layer.running_mean.fill_(1000)
        layer.running_var.fill_(0.01)
    given = torch.from_numpy(x).requires_grad_()
    y = layer(given)
    y.square().sum().backward()
    # 1000 has a spacing of 6e-5 in float32, so a mean is wrong by 3e-5 at best: 3e-4 of the deviation of 0.1.
    np.testing.assert_allclose(y.detach().numpy(), oracle(layer, x.astype(np.float64)), atol=1e-3)
    assert given.grad is not None
    assert bool(given.grad.isfinite().all())


@pytest.mark.parametrize(
    ("rank", "bn", "shapes"),
    [
        (1, True, {"weight": (1, 7), "mean_weight": (2,), "running_mean": (1, 7)}),
        (2, True, {"weight": (1, 7, 1, 1), "mean_weight": (3,), "running_mean": (1, 7, 1)}),
        (2, False, {"weight": (1, 7, 1, 1), "mean_weight": (2,)}),
        (3, True, {"weight": (1, 7, 1, 1, 1), "mean_weight": (3,), "running_mean": (1, 7, 1)}),
        (3, False, {"weight": (1, 7, 1, 1, 1), "mean_weight": (2,)}),
    ],
)
def test_the_state_is_that_of_the_published_checkpoints(rank: int, bn: bool, shapes: dict[str, tuple[int]]) -> None:
    twins = {"weight": "bias", "mean_weight": "var_weight", "running_mean": "running_var"}
    expected = shapes | {twins[name]: shape for name, shape in shapes.items()}
    state = layer_of(rank, bn=bn, channels=7).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


def test_a_new_layer_starts_as_published() -> None:
    layer = sn.SwitchNorm2d(3, last_gamma=True)
    assert layer.eps == 1e-5
    assert not layer.weight.any()
    assert not layer.bias.any()
    assert layer.mean_weight.tolist() == layer.var_weight.tolist() == [1, 1, 1]
    assert not layer.running_mean.any()
    assert not layer.running_var.any()
    assert sn.SwitchNorm3d(3).weight.tolist() == torch.ones(1, 3, 1, 1, 1).tolist()
    assert "using_bn=False" in repr(sn.SwitchNorm2d(3, using_bn=False))


@pytest.mark.parametrize("half_parameters", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_takes_its_statistics_in_float32(
    dtype: torch.dtype, tolerance: float, half_parameters: bool
) -> None:
    layer = layer_of(2).eval().float()
    if half_parameters:
        layer.to(dtype)
    # A mean of 300 makes squares overflow float16, and its sum of 4096 values more so.
    x = (torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 8 + 300).to(dtype)
    y = layer(x)
    assert y.dtype == dtype
    expected = oracle(layer, x.double().numpy())
    np.testing.assert_allclose(y.detach().double().numpy(), expected, rtol=tolerance, atol=tolerance)


def test_half_precision_buffers_keep_their_dtype_in_training() -> None:
    layer = sn.SwitchNorm2d(3).half()
    layer(batch_of(2, seed=0).half()).sum().backward()
    assert layer.running_mean.dtype == layer.weight.grad.dtype == torch.float16


@pytest.mark.parametrize("layout", ["channels last", "transposed", "strided", "expanded"])
def test_any_memory_layout_gives_the_same(layout: str) -> None:
    layer = layer_of(2).eval()
    x = batch_of(2, seed=3)
    odd = {
        "channels last": x.to(memory_format=torch.channels_last),
        "transposed": x.transpose(2, 3).contiguous().transpose(2, 3),
        "strided": torch.stack([x, x], dim=-1)[..., 0],
        "expanded": x[:1].expand(4, -1, -1, -1),
    }[layout]
    assert not odd.is_contiguous()
    torch.testing.assert_close(layer(odd), layer(odd.contiguous()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_torch_export_keeps_dynamic_sizes(rank: int) -> None:
    layer = layer_of(rank).eval()
    sizes = {i: torch.export.Dim.DYNAMIC for i in range(len(SHAPES[rank])) if i != 1}
    program = torch.export.export(layer, (batch_of(rank, seed=0),), dynamic_shapes=(sizes,))
    larger = torch.randn([size + 2 * (i != 1) for i, size in enumerate(SHAPES[rank])], dtype=torch.float64)
    torch.testing.assert_close(program.module()(larger), layer(larger), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_layer_is_what_folded_switch_norm_says(rank: int) -> None:
    layer = layer_of(rank).eval()
    w, v = layer.mean_weight.softmax(0).tolist(), layer.var_weight.softmax(0).tolist()
    w, v = ([0.0, *w], [0.0, *v]) if rank == 1 else (w, v)
    folded = FoldedSwitchNorm(
        "layer",
        *(getattr(layer, name).detach().numpy().ravel() for name in ("weight", "bias")),
        mean_offset=w[2] * layer.running_mean.numpy().ravel(),
        var_offset=v[2] * layer.running_var.numpy().ravel() + layer.eps,
        **dict(zip(("mean_in", "mean_ln", "mean_bn"), w, strict=True)),
        **dict(zip(("var_in", "var_ln", "var_bn"), v, strict=True)),
        ddof=1,
    )
    x = batch_of(rank, seed=4)
    np.testing.assert_allclose(layer(x).detach().numpy(), folded.evaluate(x.numpy()), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (sn.SwitchNorm1d(4), (2, 4, 3), r"SwitchNorm1d: input has shape (2, 4, 3) (expected (N, 4))"),
        (sn.SwitchNorm2d(4), (2, 4, 3), r"SwitchNorm2d: input has shape (2, 4, 3) (expected (N, 4, H, W))"),
        (sn.SwitchNorm2d(4), (2, 3, 5, 5), r"SwitchNorm2d: input has shape (2, 3, 5, 5) (expected (N, 4, H, W))"),
        (sn.SwitchNorm3d(4), (2, 4, 5, 5), r"SwitchNorm3d: input has shape (2, 4, 5, 5) (expected (N, 4, D, H, W))"),
        (sn.SwitchNorm2d(4).eval(), (2, 4, 1, 1), "(expected at least 2 spatial positions)"),
        (sn.SwitchNorm2d(4), (0, 4, 3, 3), "an empty batch has no statistics"),
        (sn.SwitchNorm1d(4), (1, 4), "(expected at least 2 channels and, in training, at least 2 samples)"),
        (sn.SwitchNorm1d(1).eval(), (3, 1), "(expected at least 2 channels and, in training, at least 2 samples)"),
    ],
)
def test_a_shape_without_a_value_is_refused(layer: sn.SwitchNorm, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SnDeployError) as caught:
        layer(torch.zeros(shape))
    assert message in str(caught.value)


def test_an_integer_input_is_refused() -> None:
    with pytest.raises(SnDeployError, match=r"input is torch\.int64 \(expected a floating point dtype\)"):
        sn.SwitchNorm2d(3)(torch.zeros(1, 3, 2, 2, dtype=torch.int64))


def test_no_channels_are_refused() -> None:
    with pytest.raises(SnDeployError, match="num_features is 0"):
        sn.SwitchNorm1d(0)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_finalised_sums_are_averages_over_batches(rank: int) -> None:
    layer = LAYERS[rank](SHAPES[rank][1], using_moving_average=False)
    batches = [batch_of(rank, seed).float() for seed in range(10)]
    for x in batches:
        layer(x)
    layer.finalize_batch_average(10)
    statistics = [batch_statistics(x.double().numpy()) for x in batches]
    mean = np.mean([m for m, _ in statistics], axis=0)
    var = np.mean([v + m**2 for m, v in statistics], axis=0) - mean**2
    np.testing.assert_allclose(layer.running_mean.numpy().ravel(), mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.running_var.numpy().ravel(), var, rtol=1e-5)
    with pytest.raises(SnDeployError, match="are averages already"):
        layer.finalize_batch_average(10)


def test_a_channel_that_never_varies_has_variance_zero() -> None:
    layer = sn.SwitchNorm2d(2, using_moving_average=False)
    for _ in range(33):
        layer(torch.full((2, 2, 3, 3), 0.3))
    layer.finalize_batch_average(33)
    np.testing.assert_allclose(layer.running_var, 0, atol=1e-6)
    assert bool((layer.running_var >= 0).all())


@pytest.mark.parametrize("batches", [0, -3, 2.0, True])
def test_a_number_of_batches_must_be_a_positive_integer(batches: object) -> None:
    with pytest.raises(SnDeployError, match="expected a positive integer"):
        sn.SwitchNorm2d(2, using_moving_average=False).finalize_batch_average(batches)


def test_too_few_batches_are_refused_and_change_nothing() -> None:
    model = torch.nn.Sequential(
        sn.SwitchNorm2d(2, using_moving_average=False), sn.SwitchNorm2d(2, using_moving_average=False)
    )
    for _ in range(10):
        model[0](torch.randn(2, 2, 3, 3))  # mean 0: any number gives positive variances
        model[1](torch.randn(2, 2, 3, 3) + 5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(SnDeployError, match=r"^1: sums over batches, divided by 2, give .* -.*check the number"):
        sn.finalize_batch_average(model, 2)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert sn.finalize_batch_average(model, 10) == ["0", "1"]
    with pytest.raises(SnDeployError, match="Sequential: no layer has sums over batches"):
        sn.finalize_batch_average(model, 10)


def test_sums_that_are_not_numbers_are_refused() -> None:
    layer = sn.SwitchNorm2d(2, using_moving_average=False)
    layer.running_var.fill_(float("nan"))
    with pytest.raises(SnDeployError, match="give the variance nan"):
        layer.finalize_batch_average(3)


def test_there_is_nothing_to_finalise_without_a_bn_branch() -> None:
    with pytest.raises(SnDeployError, match="no BN branch"):
        sn.SwitchNorm2d(2, using_moving_average=False, using_bn=False).finalize_batch_average(3)
