"""The layers of a checkpoint: which branches they have, what their softmax says, and in which order they stand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.inspection.checkpoint_file import layers_from_checkpoint, natural_key
from sn_deploy.inspection.layer import LayerWeights


def sn(
    name: str,
    mean: list[float],
    var: list[float],
    *,
    shape: tuple[int, ...] | None = (1, 6, 1, 1),
    running: bool = True,
    **more: torch.Tensor,
) -> dict[str, torch.Tensor]:
    state = {"mean_weight": torch.tensor(mean), "var_weight": torch.tensor(var), **more}
    if shape is not None:
        state |= {"weight": torch.ones(shape), "bias": torch.zeros(shape)}
    if running:
        state |= {"running_mean": torch.zeros(1, 6, 1), "running_var": torch.ones(1, 6, 1)}
    return {f"{name}.{key}" if name else key: value for key, value in state.items()}


def read(tree: object, tmp_path: Path, key: str | None = None) -> list[LayerWeights]:
    torch.save(tree, tmp_path / "a.pth")
    return layers_from_checkpoint(tmp_path / "a.pth", key)


def softmax(values: list[float]) -> list[float]:
    return [math.exp(value) / math.fsum(math.exp(other) for other in values) for value in values]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((1, 6, 1, 1), "SN2d"), ((1, 6, 1, 1, 1), "SN3d"), ((6,), "SN"), ((1, 6, 1), "SN"), (None, "SN")],
)
def test_three_weights_are_in_ln_bn(tmp_path: Path, shape: tuple[int, ...] | None, kind: str) -> None:
    (layer,) = read(sn("a.sn", [1.0, -0.5, 0.25], [0.0, 2.0, -3.0], shape=shape), tmp_path)
    assert (layer.name, layer.kind, layer.channels, layer.shape) == ("a.sn", kind, 6, None)
    assert layer.mean == pytest.approx(softmax([1.0, -0.5, 0.25]), rel=1e-6)
    assert layer.var == pytest.approx(softmax([0.0, 2.0, -3.0]), rel=1e-6)


def test_two_weights_with_running_statistics_are_sn1d(tmp_path: Path) -> None:
    (layer,) = read(sn("fc_sn", [1.0, 0.0], [0.0, 1.0], shape=(1, 6)), tmp_path)
    low, high = softmax([0.0, 1.0])
    assert layer.kind == "SN1d"
    assert layer.mean == pytest.approx((0.0, high, low))
    assert layer.var == pytest.approx((0.0, low, high))


def test_two_weights_without_running_statistics_have_no_bn(tmp_path: Path) -> None:
    (layer,) = read(sn("sn", [1.0, 0.0], [0.0, 1.0], running=False), tmp_path)
    low, high = softmax([0.0, 1.0])
    assert (layer.kind, layer.channels) == ("SN2d", 6)
    assert layer.mean == pytest.approx((high, low, 0.0))
    assert layer.var == pytest.approx((low, high, 0.0))


def test_a_bare_layer_has_no_size(tmp_path: Path) -> None:
    (layer,) = read(sn("", [0.0, 0.0], [0.0, 0.0], shape=None, running=False), tmp_path)
    assert (layer.name, layer.kind, layer.channels, layer.size_text) == ("(top level)", "SN", None, "?")


def test_large_and_half_precision_weights_stay_finite(tmp_path: Path) -> None:
    state = {name: t.to(torch.bfloat16) for name, t in sn("sn", [1000.0, 0.0, -1000.0], [1.0, 1.0, 1.0]).items()}
    (layer,) = read(state, tmp_path)
    assert layer.mean == (1.0, 0.0, 0.0)
    assert layer.var == pytest.approx((1 / 3, 1 / 3, 1 / 3))


def test_the_published_modules_are_read_as_they_compute(tmp_path: Path) -> None:
    from sn_deploy import nn

    net = torch.nn.Sequential(
        nn.SwitchNorm2d(6), nn.SwitchNorm2d(6, using_bn=False), nn.SwitchNorm1d(6), nn.SwitchNorm3d(6)
    )
    layers = read(net.state_dict(), tmp_path)
    assert [(layer.name, layer.kind) for layer in layers] == [
        ("0", "SN2d"),
        ("1", "SN2d"),
        ("2", "SN1d"),
        ("3", "SN3d"),
    ]
    assert [layer.mean for layer in layers] == [
        pytest.approx((1 / 3, 1 / 3, 1 / 3)),
        (0.5, 0.5, 0.0),
        (0.0, 0.5, 0.5),
        pytest.approx((1 / 3, 1 / 3, 1 / 3)),
    ]


# --- order --------------------------------------------------------------------------------------------------------

NAMES = ["stem.sn", "layer1.2.sn", "layer1.10.sn", "layer2.0.sn"]


def test_a_pickled_state_dict_keeps_its_own_order(tmp_path: Path) -> None:
    state = {key: t for name in NAMES for key, t in sn(name, [0.0] * 3, [0.0] * 3).items()}
    assert [layer.name for layer in read({"state_dict": state}, tmp_path)] == NAMES


def test_safetensors_are_sorted_with_numbers_by_value(tmp_path: Path) -> None:
    state = {key: t for name in NAMES for key, t in sn(name, [0.0] * 3, [0.0] * 3).items()}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    layers = layers_from_checkpoint(tmp_path / "a.safetensors")
    assert [layer.name for layer in layers] == ["layer1.2.sn", "layer1.10.sn", "layer2.0.sn", "stem.sn"]


def test_names_of_digits_and_letters_can_be_compared() -> None:
    assert sorted(["a.x", "a.2", "3", "a", "a.10", ""], key=natural_key) == ["", "3", "a", "a.2", "a.10", "a.x"]
    # A digit to Unicode and not to int; more digits than Python reads.
    assert sorted(["1²2", "9" * 5000, "1²10"], key=natural_key) == ["1²2", "1²10", "9" * 5000]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean_weight", torch.ones(3).to_sparse()),
        ("weight", torch.ones(1, 6, 1, 1, dtype=torch.complex64)),
    ],
)
@pytest.mark.filterwarnings("ignore:Validating sparse tensor")
def test_tensors_that_are_no_plain_numbers(tmp_path: Path, name: str, value: torch.Tensor) -> None:
    state = sn("bn", [0.0, 1.0, 2.0], [0.0, 1.0, 2.0]) | {f"bn.{name}": value}
    with pytest.raises(SnDeployError, match=rf"bn\.{name} is .* \(expected plain numbers\)"):
        read(state, tmp_path)


def test_numbers_of_eight_bits(tmp_path: Path) -> None:
    state = sn("bn", [0.0, 1.0, 2.0], [0.0, 1.0, 2.0])
    state["bn.weight"] = torch.full((1, 6, 1, 1), 1.5).to(torch.float8_e4m3fn)
    (layer,) = read(state, tmp_path)
    assert layer.gamma is not None
    assert layer.gamma.largest == 1.5


# --- which dict, and refusals -------------------------------------------------------------------------------------


def test_the_dict_with_sn_layers_is_found_among_others(tmp_path: Path) -> None:
    other = {"fc.weight": torch.ones(3, 3)}
    state = sn("sn", [0.0] * 3, [0.0] * 3)
    assert len(read({"discriminator": other, "generator": state}, tmp_path)) == 1
    with pytest.raises(SnDeployError, match=r"fit equally well: 'model'.*'ema'.*with key='model'"):
        read({"model": state, "ema": state, "other": other}, tmp_path)
    assert len(read({"model": state, "ema": state}, tmp_path, key="ema")) == 1


def test_a_checkpoint_without_sn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match=r"has no SN layer among its 1 tensors.*Switchable Normalization"):
        read({"fc.weight": torch.ones(3, 3)}, tmp_path)
    with pytest.raises(SnDeployError, match="has no SN layer"):  # one of the two is no SN layer
        read({"a.mean_weight": torch.ones(3), "b.var_weight": torch.ones(3)}, tmp_path)


@pytest.mark.parametrize(
    ("mean", "message"),
    [
        ([1.0], r"a\.pth, sn: mean_weight has 1 values \(expected 2 or 3\)"),
        ([1.0] * 4, "mean_weight has 4 values"),
        ([float("nan"), 0.0, 0.0], r"mean_weight is \[nan, 0\.0, 0\.0\] \(expected finite numbers\)"),
    ],
)
def test_weights_that_are_none_are_refused(tmp_path: Path, mean: list[float], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        read(sn("sn", mean, [0.0] * 3), tmp_path)


def test_sparse_sn_stores_its_choice_itself(tmp_path: Path) -> None:
    chosen = {"mean_fixed": torch.tensor([1]), "var_fixed": torch.tensor([1])}
    (layer,) = read(sn("sn", [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], **chosen), tmp_path)
    assert (layer.mean, layer.var) == ((0.0, 1.0, 0.0), (1.0, 0.0, 0.0))
    open_still = {"mean_fixed": torch.tensor([1]), "var_fixed": torch.tensor([0])}
    with pytest.raises(SnDeployError, match=r"Sparse SN layer that hasn't chosen yet \(var_fixed is 0\)"):
        read(sn("sn", [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], **open_still), tmp_path)
