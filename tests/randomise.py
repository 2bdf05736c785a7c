"""Models with the trained look of a checkpoint, without training: a fresh SN layer hides most faults.

In a new layer the mix weights are all equal, the statistics zero and the affine part the identity, so a fold that
swaps IN and LN, forgets the bias or drops the BN branch still gives the right answer.
"""

from __future__ import annotations

import torch
from torch import nn


def randomise_(model: nn.Module, seed: int) -> nn.Module:
    """Randomises, in place, every SN-like module of ``model``; returns ``model``.

    A module is SN-like when it has ``mean_weight`` and ``var_weight``. What it has of the following is drawn, in the
    order of the modules' names, from a generator of its own, in float64: two models with the same layers get the same
    values whatever their classes, dtypes and devices, and the global random state stays as it was.

    - ``mean_weight``, ``var_weight``: normal, deviation 1, so that shares of 5 % and of 80 % are both common;
    - ``running_mean``: normal, deviation 0.5; ``running_var``: uniform in 0.5 to 2;
    - ``weight``: uniform in 0.5 to 1.5 with a random sign; 0.3 of it where the layer's ``last_gamma`` is true, so
      that the residual branches of a deep net stay small; ``bias``: normal, deviation 0.1.

    The variance never comes from the running statistics alone, so activations stay finite at any depth.
    """
    generator = torch.Generator().manual_seed(seed)
    for _, module in sorted(model.named_modules()):
        if hasattr(module, "mean_weight") and hasattr(module, "var_weight"):
            _randomise_layer_(module, generator)
    return model


@torch.no_grad()
def _randomise_layer_(layer: nn.Module, generator: torch.Generator) -> None:
    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    def uniform(like: torch.Tensor, low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=generator, dtype=torch.float64)

    layer.mean_weight.copy_(normal(layer.mean_weight))
    layer.var_weight.copy_(normal(layer.var_weight))
    if getattr(layer, "running_mean", None) is not None:
        layer.running_mean.copy_(0.5 * normal(layer.running_mean))
        layer.running_var.copy_(uniform(layer.running_var, 0.5, 2.0))
    if getattr(layer, "weight", None) is not None:
        size = 0.3 if getattr(layer, "last_gamma", False) else 1.0
        layer.weight.copy_(size * uniform(layer.weight, 0.5, 1.5) * normal(layer.weight).sign())
    if getattr(layer, "bias", None) is not None:
        layer.bias.copy_(0.1 * normal(layer.bias))


@torch.no_grad()
def centre_logits_(model: nn.Module, images: torch.Tensor) -> nn.Module:
    """Moves the bias of the model's last ``nn.Linear`` so that its logits over ``images`` have mean zero per class.

    A deep net with random weights gives all images nearly the same logits, hence the same class: without this, top-1
    agreement between two runtimes proves nothing. Puts the model in eval mode; returns it.
    """
    *_, classifier = (module for module in model.modules() if isinstance(module, nn.Linear))
    classifier.bias -= model.eval()(images).mean(0)
    return model
