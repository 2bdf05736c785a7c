"""Weights that are computed from others at each call: constants at inference."""

from __future__ import annotations

import torch
from torch.nn.utils import parametrize
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@torch.no_grad()
def settle_parametrizations_(model: torch.nn.Module) -> None:
    """Puts their values in the place of computed weights, in place; ``model`` is in evaluation mode.

    Those of torch.nn.utils.parametrize, and those that torch computes in hooks: masks of pruning, and the norms that
    were there before. A layer's scale is then a tensor that it owns, by which it is recognised, and no exported file
    computes a weight norm anew for each input.
    """
    for module in list(model.modules()):
        if isinstance(module, torch.jit.ScriptModule):
            continue
        if parametrize.is_parametrized(module):
            _settle(module)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, (BasePruningMethod, SpectralNorm, WeightNorm)):
                hook.remove(module)
                del module._forward_pre_hooks[key]


def _settle(module: torch.nn.Module) -> None:
    parametrizations = module._modules["parametrizations"]
    assert isinstance(parametrizations, torch.nn.ModuleDict)
    values = {
        name: (getattr(module, name).detach().clone(), next(given.parameters(), None) is not None)
        for name, given in parametrizations.items()
    }
    # By hand: torch's remove_parametrizations takes the attribute off the class, which copies of a module share.
    module.__class__ = type(module).__bases__[0]
    del module._modules["parametrizations"]
    for name, (value, is_parameter) in values.items():
        if is_parameter:
            module.register_parameter(name, torch.nn.Parameter(value))
        else:
            module.register_buffer(name, value)
