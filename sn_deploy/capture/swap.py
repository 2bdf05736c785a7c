"""Puts an opaque operator in the place of each recognised SN layer of a model."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any, Final

import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op

_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
# Of a layer that stays in training mode after the model's eval().
MEND_OF_TRAIN: Final = "leave train() as torch has it, or let it keep layers in evaluation mode alone"
# What decides how a layer computes: an epsilon, a flag. Counts and shapes are what it notes down.
_SETTINGS = (bool, float)


class OpaqueSwitchNorm(torch.nn.Module):
    """One SwitchNorm node under torch's exporter; it computes nothing, so it is of use nowhere else.

    Its constants are float32 whatever the model's precision, as the operator's contract wants them. What code reads of
    the layer in whose place it stands, its number of channels, say, it gets; code that changes the layer between calls,
    or computes with its weights, makes something else of them than the operator.
    """

    def __init__(self, folded: FoldedSwitchNorm, layer: torch.nn.Module) -> None:
        super().__init__()
        self.attributes: dict[str, Any] = dict(op.attributes_from_folded(folded))
        self.metadata = op.metadata_from_folded(folded)
        for name, value in op.parameters_from_folded(folded).items():
            self.register_buffer(name, torch.from_numpy(value))
        self._layer = (layer,)  # in a tuple it is no submodule

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or (name in self._buffers and name not in self._held()):
            return super().__getattr__(name)
        value = getattr(self._layer[0], name)
        if isinstance(value, torch.Tensor):
            raise self._refusal(f"the model's code reads its {name!r} beside calling it")
        if inspect.ismethod(value):
            raise self._refusal(f"the model's code calls its {name!r}")
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        held = self._held() if "_layer" in self.__dict__ else {}
        if name not in held:
            super().__setattr__(name, value)
        elif isinstance(value, torch.Tensor) or value != held[name]:
            raise self._refusal(f"the model's forward gives it another {name!r}")

    def _held(self) -> dict[str, Any]:
        """What the layer's numbers depend on."""
        (layer,) = self._layer
        return {**_settings(layer), **layer._parameters, **layer._buffers}

    def _refusal(self, what: str) -> SnDeployError:
        return _changed(self.metadata[op.METADATA_LAYER], what)

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
            (x, *(self._buffers[name] for name in op.PARAMETERS)),
            self.attributes,
            dtype=x.dtype,
            shape=x.shape,
            version=op.VERSION,
            metadata_props=self.metadata,
        )


def settings_of(model: torch.nn.Module) -> dict[str, dict[str, bool | float]]:
    """Module -> its flags and numbers by name."""
    return {name: _settings(module) for name, module in model.named_modules()}


def refuse_changed(model: torch.nn.Module, layers: Collection[str], before: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuses a model that has run and left one of its layers with other settings, or began with one in training mode.

    Args:
        before: `settings_of` the model, in evaluation mode, before it ran.

    Raises:
        SnDeployError: with the layer and the setting.
    """
    for layer in layers:
        if before[layer].get("training"):
            raise SnDeployError(
                "is in training mode after the model's eval(), so it uses the statistics of its batch there",
                where=f"layer {layer!r}",
                mend=MEND_OF_TRAIN,
            )
        now = _settings(model.get_submodule(layer))
        for name, value in before[layer].items():
            if now.get(name, value) != value:
                raise _changed(layer, f"the model's forward gives it another {name!r}")


def _settings(module: torch.nn.Module) -> dict[str, bool | float]:
    return {name: value for name, value in vars(module).items() if isinstance(value, _SETTINGS) and name[0] != "_"}


def _changed(layer: str, what: str) -> SnDeployError:
    return SnDeployError(
        what,
        where=f"layer {layer!r}",
        expected="a layer that is called with its input, and stays as it is",
        mend="give each setting a layer of its own, and take types and sizes from the input; or export it by "
        "torch.onnx.export, in standard operators",
    )


def swap(model: torch.nn.Module, layers: Mapping[str, FoldedSwitchNorm]) -> torch.nn.Module:
    """``model`` with each module named in ``layers`` turned into its operator, wherever it is held; their hooks stay.

    The model is changed in place (give a private copy).
    """
    modules = dict(model.named_modules())
    apart: dict[int, OpaqueSwitchNorm] = {}
    for name, folded in layers.items():
        module = modules[name]
        opaque = OpaqueSwitchNorm(folded, module)
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
    layer = object.__new__(type(module))
    layer.__dict__.update(vars(module))
    try:
        object.__setattr__(module, "__class__", OpaqueSwitchNorm)
    except TypeError:
        return False
    opaque._layer = (layer,)
    module.__dict__.clear()
    module.__dict__.update(vars(opaque))
    return True
