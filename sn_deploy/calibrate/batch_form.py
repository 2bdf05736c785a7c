"""The mean and the variance of a batch, as a layer's own training code takes them.

Published spatial layers pool each sample's moments: var = mean_n(var_n) + var_n(mean_n), with var_n unbiased; those of
(N, C) take the unbiased variance over N. A user's own layer may do otherwise, so it is asked: a private copy makes one
training step on random numbers, and what it records afterwards tells the form.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.recognise.candidates import candidate_from_module

# The forms differ by some percent on so few values; a layer that casts to float32 inside is off by 1e-7.
_PROBE_SAMPLES, _PROBE_EXTENT = 4, 3
_TOLERANCE = 1e-4

# Values taken to float64 at a time, by device; elsewhere than on a CPU there is no cache to stay in.
_CHUNK = {"cpu": 2**19}
_LARGE_CHUNK = 2**26


@dataclass(frozen=True)
class BatchForm:
    """One way to take the statistics of a batch.

    Attributes:
        per_sample: each sample's own moments are pooled; otherwise all values of a channel are one set.
        ddof: the divisor is n - ddof, of each sample's variance or of that of the whole set.
    """

    per_sample: bool
    ddof: int

    def __str__(self) -> str:
        return f"{'pooled over samples' if self.per_sample else 'over all values'}, divisor n - {self.ddof}"

    def count(self, shape: tuple[int, ...]) -> int:
        """How many terms the mean of an input of ``shape`` has: samples where they are pooled, else values."""
        return shape[0] if self.per_sample else shape[0] * math.prod(shape[2:])

    def values_of_one_variance(self, shape: tuple[int, ...]) -> int:
        """n, of the divisor n - ddof."""
        return math.prod(shape[2:]) if self.per_sample else self.count(shape)

    def moments(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and variance (C,) of ``x`` (N, C, *spatial), in float64; NaN where there are too few values."""
        flat = x.detach().flatten(2) if x.ndim > 2 else x.detach()[:, :, None]  # (N, C, HW)
        samples, _, positions = flat.shape
        means, squares = _sample_moments(flat)  # (N, C) each
        mean = means.mean(0)
        between = (means - mean).square_().sum(0)
        if self.per_sample:
            return mean, squares.sum(0) / (samples * (positions - self.ddof)) + between / samples
        return mean, (squares.sum(0) + positions * between) / (samples * positions - self.ddof)


def _sample_moments(flat: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """For each sample and channel of (N, C, HW) the mean, and the sum of squared distances from it; in float64.

    In two passes over as many samples as stay in the cache: ten times as fast as torch.var_mean in float64.
    """
    parts = []
    samples = max(1, _CHUNK.get(flat.device.type, _LARGE_CHUNK) // flat[0].numel())
    for part in torch.split(flat, samples):
        values = part.to(torch.float64, copy=True)
        mean = values.mean(2, keepdim=True)
        values -= mean
        parts.append((mean.squeeze(2), values.square_().sum(2)))
    means, squares = zip(*parts, strict=True)
    return torch.cat(means), torch.cat(squares)


def usual_form(rank: int, ddof: int) -> BatchForm:
    """That of the published layers, for inputs of ``rank`` dimensions and a layer whose own variances have ``ddof``."""
    return BatchForm(per_sample=rank > 2, ddof=ddof)


def recorded_form(module: torch.nn.Module, channels: int, rank: int) -> BatchForm | None:
    """The form of the statistics that ``module`` records in training; None where it records none that is known.

    Args:
        module: a layer that looks like SN; it isn't changed.
        channels, rank: C and the number of dimensions of its input.
    """
    x = _probe(channels, rank)
    try:
        pairs = list(_records(module, x))
    except Exception:  # noqa: BLE001 - whatever a user's training code raises: it can't be asked, then
        return None
    for form in _forms(rank):
        mean, var = form.moments(x)
        if any(_is_record(record, (mean, var)) for record in pairs):
            return form
    return None


def _forms(rank: int) -> Iterator[BatchForm]:
    if rank > 2:
        yield from (BatchForm(True, 1), BatchForm(True, 0))
    yield from (BatchForm(False, 1), BatchForm(False, 0))


def _probe(channels: int, rank: int) -> torch.Tensor:
    generator = np.random.default_rng(0)
    each = (_PROBE_SAMPLES, channels, *[1] * (rank - 2))
    shape = (*each[:2], *range(_PROBE_EXTENT, _PROBE_EXTENT + rank - 2))
    x = generator.normal(0.3, 0.5, each) + generator.uniform(0.5, 1.5, each) * generator.standard_normal(shape)
    return torch.from_numpy(x)


def _records(module: torch.nn.Module, x: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """What a copy's statistics are after one training step from zero: the running ones, and sums kept apart."""
    private = copy.deepcopy(module).cpu().double().train()
    candidate = candidate_from_module("", private)
    assert candidate is not None
    pairs = [pair for pair in ((candidate.running_mean, candidate.running_var), candidate.sums) if pair is not None]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for name in (name for pair in pairs for name in pair if name is not None):
            candidate.tensor(name).zero_()
        private.forward(x.clone())
    for mean, var in pairs:
        if mean is not None and var is not None:
            yield candidate.tensor(mean).flatten(), candidate.tensor(var).flatten()


def _is_record(record: tuple[torch.Tensor, torch.Tensor], moments: tuple[torch.Tensor, torch.Tensor]) -> bool:
    """Whether a record from zero is a share of the moments (a moving average), or mean and mean² + var (a sum)."""
    (recorded_mean, recorded_var), (mean, var) = record, moments
    share = float(recorded_mean @ mean) / float(mean @ mean)
    if not share > 0 or not _near(recorded_mean, share * mean):
        return False
    return _near(recorded_var, share * var) or (abs(share - 1) < _TOLERANCE and _near(recorded_var, mean**2 + var))


def _near(value: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool((value - expected).norm() <= _TOLERANCE * expected.norm())


def check_enough_values(form: BatchForm, shape: tuple[int, ...], layer: str) -> None:
    """Refuses a batch in which a variance has no value.

    Raises:
        SnDeployError: with the layer.
    """
    if form.values_of_one_variance(shape) <= form.ddof:
        over = "spatial positions" if form.per_sample else "values a channel"
        raise SnDeployError(
            f"its input is {tuple(shape)}: the variance over {form.values_of_one_variance(shape)} {over} with divisor "
            f"n - {form.ddof} has no value",
            where=f"layer {layer!r}",
            mend="give larger images" if form.per_sample else "give larger batches (--batch-size)",
        )
