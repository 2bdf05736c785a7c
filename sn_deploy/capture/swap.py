"""Puts an opaque operator in the place of each recognised SN layer of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")


class OpaqueSwitchNorm(torch.nn.Module):
    """One SwitchNorm node under torch's exporter; it computes nothing, so it is of use nowhere else.

    Its constants are float32 whatever the model's precision, as the operator's contract wants them.
    """

    def __init__(self, folded: FoldedSwitchNorm) -> None:
        super().__init__()
        self.attributes: dict[str, Any] = dict(op.attributes_from_folded(folded))
        self.metadata = op.metadata_from_folded(folded)
        for name, value in op.parameters_from_folded(folded).items():
            self.register_buffer(name, torch.from_numpy(value))

    def forward(self, x: torch.Tensor | None = None, *more: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
        """(N, C, *spatial) -> the same shape and dtype; under whatever name the layer itself takes it."""
        given = [*([] if x is None else [x]), *more, *named.values()]
        if len(given) != 1:
            raise SnDeployError(
                f"is given {len(given)} arguments",
                where=f"layer {self.metadata[op.METADATA_LAYER]!r}",
                expected="its input alone, which is all that it was recognised with",
                mend="call it so: a mask, or what else it is given, has no part in the operator; a model that needs it "
                "is exported by torch.onnx.export, in standard operators",
            )
        (x,) = given
        return torch.onnx.ops.symbolic(
            f"{op.DOMAIN}::{op.SWITCH_NORM}",
            (x, *(self.get_buffer(name) for name in op.PARAMETERS)),
            self.attributes,
            dtype=x.dtype,
            shape=x.shape,
            version=op.VERSION,
            metadata_props=self.metadata,
        )


def swap(model: torch.nn.Module, layers: Mapping[str, FoldedSwitchNorm]) -> torch.nn.Module:
    """``model`` with each module named in ``layers`` turned into its operator, wherever it is held; their hooks stay.

    The model is changed in place (give a private copy).
    """
    modules = dict(model.named_modules())
    apart: dict[int, OpaqueSwitchNorm] = {}
    for name, folded in layers.items():
        module, opaque = modules[name], OpaqueSwitchNorm(folded)
        # A hook may change what the layer is given, and what it makes: it is part of what the model computes.
        hooks = {key: value for key, value in vars(module).items() if key.startswith(_HOOKS)}
        opaque.__dict__.update(hooks)
        if not _become(module, opaque):
            apart[id(module)] = opaque
    for parent in modules.values() if apart else ():
        # _modules and not named_children: that one leaves out a child's second name.
        for child_name, child in list(parent._modules.items()):
            if id(child) in apart:
                setattr(parent, child_name, apart[id(child)])
    return apart.get(id(model), model)


def _become(module: torch.nn.Module, opaque: OpaqueSwitchNorm) -> bool:
    """Turns the object itself into another: a model may also hold it in a list, which no name leads to.

    False where its class forbids that: TorchScript, or one with slots.
    """
    if isinstance(module, torch.jit.ScriptModule):
        return False
    try:
        object.__setattr__(module, "__class__", OpaqueSwitchNorm)
    except TypeError:
        return False
    module.__dict__.clear()
    module.__dict__.update(vars(opaque))
    return True
