"""Binding, naming and widening of example inputs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sn_deploy.capture.inputs import bind_inputs, resolve_dynamic, widen_dynamic
from sn_deploy.errors import SnDeployError


class TwoInputs(torch.nn.Module):
    def forward(self, image: torch.Tensor, boxes: torch.Tensor | None = None, scale: float = 1.0) -> torch.Tensor:
        return image * scale if boxes is None else image * boxes


class Nested(torch.nn.Module):
    def forward(self, *features: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
        return features[0] + extra["mask"]


IMAGE, BOXES = torch.zeros(1, 3, 8, 6), torch.zeros(5, 4)


@pytest.mark.parametrize(
    ("example", "names"),
    [
        (IMAGE, ("image",)),
        ((IMAGE, BOXES), ("image", "boxes")),
        ({"boxes": BOXES, "image": IMAGE}, ("image", "boxes")),
        ({"": (IMAGE,), "boxes": BOXES, "scale": 2.0}, ("image", "boxes")),
    ],
)
def test_inputs_are_bound_by_position_and_by_name(example: Any, names: tuple[str, ...]) -> None:
    bound = bind_inputs(TwoInputs(), example)
    assert bound.names == names
    assert bound.tensors["image"] is IMAGE


def test_nested_inputs_get_readable_names_and_reach_the_model() -> None:
    bound = bind_inputs(Nested(), {"": (torch.ones(2), torch.ones(2)), "extra": {"mask": torch.ones(2)}})
    assert bound.names == ("features_0", "features_1", "extra_mask")
    assert bound.call(Nested()).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ((IMAGE, BOXES, 1.0, 2.0), r"TwoInputs.forward\(.*the inputs don't fit: too many positional arguments"),
        ({"picture": IMAGE}, "the inputs don't fit: .*(picture|image).*; give one input"),
        ((), "missing a required argument: 'image'"),
        ({"image": 3}, "there is no tensor among the example inputs"),
        (7, "example inputs are a int"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(example: Any, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        bind_inputs(TwoInputs(), example)


def test_names_must_match_in_number() -> None:
    with pytest.raises(SnDeployError, match="expected 1 different names"):
        bind_inputs(TwoInputs(), IMAGE, names=("a", "b"))


@pytest.mark.parametrize(
    ("dynamic", "axes"),
    [
        ((), {}),
        ("batch", {"image": {0: "batch"}, "boxes": {0: "batch"}}),
        (("spatial",), {"image": {2: "height", 3: "width"}}),
        (("image:0=batch,-1=columns",), {"image": {0: "batch", 3: "columns"}}),
        (("image:0=n", "boxes:0=rois"), {"image": {0: "n"}, "boxes": {0: "rois"}}),
        ({"boxes": {0: "rois"}}, {"boxes": {0: "rois"}}),
    ],
)
def test_dynamic_axes_are_spelled_out(dynamic: Any, axes: dict[str, dict[int, str]]) -> None:
    assert resolve_dynamic(bind_inputs(TwoInputs(), (IMAGE, BOXES)), dynamic) == axes


def test_two_images_have_spatial_names_of_their_own() -> None:
    bound = bind_inputs(TwoInputs(), (IMAGE, torch.zeros(1, 3, 4)))
    assert resolve_dynamic(bound, "spatial") == {
        "image": {2: "image_height", 3: "image_width"},
        "boxes": {2: "boxes_length"},
    }


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ("heigth", r"--dynamic: can't read 'heigth' \(expected batch, spatial or INPUT:AXIS=SYMBOL"),
        ("picture:0=batch", r"there is no input 'picture' \(expected image\)"),
        ("image:4=x", "input 'image' has no axis 4"),
        ("image:0=a b", "'a b' is no name for an axis"),
    ],
)
def test_dynamic_axes_that_are_not_there_are_refused(dynamic: str, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        resolve_dynamic(bind_inputs(TwoInputs(), IMAGE), dynamic)


def test_spatial_needs_an_image() -> None:
    with pytest.raises(SnDeployError, match="no input has spatial axes"):
        resolve_dynamic(bind_inputs(TwoInputs(), BOXES), "spatial")


def test_only_dynamic_axes_of_size_one_are_widened() -> None:
    bound = bind_inputs(TwoInputs(), (torch.zeros(1, 1, 8, 1), torch.zeros(1, 4)))
    widened = widen_dynamic(bound, {"image": {0: "batch", 2: "height"}}).tensors
    assert tuple(widened["image"].shape) == (2, 1, 8, 1)
    assert tuple(widened["boxes"].shape) == (1, 4)
