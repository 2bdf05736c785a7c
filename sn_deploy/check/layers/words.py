"""What a `LayerReport` means, in sentences: the same on the terminal and on the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sn_deploy.text import error

# An error that is so many times that of the layers before came in between.
_JUMP: Final = 4.0


def sentences(report: Mapping[str, Any], *, outputs_hold: bool = True) -> Iterator[str]:
    """What came of one backend.

    Args:
        report: a `LayerReport` as JSON has it, with one layer at least.
        outputs_hold: whether the outputs of the backend are within their tolerances.
    """
    layers, backend = report["layers"], report["backend"]
    if report["culprit"] is None:
        first, last = layers[0]["rel_l2"], layers[-1]["rel_l2"]
        own = max(layers, key=lambda layer: float("inf") if layer["own_rel_l2"] is None else layer["own_rel_l2"])
        if len(layers) == 1:
            yield (
                f"{backend}: the one layer, {own['layer']}, is within its tolerances. The relative L2 error is "
                f"{error(last)} after it; it adds {error(own['own_rel_l2'])} of its own."
            )
        else:
            yield (
                f"{backend}: all {len(layers)} layers are within their tolerances. The relative L2 error is "
                f"{error(first)} after the first and {error(last)} after the last; the most that a layer adds of its "
                f"own is {error(own['own_rel_l2'])}, in {own['layer']}."
            )
        if not outputs_hold:
            which = f"the last layer that was compared, {layers[-1]['layer']}"
            yield f"{backend}: an output doesn't hold all the same: the fault is behind {which}."
        return
    number, culprit = next(
        (number, layer) for number, layer in enumerate(layers, 1) if layer["layer"] == report["culprit"]
    )
    place = f"layer {number} of {len(layers)}"
    if report["culprit_part"] == "layer":
        yield (
            f"{backend}: the fault is in {culprit['layer']} ({place}). On the very input that it got, its output is "
            f"{_off(culprit['own_rel_l2'])}, and {error(culprit['own_tolerance'])} is allowed; what reached it was "
            f"{_off(culprit['input_rel_l2'])}."
        )
    elif number == 1:
        yield (
            f"{backend}: no SN layer is at fault: what reaches the first one, {culprit['layer']}, is "
            f"{_off(culprit['input_rel_l2'])} already, and it computes what it should of that. The fault is in the "
            "input or in what comes before this layer: a shifted or scaled image, another order of channels, or wrong "
            "weights there."
        )
    elif _has_grown(layers[: number - 1], culprit):
        yield (
            f"{backend}: {culprit['layer']} ({place}) is the first that leaves its tolerance, but it computes what it "
            f"should, and no single place is at fault: the error has grown to {error(culprit['rel_l2'])} over the "
            f"layers before it, and was {error(layers[number - 2]['rel_l2'])} after {layers[number - 2]['layer']}."
        )
    else:
        yield (
            f"{backend}: {culprit['layer']} ({place}) is the first that leaves its tolerance, but it computes what it "
            f"should: its input is {_off(culprit['input_rel_l2'])} already. The fault is before it and after "
            f"the layers that lead to it, such as {layers[number - 2]['layer']}: in its convolution, say."
        )


def _has_grown(before: Sequence[Mapping[str, Any]], culprit: Mapping[str, Any]) -> bool:
    """Whether what reaches the culprit is no jump from what the layers before it had."""
    largest = max(layer["rel_l2"] for layer in before)  # all are within their tolerances, so finite
    return culprit["input_rel_l2"] is not None and culprit["input_rel_l2"] < _JUMP * largest


def _off(value: float | None) -> str:
    return "not finite" if value is None else f"off by {error(value)}"
