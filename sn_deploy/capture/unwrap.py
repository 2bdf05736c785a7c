"""The user's own model inside what training wraps around it."""

from __future__ import annotations

import torch


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile, however often they are nested.

    Their ``forward`` takes ``*inputs``, and their layers' names begin with ``module.`` or ``_orig_mod.``: exported as
    they are, a file would have neither the names of the model's inputs nor those of its layers.
    """
    while True:
        if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            inner: object = model.module
        else:
            # torch.compile's class has no public name.
            inner = model._modules.get("_orig_mod")
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner
