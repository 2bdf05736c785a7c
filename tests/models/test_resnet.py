"""The published ResNets: their state's names and shapes, and their wiring against one written from the state alone."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

import sn_deploy.models as models
from sn_deploy.errors import SnDeployError
from tests.models.states import sn_shapes, state_shapes
from tests.randomise import randomise_

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def published_shapes(version: int, layers: int, num_classes: int = 1000) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published checkpoint, spelled out from its naming rule."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, outputs: int, inputs: int, size: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs, size, size)

    def sn(name: str, channels: int) -> None:
        shapes.update(sn_shapes(name, channels))

    expansion = 4 if layers >= 50 else 1
    conv("conv1", 64, 3, 7)
    sn("sn1", 64)
    inputs = 64
    for stage, depth in enumerate(BLOCKS[layers], 1):
        planes = 32 * 2**stage
        outputs = planes * expansion
        for block in range(depth):
            name = f"layer{stage}.{block}"
            widths = [inputs, planes, planes, outputs] if expansion == 4 else [inputs, planes, planes]
            for i in range(1, len(widths)):
                conv(f"{name}.conv{i}", widths[i], widths[i - 1], 3 if expansion == 1 or i == 2 else 1)
                sn(f"{name}.sn{i}", widths[i] if version == 1 else widths[i - 1])
            if block == 0 and (stage > 1 or expansion == 4):
                conv(f"{name}.downsample.0" if version == 1 else f"{name}.downsample", outputs, inputs, 1)
                if version == 1:
                    sn(f"{name}.downsample.1", outputs)
            inputs = outputs
    if version == 2:
        sn("sn_out", inputs)
    shapes["fc.weight"], shapes["fc.bias"] = (num_classes, inputs), (num_classes,)
    return shapes


@pytest.mark.parametrize("layers", BLOCKS)
@pytest.mark.parametrize("version", [1, 2])
def test_the_state_is_that_of_the_published_checkpoints(version: int, layers: int) -> None:
    with torch.device("meta"):
        model = getattr(models, f"resnetv{version}sn{layers}")()
    shapes = state_shapes(model)
    assert shapes == published_shapes(version, layers)


def test_options_reach_every_layer() -> None:
    with torch.device("meta"):
        model = models.resnetv1sn50(num_classes=7, using_bn=False, using_moving_average=False)
        plain = models.resnetv1sn50(last_gamma=False)
        second = models.resnetv2sn18(num_classes=7, using_bn=False, using_moving_average=False)
    for net, count in ((model, 53), (second, 18)):
        layers = [module for module in net.modules() if hasattr(module, "mean_weight")]
        assert len(layers) == count
        assert not any(layer.using_bn or layer.using_moving_average for layer in layers)
        assert net.fc.out_features == 7
    zeroed = [name for name, module in model.named_modules() if getattr(module, "last_gamma", False)]
    assert len(zeroed) == 16
    assert all(name.endswith(".sn3") for name in zeroed)
    assert not any(getattr(module, "last_gamma", False) for module in plain.modules())


def functional(state: dict[str, Tensor], x: Tensor, version: int) -> Tensor:
    """The published wiring, from the state dict alone."""

    def conv(name: str, x: Tensor, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)

    def sn(name: str, x: Tensor) -> Tensor:
        own = {key: state[f"{name}.{key}"] for key in ("weight", "bias", "mean_weight", "var_weight")}
        flat = x.flatten(2)
        mean, var = flat.mean(2), flat.var(2)
        ln_mean = mean.mean(1, keepdim=True)
        ln_var = (var + mean**2).mean(1, keepdim=True) - ln_mean**2
        bn_mean, bn_var = (state[f"{name}.{key}"].reshape(1, -1) for key in ("running_mean", "running_var"))
        w, v = own["mean_weight"].softmax(0), own["var_weight"].softmax(0)
        mean = w[0] * mean + w[1] * ln_mean + w[2] * bn_mean
        var = v[0] * var + v[1] * ln_var + v[2] * bn_var
        y = (x - mean[..., None, None]) / (var[..., None, None] + 1e-5).sqrt()
        return y * own["weight"] + own["bias"]

    x = F.max_pool2d(sn("sn1", conv("conv1", x, 2)).relu(), 3, 2, 1)
    for name in sorted({key.rsplit(".conv1", 1)[0] for key in state if key.endswith(".conv1.weight")}):
        count = sum(key.startswith(f"{name}.conv") for key in state)
        strides = [1] * count
        if name.endswith(".0") and not name.startswith("layer1"):
            strides[1 if count == 3 else 0] = 2
        stride = math.prod(strides)
        projected = any(key.startswith(f"{name}.downsample") for key in state)
        y = x
        for i, step in enumerate(strides, 1):
            if version == 1:
                y = sn(f"{name}.sn{i}", conv(f"{name}.conv{i}", y, step))
                y = y.relu() if i < count else y
            else:
                y = sn(f"{name}.sn{i}", y).relu()
                if i == 1 and projected:
                    residual = conv(f"{name}.downsample", y, stride)
                y = conv(f"{name}.conv{i}", y, step)
        if version == 1:
            residual = sn(f"{name}.downsample.1", conv(f"{name}.downsample.0", x, stride)) if projected else x
            x = (y + residual).relu()
        else:
            x = y + (residual if projected else x)
    if version == 2:
        x = sn("sn_out", x).relu()
    return F.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize("layers", [18, 50])
@pytest.mark.parametrize("version", [1, 2])
def test_the_wiring_is_the_published_one(version: int, layers: int) -> None:
    torch.manual_seed(0)
    model = randomise_(getattr(models, f"resnetv{version}sn{layers}")(num_classes=10), seed=7).eval().double()
    x = torch.randn(1, 3, 64, 97, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(model(x), functional(model.state_dict(), x, version), rtol=1e-9, atol=1e-9)


def test_a_fresh_model_trains() -> None:
    torch.manual_seed(0)
    model = models.resnetv1sn18(num_classes=3)
    loss = F.cross_entropy(model(torch.randn(2, 3, 40, 40)), torch.tensor([0, 2]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert not model.layer1[0].sn2.weight.any()


def test_an_input_that_shrinks_to_one_position_is_refused() -> None:
    with pytest.raises(SnDeployError, match="expected at least 2 spatial positions"):
        models.resnetv2sn18(num_classes=3)(torch.zeros(1, 3, 32, 32))
