"""PyTorch as a runtime: the reference that every other backend is compared with."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array
from sn_deploy.turns import running_a_model

if TYPE_CHECKING:
    import torch

    TorchModule = torch.nn.Module


def require_torch(purpose: str) -> None:
    """Says how to install PyTorch, if it is missing.

    Raises:
        SnDeployError: torch isn't installed.
    """
    if importlib.util.find_spec("torch") is None:
        raise SnDeployError("PyTorch isn't installed", where=purpose, mend="pip install 'sn-deploy[torch]'")


def use_threads(threads: int) -> None:
    """Limits PyTorch to ``threads`` threads within an operator, for the whole process."""
    import torch

    torch.set_num_threads(threads)


def threads_in_use() -> int:
    """How many threads PyTorch takes within an operator."""
    import torch

    return torch.get_num_threads()


def tensor_from_array(array: Array) -> torch.Tensor:
    """The array as a torch tensor; bfloat16 (ml_dtypes) too, which torch.from_numpy refuses."""
    import ml_dtypes
    import torch

    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    # A copy of what is read-only, a mapped file: torch has no tensors that can't be written to, and warns.
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def array_from_tensor(tensor: torch.Tensor) -> Array:
    """The tensor as an array on the host; bfloat16 as ml_dtypes.bfloat16."""
    import ml_dtypes
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return np.asarray(tensor.numpy())


def is_plain(tensor: torch.Tensor) -> bool:
    """Whether it holds a real number for each element: it isn't sparse, nested, quantized, complex or without data."""
    import torch

    dense = tensor.layout == torch.strided and not tensor.is_nested
    return dense and not tensor.is_quantized and not tensor.is_meta and not tensor.is_complex()


def output_tensors(result: object, where: str) -> list[torch.Tensor]:
    """The tensors in what a model gives, in the order in which torch flattens it: numbers and text are no outputs.

    Dataclasses and mappings that torch doesn't know are gone through as well, field by field.

    Args:
        where: the model, for messages.

    Raises:
        SnDeployError: there is none.
    """
    tensors = [tensor for _, tensor in _tensors_in(result, ())]
    if not tensors:
        raise SnDeployError(f"gives a {type(result).__name__} without a tensor in it", where=where, expected="tensors")
    return tensors


def output_names(result: object) -> list[str | None]:
    """What a model calls each of its `output_tensors`: ``{"scores": a, "boxes": (b, c)}`` has scores, boxes.0, boxes.1.

    None for one that has no name, in a tuple or by itself.
    """
    names = []
    for path, _ in _tensors_in(result, ()):
        named = any(isinstance(part, str) and part for part in path)
        names.append(".".join(map(str, path)) if named else None)
    return names


def _tensors_in(result: object, path: tuple[object, ...]) -> Iterator[tuple[tuple[object, ...], torch.Tensor]]:
    """With where they are: keys, places and the names of fields."""
    import torch
    from torch.utils import _pytree as pytree

    for keys, leaf in pytree.tree_flatten_with_path(result)[0]:
        own = (*path, *(getattr(key, "key", getattr(key, "name", getattr(key, "idx", None))) for key in keys))
        if isinstance(leaf, torch.Tensor):
            yield own, leaf
        elif isinstance(leaf, Mapping):
            for name, value in leaf.items():
                yield from _tensors_in(value, (*own, name))
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            for field in dataclasses.fields(leaf):
                yield from _tensors_in(getattr(leaf, field.name), (*own, field.name))


@contextlib.contextmanager
def own_surroundings(device: str = "cpu") -> Iterator[None]:
    """Undoes, for what runs inside, what a caller's program has set around it and is not the model's.

    A region of autocast would make bfloat16 of a float32 model; where tensors are made on another device than
    ``device`` by default (torch.set_default_device), those that a model makes don't meet its weights.
    """
    import torch

    with contextlib.ExitStack() as stack:
        for kind in ("cpu", "cuda"):
            if torch.is_autocast_enabled(kind):
                stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != torch.device(device).type:
            stack.enter_context(torch.device(device))
        yield


class TorchModel:
    """A torch module behind the interface of every runner: ``run(dict) -> dict``.

    Args:
        model: a module, or what calls one, in the mode and on the device in which it is to run.
        input_names: the names of the inputs, in the order of the model's positional arguments.
        output_names: names for the outputs; by default ``output_0`` and so on.
    """

    def __init__(
        self, model: Callable[..., Any], input_names: Sequence[str], output_names: Sequence[str] | None = None
    ) -> None:
        self._model, self._input_names, self._output_names = model, list(input_names), output_names

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's tensors, in the order in which torch flattens its output.

        Raises:
            SnDeployError: there is none.
        """
        import torch

        with running_a_model(), torch.inference_mode(), own_surroundings():
            # Copies: a model may write to its inputs, and the caller, other backends among them, has the arrays.
            result = self._model(*(tensor_from_array(inputs[name].copy()) for name in self._input_names))
        leaves = output_tensors(result, "the PyTorch model")
        names = self._output_names or [f"output_{index}" for index in range(len(leaves))]
        return {name: array_from_tensor(leaf) for name, leaf in zip(names, leaves, strict=True)}
