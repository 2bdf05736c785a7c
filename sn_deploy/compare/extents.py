"""The extents at which a file is tried with random input: small ones first, usual ones where a net needs them.

A map of 64 is soon run through, but a net that pools 7×7 at the end, flattens what it was trained on, or halves its map
six times (one position has no variance) gives nothing there that could be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sn_deploy.compare.output_difference import comparable
from sn_deploy.compare.random_inputs import SMALL_EXTENT, has_open_extents
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo

# What images were when nets were made for ImageNet: their pools and flattened maps are made for it, too.
_USUAL_EXTENT: Final = 224

Inputs = TypeVar("Inputs")


@dataclass(frozen=True)
class Run(Generic[Inputs]):
    """A file that was run.

    Attributes:
        inputs: what it was run on.
        outputs: what it gave.
        why_larger: why open axes aren't small; None where they are.
    """

    inputs: Inputs
    outputs: Mapping[str, Array]
    why_larger: str | None = None


def run_at_extents(
    draw: Callable[[int], Inputs],
    run: Callable[[Inputs], Mapping[str, Array]],
    inputs: Sequence[tuple[TensorInfo, TensorInfo]],
    given: Mapping[str, Array],
) -> Run[Inputs]:
    """Runs a file on small input and, where that fails or gives numbers that aren't finite, on usual input.

    Args:
        draw: gives the input of an extent.
        run: gives the outputs, by name.
        inputs: what is known of each, as in `values_for`.
        given: values that aren't drawn.

    Raises:
        SnDeployError: it runs on neither; what is said is of the first.
    """
    value = draw(SMALL_EXTENT)
    try:
        small = Run(value, run(value))
    except SnDeployError as error:
        if not has_open_extents(inputs, given):
            raise
        return _usual_after(error, draw, run)
    spoilt = _spoilt(small.outputs)
    if not spoilt or not has_open_extents(inputs, given):
        return small
    try:
        value = draw(_USUAL_EXTENT)
        usual = Run(value, run(value), f"at {SMALL_EXTENT} {_spoilt_text(small.outputs, spoilt)}")
    except SnDeployError:
        return small
    return usual if len(_spoilt(usual.outputs)) < len(spoilt) else small


def _usual_after(
    error: SnDeployError, draw: Callable[[int], Inputs], run: Callable[[Inputs], Mapping[str, Array]]
) -> Run[Inputs]:
    try:
        value = draw(_USUAL_EXTENT)
        return Run(value, run(value), f"at {SMALL_EXTENT} it doesn't run: {error.what}")
    except SnDeployError:
        what = f"with open axes at {SMALL_EXTENT}, and at {_USUAL_EXTENT}, too: {error.what}"
        raise error.but(what=what) from error


def _spoilt(outputs: Mapping[str, Array]) -> list[str]:
    """Outputs with numbers that aren't finite."""
    return [name for name, array in outputs.items() if not comparable(array).all()]


def _spoilt_text(outputs: Mapping[str, Array], names: Sequence[str]) -> str:
    array = outputs[names[0]]
    count = int((~comparable(array)).sum())
    numbers = "no number" if count == array.size else f"{count} of {array.size} numbers"
    return f"{numbers} of output {names[0]!r} {'is' if count == array.size else 'are not'} finite"
