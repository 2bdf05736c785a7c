"""Statistics without data: the averages behind the sums that training with ``using_moving_average=False`` left."""

from __future__ import annotations

import torch

from sn_deploy.calibrate.branches import find_branches
from sn_deploy.calibrate.one_pass import LayerStatistics
from sn_deploy.capture.private_copy import private_copy
from sn_deploy.recognise import finalize_batch_average_


def finalised(model: torch.nn.Module, batches: int) -> tuple[LayerStatistics, ...]:
    """The statistics S1/N and S2/N - (S1/N)² of every BN branch of ``model``, which isn't changed.

    Args:
        batches: N, the number of batches that were summed.

    Raises:
        SnDeployError: what `finalize_batch_average_` refuses.
    """
    private = private_copy(model)
    finalize_batch_average_(private, batches)
    branches, _ = find_branches(private)
    return tuple(LayerStatistics(branch.identity, None, 0, *branch.recorded()) for branch in branches)
