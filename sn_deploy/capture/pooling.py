"""Adaptive average pooling of an image of any size, and into cells of unequal sizes.

torch's exporter writes the former for the example's size alone, and the latter as a Gather and an Add for each
position: thousands of nodes for the pyramid of a segmentation net.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

Tensor = torch.Tensor

# Function -> how many axes, the last ones, it pools.
_POOLED_AXES: Final[Mapping[Callable[..., Any], int]] = {
    torch.adaptive_avg_pool1d: 1,
    F.adaptive_avg_pool2d: 2,
    torch._C._nn.adaptive_avg_pool2d: 2,
    F.adaptive_avg_pool3d: 3,
    torch._C._nn.adaptive_avg_pool3d: 3,
}


class AnySizePooling(TorchFunctionMode):
    """While it is entered, adaptive average pooling is a product with a matrix for each axis, where an axis is of
    unknown size or doesn't fall into equal cells.

    The matrices of unknown sizes are made when the file runs. Pooling to 1 is a mean, which torch exports right itself,
    and into equal cells it is an average pooling.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _POOLED_AXES:
            x, cells = _arguments(*args, **kwargs)
            cells = (cells,) * _POOLED_AXES[func] if isinstance(cells, int) else tuple(cells)
            pooled = [(size, cell) for size, cell in zip(x.shape[-len(cells) :], cells, strict=True) if cell != 1]
            in_numbers = all(isinstance(cell, int) or _stays(cell, size) for size, cell in pooled)
            if in_numbers and any(_needs_matrix(size, cell) for size, cell in pooled):
                return pool(x, cells)
        return func(*args, **kwargs)


def pool(x: Tensor, cells: Sequence[int | torch.SymInt | None]) -> Tensor:
    """Means over ``cells`` parts of each of the last axes, as `torch.nn.functional.adaptive_avg_pool2d` has them.

    Args:
        x: (…, H, W) for two numbers of cells.
        cells: of each of the last axes; None, or that axis' own size, leaves it as it is.
    """
    for axis, count in zip(range(-len(cells), 0), cells, strict=True):
        if _stays(count, x.shape[axis]):
            continue
        assert isinstance(count, int)
        if count == 1:
            x = x.mean(axis, keepdim=True)
        elif axis == -1:
            x = x @ shares(count, x.shape[axis], x).transpose(0, 1)
        elif axis == -2:
            x = shares(count, x.shape[axis], x) @ x
        else:
            x = (x.transpose(axis, -1) @ shares(count, x.shape[axis], x).transpose(0, 1)).transpose(axis, -1)
    return x


def shares(cells: int, size: int, like: Tensor) -> Tensor:
    """What each position counts in the mean of cell i, ⌊i·size/cells⌋ to ⌈(i+1)·size/cells⌉: (cells, size)."""
    position = torch.arange(size, device=like.device)
    cell = torch.arange(cells, device=like.device)[:, None]
    # position >= ⌊cell·size/cells⌋ and position < ⌈(cell+1)·size/cells⌉, without a division (many nodes in ONNX).
    inside = ((position + 1) * cells > cell * size) & (position * cells < (cell + 1) * size)
    counted = inside.to(like.dtype)
    return counted / counted.sum(1, keepdim=True)


def _needs_matrix(size: int | torch.SymInt, cells: int | torch.SymInt | None) -> bool:
    return isinstance(size, torch.SymInt) or (isinstance(cells, int) and size % cells != 0)


def _stays(cells: int | torch.SymInt | None, size: int | torch.SymInt) -> bool:
    # By their expressions: to compare two SymInts by value would fix them.
    return cells is None or (isinstance(cells, torch.SymInt) and str(cells) == str(size))


def _arguments(input: Tensor, output_size: Any) -> tuple[Tensor, Any]:
    return input, output_size
