"""Why a module that looks like SN isn't what the operator computes: the first cause that explains what it does."""

from __future__ import annotations

import numpy as np
import torch

from sn_deploy.folded import distance
from sn_deploy.recognise.candidates import Candidate
from sn_deploy.recognise.deviations import MIXED_OUTPUTS, RETRAIN, Deviation, deviations
from sn_deploy.recognise.forms import Constants, Form, all_orders, eps_values, forms, stored_eps
from sn_deploy.recognise.mixed_outputs import is_sum_of_outputs
from sn_deploy.recognise.mixing import mixed_channels
from sn_deploy.recognise.probe import TOLERANCE, Probe
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.solve import Lines, least_squares, lines
from sn_deploy.recognise.subject import ForwardFailedError, Subject

_OWN_CAUSE = "compare its forward with the published one"


def diagnose(
    candidate: Candidate,
    constants: Constants,
    subject: Subject,
    probes: list[Probe],
    line_probes: list[Probe],
    size: float,
) -> RefusedError:
    """The refusal of a module that no form explains.

    Args:
        candidate: the module.
        constants: its constants.
        subject: its private copy, which gave the probes.
        probes: inputs and outputs, smallest first.
        line_probes: inputs and outputs for `sn_deploy.recognise.solve.lines`.
        size: the mismatch of the reading that came closest.
    """
    refusal = misbehaviour(candidate, constants, subject, probes)
    if refusal is not None:
        return refusal
    differs = f"differs from Switchable Normalization by {size:.1e} of its output"
    return (
        _mixing(constants, subject, probes[0].x.ndim, differs)
        or _known_deviation(candidate, constants, probes, differs)
        or _recorded(constants, line_probes, differs)
        or _more_branches(constants, differs)
        or _sum_of_outputs(candidate, probes, differs)
        or RefusedError(f"{differs}, and no known deviation explains it", _OWN_CAUSE)
    )


def _sum_of_outputs(candidate: Candidate, probes: list[Probe], differs: str) -> RefusedError | None:
    if not is_sum_of_outputs(probes, eps_values(candidate)):
        return None
    return RefusedError(f"{differs}: {MIXED_OUTPUTS}", RETRAIN)


def misbehaviour(
    candidate: Candidate, constants: Constants, subject: Subject, probes: list[Probe]
) -> RefusedError | None:
    """The refusal of a module that no normalisation behaves like, whatever it computes; None where it behaves."""
    for refusal in (
        _dtype(candidate, probes[0]),
        _not_repeatable(subject, probes[1]),
        _batch_dependent(subject, probes[1]),
        _not_finite(candidate, constants, probes),
    ):
        if refusal is not None:
            return refusal
    return None


def check_dtype(candidate: Candidate, probe: Probe) -> None:
    """Refuses a module that gives another dtype than it was given.

    Raises:
        RefusedError: it does, or fails in float32.
    """
    refusal = _dtype(candidate, probe)
    if refusal is not None:
        raise refusal


def _dtype(candidate: Candidate, probe: Probe) -> RefusedError | None:
    subject = Subject(candidate.module)
    subject.single()
    try:
        dtype = subject(probe.x).dtype
    except ForwardFailedError as error:
        return error
    if dtype is torch.float32:
        return None
    return RefusedError(
        f"its output is {str(dtype)[6:]} for a float32 input", "cast the output back to the input's dtype"
    )


def _not_repeatable(subject: Subject, probe: Probe) -> RefusedError | None:
    again = distance(_run(subject, probe.x), probe.y)
    if again <= TOLERANCE or not np.isfinite(probe.y).all():
        return None
    return RefusedError(
        f"the same input gives another output the second time (by {again:.1e}): it is random in evaluation mode, or "
        "changes its own state",
        "make its forward leave randomness and updates to training mode",
    )


def _batch_dependent(subject: Subject, probe: Probe) -> RefusedError | None:
    try:
        alone = _run(subject, probe.x[:1])
    except ForwardFailedError:
        return None
    change = distance(alone, probe.y[:1])
    if change <= 1e3 * TOLERANCE or not np.isfinite(probe.y).all():
        return None
    return RefusedError(
        f"a training-mode-only module: the output of a sample changes by {change:.1e} with the rest of its batch, so "
        "it uses batch statistics in evaluation mode",
        "make its forward use running statistics where self.training is false",
    )


def _run(subject: Subject, x: np.ndarray) -> np.ndarray:
    return np.asarray(subject(x).double().numpy())


def _not_finite(candidate: Candidate, constants: Constants, probes: list[Probe]) -> RefusedError | None:
    if all(np.isfinite(probe.y).all() for probe in probes):
        return None
    return negative_variance(candidate, constants) or RefusedError(
        "its output has NaN or infinite values on finite inputs", "look for a division by zero or a root of a negative"
    )


def negative_variance(candidate: Candidate, constants: Constants) -> RefusedError | None:
    """The refusal that names the most negative running variance, or None if there is none."""
    channel = int(constants.running_var.argmin())
    value = float(constants.running_var[channel])
    if value >= 0:
        return None
    return RefusedError(
        f"{candidate.running_var or 'running_var'}[{channel}] is {value:.4g}: with a negative running variance, var + "
        "eps can be below zero, and its root NaN",
        "use a checkpoint with correct statistics, or record them again over training data",
    )


def _mixing(constants: Constants, subject: Subject, rank: int, differs: str) -> RefusedError | None:
    mixed = mixed_channels(subject, constants.scale.size, rank)
    if mixed is None or mixed < 2:
        return None
    return RefusedError(
        f"{differs}: each channel of its output is a mixture of {mixed} channels of its input, so it whitens them, as "
        "Switchable Whitening does, where SN scales each channel alone",
        "the operator has no covariance: use a Switchable Normalization layer and fine-tune",
    )


def _known_deviation(
    candidate: Candidate, constants: Constants, probes: list[Probe], differs: str
) -> RefusedError | None:
    eps = stored_eps(candidate)
    usual = eps_values(candidate) if eps is None else [eps]
    readings = list(forms(constants, all_orders(constants.mean_mix.size), usual))
    for deviation in deviations(constants.scale.size, probes[0].x.ndim):
        if any(_fits(deviation, constants, form, probes) for form in readings):
            return RefusedError(f"{differs}: {deviation.cause}", deviation.mend)
    return None


def _fits(deviation: Deviation, constants: Constants, form: Form, probes: list[Probe]) -> bool:
    with np.errstate(all="ignore"):
        return all(
            distance(deviation.compute(probe.x, constants, form).reshape(probe.x.shape), probe.y) <= TOLERANCE
            for probe in probes
        )


def _more_branches(constants: Constants, differs: str) -> RefusedError | None:
    count = constants.mean_mix.size
    if count <= 3:
        return None
    return RefusedError(
        f"{differs}: it mixes {count} statistics, and SN has 3: IN, LN and BN",
        "the operator has no other: use a Switchable Normalization layer and fine-tune",
    )


def _recorded(constants: Constants, probes: list[Probe], differs: str) -> RefusedError | None:
    """Refuses a layer that is SN but for what it recorded: the constant part of its mean or variance is another."""
    for ddof in (1, 0):
        rows = lines(constants, probes, ddof)
        shares = None if rows is None else _live_shares(rows)
        if shares is None:
            continue
        frozen = [name for name, share in shares.items() if share < 1e-9]
        if frozen:
            return RefusedError(
                f"{differs}: its {' and '.join(frozen)} statistics don't follow the input, so they are "
                "running averages in evaluation mode",
                "make its forward take instance and layer statistics from the input in evaluation mode, too",
            )
        return RefusedError(
            f"{differs}: the constant part of its mean or variance isn't a share of the statistics that it stores",
            _OWN_CAUSE,
        )
    return None


def _live_shares(rows: Lines) -> dict[str, float] | None:
    """The largest share in effect of the instance and of the layer statistics, whatever constant each channel adds.

    None if no shares explain the layer, or its spatial rank leaves the instance statistics out.
    """
    shares: dict[str, float] = {}
    for target, instance, layer, weight in (
        (rows.mean, rows.mean_in, rows.mean_ln, 1 / np.sqrt(rows.var)),
        (rows.var, rows.var_in, rows.var_ln, 1 / rows.var),
    ):
        # Weighted means per channel taken out of all columns: what is left knows nothing of the channel's constant.
        columns = [_without_constant(column, rows.channel, weight**2) for column in (instance, layer, target)]
        *live, rest = columns
        found = least_squares(live, rest, weight)
        residual = (rest - found[0] * live[0] - found[1] * live[1]) * weight
        if np.abs(residual).max() > 1e-7:
            return None
        for name, column, share in zip(("instance", "layer"), live, np.abs(found), strict=True):
            if np.any(column):
                shares[name] = max(shares.get(name, 0.0), float(share))
    return shares


def _without_constant(column: np.ndarray, channel: np.ndarray, weight: np.ndarray) -> np.ndarray:
    total = np.bincount(channel, weight)
    mean = np.bincount(channel, weight * column) / np.where(total == 0, 1, total)
    return np.asarray(column - mean[channel])
