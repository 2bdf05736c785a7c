"""The published ResNets in small, the whole way: v1 and v2, with and without BN, its averages moving or summed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sn_deploy.errors import SnDeployError
from sn_deploy.models import ResNetV1SN, ResNetV2SN
from sn_deploy.onnx_export import export
from sn_deploy.recognise import finalize_batch_average_, recognise
from tests.models.whole_way import through_everything
from tests.randomise import randomise_
from tools.rows.measure import run_check
from tools.rows.row import Place

V1: dict[str, Any] = {"depths": (1, 1, 1, 1), "bottleneck": True, "num_classes": 5, "planes": (4, 4, 4, 4)}
V2: dict[str, Any] = {"depths": (1, 1, 1, 1), "bottleneck": False, "num_classes": 5}
BATCHES = 100


def images() -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [{"x": generator.standard_normal((n, 3, h, w), dtype=np.float32)} for n, h, w in ((2, 40, 48), (1, 56, 40))]


def summed_(model: nn.Module) -> nn.Module:
    """With sums over `BATCHES` batches in the place of averages, as training with batch averages leaves them."""
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "running_var"):
                square = module.running_mean**2 + module.running_var
                module.running_mean.mul_(BATCHES)
                module.running_var.copy_(BATCHES * square)
    return model


@pytest.mark.parametrize(
    ("make", "options", "layers"),
    [
        (ResNetV1SN, V1, 17),
        (ResNetV1SN, {**V1, "using_bn": False, "last_gamma": False}, 17),
        (ResNetV2SN, V2, 10),
    ],
    ids=["v1", "(8,1), no BN branch, last_gamma off", "v2"],
)
def test_the_whole_way(make: type[nn.Module], options: dict[str, Any], layers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(make(**options), 1).eval()
    through_everything(model, images(), tmp_path, ("batch", "spatial"), layers=layers)
    assert run_check(model, tmp_path / "exported.onnx", images()[0], Place(tmp_path, tmp_path), ()) == "passed"


def test_sums_of_batch_averages_are_refused_until_they_are_divided(tmp_path: Path) -> None:
    torch.manual_seed(0)
    moving = randomise_(ResNetV1SN(**V1), 1).eval()
    model = ResNetV1SN(**V1, using_moving_average=False).eval()
    model.load_state_dict(moving.state_dict())
    with pytest.raises(SnDeployError, match=r"layer 'sn1': .*looks like a sum over batches"):
        export(summed_(model), torch.from_numpy(images()[0]["x"]), tmp_path / "never.onnx")
    assert not list(tmp_path.iterdir())
    finalize_batch_average_(model, BATCHES)
    found, expected = recognise(model).layers, recognise(moving).layers
    for name, layer in expected.items():
        np.testing.assert_allclose(found[name].mean_offset, layer.mean_offset, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[name].var_offset, layer.var_offset, rtol=1e-4, atol=1e-6)
