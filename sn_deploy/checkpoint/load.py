"""From a checkpoint file to a model's parameters."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from sn_deploy.capture.unwrap import check_is_module
from sn_deploy.checkpoint.files import read_file
from sn_deploy.checkpoint.state_dicts import StateDict, select
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import check_is_path
from sn_deploy.python_words import naming_arguments

_SHOWN = 10  # names listed in a message


@dataclass(frozen=True)
class LoadReport:
    """What `load_into` did.

    Attributes:
        key: where in the checkpoint the state dict was found, dotted; ``''`` for the top level.
        stripped: what was taken off its names: wrappers' names anywhere in them, then a prefix.
        missing: the model's names that the checkpoint lacks.
        unexpected: the checkpoint's names that the model lacks.
        loaded: how many tensors were copied.
    """

    key: str
    stripped: list[str]
    missing: list[str]
    unexpected: list[str]
    loaded: int

    def lines(self, path: Path) -> list[str]:
        """For people: what was loaded from the file ``path``, and a line for each kind of key that didn't fit."""
        place = f", key {self.key!r}" if self.key else ""
        kinds = (("missing", self.missing), ("unexpected", self.unexpected))
        unfit = [f"{len(keys)} {kind} keys: {', '.join(keys)}" for kind, keys in kinds if keys]
        return [f"loaded {self.loaded} tensors from {path}{place}", *unfit]


@naming_arguments()
def read_checkpoint(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    match: Collection[str] | None = None,
    accept: Callable[[dict[str, torch.Tensor]], bool] | None = None,
) -> dict[str, torch.Tensor]:
    """The state dict in a checkpoint file, without running anything that is in the file.

    Args:
        path: a .safetensors file, or one written by ``torch.save``.
        key: dotted path of the state dict in the checkpoint, such as ``state_dict`` or ``teacher.backbone``.
        match: the model's keys; prefixes that the names carry too much are stripped. Without it none are.
        accept: without ``match``, which of several state dicts to prefer: those for which it is true.

    Returns:
        CPU tensors by name in the file's order, memory-mapped where the format allows it: don't write to them.

    Raises:
        SnDeployError: the file is missing, damaged or no checkpoint, needs pickle's code execution, or there is no
            state dict in it that fits better than all others.
    """
    return read_state_dict(path, key=key, match=match, accept=accept).tensors


@naming_arguments()
def read_state_dict(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    match: Collection[str] | None = None,
    accept: Callable[[dict[str, torch.Tensor]], bool] | None = None,
) -> StateDict:
    """As `read_checkpoint`, with where the state dict was found and torch's versions of its modules."""
    check_is_path(path, "the checkpoint")
    return select(read_file(Path(path)), where=str(path), key=key, match=match, accept=accept)


@naming_arguments()
def load_into(
    model: torch.nn.Module, path: str | os.PathLike[str], *, key: str | None = None, strict: bool = True
) -> LoadReport:
    """Copies a checkpoint's tensors into ``model``, each to the dtype and device that the model has there.

    Args:
        model: gets the values; ``load_state_dict``'s rules apply (``num_batches_tracked``, hooks).
        path, key: see `read_checkpoint`.
        strict: refuse names that only one of the two has.

    Raises:
        SnDeployError: what `read_checkpoint` raises; a shape that differs, complex numbers, or whole ones or fp8
            for a parameter of floating-point numbers, whether strict or not; with ``strict``, names that are missing or
            unexpected (the others have been copied then).
    """
    check_is_module(model)
    check_is_path(path, "the checkpoint")
    own = model.state_dict()
    state = select(read_file(Path(path)), where=str(path), key=key, match=own.keys())
    _check_shapes(own, state, str(path))
    _check_parameters(model, state, str(path))
    missing, unexpected = _copy(model, state, str(path))
    if strict and (missing or unexpected):
        raise SnDeployError(
            " and ".join([*_counted(missing, "missing"), *_counted(unexpected, "unexpected")]),
            where=str(path),
            expected="the model's names",
            mend="build the model as it was trained (--model-arg), or load what fits with --no-strict",
        )
    loaded = sum(name not in unexpected for name in state.tensors)
    return LoadReport(state.key, list(state.stripped), missing, unexpected, loaded)


def _check_parameters(model: torch.nn.Module, state: StateDict, where: str) -> None:
    """Refuses what quantization leaves: whole numbers or fp8, of no use without the scale that belongs to them.

    Of fp8 without a scale in the file nothing tells whether there was one: that has to be said by who cast it.
    """
    for name, parameter in model.named_parameters(remove_duplicate=False):
        tensor = state.tensors.get(name)
        if tensor is None or not parameter.is_floating_point():
            continue
        if _is_exact(tensor) or (_is_tiny(tensor.dtype) and tensor.dtype != parameter.dtype):
            cast = "; values that were cast without a scale, cast back: value.float()" if _is_tiny(tensor.dtype) else ""
            raise SnDeployError(
                f"{name} is of {tensor.dtype}",
                where=where,
                expected=f"{parameter.dtype}, as in the model, or another floating-point type of 16 bits or more",
                mend=f"where the checkpoint is quantized, give the one that it was made of{cast}",
            )


def _is_exact(tensor: torch.Tensor) -> bool:
    return tensor.is_quantized or not (tensor.is_floating_point() or tensor.is_complex())


def _is_tiny(dtype: torch.dtype) -> bool:
    """Whether a floating-point type has 8 bits or fewer."""
    return dtype.is_floating_point and dtype.itemsize == 1


def _check_shapes(own: Mapping[str, torch.Tensor], state: StateDict, where: str) -> None:
    wrong = []
    for name, tensor in state.tensors.items():
        target = own.get(name)
        # A lazy parameter has no shape yet; torch itself takes one value for a scalar.
        if not isinstance(target, torch.Tensor) or torch.nn.parameter.is_lazy(target):
            continue
        if target.is_meta:
            raise SnDeployError(
                f"the model's {name} is on the meta device and can't take values", mend="build the model on the CPU"
            )
        if tensor.is_complex() and not target.is_complex():
            raise SnDeployError(f"{name} is complex", where=where, expected=f"{target.dtype}, as in the model")
        if tensor.shape != target.shape and not (target.ndim == 0 and tensor.shape == (1,)):
            wrong.append(f"{name} is {tuple(tensor.shape)} in the checkpoint and {tuple(target.shape)} in the model")
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise SnDeployError(
            f"{_plural(len(wrong), 'shape')} differ{'' if len(wrong) > 1 else 's'}: {', '.join(wrong[:_SHOWN])}{more}",
            where=where,
            mend="build the model as it was trained, with --model-arg such as num_classes=… or using_bn=False",
        )


def _copy(model: torch.nn.Module, state: StateDict, where: str) -> tuple[list[str], list[str]]:
    tensors = dict(state.tensors)
    if state.metadata:
        # load_state_dict looks for it as an attribute, which a plain dict can't have.
        tensors = _WithMetadata(tensors)
        tensors._metadata = state.metadata
    try:
        result = model.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise SnDeployError(f"doesn't load into the model: {error}", where=where) from error
    return list(result.missing_keys), list(result.unexpected_keys)


class _WithMetadata(dict[str, torch.Tensor]):
    _metadata: dict[str, object]


def _counted(names: list[str], kind: str) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return [f"{_plural(len(names), 'key')} {kind}: {', '.join(names[:_SHOWN])}{more}"]


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
