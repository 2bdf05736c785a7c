"""What a model gives besides tensors: torch.export takes tensors alone, in containers that it knows."""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from sn_deploy.runtime.torch import output_tensors


def give_tensors_alone(model: torch.nn.Module, result: object) -> None:
    """Has ``model`` give its tensors alone, in place, where it gives more: dataclasses, numbers, text, None.

    Args:
        result: what it gave in a run.

    Raises:
        SnDeployError: there is no tensor in it.
    """
    where = f"{type(model).__name__}.forward"
    output_tensors(result, where)
    if not all(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(result)):
        model.register_forward_hook(lambda _module, _args, given: tuple(output_tensors(given, where)))
