"""The user's own model inside what training wraps around it."""

from __future__ import annotations

import torch

from sn_deploy.errors import SnDeployError


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside DataParallel, DistributedDataParallel and torch.compile, however often they are nested.

    Their ``forward`` takes ``*inputs``, and their layers' names begin with ``module.`` or ``_orig_mod.``: exported as
    they are, a file would have neither the names of the model's inputs nor those of its layers.

    Raises:
        SnDeployError: it is a TorchScript module, which has neither a signature nor layers that can be watched.
    """
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            raise SnDeployError(
                "the model is a TorchScript module",
                where=type(model).__name__,
                expected="the torch.nn.Module that it was made of",
            )
        if isinstance(model, torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel):
            inner: object = model.module
        else:
            # torch.compile's class has no public name.
            inner = getattr(model, "_orig_mod", None)
        if not isinstance(inner, torch.nn.Module):
            return model
        model = inner
