"""Copies that run the user's own modules: a lambda or a closure that a model holds is copied as itself."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from sn_deploy.errors import SnDeployError


@contextlib.contextmanager
def refusing_calls_of(original: torch.nn.Module, private: torch.nn.Module) -> Iterator[None]:
    """While it lasts, a call of a module of ``original`` that ``private``, its copy, doesn't share raises.

    It would run in the mode that the user left it in, change its statistics in training mode, and not be seen.
    """
    shared = {id(module) for module in private.modules()}
    names = {id(module): name for name, module in original.named_modules() if id(module) not in shared}

    def refuse(module: torch.nn.Module, _args: Any) -> None:
        if id(module) in names:
            raise SnDeployError(
                "is called by what a copy of the model shares with it: a lambda, a closure or a weak reference",
                where=f"module {names[id(module)]!r}",
                mend="make it a method of the model's class, or an ordinary reference",
            )

    handle = register_module_forward_pre_hook(refuse)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using `torch.compile.* global hooks")
            yield
    finally:
        handle.remove()
