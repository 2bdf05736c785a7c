"""Batch averages: from the sums that training with ``using_moving_average=False`` leaves, to statistics."""

from __future__ import annotations

import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.nn.moments import moments_from_sums
from sn_deploy.recognise.candidates import Candidate, candidates


@torch.no_grad()
def finalize_batch_average_(model: torch.nn.Module, batches: int) -> list[str]:
    """Divides the sums of every SN layer of ``model``, in place; all or, when one is refused, none.

    The published layers sum S1 = Σ mean and S2 = Σ (mean² + var) over batches, into the buffers that evaluation reads
    or, in the detection code, into others (``batch_mean``, ``batch_var``). Afterwards running_mean = S1/N and
    running_var = S2/N - (S1/N)². Nothing tells sums from averages for certain: a second call divides again.

    Args:
        model: a private copy; its layers need not have been recognised, only look like SN.
        batches: N, the number of batches that were summed.

    Returns:
        Qualified names of the layers, in module order.

    Raises:
        SnDeployError: N isn't a positive integer or makes a variance negative (the layer is named), or there is no
            layer with running statistics.
    """
    changes: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
    names = []
    for candidate in candidates(model):
        if candidate.running_mean is None or candidate.running_var is None:
            continue
        names.append(candidate.name)
        # By identity, since layers may share their buffers and must not be divided twice.
        targets = (candidate.tensor(candidate.running_mean), candidate.tensor(candidate.running_var))
        for target, value in zip(targets, _averages(candidate, batches), strict=True):
            changes[id(target)] = (target, value)
    if not names:
        raise SnDeployError(
            "no SN layer has running statistics to average",
            where=type(model).__name__,
            mend="leave --finalize-batch-average out",
        )
    for target, value in changes.values():
        target.copy_(value.reshape(target.shape))
    return names


def _averages(candidate: Candidate, batches: int) -> tuple[torch.Tensor, torch.Tensor]:
    assert candidate.running_mean is not None
    assert candidate.running_var is not None
    mean_name, var_name = candidate.sums or (candidate.running_mean, candidate.running_var)
    try:
        return moments_from_sums(candidate.tensor(mean_name), candidate.tensor(var_name), batches)
    except SnDeployError as error:
        raise SnDeployError(
            error.what, where=f"layer {candidate.name!r}", expected=error.expected, mend=error.mend
        ) from None
