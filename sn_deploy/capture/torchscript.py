"""Blocks of a model that are TorchScript: they run, and nothing of what is inside of them is seen."""

from __future__ import annotations

from collections.abc import Collection

import torch

from sn_deploy.errors import SnDeployError


def scripted_blocks(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """What torch.jit.trace and torch.jit.script made in ``model``, by qualified name; the outermost of each."""
    blocks: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule) and not any(name.startswith(f"{outer}.") for outer in blocks):
            blocks[name] = module
    return blocks


def refuse_scripted(model: torch.nn.Module, layers: Collection[str]) -> None:
    """Refuses blocks that torch.export can't take: those with parameters.

    Args:
        layers: SN layers that are replaced before; one that is TorchScript itself is as good as any other.

    Raises:
        SnDeployError: with the first such block.
    """
    for name, block in scripted_blocks(model).items():
        if name not in layers and next(block.parameters(), None) is not None:
            raise SnDeployError(
                "is TorchScript (torch.jit.trace or torch.jit.script), which torch.export can't take, and inside of "
                "which no layer is seen",
                where=f"module {name!r}",
                expected="the torch.nn.Module that it was made of",
                mend="build the model without it, and load the weights: its state_dict() has the same names",
            )
