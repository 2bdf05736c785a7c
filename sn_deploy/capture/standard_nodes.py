"""How many nodes torch's own export takes for SN layers, for comparison."""

from __future__ import annotations

import copy
from collections import Counter
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
        kinds: dict[tuple[object, ...], _Kind] = {}
        self._kind_of: dict[str, _Kind] = {}
        for name, shape in shapes.items():
            module = model.get_submodule(name)
            state = tuple(sorted((key, value.ndim) for key, value in module.state_dict().items()))
            kind = (type(module), len(shape), state)
            if kind not in kinds:
                kinds[kind] = _Kind(copy.deepcopy(module), shape)
            self._kind_of[name] = kinds[kind]

    def count(self, nodes: int, calls: Mapping[str, int]) -> int | None:
        """Of a graph with so many nodes, in which an SN layer is one: layer -> how often it is called.

        None where torch can't export a layer (one that wants CUDA, say).
        """
        called: Counter[_Kind] = Counter()
        for name, count in calls.items():
            called[self._kind_of[name]] += count
        try:
            return nodes + sum(count * (self._nodes_of(kind) - 1) for kind, count in called.items())
        except SnDeployError:
            return None  # only a figure for the report: no reason to fail

    def _nodes_of(self, kind: _Kind) -> int:
        inputs = bind_inputs(kind.module, torch.zeros(kind.shape))
        return count_nodes(capture(kind.module, inputs, {}, opset=self._opset))
