"""Which layers of a model are SN, by what they are given in a run of it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch

from sn_deploy import recognise
from sn_deploy.capture.inputs import BoundInputs
from sn_deploy.capture.precision import cast_inputs
from sn_deploy.capture.trace import LayerTrace, trace
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.onnx_export.telling_inputs import noise_for_constants


def recognised_layers(
    model: torch.nn.Module, inputs: BoundInputs
) -> tuple[recognise.Recognition, dict[str, LayerTrace], object]:
    """The SN layers, and what those that run were given, shapes checked; and what the model gives."""
    model.float()
    traces, result = trace(model, cast_inputs(inputs, torch.float32), recognise.candidate_names(model))
    found = recognise.recognise(model, input_shapes={name: layer.of_first_rank for name, layer in traces.items()})
    for name, layer in traces.items():
        folded = found.layers.get(name)
        if folded is not None:
            for shape in layer.shapes:
                folded.check_shape(shape)
            _check_other_ranks(name, model.get_submodule(name), folded, layer.shapes)
    return found, traces, result


def _check_other_ranks(
    name: str, module: torch.nn.Module, folded: FoldedSwitchNorm, shapes: Sequence[tuple[int, ...]]
) -> None:
    """Refuses a layer that is called with inputs of several ranks and isn't the same layer for each."""
    for rank in dict.fromkeys(len(shape) for shape in shapes if len(shape) != len(shapes[0])):
        of_rank = [shape for shape in shapes if len(shape) == rank]
        other = recognise.recognise(module, input_shapes={"": of_rank}).layers.get("")
        fields = (*op.PARAMETERS, *op.FLOAT_ATTRIBUTES, "ddof")
        if other is None or not all(np.allclose(getattr(folded, one), getattr(other, one)) for one in fields):
            raise SnDeployError(
                f"is called with inputs of rank {len(shapes[0])} and {rank}, and isn't the same layer for both",
                where=f"layer {name!r}",
                mend="give each of the calls a layer of its own",
            )


def refuse_raw_sums(
    model: torch.nn.Module, found: recognise.Recognition, traces: Mapping[str, LayerTrace], inputs: BoundInputs
) -> None:
    """Refuses statistics that look like sums.

    Example inputs can mislead: see `sn_deploy.recognise.raw_sums`, and ``trust_statistics`` for the way out. Constant
    ones, such as torch.zeros, mislead most, as a layer's output then varies at the borders alone: what they suggest has
    to hold for noise, too.
    """

    def refuse(seen: Mapping[str, LayerTrace]) -> None:
        observed = {
            name: (layer.mean, layer.var)
            for name, layer in seen.items()
            if layer.mean is not None and layer.var is not None and _has_bn_branch(found.layers.get(name))
        }
        recognise.refuse_raw_sums_in_most(model, observed)

    try:
        refuse(traces)
    except SnDeployError:
        noise = noise_for_constants(inputs)
        if noise is None:
            raise
        seen: Mapping[str, LayerTrace] = traces
        with contextlib.suppress(SnDeployError):  # a model may want just these constants
            seen, _ = trace(model, cast_inputs(noise, torch.float32), list(traces))
        refuse(seen)


def _has_bn_branch(folded: FoldedSwitchNorm | None) -> bool:
    return folded is not None and (folded.mean_bn != 0 or folded.var_bn != 0)
