"""From BatchNorm to SwitchNorm: the same function at the start, to be fine-tuned from there.

With shares p of IN, p of LN and 1 - 2p of BN, SN is BN but for p times what sets each sample's own statistics apart
from the recorded ones. A softmax gives no share of 0 for finite weights, and a gradient that is p times too small for
a share of p: so p is a compromise, and no number is right for all. docs/guides/convert.md has what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Final

import torch
from torch import nn

from sn_deploy.arguments import real_number
from sn_deploy.capture.inputs import ExampleInputs
from sn_deploy.capture.unwrap import check_is_module
from sn_deploy.errors import SnDeployError
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.nn.input_ranks import ranks_of_inputs
from sn_deploy.nn.layers import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d, SwitchNormSequence
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.torch import own_surroundings

# Just below the rounding of a float32, 6e-8: what it adds can't be seen in the output. With 1e-7 ResNet-50 was off by
# up to 1e-5, with this by half as much.
DEFAULT_SHARE: Final = 5e-8

_BATCH_NORMS: Final = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
# By the rank of the input, where it is known; else by the class.
_BY_RANK: Final = {2: SwitchNorm1d, 3: SwitchNormSequence, 4: SwitchNorm2d, 5: SwitchNorm3d}
_RANKS: Final = {nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}


@naming_arguments()
@own_surroundings()
def convert(
    model: nn.Module,
    example_inputs: ExampleInputs | None = None,
    *,
    other_share: float = DEFAULT_SHARE,
    keep: Collection[str] = (),
) -> nn.Module:
    """Replaces the BatchNorm layers of ``model`` by SwitchNorm layers that compute the same in evaluation mode.

    Weight, bias, running statistics, eps and momentum are carried over, and so are mode, device, dtype and
    ``requires_grad``. Modules and parameters that are used in several places still are. The parameters are new: make
    the optimizer afterwards. Hooks of the old layers are lost.

    Args:
        model: changed in place.
        example_inputs: a tensor, a tuple of positional arguments, or a dict from parameter name to value, with which
            a copy of the model is run once in evaluation mode: needed where it has BatchNorm1d layers, whose inputs
            may be (N, C) or (N, C, L).
        other_share: the share of each other branch than BN at the start, p of this module's equations. The default
            keeps the output; 0.01 to 0.1 changes it, by about as much, and lets the shares move under plain SGD.
        keep: qualified names of layers that stay as they are.

    Returns:
        The model; where it is a BatchNorm layer itself, the new layer.

    Raises:
        SnDeployError: a layer that can't be converted, with its name; nothing is changed then.
    """
    check_is_module(model)
    other_share = real_number(other_share, "other_share")
    if not 0 < other_share < 1 / 3:
        raise SnDeployError(
            f"other_share is {other_share}", expected="above 0 and below 1/3, which is no choice at all"
        )
    found = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._NormBase)
    }
    found = {
        name: module for name, module in found.items() if not isinstance(module, nn.modules.instancenorm._InstanceNorm)
    }
    unknown = [name for name in keep if name not in found]
    if unknown:
        names = ", ".join(found) or "none: the model has no such layer"
        raise SnDeployError(f"there is no BatchNorm layer {unknown[0]!r}", where="keep", expected=names)
    chosen = {name: module for name, module in found.items() if name not in keep}
    if not chosen:
        there = sum(isinstance(module, SwitchNorm) for module in model.modules())
        raise SnDeployError(
            "there is no BatchNorm layer to convert",
            where=type(model).__name__,
            mend=f"it has {there} SN layers: it may have been converted before" if there else None,
        )
    ranks = ranks_of_inputs(model, chosen, example_inputs) if example_inputs is not None else {}
    parameters: dict[int, nn.Parameter] = {}
    new = {
        id(module): _converted(name, module, ranks.get(name), other_share, parameters)
        for name, module in chosen.items()
    }
    return _replace(model, new)


def _converted(
    name: str, old: nn.Module, rank: int | None, other_share: float, parameters: dict[int, nn.Parameter]
) -> SwitchNorm:
    where = f"layer {name!r}"
    if isinstance(getattr(old, "running_mean", None), nn.UninitializedBuffer):
        raise SnDeployError("is lazy, and has no size yet", where=where, mend="run the model once before")
    kind = next((kind for kind in _BATCH_NORMS if isinstance(old, kind)), None)
    if kind is None or type(old).forward is not kind.forward:
        raise SnDeployError(
            f"is a {type(old).__name__}, whose forward isn't BatchNorm's",
            where=where,
            mend=f"leave it: keep=[{name!r}]",
        )
    assert isinstance(old, nn.modules.batchnorm._BatchNorm)
    if old.running_mean is None or old.running_var is None:
        raise SnDeployError(
            "has no running statistics, so it uses the batch's own in evaluation mode, too",
            where=where,
            mend=f"leave it: keep=[{name!r}]",
        )
    rank = rank or _RANKS.get(kind)
    if rank is None:
        raise SnDeployError(
            "is a BatchNorm1d, whose input may be (N, C) or (N, C, L)", where=where, mend="give example_inputs"
        )
    # The published momentum is the share of the old value; that of torch's BatchNorm is the new value's. None is
    # torch's for an average over all batches.
    momentum = {} if old.momentum is None else {"momentum": 1 - old.momentum}
    new: SwitchNorm = _BY_RANK[rank](old.num_features, eps=old.eps, **momentum)
    _carry_over(old, new, other_share, parameters)
    return new.train(old.training)


@torch.no_grad()
def _carry_over(
    old: nn.modules.batchnorm._BatchNorm, new: SwitchNorm, other_share: float, parameters: dict[int, nn.Parameter]
) -> None:
    assert old.running_mean is not None
    assert old.running_var is not None
    new.to(old.running_mean.device, old.running_mean.dtype)
    new.running_mean.copy_(old.running_mean.view_as(new.running_mean))
    new.running_var.copy_(old.running_var.view_as(new.running_var))
    others = len(new.order) - 1
    for weights in (new.mean_weight, new.var_weight):
        weights.zero_()
        weights[new.order.index("bn")] = math.log((1 - others * other_share) / other_share)
    for name in ("weight", "bias"):
        own, like = getattr(old, name), getattr(new, name)
        if own is None:  # affine=False: the identity, which stays
            like.requires_grad_(False)
            continue
        if id(own) not in parameters:
            parameters[id(own)] = nn.Parameter(own.detach().reshape(like.shape).clone(), own.requires_grad)
        setattr(new, name, parameters[id(own)])


def _replace(model: nn.Module, new: Mapping[int, SwitchNorm]) -> nn.Module:
    """Every module of ``new``, by the id of the old one, at every path that leads to it."""
    if id(model) in new:
        return new[id(model)]
    for parent in list(model.modules()):
        # _modules and not named_children: that one leaves out a child's second name.
        for child_name, child in list(parent._modules.items()):
            if id(child) in new:
                setattr(parent, child_name, new[id(child)])
    return model
