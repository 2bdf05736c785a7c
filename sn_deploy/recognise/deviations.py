"""Known ways to differ from SN, each a cause with the equation it would compute: the one that fits is named.

Every function takes an input (N, C, *spatial), the layer's constants and a form, and gives the (N, C, HW) output of a
layer that is SN but for the one thing it is named after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from sn_deploy.folded import Float64Array, Moments
from sn_deploy.recognise.forms import Constants, Form
from sn_deploy.recognise.moments import moments, variance

_Compute = Callable[[Float64Array, Constants, Form], Float64Array]
_USUAL_GROUPS = (32, 16, 8, 4, 2, 64, 3, 6)
MIXED_OUTPUTS = "the outputs of normalisations are mixed instead of their statistics"
RETRAIN = "change its forward to the published form and fine-tune"


@dataclass(frozen=True)
class Deviation:
    """A cause, what to do about it, and the output that a layer with it has."""

    cause: str
    mend: str
    compute: _Compute


def deviations(channels: int, rank: int) -> Iterator[Deviation]:
    """Those that are possible for ``channels`` and inputs of ``rank`` dimensions, the likeliest first."""
    yield Deviation(
        "eps is added outside the square root, to the standard deviation",
        f"write (var + eps).sqrt(), {RETRAIN}",
        _eps_outside_root,
    )
    yield Deviation("no eps is added to the variance", f"write (var + eps).sqrt(), {RETRAIN}", _no_eps)
    if rank > 2:
        yield from _divisors()
        yield Deviation(
            "the layer statistics are taken at each position apart, over the channels",
            "give it (N, C), with the positions as samples: x.movedim(1, -1).flatten(0, -2)",
            _at_each_position,
        )
    yield Deviation(
        "its running variance holds standard deviations",
        "square the buffer and change the forward to match",
        lambda x, constants, form: _mixed(x, replace(constants, running_var=constants.running_var**2), form),
    )
    yield Deviation(
        "its running variance holds logarithms of variances",
        "exponentiate the buffer and change the forward to match",
        lambda x, constants, form: _mixed(x, replace(constants, running_var=_exp(constants.running_var)), form),
    )
    yield Deviation("standard deviations are mixed instead of variances", RETRAIN, _mixed_deviations)
    yield Deviation(MIXED_OUTPUTS, RETRAIN, _mixed_outputs)
    for groups in _USUAL_GROUPS:
        if channels % groups == 0 and groups <= channels:
            yield from _groups(groups)


def _divisors() -> Iterator[Deviation]:
    for instance, layer, cause in (
        (1, 1, "the layer variance is unbiased over C·HW values (divisor C·HW - 1)"),
        (0, 1, "the layer variance is unbiased over C·HW values (divisor C·HW - 1) and the instance variance biased"),
        (1, 0, "the instance variance is unbiased and the layer variance, over all C·HW values at once, is biased"),
    ):
        yield Deviation(
            cause,
            "take the layer variance from the instance moments, mean(var_in + mean_in²) - mean_ln², as published",
            _with_divisors(instance, layer),
        )
    yield Deviation(
        "the layer variance leaves out the spread of the channels' means",
        "take the layer variance as mean(var_in + mean_in²) - mean_ln², as published",
        _without_spread,
    )


def _groups(groups: int) -> Iterator[Deviation]:
    for place, field in (("LN", "layer"), ("BN", "batch")):
        for ddof in (1, 0):
            yield Deviation(
                f"it has a GroupNorm branch of {groups} groups in the place of {place}",
                "the operator has no such branch: use one group, as LN does, and fine-tune",
                _with_groups(groups, field, ddof),
            )


def _normalise(x: Float64Array, constants: Constants, mean: Float64Array, std: Float64Array) -> Float64Array:
    flat = x.reshape(*x.shape[:2], -1)
    return np.asarray((flat - mean) / std * constants.scale[:, None] + constants.bias[:, None])


def _mix(
    live: Moments, constants: Constants, form: Form, batch: tuple[Float64Array, Float64Array] | None = None
) -> tuple[Float64Array, Float64Array]:
    """The mixed mean and variance, eps left out, (N, C, 1); ``batch`` in the place of the running statistics."""
    mean_bn, var_bn = batch or (constants.running_mean[:, None], constants.running_var[:, None])
    mean = form.mean.get("in", 0) * live.mean_in + form.mean.get("ln", 0) * live.mean_ln
    var = form.var.get("in", 0) * live.var_in + form.var.get("ln", 0) * live.var_ln
    return mean + form.mean.get("bn", 0) * mean_bn, var + form.var.get("bn", 0) * var_bn


def _mixed(x: Float64Array, constants: Constants, form: Form, live: Moments | None = None) -> Float64Array:
    mean, var = _mix(moments(x, form.ddof) if live is None else live, constants, form)
    return _normalise(x, constants, mean, np.sqrt(var + form.eps))


def _eps_outside_root(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
    mean, var = _mix(moments(x, form.ddof), constants, form)
    return _normalise(x, constants, mean, np.sqrt(var) + form.eps)


def _no_eps(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
    return _mixed(x, constants, replace(form, eps=0.0))


def _with_divisors(instance: int, layer: int) -> _Compute:
    def compute(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
        flat = x.reshape(*x.shape[:2], -1)
        live = replace(moments(x, instance), var_ln=variance(flat, (1, 2), layer))
        return _mixed(x, constants, form, live)

    return compute


def _without_spread(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
    live = moments(x, form.ddof)
    return _mixed(x, constants, form, replace(live, var_ln=live.var_in.mean(axis=1, keepdims=True)))


def _at_each_position(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
    flat = x.reshape(*x.shape[:2], -1)
    mean, var = flat.mean(axis=1, keepdims=True), variance(flat, (1,), form.ddof)  # (N, 1, HW)
    return _mixed(x, constants, form, replace(moments(x, form.ddof), mean_ln=mean, var_ln=var))


def _mixed_deviations(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
    live = moments(x, form.ddof)
    mean, _ = _mix(live, constants, form)
    std = form.var.get("bn", 0) * np.sqrt(constants.running_var + form.eps)[:, None]
    std = std + form.var.get("in", 0) * np.sqrt(live.var_in + form.eps)
    return _normalise(x, constants, mean, std + form.var.get("ln", 0) * np.sqrt(live.var_ln + form.eps))


def _mixed_outputs(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
    live, flat = moments(x, form.ddof), x.reshape(*x.shape[:2], -1)
    branches = {
        "in": (live.mean_in, live.var_in),
        "ln": (live.mean_ln, live.var_ln),
        "bn": (constants.running_mean[:, None], constants.running_var[:, None]),
    }
    mixed = np.zeros_like(flat)
    for branch, share in form.mean.items():
        mean, var = branches[branch]
        mixed = mixed + share * (flat - mean) / np.sqrt(var + form.eps)
    return np.asarray(mixed * constants.scale[:, None] + constants.bias[:, None])


def _with_groups(groups: int, field: str, ddof: int) -> _Compute:
    def compute(x: Float64Array, constants: Constants, form: Form) -> Float64Array:
        grouped = x.reshape(x.shape[0], groups, -1)  # (N, G, C/G·HW)
        per_channel = x.shape[1] // groups
        mean = grouped.mean(axis=2, keepdims=True).repeat(per_channel, axis=1)  # (N, C, 1)
        var = variance(grouped, (2,), ddof).repeat(per_channel, axis=1)
        live = moments(x, form.ddof)
        if field == "layer":
            return _mixed(x, constants, form, replace(live, mean_ln=mean, var_ln=var))
        mixed_mean, mixed_var = _mix(live, constants, form, batch=(mean, var))
        return _normalise(x, constants, mixed_mean, np.sqrt(mixed_var + form.eps))

    return compute


def _exp(logarithms: Float64Array) -> Float64Array:
    return np.asarray(np.exp(np.minimum(logarithms, 700.0)))
