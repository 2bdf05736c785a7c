"""Probe inputs, and the distance between what a module computes and what was read from it.

What probes prove: on random inputs of several sizes, offsets and scales, the module and the folded layer agree to
rounding, so a difference in form (weights, divisors, eps, statistics, grouping) would have shown. What they can't: a
forward that decides by its data or its size beyond what was probed (a limit for the normalised values, say), by its
dtype or device, or by how often it was called.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array, FoldedSwitchNorm, distance
from sn_deploy.recognise.forms import Constants
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.subject import Subject

# float64 rounding is near 1e-15; the authors' var_ln by subtraction loses up to four digits of it on these inputs.
TOLERANCE = 1e-9
# For modules that cast to float32 inside: what deviates from SN by less than this can't be told from their rounding.
SINGLE_TOLERANCE = 2e-5


@dataclass(frozen=True)
class Probe:
    """One input, float64 but representable in float32, and the module's output for it, both (N, C, *spatial)."""

    x: Float64Array
    y: Float64Array


def probe_inputs(
    channels: int, rank: int, constants: Constants, seed: int, spatial: tuple[int, ...] | None = None
) -> list[Float64Array]:
    """Inputs that tell the known variants apart, smallest first.

    Every sample and channel has a mean and a deviation of its own, so that IN, LN and batch statistics all differ.
    The first is small, where eps shows; the second of order 1; the third far from zero, where a lost mean shows; two
    more lie about the running statistics, so that a BN branch of another size can't drown the others.

    Args:
        channels: C.
        rank: number of dimensions of the input, at least 2.
        constants: the layer's.
        seed: of the random numbers.
        spatial: sizes of the spatial dimensions; by default small, unequal and unlike C.
    """
    rng = np.random.default_rng(seed)
    sizes = [size for size in (2, 3, 4, 5, 6, 7) if size != channels]

    def noise(samples: int, turn: int) -> Float64Array:
        # The spatial sizes rotate from probe to probe: at one size alone, a share could make up for a wrong divisor.
        tail = spatial if spatial is not None else tuple(sizes[(turn + k) % len(sizes)] for k in range(rank - 2))
        return _structured(rng, (samples, channels, *tail))

    inputs = [0.01 * noise(2, 0), noise(3, 1), 20.0 + noise(2, 2)]
    if constants.has_statistics:
        deviation = np.sqrt(np.abs(constants.running_var)) + 0.05 * np.abs(constants.running_mean)
        mean, deviation = (
            array.reshape(1, channels, *[1] * (rank - 2)) for array in (constants.running_mean, deviation)
        )
        inputs += [mean + deviation * noise(2, turn) for turn in (3, 0)]
    # Representable in float32, so that a module that casts inside sees the same numbers.
    return [x.astype(np.float32).astype(np.float64) for x in inputs]


def _structured(rng: np.random.Generator, shape: tuple[int, ...]) -> Float64Array:
    each = shape[:2] + (1,) * (len(shape) - 2)
    per_sample = (shape[0],) + (1,) * (len(shape) - 1)
    deviation = np.exp(0.5 * rng.standard_normal(each)) * np.linspace(0.7, 1.6, shape[0]).reshape(per_sample)
    x = rng.standard_normal(each) + deviation * rng.standard_normal(shape) + 0.3 * rng.standard_normal(per_sample)
    return np.asarray(x, dtype=np.float64)


def run_probes(subject: Subject, inputs: list[Float64Array]) -> list[Probe]:
    """The module's output for each input, as it is: NaN where the module gives NaN.

    Raises:
        RefusedError: forward raises, or an output's shape isn't its input's.
    """
    probes = []
    for x in inputs:
        output = subject(x)
        if tuple(output.shape) != x.shape:
            given, got = ("×".join(str(size) for size in shape) for shape in (x.shape, output.shape))
            raise RefusedError(f"its output has shape {got} for an input of {given}", "give a layer that keeps shapes")
        probes.append(Probe(x, np.array(output.double().numpy(), dtype=np.float64)))
    return probes


def mismatch(folded: FoldedSwitchNorm, probes: list[Probe], *, give_up: float = float("inf")) -> float:
    """The largest `distance` over the probes; stops at the first one above ``give_up``."""
    worst = 0.0
    for probe in probes:
        try:
            with np.errstate(all="ignore"):
                worst = max(worst, distance(folded.evaluate(probe.x), probe.y))
        except SnDeployError:
            return float("inf")  # no value for this shape: an unbiased variance of one
        if worst > give_up:
            break
    return worst
