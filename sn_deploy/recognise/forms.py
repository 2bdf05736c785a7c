"""The published ways to read an SN layer's constants: each a hypothesis, a `Form`, for the probe to confirm.

Luo et al. (ICLR 2019) and ports of it differ in the order of the weights, in the branches that they have, in the
divisor of the variances (`ddof`) and in eps; a few leave the softmax out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sn_deploy.folded import Float64Array, FoldedSwitchNorm
from sn_deploy.recognise.candidates import Candidate

Branch = Literal["in", "ln", "bn"]
Shares = dict[Branch, float]

_EPS_ATTRIBUTES = ("eps", "epsilon", "variance_epsilon")
_USUAL_EPS = (1e-5, 1e-3, 1e-6)
_BRANCHES: tuple[Branch, ...] = ("in", "ln", "bn")


@dataclass(frozen=True)
class Constants:
    """What a candidate's tensors hold, in float64; an absent affine part is the identity, absent statistics are 0.

    ``mean_mix`` and ``var_mix`` are (2,) or (3,), the others (C,).
    """

    scale: Float64Array
    bias: Float64Array
    running_mean: Float64Array
    running_var: Float64Array
    mean_mix: Float64Array
    var_mix: Float64Array
    has_statistics: bool


@dataclass(frozen=True)
class Form:
    """One reading: the share of each branch in the mean and in the variance, eps, and the divisors n - ddof."""

    mean: Shares
    var: Shares
    eps: float
    ddof: int


def constants_from_candidate(candidate: Candidate, channels: int) -> Constants:
    """Reads the tensors of ``candidate``, which has ``channels`` channels."""

    def vector(name: str | None, default: float) -> Float64Array:
        values = candidate.values(name)
        return np.full(channels, default) if values is None else values

    mean_mix, var_mix = candidate.values(candidate.mean_mix), candidate.values(candidate.var_mix)
    assert mean_mix is not None
    assert var_mix is not None
    return Constants(
        scale=vector(candidate.scale, 1.0),
        bias=vector(candidate.bias, 0.0),
        running_mean=vector(candidate.running_mean, 0.0),
        running_var=vector(candidate.running_var, 0.0),
        mean_mix=mean_mix,
        var_mix=var_mix,
        has_statistics=candidate.running_mean is not None,
    )


def fold(name: str, constants: Constants, form: Form) -> FoldedSwitchNorm:
    """The layer that ``form`` reads: the BN branch and eps folded into offsets."""
    mean_bn, var_bn = form.mean.get("bn", 0.0), form.var.get("bn", 0.0)
    return FoldedSwitchNorm(
        name=name,
        scale=constants.scale,
        bias=constants.bias,
        mean_offset=mean_bn * constants.running_mean,
        var_offset=var_bn * constants.running_var + form.eps,
        mean_in=form.mean.get("in", 0.0),
        mean_ln=form.mean.get("ln", 0.0),
        mean_bn=mean_bn,
        var_in=form.var.get("in", 0.0),
        var_ln=form.var.get("ln", 0.0),
        var_bn=var_bn,
        ddof=form.ddof,
    )


def softmax(logits: Float64Array) -> Float64Array:
    """exp(z) / Σ exp(z), safe for large z."""
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())


def forms(constants: Constants, orders: Sequence[tuple[Branch, ...]], eps_values: Sequence[float]) -> Iterator[Form]:
    """All readings with these orders of the branches and values of eps, the first of each and the authors' first."""
    for raw, ddof, order, eps in itertools.product((False, True), (1, 0), orders, eps_values):
        mean, var = (mix if raw else softmax(mix) for mix in (constants.mean_mix, constants.var_mix))
        yield Form(_shares(order, mean), _shares(order, var), eps, ddof)


def _shares(order: tuple[Branch, ...], weights: Float64Array) -> Shares:
    return {branch: float(weight) for branch, weight in zip(order, weights, strict=True)}


def branch_orders(branches: int, rank: int, has_statistics: bool) -> list[tuple[Branch, ...]]:
    """Which branch each of the mix weights may belong to, the authors' order first.

    A rank 2 input has no IN branch; two weights for a spatial one are IN and LN, but may be IN and BN or LN and BN.
    """
    if rank == 2:
        return [("ln", "bn"), ("bn", "ln")] if branches == 2 else []
    orders = all_orders(branches)
    if branches == 2 and not has_statistics:
        orders = [order for order in orders if "bn" not in order]
    return orders


def all_orders(branches: int) -> list[tuple[Branch, ...]]:
    """All ways to give ``branches`` weights to IN, LN and BN, sensible or not."""
    return list(itertools.permutations(_BRANCHES, branches))


def stored_eps(candidate: Candidate) -> float | None:
    """The module's own eps, by the names that layers use, or None."""
    for attribute in _EPS_ATTRIBUTES:
        value = getattr(candidate.module, attribute, None)
        try:
            eps = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError, RuntimeError):
            continue
        if np.isfinite(eps) and eps > 0:
            return eps
    return None


def eps_values(candidate: Candidate) -> list[float]:
    """The module's own eps, then the usual ones: an attribute that forward doesn't read proves nothing."""
    own = stored_eps(candidate)
    return list(dict.fromkeys(eps for eps in (own, *_USUAL_EPS) if eps is not None))
