"""Profiles: what the user gives, completed by what the file says, and refused where the two disagree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn_deploy.cli.shape_options import given_shapes
from sn_deploy.engine.given import given_profiles
from sn_deploy.engine.profiles import given_from_repeats, resolve_profiles
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo

IMAGE = TensorInfo("image", ("batch", 3, 224, 224), np.dtype(np.float32))
FREE = TensorInfo("image", ("batch", 3, "height", "width"), np.dtype(np.float32))
MASK = TensorInfo("mask", ("batch", 1, "height", None), np.dtype(np.float32))
IDS = TensorInfo("ids", ("batch", 16), np.dtype(np.int64))
STATIC = TensorInfo("image", (4, 3, 8, 8), np.dtype(np.float32))


def only(inputs: list[TensorInfo], given: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    resolved = resolve_profiles(inputs, [given] if given else [])
    (profile,) = resolved.profiles
    return profile, resolved.notes


def test_a_static_file_needs_no_shape() -> None:
    profile, notes = only([STATIC], {})
    assert profile["image"] == ((4, 3, 8, 8),) * 3
    assert notes == []


def test_the_first_axis_has_a_default_that_is_told() -> None:
    profile, notes = only([IMAGE, IDS], {})
    assert profile["image"] == ((1, 3, 224, 224), (8, 3, 224, 224), (32, 3, 224, 224))
    assert profile["ids"] == ((1, 16), (8, 16), (32, 16))
    assert notes[0] == (
        "input image: 1x3x224x224 to 32x3x224x224, fastest at 8x3x224x224, assumed for its first axis: "
        "--min, --opt and --max"
    )


def test_one_shape_is_the_only_one() -> None:
    profile, (note,) = only([IMAGE], {"image": {"opt": (5, 3, 224, 224)}})
    assert profile["image"] == ((5, 3, 224, 224),) * 3
    assert note.startswith("input image is 5x3x224x224 alone")


@pytest.mark.parametrize("kinds", [("min", "max"), ("min", "opt"), ("opt", "max"), ("max",), ("min", "opt", "max")])
def test_a_scalar_has_one_shape(kinds: tuple[str, ...]) -> None:
    scalar = TensorInfo("factor", (), np.dtype(np.float32))
    profile, _ = only([scalar], {"factor": dict.fromkeys(kinds, ())})
    assert profile["factor"] == ((), (), ())


def test_numbers_of_other_libraries_are_sizes() -> None:
    low, best, high = (np.array([batch, 3, 224, 224]) for batch in (1, 2, 4))
    for shapes in ((low, best, high), np.stack([low, best, high]), {"min": low, "opt": tuple(best), "max": list(high)}):
        (given,) = given_profiles([{"image": shapes}])
        profile, _ = only([IMAGE], given)
        assert profile["image"] == ((1, 3, 224, 224), (2, 3, 224, 224), (4, 3, 224, 224))
        assert all(type(size) is int for shape in profile["image"] for size in shape)
    (given,) = given_profiles([{"image": best}])
    assert given == {"image": {"opt": (2, 3, 224, 224)}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"opt": 8, "max": 32}, (1, 8, 32)),
        ({"min": 2, "max": 32}, (2, 32, 32)),
        ({"min": 2, "opt": 8}, (2, 8, 8)),
        ({"min": 2, "opt": 8, "max": 9}, (2, 8, 9)),
    ],
)
def test_two_shapes_are_completed(given: dict[str, int], expected: tuple[int, ...]) -> None:
    profile, _ = only([IMAGE], {"image": {kind: (size, 3, 224, 224) for kind, size in given.items()}})
    assert tuple(shape[0] for shape in profile["image"]) == expected


def test_axes_of_one_name_have_one_size() -> None:
    given = {"image": {"min": (1, 3, 32, 32), "opt": (2, 3, 64, 48), "max": (4, 3, 96, 96)}}
    profile, _ = only([FREE, IDS], given)
    assert profile["ids"] == ((1, 16), (2, 16), (4, 16))
    with pytest.raises(SnDeployError, match=r"input ids: axis batch is 1 / 3 / 4 .expected 1 / 2 / 4, as in another"):
        only([FREE, IDS], {**given, "ids": {"min": (1, 16), "opt": (3, 16), "max": (4, 16)}})


def test_other_axes_have_no_default() -> None:
    with pytest.raises(
        SnDeployError, match=r"input image: axis 2 \(height\) has no size; give .*--opt image=BATCHx3xHEIGHTxWIDTH"
    ):
        only([FREE], {})
    with pytest.raises(SnDeployError, match=r"input mask: axis 3 has no size; give .*--opt mask=BATCHx1xHEIGHTx\?"):
        only([FREE, MASK], {"image": {"opt": (1, 3, 8, 8)}})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"picture": {"opt": (1,)}}, "profile: there is no input 'picture' .expected image."),
        ({"image": {"opt": (1, 3, 224)}}, "--opt image=1x3x224: is no shape of this input .expected BATCHx3x224x224."),
        ({"image": {"max": (1, 4, 224, 224)}}, "--max image=1x4x224x224: is no shape of this input"),
        ({"image": {"opt": (0, 3, 224, 224)}}, "a size is too small .expected 1 or more, or 0 in --min."),
        (
            {"image": {"min": (9, 3, 224, 224), "max": (4, 3, 224, 224)}},
            "--min, --opt, --max of image: axis 0 is 9, 4, 4 .expected ascending sizes.",
        ),
    ],
)
def test_shapes_that_do_not_fit(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        only([IMAGE], given)


def test_an_empty_batch_may_be_the_smallest() -> None:
    profile, _ = only([IMAGE], {"image": {"min": (0, 3, 224, 224), "opt": (4, 3, 224, 224)}})
    assert profile["image"].min[0] == 0


def test_several_profiles_by_repeating() -> None:
    names = ["image", "ids"]
    options: Any = {"opt": ["image=1x3x224x224", "image=64x3x224x224", "ids=1x16", "ids=64,16"], "max": []}
    given = given_shapes(options, names, Path("net.onnx"))
    resolved = resolve_profiles([IMAGE, IDS], given)
    assert [profile["image"].opt[0] for profile in resolved.profiles] == [1, 64]
    assert [profile["ids"].max for profile in resolved.profiles] == [(1, 16), (64, 16)]
    assert "input image of profile 1 is 64x3x224x224 alone: --min, --opt and --max give a range" in resolved.notes


def test_what_is_given_once_belongs_to_all_profiles() -> None:
    given = given_from_repeats({"min": [("a", (1,))], "max": [("a", (4,)), ("a", (8,)), ("a", (9,))]})
    assert given == [{"a": {"min": (1,), "max": (size,)}} for size in (4, 8, 9)]
    with pytest.raises(SnDeployError, match="--min a=…: is given 2 times, and another shape 3 times"):
        given_from_repeats({"min": [("a", (1,)), ("a", (2,))], "max": [("a", (4,)), ("a", (8,)), ("a", (9,))]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image=1x3xAx4", r"--opt image=1x3xAx4: can't read the shape '1x3xAx4' .expected \[NAME=\]8x3x224x224"),
        ("image=", "can't read the shape ''"),
        ("1x16", r"net.onnx has 2 inputs .expected NAME=1x16, NAME being image, ids."),
        ("mask=1x16", "there is no input 'mask' .expected image, ids."),
    ],
)
def test_options_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        given_shapes({"opt": [text]}, ["image", "ids"], Path("net.onnx"))


def test_a_single_input_needs_no_name() -> None:
    assert given_shapes({"opt": ["2×3"]}, ["a=b"], Path("net.onnx")) == [{"a=b": {"opt": (2, 3)}}]
    assert given_shapes({"opt": ["a=b=2x3"]}, ["a=b"], Path("net.onnx")) == [{"a=b": {"opt": (2, 3)}}]
