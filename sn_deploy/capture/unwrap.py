"""The user's own modules inside what training wraps around them."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch

from sn_deploy.errors import SnDeployError

# Children of wrappers whose classes have no public name: torch.compile's and activation checkpointing's.
_CHILDREN = ("_orig_mod", "_checkpoint_wrapped_module")


def unwrapped(model: torch.nn.Module) -> torch.nn.Module:
    """The module inside DataParallel, DistributedDataParallel, AveragedModel, torch.compile and checkpoint_wrapper,
    however often they are nested.

    Their ``forward`` takes ``*inputs``, and their layers' names begin with ``module.`` or ``_orig_mod.``: exported as
    they are, a file would have neither the names of the model's inputs nor those of its layers.

    Raises:
        SnDeployError: it is no module; or a TorchScript module, which has neither a signature nor layers that can be
            watched; or a part of it is FullyShardedDataParallel, which has a part of the weights alone.
    """
    check_is_module(model)
    while True:
        if isinstance(model, torch.jit.ScriptModule):
            raise SnDeployError(
                "the model is a TorchScript module",
                where=type(model).__name__,
                expected="the torch.nn.Module that it was made of",
            )
        inner = inside(model)
        if inner is None:
            _refuse_sharded(model)
            return model
        model = inner


def check_is_module(model: object) -> None:
    """Refuses what is no module.

    Raises:
        SnDeployError: with what was given instead.
    """
    if not isinstance(model, torch.nn.Module):
        raise SnDeployError(f"the model is a {type(model).__name__}", expected="a torch.nn.Module", mend=_mend(model))


def _mend(model: object) -> str | None:
    if isinstance(model, (str, bytes, os.PathLike, Mapping)):
        return "build the model and load the weights into it: model.load_state_dict(…)"
    if isinstance(model, type) and issubclass(model, torch.nn.Module):
        return f"give an instance of it: {model.__name__}(…)"
    return None


def _refuse_sharded(model: torch.nn.Module) -> None:
    for name, module in model.named_modules():
        # Both of torch's: FullyShardedDataParallel, and the class that fully_shard gives a module. Not every build of
        # torch has them to be imported.
        if any(base.__module__.startswith("torch.distributed.fsdp") for base in type(module).__mro__):
            raise SnDeployError(
                "its weights are spread over processes (FSDP)",
                where=f"module {name!r}" if name else type(model).__name__,
                mend="gather the full state dict, and load that into the model as it was before",
            )


def unwrap_inside_(model: torch.nn.Module) -> None:
    """Puts the modules inside wrappers in the wrappers' places, in ``model``, in place.

    What torch.compile made of a block calls the module that it was given, whatever takes that one's place later. A
    wrapper with hooks of its own stays.
    """
    for parent in [module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule)]:
        for name, child in parent._modules.items():
            while child is not None and (inner := inside(child)) is not None and not _has_hooks(child):
                parent._modules[name] = child = inner


def inside(module: torch.nn.Module) -> torch.nn.Module | None:
    """The module that ``module`` is wrapped around; None where it is no wrapper."""
    if isinstance(module, torch.jit.ScriptModule):
        return None
    if isinstance(
        module,
        torch.nn.DataParallel | torch.nn.parallel.DistributedDataParallel | torch.optim.swa_utils.AveragedModel,
    ):
        return module.module
    # Not getattr: a wrapper may look for what it hasn't in the module inside.
    children = (module._modules.get(name) for name in _CHILDREN)
    return next((child for child in children if child is not None), None)


def _has_hooks(module: torch.nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
