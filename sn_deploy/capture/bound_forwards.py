"""Layers that a model calls by a forward that it holds on to, as ``self.norm = self.sn.forward`` does.

Such a method stays that of the layer's class, whatever the layer is watched by or turned into.
"""

from __future__ import annotations

import types
from typing import Any

import torch


def settle_bound_forwards_(model: torch.nn.Module) -> None:
    """Puts what asks the module for its forward when it is called in the place of each, in ``model``, in place.

    Those in attributes of modules are found, and in lists, tuples and dicts there.

    Args:
        model: a private copy.
    """
    for part in model.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for name, value in list(vars(part).items()):
            # Its own forward is looked up anyway; the rest of these hold tensors and modules.
            if name not in ("forward", "_parameters", "_buffers", "_modules"):
                settled = _settled(value, set())
                if settled is not value:
                    vars(part)[name] = settled


def _settled(value: Any, seen: set[int]) -> Any:
    """The same with late forwards in it; ``value`` itself where there are none.

    Args:
        seen: the ids of the lists and dicts that are gone through already: they may hold themselves.
    """
    if isinstance(value, types.MethodType):
        owner = value.__self__
        own = isinstance(owner, torch.nn.Module) and value.__func__ is type(owner).forward
        return types.MethodType(_forward, owner) if own else value
    if type(value) in (dict, list):
        if id(value) in seen:
            return value
        seen.add(id(value))
    if type(value) is dict:
        changed = {key: settled for key, old in value.items() if (settled := _settled(old, seen)) is not old}
        value.update(changed)
    elif type(value) is list:
        value[:] = [_settled(old, seen) for old in value]
    elif type(value) is tuple:
        new = tuple(_settled(old, seen) for old in value)
        return new if any(one is not old for one, old in zip(new, value, strict=True)) else value
    return value


def _forward(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
    return module.forward(*args, **kwargs)
