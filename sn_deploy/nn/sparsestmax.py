"""Sparsestmax (Shao et al., "SSN: Learning Sparse Switchable Normalization via SparsestMax", CVPR 2019).

A softmax never gives a zero, and a projection on the simplex (sparsemax) need not give one. Sparsestmax keeps the point
outside of a circle about the centre of the face that it lies on, and moves it to a lower face where the circle crosses
an edge: as the radius grows to that of the simplex's corners, all weights but one become zero.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor


def sparsemax(logits: Tensor) -> Tensor:
    """The point of the simplex that is nearest to ``logits`` (K), Martins and Astudillo 2016."""
    ordered = logits.sort(descending=True).values
    excess = ordered.cumsum(0) - 1
    count = torch.arange(1, len(logits) + 1, device=logits.device, dtype=logits.dtype)
    support = int((ordered > excess / count).sum())
    return (logits - excess[support - 1] / support).clamp(min=0)


def sparsestmax(logits: Tensor, radius: float) -> Tensor:
    """Weights (K) that sum to 1, at least ``radius`` from the centre of their face of the simplex.

    Args:
        logits: (K), before normalisation.
        radius: 0 gives sparsemax; from √((K-1)/K) on exactly one weight is 1.
    """
    weights = sparsemax(logits)
    centre = None
    for _ in range(len(logits)):
        # The centre of the face that the point is on: equal weights for those above zero.
        face = (weights > 0).to(weights.dtype)
        face = face / face.sum()
        if bool((face == 1).any()):
            return face  # and not `weights`, which rounding may have left beside 1
        if centre is not None:
            radius = max(radius**2 - float((face - centre).square().sum().detach()), 0.0) ** 0.5
        centre = face
        distance = (weights - centre).norm()
        if float(distance.detach()) >= radius or float(distance.detach()) <= 8 * torch.finfo(weights.dtype).eps:
            break  # far enough; or in the centre itself, from where no direction is the nearest
        moved = radius * (weights - centre) / distance + centre
        if bool((moved >= 0).all()):
            return cast(Tensor, moved.clamp(0, 1))
        weights = sparsemax(moved)
    return weights
