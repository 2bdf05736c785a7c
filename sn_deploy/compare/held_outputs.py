"""Outputs of what was made held against those of what it was made of: no further away than rounding explains."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import ml_dtypes
import numpy as np

from sn_deploy.compare.output_difference import check_shape_and_type, comparable, difference
from sn_deploy.compare.tolerances import MOST_AMPLIFIED, MOST_CHANGED, OWN_ROUNDINGS
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.tensors import Array, is_exact
from sn_deploy.text import percent

# Units in the last place that inputs are moved by: what rounding does anywhere in the net, and more, to see outputs
# jump that decide by their data (the boxes that a detector keeps).
_NUDGE: Final = 1
_LARGE_NUDGE: Final = 64

Outputs = Mapping[str, Array]
Run = Callable[[Outputs], Outputs]


@dataclass(frozen=True)
class Held:
    """How near the outputs are.

    Attributes:
        rel_l2: the largest relative L2 difference of an output that is floating point, by what it may be; None where
            none is.
        changed: the largest share of elements that are others, of an output of integers; None where none is.
        tolerance: how much ``rel_l2`` may be; None where that is.
        left_out: output -> why it couldn't be compared, or not all of it.
    """

    rel_l2: float | None
    changed: float | None
    tolerance: float | None
    left_out: Mapping[str, str]

    @property
    def compared(self) -> bool:
        """Whether any output was."""
        return self.rel_l2 is not None or self.changed is not None


class OwnDifferences:
    """How far what something was made of moves by itself, where its input does: taken when it is asked for.

    Attributes:
        small, large: output -> the difference where each input moves by one unit in the last place, and by some more.
    """

    def __init__(self, run: Run, inputs: Outputs, expected: Outputs, run_otherwise: Run | None = None) -> None:
        """
        Args:
            run: runs it on inputs; one that it doesn't take shows nothing.
            inputs, expected: what it was run on, and what it gave.
            run_otherwise: the same in another order of operations, where there is one.
        """
        self.small, self.large = dict.fromkeys(expected, 0.0), dict.fromkeys(expected, 0.0)
        generator = np.random.default_rng(1)

        def measure(run: Run, steps: int, into: dict[str, float]) -> None:
            with contextlib.suppress(SnDeployError):
                made = run({name: _nudged(value, steps, generator) for name, value in inputs.items()})
                for name, reference in expected.items():
                    into[name] = max(into[name], size_of_difference(reference, made.get(name)))

        for steps, into in ((_NUDGE, self.small), (_NUDGE, self.small), (_LARGE_NUDGE, self.large)):
            measure(run, steps, into)
        measure(run, _LARGE_NUDGE, self.large)
        if run_otherwise is not None:
            measure(run_otherwise, 0, self.small)


def hold(
    expected: Outputs, actual: Outputs, tolerance: float, own: Callable[[], OwnDifferences], *, made: str, of: str
) -> Held:
    """Holds each output against the one of its name.

    Args:
        tolerance: the largest relative L2 difference that needs no explanation.
        own: how far ``of`` moves by itself; asked only where an output is beyond the tolerance.
        made, of: what errors call the one and the other.

    Raises:
        CheckFailedError: an output, which ``where`` names, is further away than rounding explains.
    """
    differing = {name: size_of_difference(reference, actual.get(name)) for name, reference in expected.items()}
    allowed = {name: _usual(reference, tolerance) for name, reference in expected.items()}
    left_out = {name: _not_finite(array, of) for name, array in expected.items() if not comparable(array).all()}
    over = [name for name, size in differing.items() if size > allowed[name]]
    moves = own() if over else None
    for name in over:
        assert moves is not None
        allowed[name] = max(allowed[name], min(OWN_ROUNDINGS * moves.small[name], MOST_AMPLIFIED))
        if differing[name] <= allowed[name]:
            continue
        if 2 * max(moves.small[name], moves.large[name]) < differing[name]:
            raise _wrong(name, expected[name], actual.get(name), differing[name], allowed[name], made=made, of=of)
        left_out[name] = f"{of} itself makes something else of it where its input moves by a rounding"
        del differing[name]
    floats = [name for name in differing if not is_exact(expected[name].dtype)]
    exact = [name for name in differing if is_exact(expected[name].dtype)]
    worst = max(floats, key=lambda name: differing[name] / allowed[name], default=None)
    return Held(
        rel_l2=None if worst is None else differing[worst],
        changed=max((differing[name] for name in exact), default=None),
        tolerance=None if worst is None else allowed[worst],
        left_out=left_out,
    )


def difference_text(rel_l2: float | None, tolerance: float | None, changed: float | None) -> str:
    """The figures of `Held` for people: ``relative L2 3.6e-07 (at most 2.0e-05)``."""
    parts = [] if rel_l2 is None else [f"relative L2 {rel_l2:.1e} (at most {tolerance:.1e})"]
    parts += [] if changed is None else [f"{percent(changed)} of the integers are others"]
    return ", ".join(parts)


def size_of_difference(expected: Array, actual: Array | None) -> float:
    """As `OutputDifference.size`; infinite between other shapes and types."""
    try:
        return difference(expected, actual).size
    except CheckFailedError:
        return math.inf


def _nudged(value: Array, steps: int, generator: np.random.Generator) -> Array:
    """Each number moved by so many units in the last place, up or down; integers stay."""
    if is_exact(value.dtype):
        return value
    eps = float(ml_dtypes.finfo(value.dtype).eps)  # type: ignore[no-untyped-call]
    moves = steps * eps * generator.choice((-1.0, 1.0), value.shape)
    return np.asarray(value.astype(np.float64) * (1 + moves)).astype(value.dtype)


def _usual(expected: Array, tolerance: float) -> float:
    return MOST_CHANGED if is_exact(expected.dtype) else tolerance


def _not_finite(array: Array, of: str) -> str:
    count = int(np.count_nonzero(~comparable(array)))
    return f"{count} of its {array.size} numbers aren't finite in {of}'s own output"


def _wrong(
    name: str, expected: Array, actual: Array | None, size: float, allowed: float, *, made: str, of: str
) -> CheckFailedError:
    bar = f"at most {allowed:.1e}"
    try:
        check_shape_and_type(expected, actual, whose=made, of=of)
    except CheckFailedError as error:
        what, bar = error.what, str(error.expected)
    else:
        if is_exact(expected.dtype):
            what, bar = f"{made} changes {percent(size)} of it", f"at most {percent(allowed)}"
        elif not math.isfinite(size):
            what = f"{made}'s isn't finite, or isn't 0, where that of {of} is"
        else:
            what = f"{made} differs from {of} by {size:.1e} (relative L2, both run on the same input)"
    return CheckFailedError(what, where=f"output {name}", expected=bar)
