"""Layers whose forward takes CUDA tensors alone, run on the CPU.

The authors' SyncSN asks ``x.is_cuda`` and raises where it is false, though what follows in evaluation mode is ordinary
torch operators: no kernel of its own, no communication between processes. Its own forward is run all the same, with
that one question answered by yes. Nothing stands in for it: what is computed is the layer's own code, the branch that
it takes on a GPU, of operators that compute the same on both. A layer that does need CUDA (a kernel, a tensor that it
moves there) still fails, and is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from sn_deploy.recognise.candidates import Candidate, candidates
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.says_cuda import SaysCuda
from sn_deploy.recognise.subject import Subject


class _Lifted:
    """In front of a layer's class: its forward, with `SaysCuda`."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        with SaysCuda():
            return super().forward(*args, **kwargs)  # type: ignore[misc]


def lift_cuda_checks_(model: torch.nn.Module) -> list[str]:
    """Lets the SN layers of ``model`` run on the CPU, in place, where only a question for ``is_cuda`` forbids it.

    Such a layer gets a class of the same name, derived from its own. One of each class is tried.

    Returns:
        Qualified names of the layers, in module order.
    """
    classes: dict[type, type | None] = {}
    lifted = []
    for candidate in candidates(model):
        own = type(candidate.module)
        if issubclass(own, _Lifted):
            continue
        if own not in classes:
            classes[own] = _derived(own) if _only_asks_for_cuda(candidate) else None
        derived = classes[own]
        if derived is not None:
            candidate.module.__class__ = derived
            lifted.append(candidate.name)
    return lifted


def _derived(own: type) -> type:
    return type(own.__name__, (_Lifted, own), {"__module__": own.__module__, "__doc__": own.__doc__})


def _only_asks_for_cuda(candidate: Candidate) -> bool:
    if candidate.channels is None:
        return False
    try:
        subject = Subject(candidate.module)
        for rank in (4, 2, 3, 5):
            try:
                subject(np.random.default_rng(0).standard_normal((2, candidate.channels, 3, 2, 2)[:rank]))
            except RefusedError:
                continue
            return subject.says_cuda
    except RefusedError:
        pass
    return False
