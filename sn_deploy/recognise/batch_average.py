"""Batch averages: from the sums that training with ``using_moving_average=False`` leaves, to statistics."""

from __future__ import annotations

import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.nn.sums import BatchSums, divide_sums
from sn_deploy.recognise.candidates import Candidate, candidates


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
    layers = {candidate.name: sums for candidate in candidates(model) if (sums := _sums(candidate)) is not None}
    if not layers:
        raise SnDeployError(
            "no SN layer has running statistics to average",
            where=type(model).__name__,
            mend="leave --finalize-batch-average out",
        )
    divide_sums(layers.values(), batches)
    return list(layers)


def _sums(candidate: Candidate) -> BatchSums | None:
    if candidate.running_mean is None or candidate.running_var is None:
        return None
    running = (candidate.running_mean, candidate.running_var)
    tensors = (candidate.tensor(name) for name in (*(candidate.sums or running), *running))
    return BatchSums(f"layer {candidate.name!r}", *tensors)
