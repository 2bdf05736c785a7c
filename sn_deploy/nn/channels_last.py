"""Layers for inputs whose channels come last, as Keras and TensorFlow have them."""

from __future__ import annotations

from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """A layer of (N, C, *spatial) for inputs (N, *spatial, C); the layer is exported as any other, between transposes.

    Args:
        layer: such as `sn_deploy.nn.SwitchNorm2d`.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, *spatial, C) -> the same shape and dtype."""
        last = x.dim() - 1  # not -1, of which torch's older exporter makes permutations that are none
        y: Tensor = self.layer(x.movedim(last, 1))
        return y.movedim(1, last)
