"""How many numbers a node would make, told before it is run: what is fused may come from anybody.

The nodes of a layer make no more than its input has. A `Gather` whose indices are as many as its data makes the product
of both, and an `Expand` whatever its sizes say: a file of a kilobyte would take gigabytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np
import onnx

from sn_deploy.runtime.tensors import Array

# Of the largest input that a layer is tried on, which takes some 100 bytes for each; what leads to one is no larger.
MOST_NUMBERS: Final = 1 << 26

# Operators that combine each number of their first input with each of another, at most.
_PRODUCTS: Final = frozenset({"MatMul", "Gemm", "Einsum", "Conv", "ConvTranspose", "GatherND", "OneHot"})
# Those that repeat their first input by the numbers in one of the others.
_REPEATS: Final = frozenset({"Tile", "Resize", "Upsample"})


def most_made(node: onnx.NodeProto, inputs: Sequence[Array]) -> int:
    """Numbers in an output of a standard operator without subgraphs, at most.

    Args:
        node: the operator.
        inputs: what it reads, in order, without those that are left out.
    """
    kind = node.op_type
    if not inputs:
        return 0
    first, others = inputs[0], inputs[1:]
    if kind == "ConstantOfShape":
        return _product(first)
    if kind == "Expand" and others:
        sizes = [int(number) for number in others[0].ravel()]
        lacking = [1] * (len(sizes) - first.ndim)
        return math.prod(map(max, [*lacking, *first.shape], [*[1] * (first.ndim - len(sizes)), *sizes]))
    if kind == "Concat":
        return sum(array.size for array in inputs)
    if kind in _REPEATS:
        return max((first.size * _product(array) for array in others), default=0)
    if kind in _PRODUCTS:
        return math.prod(array.size for array in inputs)
    if kind == "Gather" and others and first.ndim:
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
        return int(others[0].size * first.size // max(first.shape[axis % first.ndim], 1))
    if kind == "Pad":
        pads = others[0].ravel() if others else [i for a in node.attribute if a.name == "pads" for i in a.ints]
        return math.prod(size + int(sum(abs(int(pad)) for pad in pads)) for size in first.shape)
    if kind == "Range":
        return _steps(inputs)
    try:
        return math.prod(np.broadcast_shapes(*(array.shape for array in inputs)))
    except ValueError:  # operators that don't broadcast make no more than they are given
        return sum(array.size for array in inputs)


def _product(numbers: Array) -> int:
    return math.prod(math.ceil(abs(float(number))) for number in numbers.ravel())


def _steps(inputs: Sequence[Array]) -> int:
    numbers = [float(array.ravel()[0]) for array in inputs if array.size]
    if len(numbers) != 3 or not numbers[2]:
        return 0
    start, limit, step = numbers
    return math.ceil(abs(limit - start) / abs(step))
