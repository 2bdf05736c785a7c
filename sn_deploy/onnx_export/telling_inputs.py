"""Example inputs that show a fault: users give zeros, and one sample that is repeated."""

from __future__ import annotations

import torch

from sn_deploy.capture.inputs import BoundInputs


def noise_for_constants(inputs: BoundInputs) -> BoundInputs | None:
    """The inputs with random values where all values of a tensor are one; None where no tensor is so."""
    generator = torch.Generator().manual_seed(0)
    found = False

    def noise(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal found
        if not tensor.is_floating_point() or tensor.numel() < 2 or not bool((tensor == tensor.flatten()[0]).all()):
            return tensor
        found = True
        return torch.randn(tensor.shape, generator=generator).to(tensor.dtype)

    made = inputs.map(noise)
    return made if found else None


def with_other_samples(inputs: BoundInputs) -> BoundInputs:
    """Images whose samples are all the same get their columns moved on from sample to sample: mixed up they would show
    nothing."""

    def move(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.ndim < 3 or not tensor.numel() or not bool((tensor == tensor[:1]).all()):
            return tensor
        return torch.stack([sample.roll(at, -1) for at, sample in enumerate(tensor)])

    return inputs.map(move)
