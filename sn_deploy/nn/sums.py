"""Models trained with ``using_moving_average=False``: from sums over batches to averages."""

from __future__ import annotations

from torch import nn

from sn_deploy.errors import SnDeployError
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.nn.moments import moments_from_sums


def finalize_batch_average(model: nn.Module, batches: int) -> list[str]:
    """`finalize_batch_average` of every layer of ``model`` with sums; all or, when one raises, none.

    Returns:
        The names of the layers, in the order of ``model.named_modules()``.

    Raises:
        SnDeployError: as the method does, with the name of the layer; or there is no such layer.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, SwitchNorm) and module.using_bn and not module.using_moving_average
    }
    if not layers:
        raise SnDeployError(
            "no layer has sums over batches", where=type(model).__name__, expected="using_moving_average=False"
        )
    for name, layer in layers.items():
        try:
            moments_from_sums(layer.running_mean, layer.running_var, batches)
        except SnDeployError as error:
            raise SnDeployError(error.what, where=name, expected=error.expected, mend=error.mend) from None
    for layer in layers.values():
        layer.finalize_batch_average(batches)
    return list(layers)
