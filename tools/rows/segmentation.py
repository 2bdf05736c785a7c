"""Row 3, segmentation: the authors' dilated ResNets for ADE20K and CityScapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import torch

from sn_deploy import models as own_models
from sn_deploy.errors import SnDeployError
from sn_deploy.onnx_export import export
from tests.randomise import randomise_
from tools.rows.imagenet import REPOSITORY as SYNC_REPOSITORY
from tools.rows.measure import measure, relative_l2, torch_outputs
from tools.rows.row import Figures, Place, Row, authors_code, replace_modules

REPOSITORY = "SwitchNorm_Segmentation"

# As in the ADE20K scripts: sides that are multiples of 8, of many sizes. CityScapes: one above a multiple of 8.
ADE20K_SIZES = ((2, 160, 200), (1, 200, 152), (1, 304, 400))
CITYSCAPES_SIZES = ((2, 161, 201), (1, 201, 153))
CITYSCAPES_OWN_SIZE = (1, 713, 713)


def _module(name: str, *attributes: str) -> ModuleType:
    module = ModuleType(name)
    for attribute in attributes:
        setattr(module, attribute, None)
    return module


# Imported by their code and not used by these models. lib.nn can't be imported: it has ``async`` for a name.
UNUSED = {
    "torchvision": _module("torchvision"),
    "lib.nn": _module("lib.nn", "SynchronizedBatchNorm2d"),
    "lib.syncbn": _module("lib.syncbn", "SwitchNorm2d"),
}


class _Whole(torch.nn.Module):
    """What the authors' evaluation does with its two nets: probabilities at the image's size."""

    def __init__(self, encoder: torch.nn.Module, decoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.encoder(x, return_feature_maps=True)
        return self.decoder(maps, segSize=(x.shape[2], x.shape[3]))


def authors_model(place: Place, decoder: str, **options: Any) -> torch.nn.Module:
    """ResNet-50, dilated to 1/8, with one of the authors' decoders, as ADE20K is evaluated."""
    with authors_code(place.repositories / REPOSITORY, stand_ins=UNUSED):
        from models import models, resnet_v1_sn  # type: ignore[import-not-found]

        torch.manual_seed(0)
        encoder = models.ResnetDilated(resnet_v1_sn.resnetv1sn50(pretrained=False), dilate_scale=8)
        made = getattr(models, decoder)(num_class=150, fc_dim=2048, use_softmax=True, **options)
    return randomise_(_Whole(encoder, made), seed=0).eval()


def cityscapes_model(place: Place, sync: bool, any_size: bool) -> torch.nn.Module:
    """The authors' CityScapes model as it is evaluated; with ``sync``, all its norms are the authors' SyncSN.

    With ``any_size``, the output's size is computed in integers: their int() of a quotient takes the example's.

    It imports a ``lib.syncbn`` that isn't in the repository, and doesn't use it; and the test at the end of its file
    has an argument called ``async``, a keyword since Python 3.7.
    """
    root = place.repositories / REPOSITORY
    with authors_code(root, stand_ins=UNUSED):
        from models import resnet_v1_sn  # type: ignore[import-not-found]

        source = (root / "models" / "resnet_seg_sn.py").read_text().replace("async=True", "non_blocking=True")
        if any_size:
            for axis in (2, 3):
                rounded = f"int((x_size[{axis}] - 1) / 8 * self.zoom_factor + 1)"
                assert rounded in source
                source = source.replace(rounded, f"(x_size[{axis}] - 1) // 8 * self.zoom_factor + 1")
        module = ModuleType("resnet_seg_sn")
        exec(compile(source, "resnet_seg_sn.py", "exec"), module.__dict__)
        torch.manual_seed(0)
        unloaded = partial(resnet_v1_sn.resnetv1sn50, pretrained=False)
        with mock.patch.object(resnet_v1_sn, "resnetv1sn50", unloaded):
            model = module.ResNet_Seg_SN(layers=50, classes=19, use_aux=False)
    return randomise_(synchronise_(model, place) if sync else model, seed=0).eval()


def synchronise_(model: torch.nn.Module, place: Place) -> torch.nn.Module:
    """Puts the authors' SyncSN, new, in the place of every SN layer; returns ``model``."""
    with authors_code(place.repositories / SYNC_REPOSITORY):
        from devkit.ops import SyncSwitchableNorm2d  # type: ignore[import-not-found]

        for kind in {type(module) for module in model.modules() if type(module).__name__ == "SwitchNorm2d"}:
            replace_modules(model, kind, lambda layer: SyncSwitchableNorm2d(layer.weight.shape[1]))
    return model


def _images(sizes: Sequence[tuple[int, int, int]]) -> list[dict[str, np.ndarray]]:
    generator = np.random.default_rng(0)
    return [{"x": generator.standard_normal((n, 3, h, w), dtype=np.float32)} for n, h, w in sizes]


def _c1(place: Place) -> Figures:
    model = authors_model(place, "C1BilinearDeepSup")
    own = own_models.SegmentationSN()
    return measure(model, _images(ADE20K_SIZES), place, dynamic=("batch", "spatial"), own=own, layers=54)


def _pyramid(place: Place) -> Figures:
    model = authors_model(place, "PPMBilinear", pool_scales=(2, 3, 6))
    own = own_models.SegmentationSN(head="ppm", deep_supervision=False)
    # torch's own export holds for one size: its newer exporter writes that one's pooling, the older one none.
    figures = measure(
        model,
        _images(ADE20K_SIZES),
        place,
        dynamic=("batch", "spatial"),
        own=own,
        layers=57,
        exporter="dynamo",
        fuse_dynamic="batch",
    )
    return {**figures, "note": "torch's own export holds for the first size, and was fused and run at that"}


def _own_pyramid(place: Place) -> Figures:
    authors = authors_model(place, "PPMBilinear", pool_scales=(2, 3, 6))
    model = own_models.SegmentationSN(head="ppm", deep_supervision=False).eval()
    model.load_state_dict(authors.state_dict())
    samples = _images(ADE20K_SIZES[:2])
    figures = measure(model, samples, place, dynamic=("batch", "spatial"), layers=57)
    expected = torch_outputs(authors.double(), samples)
    figures["own"] = relative_l2(expected, torch_outputs(model.double(), samples))
    return {**figures, "note": "the authors' weights in `sn_deploy.models`"}


def _cityscapes(place: Place) -> Figures:
    samples = _images((*CITYSCAPES_SIZES, CITYSCAPES_OWN_SIZE))
    example = torch.from_numpy(samples[0]["x"][:1])
    try:
        export(cityscapes_model(place, False, False), example, place.scratch / "fixed.onnx", dynamic="spatial")
    except SnDeployError as error:
        refusal = str(error).partition(" (expected")[0]
    else:
        raise SystemExit("a model that takes the example's size was exported for any")
    figures = measure(
        cityscapes_model(place, sync=False, any_size=True),
        samples,
        place,
        dynamic=("batch", "spatial"),
        own=own_models.CityscapesSN(auxiliary=False),
        layers=54,
    )
    return {**figures, "note": f"the output's size computed in integers, as otherwise it is refused: {refusal}"}


def _synchronised_cityscapes(place: Place) -> Figures:
    figures = measure(
        cityscapes_model(place, sync=True, any_size=True),
        _images(CITYSCAPES_SIZES),
        place,
        dynamic=("batch", "spatial"),
        own=own_models.CityscapesSN(auxiliary=False),
        layers=54,
    )
    return {**figures, "note": "the output's size computed in integers, too"}


def _pyramid_with_one_position(place: Place) -> Figures:
    model = authors_model(place, "PPMBilinear")
    x = torch.randn(1, 3, 160, 200)
    with torch.no_grad():
        all_nan = bool(model(x).isnan().all())
    try:
        export(model, x, place.scratch / "model.onnx")
    except SnDeployError as error:
        nan = "NaN everywhere" if all_nan else "no NaN everywhere"
        return {"note": f"the authors' own output is {nan}; refused: {error}", "check": "refused"}
    raise SystemExit("an SN layer of one position was exported")


def _row(name: str, run: Callable[[Place], Figures], *more: str) -> Row:
    return Row(3, "Segmentation (ADE20K, CityScapes)", name, (REPOSITORY, *more), run)


ROWS = (
    _row("ADE20K: ResNet-50 dilated, C1", _c1),
    _row("ADE20K: ResNet-50 dilated, pyramid pooling (2, 3, 6)", _pyramid),
    _row("ADE20K: the same pyramid, our own model", _own_pyramid),
    _row("ADE20K: pyramid pooling (1, 2, 3, 6), as published", _pyramid_with_one_position),
    _row("CityScapes: ResNet-50 dilated", _cityscapes),
    _row("CityScapes: the same with SyncSN", _synchronised_cityscapes, SYNC_REPOSITORY),
)
