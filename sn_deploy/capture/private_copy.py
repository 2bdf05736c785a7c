"""A copy of the user's model to run and to change, of which no part runs the original."""

from __future__ import annotations

import copy
import functools
from collections.abc import Collection, Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor

from sn_deploy.capture.bound_forwards import settle_bound_forwards_
from sn_deploy.capture.unwrap import check_is_module, inside
from sn_deploy.errors import SnDeployError, first_line

# Attributes of every module that hold its parts, its hooks, and its parameters, which are leaves.
_OF_MODULES = frozenset(vars(torch.nn.Module())) - {"_buffers"}


def private_copy(model: torch.nn.Module, *, shares_parameters: bool = False) -> torch.nn.Module:
    """A copy of ``model``, on the same device and in the same mode; wrappers stay.

    A ``forward`` that was set on an instance is copied with it, without torch.compile around it; one that the model
    holds on to elsewhere is that of the copy (`sn_deploy.capture.bound_forwards`).

    Args:
        shares_parameters: the values of the copy's parameters are the model's own, so that they aren't there twice.

    Raises:
        SnDeployError: it is no module, can't be copied, or a copy would share a forward with the original.
    """
    check_is_module(model)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        lazy = torch.nn.parameter.is_lazy(tensor)
        if lazy or tensor.is_meta:
            what = "is lazy, and has no values yet" if lazy else "is on the meta device and has no values"
            raise SnDeployError(what, where=f"{name} of the model", mend="load its weights first")
    copies: dict[int, Any] = {}
    for part in model.modules():
        # What a weight norm made in the last step of training, or a list of features: deepcopy refuses tensors with a
        # graph, and those of a tracer that a hook was given.
        for value in _held_in([held for name, held in vars(part).items() if name not in _OF_MODULES]):
            if isinstance(value, FakeTensor) or (isinstance(value, torch.Tensor) and not value.is_leaf):
                copies[id(value)] = value.detach().clone()
    if shares_parameters:
        for parameter in model.parameters():
            copies[id(parameter)] = torch.nn.Parameter(parameter.detach(), requires_grad=False)
    try:
        private = copy.deepcopy(model, copies)
    except Exception as error:
        raise SnDeployError(
            f"the model can't be copied: {type(error).__name__}: {first_line(error)}",
            where=", ".join([type(model).__name__, *_uncopyable(model, copies)]),
            mend="take off what it holds besides tensors and modules, and tensors that carry a graph",
        ) from error
    _copy_forwards(model, copies)
    settle_bound_forwards_(private)
    for part in private.modules():
        if isinstance(part, torch.jit.ScriptModule):
            for parameter in part.parameters():
                parameter.detach_()  # TorchScript's copies hang on to the original's by a graph
    return private


def _uncopyable(model: torch.nn.Module, copies: dict[int, Any]) -> Iterator[str]:
    """The attribute that can't be copied, where it is one by itself: a file, a lock, a writer of logs."""
    shared = dict(copies) | {id(part): part for part in model.modules()}
    for path, part in model.named_modules():
        for name, value in vars(part).items():
            if name in _OF_MODULES:
                continue
            try:
                copy.deepcopy(value, dict(shared))
            except Exception:  # noqa: BLE001 (the user's own classes may raise anything)
                yield f"attribute {'.'.join(filter(None, (path, name)))!r}"
                return


def _held_in(container: Any) -> Iterator[Any]:
    """What lists, tuples and dicts hold, however nested they are, even in themselves."""
    waiting, seen = [container], set[int]()
    while waiting:
        value = waiting.pop()
        if not isinstance(value, (list, tuple, dict)):
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            waiting += value.values() if isinstance(value, dict) else value


def _copy_forwards(model: torch.nn.Module, copies: dict[int, Any]) -> None:
    """Gives the copies of the modules their own copies of what was set on an instance as its forward."""
    parts = dict(model.named_modules())
    own = {id(part) for part in parts.values()}
    for name, part in parts.items():
        if isinstance(part, torch.jit.ScriptModule) or inside(part) is not None or id(part) not in copies:
            continue
        forward = vars(part).get("forward")
        eager = _not_compiled(forward)
        if any(id(reached) in own for reached in _shared_modules(eager)):
            raise SnDeployError(
                "its forward was replaced on the instance by a function that holds on to the model's modules, so that "
                "a copy of the model would run the original",
                where=f"module {name!r}" if name else type(model).__name__,
                mend="put the changed forward in a subclass, or give the model as it was before",
            )
        if eager is not forward:
            _set_forward(copies[id(part)], copy.deepcopy(eager, copies))


def _not_compiled(function: Any) -> Any:
    """What torch.compile was given."""
    given = getattr(function, "_torchdynamo_orig_callable", function)
    # It puts a function of its own around what is torch's: the forward of a Sequential, say.
    if getattr(given, "__globals__", {}).get("__name__") == "torch._dynamo.external_utils":
        return getattr(given, "__wrapped__", given)
    return given


def _set_forward(module: torch.nn.Module, forward: Any) -> None:
    if getattr(forward, "__func__", None) is type(module).forward:
        del module.forward
    else:
        module.forward = forward


def _shared_modules(forward: Any, seen: Collection[int] = ()) -> Iterator[torch.nn.Module]:
    """Modules that a copy of the function would share: a function is copied as itself, with what its closure holds.

    Bound methods and functools.partial are copied with the module that they hold on to.
    """
    if isinstance(forward, functools.partial):
        forward = forward.func
    for cell in getattr(forward, "__closure__", None) or ():
        try:
            held = cell.cell_contents
        except ValueError:  # empty
            continue
        if id(held) not in seen:
            yield from _modules_in(held, (*seen, id(held)))


def _modules_in(held: Any, seen: Collection[int]) -> Iterator[torch.nn.Module]:
    held = _not_compiled(held)
    if isinstance(held, torch.nn.Module):
        yield held
    elif isinstance(held, functools.partial):
        for part in (held.func, *held.args, *held.keywords.values()):
            yield from _modules_in(part, seen)
    elif isinstance(getattr(held, "__self__", None), torch.nn.Module):
        yield held.__self__
    elif callable(held):
        yield from _shared_modules(held, seen)
