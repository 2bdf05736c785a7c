"""Names and shapes of what checkpoints hold."""

from __future__ import annotations

from torch import nn

Shapes = dict[str, tuple[int, ...]]


def sn_shapes(name: str, channels: int, *, axes: int = 2) -> Shapes:
    """Those of one published SN layer; ``axes``: how many of X are spatial."""
    return {
        **{f"{name}.{key}": (1, channels, *(1,) * axes) for key in ("weight", "bias")},
        **{f"{name}.{key}": (3,) for key in ("mean_weight", "var_weight")},
        **{f"{name}.{key}": (1, channels, 1) for key in ("running_mean", "running_var")},
    }


def state_shapes(model: nn.Module) -> Shapes:
    """Those of a model."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
