"""What a session is given, checked against its engine's inputs."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt.lent import from_dlpack
from sn_deploy.runtime.trt.types import torch_dtype


def given_tensors(
    infos: Sequence[TensorInfo], inputs: Mapping[str, Any], device: Any, where: str
) -> tuple[dict[str, Any], list[Any]]:
    """All inputs as torch tensors of ``device``, and those of them that came by DLPack.

    Raises:
        SnDeployError: other inputs, or one that isn't what its info says, lies elsewhere or isn't contiguous.
    """
    import torch

    _check_names(infos, inputs, where)
    tensors, lent = {}, []
    for info in infos:
        value = inputs[info.name]
        if isinstance(value, torch.Tensor):
            tensor = value
        else:
            tensor = from_dlpack(value, info, where)
            lent.append(tensor)
        problem = _problem_of(tensor, info, device)
        if problem is not None:
            raise SnDeployError(f"input {info.name} {problem[0]}", where=where, expected=str(info), mend=problem[1])
        tensors[info.name] = tensor.detach()
    return tensors, lent


def given_shapes(
    infos: Sequence[TensorInfo], shapes: Mapping[str, Sequence[int]], where: str
) -> dict[str, tuple[int, ...]]:
    """The shapes of all inputs, by name.

    Raises:
        SnDeployError: other inputs, or one whose shape that can't be.
    """
    _check_names(infos, shapes, where)
    found = {}
    for info in infos:
        try:
            shape = tuple(operator.index(size) for size in shapes[info.name])
        except TypeError:
            shape = None
        if shape is None or not info.accepts_shape(shape):
            raise SnDeployError(
                f"input {info.name} can't have the shape {shapes[info.name]!r:.60}", where=where, expected=str(info)
            )
        found[info.name] = shape
    return found


def _check_names(infos: Sequence[TensorInfo], given: Mapping[str, Any], where: str) -> None:
    names = [info.name for info in infos]
    if sorted(given) != sorted(names):
        raise SnDeployError(
            f"inputs are {', '.join(given) or 'none'}", where=where, expected=", ".join(names) or "no input"
        )


def _problem_of(tensor: Any, info: TensorInfo, device: Any) -> tuple[str, str | None] | None:
    """What is wrong with a tensor, and how to mend it."""
    if tensor.device != device:
        return f"is on {tensor.device}", f"move it with .to({str(device)!r}), or give arrays to run()"
    if tensor.dtype != torch_dtype(info.dtype):
        return f"has dtype {str(tensor.dtype).removeprefix('torch.')}", f"convert it to {info.dtype}"
    if not info.accepts_shape(tuple(tensor.shape)):
        return f"has shape {tuple(tensor.shape)}", None
    if not tensor.is_contiguous():
        return "isn't contiguous", "give .contiguous()"
    return None
