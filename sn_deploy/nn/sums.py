"""Training with ``using_moving_average=False``: from sums over batches to averages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sn_deploy.capture.unwrap import check_is_module
from sn_deploy.errors import SnDeployError
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.nn.moments import moments_from_sums


@dataclass(frozen=True, eq=False)
class BatchSums:
    """Where a layer keeps its sums, and where evaluation reads its statistics: mostly the same buffers.

    Attributes:
        where: the layer, as messages name it.
        mean_sum, square_sum: S1 and S2 of `sn_deploy.nn.moments_from_sums`.
        running_mean, running_var: what evaluation reads, with as many elements.
    """

    where: str
    mean_sum: Tensor
    square_sum: Tensor
    running_mean: Tensor
    running_var: Tensor


@torch.no_grad()
def divide_sums(layers: Iterable[BatchSums], batches: int) -> None:
    """Writes the averages into all ``layers`` or, when a layer is refused, into none.

    Raises:
        SnDeployError: what `moments_from_sums` raises, with the layer.
    """
    # By identity, since layers may share their buffers and must not be divided twice.
    changes: dict[int, tuple[Tensor, Tensor]] = {}
    for layer in layers:
        try:
            averages = moments_from_sums(layer.mean_sum, layer.square_sum, batches)
        except SnDeployError as error:
            raise error.but(where=layer.where) from None
        for target, value in zip((layer.running_mean, layer.running_var), averages, strict=True):
            changes[id(target)] = (target, value)
    for target, value in changes.values():
        target.copy_(value.reshape(target.shape))


def finalize_batch_average(model: nn.Module, batches: int) -> list[str]:
    """`finalize_batch_average` of every layer of ``model`` with sums; all or, when one raises, none.

    Returns:
        The names of the layers, in the order of ``model.named_modules()``.

    Raises:
        SnDeployError: as the method does, with the name of the layer; or there is no such layer.
    """
    check_is_module(model)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, SwitchNorm) and module.using_bn and not module.using_moving_average
    }
    if not layers:
        raise SnDeployError(
            "no layer has sums over batches", where=type(model).__name__, expected="using_moving_average=False"
        )
    sums = [
        BatchSums(name, layer.running_mean, layer.running_var, layer.running_mean, layer.running_var)
        for name, layer in layers.items()
    ]
    divide_sums(sums, batches)
    for layer in layers.values():
        layer.using_moving_average = True
    return list(layers)
