"""Weights that are computed from others (torch.nn.utils.parametrize): constants at inference."""

from __future__ import annotations

import torch
from torch.nn.utils import parametrize


@torch.no_grad()
def settle_parametrizations_(model: torch.nn.Module) -> None:
    """Puts their values in the place of parametrized tensors, in place; ``model`` is in evaluation mode.

    A layer's scale is then a tensor that it owns, by which it is recognised, and no exported file computes a
    weight norm anew for each input.
    """
    for module in list(model.modules()):
        if isinstance(module, torch.jit.ScriptModule) or not parametrize.is_parametrized(module):
            continue
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
