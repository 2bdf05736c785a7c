"""How many nodes torch's own export takes for SN layers, for comparison."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from sn_deploy.capture.capture import capture
from sn_deploy.capture.inputs import bind_inputs
from sn_deploy.errors import SnDeployError
from sn_deploy.graph.layers import count_nodes


@dataclass(frozen=True)
class _Kind:
    module: torch.nn.Module
    shape: tuple[int, ...]  # of X


class StandardNodes:
    """Counts when it is asked to: an export for each kind of layer takes longer than that of a small net.

    Args:
        model: with the SN layers as torch has them; one of each kind is copied.
        shapes: layer -> shape of X.
    """

    def __init__(self, model: torch.nn.Module, shapes: Mapping[str, tuple[int, ...]], opset: int) -> None:
        self._opset = opset
        self._kinds: dict[tuple[object, ...], _Kind] = {}
        self._kind_of: dict[str, _Kind] = {}
        self._counts: dict[_Kind, int | None] = {}
        for name, shape in shapes.items():
            module = model.get_submodule(name)
            state = tuple(sorted((key, value.ndim) for key, value in module.state_dict().items()))
            kind = (type(module), len(shape), state)
            if kind not in self._kinds:
                self._kinds[kind] = _Kind(copy.deepcopy(module), shape)
            self._kind_of[name] = self._kinds[kind]

    def in_place_of(self, calls: Mapping[str, int]) -> int | None:
        """How many nodes more than one each: layer -> how often it is called.

        None where torch can't export a layer (one that wants CUDA, say).
        """
        more = 0
        for name, count in calls.items():
            layer = self._count(self._kind_of[name])
            if layer is None:
                return None
            more += count * (layer - 1)
        return more

    def _count(self, kind: _Kind) -> int | None:
        if kind not in self._counts:
            try:
                inputs = bind_inputs(kind.module, torch.zeros(kind.shape))
                self._counts[kind] = count_nodes(capture(kind.module, inputs, {}, opset=self._opset))
            except SnDeployError:
                self._counts[kind] = None  # only a figure for the report: no reason to fail
        return self._counts[kind]
