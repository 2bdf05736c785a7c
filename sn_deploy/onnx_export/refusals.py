"""What is said of a model none of whose layers can be exported, or not all of them."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sn_deploy import recognise
from sn_deploy.errors import SnDeployError


def no_layer_runs(model: torch.nn.Module, found: recognise.Recognition) -> SnDeployError:
    if found.layers:
        return SnDeployError(
            f"none of its {len(found.layers)} SN layers is called on the example inputs, such as "
            f"{next(iter(found.layers))!r}",
            where=type(model).__name__,
            mend="give inputs with which they run, and let forward call the modules themselves: self.sn(x)",
        )
    named = {name: type(one).__name__ for name, one in model.named_modules() if _is_called_so(type(one).__name__)}
    if named:
        name, kind = next(iter(named.items()))
        return SnDeployError(
            f"no SN layer runs on the example inputs, and {name!r}, a {kind}, hasn't the tensors of one",
            where=type(model).__name__,
            expected="two vectors of mix weights, of the mean and of the variance, beside what each channel has",
            mend="compare its forward with the published one; if it is Switchable Normalization register what reads it "
            "(docs/guides/variants.md)",
        )
    return SnDeployError(
        "no SN layer runs on the example inputs",
        where=type(model).__name__,
        mend="check --model; a model without Switchable Normalization needs only torch.onnx.export",
    )


def _is_called_so(kind: str) -> bool:
    """Whether a class has the name that its author would give to a layer of SN. That proves nothing."""
    return "switch" in kind.lower() and "norm" in kind.lower()


def not_recognised(found: recognise.Recognition, kept: Mapping[str, str]) -> SnDeployError:
    name = next(iter(kept))
    others = f" (and {len(kept) - 1} more like it)" if len(kept) > 1 else ""
    mend = "or leave such layers in standard operators with --keep-unrecognised"
    hint = found.refused[name].mend
    return SnDeployError(f"{kept[name]}{others}", where=f"layer {name!r}", mend=f"{hint}, {mend}" if hint else mend)
