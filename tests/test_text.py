"""Numbers, lists and shapes as people read them."""

from __future__ import annotations

import pytest

from sn_deploy.check.report.markup import prose
from sn_deploy.text import (
    counted,
    cut,
    duration,
    error,
    listed,
    milliseconds,
    moment,
    number,
    percent,
    plain,
    shape_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.7312, "0.731"),
        (12.345, "12.3"),
        (1797, "1,797"),
        (1796.6, "1,797"),
        (0.0, "0"),
        (3.14e-7, "3.14e-7"),
        (2e6, "2e6"),
        (999.6, "1,000"),
        (-0.5, "-0.500"),
        (float("inf"), "inf"),
        (None, "–"),
    ],
)
def test_number(value: float | None, text: str) -> None:
    assert number(value) == text


def test_error() -> None:
    assert [error(value) for value in (0.0, 3.14e-7, 1e-5, 0.0231, None)] == [
        "0",
        "3.1e-7",
        "1e-5",
        "0.023",
        "not finite",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "100%"),
        (0.0, "0%"),
        (0.9955, "99.55%"),
        (0.999999, "over 99.99%"),  # not all of them
        (1.000001, "over 100.00%"),  # of a limit
        (0.000001, "under 0.01%"),
        (0.5, "50%"),
        (None, "–"),
    ],
)
def test_percent(value: float | None, text: str) -> None:
    assert percent(value) == text


def test_shares_in_a_column() -> None:
    assert [percent(value, zeros=True) for value in (1.0, 0.5, 0.99999)] == ["100.00%", "50.00%", "over 99.99%"]


def test_times() -> None:
    assert [milliseconds(value) for value in (0.0831, 12.34, 1250.0, None)] == [
        "83.1\u00a0µs",
        "12.3\u00a0ms",
        "1.25\u00a0s",
        "–",
    ]
    assert [duration(value) for value in (0.5, 61.0, 600.0)] == ["0.50\u00a0s", "61\u00a0s", "10\u00a0min"]
    assert moment("2026-11-24T05:23:45+00:00") == "24 November 2026, 05:23 UTC"
    assert moment("yesterday") == "yesterday"


def test_lists_and_counts() -> None:
    assert [listed(["a", "b", "c"][:count]) for count in range(4)] == ["nothing", "a", "a and b", "a, b and c"]
    assert [counted(1, "sample"), counted(2, "batch"), counted(1000, "layer")] == [
        "1 sample",
        "2 batches",
        "1,000 layers",
    ]


def test_settings_and_shapes() -> None:
    assert (
        plain({"tf32": False, "devices": ["a", "b"], "none": None, "std": 1.0})
        == "tf32 no, devices a, b, none –, std 1"
    )
    assert shape_text(["N", 3, None]) == "N×3×?"
    assert shape_text([]) == "scalar"


def test_long_names_keep_their_beginning_and_their_end() -> None:
    assert cut("short\nname", 20) == "short name"
    assert cut("resnet50sn-imagenet-fp16.onnx", 15) == "resn…-fp16.onnx"
    assert len(cut("x" * 100, 24)) == 24


def test_a_number_is_not_broken_at_its_minus() -> None:
    assert prose("is 3.1e-7, <b>") == 'is <span class="nowrap">3.1e-7</span>, &lt;b&gt;'
    assert prose("ort-native and e-7") == "ort-native and e-7"


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        (["batch", 3, 224, 224], "batch×3×224×224"),
        ([1, None, "height//2"], "1×?×height//2"),
        (["N", 8, "floor((floor((H-1)/2)+1-1)/2)+1"], "N×8×?"),
        ([], "scalar"),
    ],
)
def test_shapes(dims: list[int | str | None], text: str) -> None:
    assert shape_text(dims) == text
