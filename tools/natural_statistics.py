"""Statistics as training leaves them, without training: measured by train-mode passes over parts of photographs.

The photographs are scikit-learn's two. Parts of random place and size, some of them mirrored, resized to 224 and
normalised as ImageNet's images are, are nothing that a classifier could learn from; but they have the statistics of
natural images, and so have a network's activations on them.
"""

from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_sample_images

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def crops(count: int, seed: int, size: int = 224) -> torch.Tensor:
    """Parts of photographs, (count, 3, size, size), normalised."""
    draw = np.random.default_rng(seed)
    images = [torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255 for image in load_sample_images().images]
    made = []
    for _ in range(count):
        image = images[draw.integers(len(images))]
        extent = int(draw.integers(64, 400))
        top, left = (int(draw.integers(0, axis - extent + 1)) for axis in image.shape[1:])
        part = image[None, :, top : top + extent, left : left + extent]
        part = torch.nn.functional.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
        made.append(part.flip(3) if draw.random() < 0.5 else part)
    return (torch.cat(made) - torch.tensor(_MEAN)[:, None, None]) / torch.tensor(_STD)[:, None, None]


@torch.no_grad()
def measured_(model: torch.nn.Module, *, passes: int = 12, batch: int = 8, seed: int = 0) -> torch.nn.Module:
    """Leaves the running statistics of ``model`` as long training with these weights would, in place.

    Returns it in evaluation mode. The statistics are averages with a momentum that begin at 0: what they miss of their
    sum after so few passes is made up for.
    """
    model.train()
    for index in range(passes):
        model(crops(batch, seed * passes + index))
    for module in model.modules():
        if hasattr(module, "mean_weight") and getattr(module, "running_mean", None) is not None:
            module.running_mean /= 1 - module.momentum**passes
            module.running_var /= 1 - module.momentum**passes
    return model.eval()


@torch.no_grad()
def learned_look_(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Weights of IN, LN and BN, scales and biases as a trained net may have them, in place; the rest as it was.

    Weights: normal, deviation 1. Scales: uniform in 0.5 to 1.5, in 0.1 to 0.5 for the last layer of a residual branch,
    which begins at 0. Biases: normal, deviation 0.1.
    """
    draw = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if hasattr(module, "mean_weight") and hasattr(module, "var_weight"):
            module.mean_weight.copy_(torch.randn(module.mean_weight.shape, generator=draw))
            module.var_weight.copy_(torch.randn(module.var_weight.shape, generator=draw))
            low, high = (0.1, 0.5) if not module.weight.any() else (0.5, 1.5)
            module.weight.copy_(low + (high - low) * torch.rand(module.weight.shape, generator=draw))
            module.bias.copy_(0.1 * torch.randn(module.bias.shape, generator=draw))
    return model
