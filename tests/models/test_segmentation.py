"""The published segmentation nets: their states, their dilations, and the whole way with sizes that change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from sn_deploy.errors import SnDeployError
from sn_deploy.models import CityscapesSN, SegmentationSN
from sn_deploy.models.segmentation import AdaptiveAveragePool
from tests.models.states import sn_shapes, state_shapes
from tests.models.test_resnet import published_shapes
from tests.models.whole_way import through_everything
from tests.randomise import randomise_

SMALL = {"depths": (1, 1, 1, 1), "planes": (4, 4, 4, 4)}


def images(*sizes: tuple[int, int, int]) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [{"x": generator.standard_normal((n, 3, h, w), dtype=np.float32)} for n, h, w in sizes]


def backbone(prefix: str, stem: str) -> dict[str, tuple[int, ...]]:
    """ResNet-50's state under the names that the segmentation nets give it."""
    shapes = {}
    for name, shape in published_shapes(1, 50).items():
        if not name.startswith("fc."):
            own = f"{stem}{name}" if name.startswith(("conv1", "sn1")) else name
            shapes[f"{prefix}{own}"] = shape
    return shapes


def test_the_ade20k_state_is_the_published_one() -> None:
    with torch.device("meta"):
        found = state_shapes(SegmentationSN())
    expected = backbone("encoder.", "")
    for name, inputs in (("cbr", 2048), ("cbr_deepsup", 1024)):
        expected[f"decoder.{name}.0.weight"] = (512, inputs, 3, 3)
        expected.update(sn_shapes(f"decoder.{name}.1", 512))
    for name in ("conv_last", "conv_last_deepsup"):
        expected.update({f"decoder.{name}.weight": (150, 512, 1, 1), f"decoder.{name}.bias": (150,)})
    assert found == expected


def test_the_pyramids_state_is_the_published_one() -> None:
    with torch.device("meta"):
        found = state_shapes(SegmentationSN(head="ppm", deep_supervision=False).decoder)
    expected = {"conv_last.0.weight": (512, 2048 + 3 * 512, 3, 3), **sn_shapes("conv_last.1", 512)}
    expected.update({"conv_last.4.weight": (150, 512, 1, 1), "conv_last.4.bias": (150,)})
    for i in range(3):
        expected.update({f"ppm.{i}.1.weight": (512, 2048, 1, 1), **sn_shapes(f"ppm.{i}.2", 512)})
    assert found == expected


def test_the_cityscapes_state_is_the_published_one() -> None:
    with torch.device("meta"):
        found = state_shapes(CityscapesSN())
    expected = {
        name.replace("layer0.conv1", "layer0.0").replace("layer0.sn1", "layer0.1"): shape
        for name, shape in backbone("", "layer0.").items()
    }
    for name, inputs, channels in (("cls", 2048, 512), ("aux", 1024, 256)):
        expected[f"{name}.0.weight"] = (channels, inputs, 3, 3)
        expected.update(sn_shapes(f"{name}.1", channels))
        expected.update({f"{name}.4.weight": (19, channels, 1, 1), f"{name}.4.bias": (19,)})
    assert found == expected


def test_strides_become_dilations() -> None:
    with torch.device("meta"):
        models = SegmentationSN().encoder, CityscapesSN()
    for model, first in zip(models, ((1, 2), (2, 4)), strict=True):
        for stage, dilation, strided in (("layer3", 2, first[0]), ("layer4", 4, first[1])):
            convolutions = [
                (module.dilation[0], module.padding[0], module.stride[0])
                for name, module in model.named_modules()
                if name.startswith(stage) and name.endswith("conv2")
            ]
            assert convolutions[0] == (strided, strided, 1)
            assert set(convolutions[1:]) == {(dilation, dilation, 1)}
        assert model.layer2[0].conv2.stride == (2, 2)
        assert model.layer3[0].downsample[0].stride == (1, 1)


@pytest.mark.parametrize("cells", [1, 2, 3, 6])
@pytest.mark.parametrize("size", [(6, 6), (7, 11), (20, 25), (5, 3)])
def test_the_pooling_is_torchs(cells: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(AdaptiveAveragePool(cells)(x), F.adaptive_avg_pool2d(x, cells), rtol=1e-12, atol=1e-12)


def test_pyramid_pooling_at_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = SegmentationSN(**SMALL, num_classes=5, head="ppm", pool_scales=(2, 3), deep_supervision=False)
    sizes = images((2, 48, 64), (1, 56, 40), (3, 33, 41))
    _, found = through_everything(
        randomise_(model, 1).eval(), sizes, tmp_path, ("batch", "spatial"), layers=20, exporter=None
    )
    assert [batch[0].shape for batch in found["function"]] == [(2, 5, 48, 64), (1, 5, 56, 40), (3, 5, 33, 41)]


def test_cityscapes_at_any_size(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = randomise_(CityscapesSN(**SMALL, num_classes=5), 2).eval()
    sizes = images((2, 41, 57), (1, 65, 49))
    through_everything(model, sizes, tmp_path, ("batch", "spatial"), layers=18)


def test_a_pyramid_with_one_position_is_refused() -> None:
    with pytest.raises(SnDeployError, match="unbiased variance of one position has no value"):
        SegmentationSN(**SMALL, head="ppm", pool_scales=(1, 2, 3, 6))
    with pytest.raises(SnDeployError, match="head is 'fpn'"):
        SegmentationSN(**SMALL, head="fpn")
