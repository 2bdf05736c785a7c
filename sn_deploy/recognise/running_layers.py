"""The SN layers that a model runs on given data, recognised at the sizes that they get there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from sn_deploy.capture.layer_taps import record_layers
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.recognise import candidate_names, recognise


@dataclass(frozen=True)
class FoundLayers:
    """Modules that are SN layers, and those that look like it -> why they aren't."""

    layers: Mapping[str, FoldedSwitchNorm]
    refused: Mapping[str, str]


def find_layers(model: torch.nn.Module, run: Callable[[], object]) -> FoundLayers:
    """The SN layers of the model that run.

    Args:
        run: calls the model.

    Raises:
        What ``run`` raises.
    """
    names = candidate_names(model)
    calls = record_layers(model, dict.fromkeys(names, ""), run, lambda layer, point: point == "")
    shapes: dict[str, list[tuple[int, ...]]] = {}
    for call in calls.values():
        if call.x is not None:
            seen = shapes.setdefault(call.module, [])
            if not seen or call.x.ndim == len(seen[0]):
                seen.append(tuple(call.x.shape))
    found = recognise(model, input_shapes=shapes)
    return FoundLayers(
        {name: folded for name, folded in found.layers.items() if name in shapes},
        {name: refusal.reason for name, refusal in found.refused.items() if name in shapes},
    )
