"""The example inputs of a capture: bound to the model's parameters, named, and made ready for dynamic axes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils import _pytree as pytree

from sn_deploy.capture.example_inputs import check_plain, positional_and_named
from sn_deploy.errors import SnDeployError

# Names of the spatial axes of an input, by its rank: axis 2 first.
_SPATIAL_NAMES = {3: ("length",), 4: ("height", "width"), 5: ("depth", "height", "width")}

ExampleInputs = torch.Tensor | Sequence[Any] | Mapping[str, Any]
# --dynamic's words ("batch", "spatial", "NAME:AXIS=SYMBOL,…"), or the axes spelled out: {"x": {0: "batch"}}.
DynamicAxes = Iterable[str] | Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class BoundInputs:
    """Example inputs, bound to the parameters of a model's ``forward``.

    Attributes:
        arguments: parameter name -> value, in the order of the signature; a value may nest tensors.
        names: one name for each tensor, in the order in which torch flattens the arguments.
    """

    arguments: dict[str, Any]
    names: tuple[str, ...]

    @property
    def tensors(self) -> dict[str, torch.Tensor]:
        """The tensors by name."""
        leaves = [leaf for leaf in pytree.tree_leaves(self.arguments) if isinstance(leaf, torch.Tensor)]
        return dict(zip(self.names, leaves, strict=True))

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> BoundInputs:
        """The same inputs with ``function`` applied to each tensor."""
        mapped = pytree.tree_map(
            lambda leaf: function(leaf) if isinstance(leaf, torch.Tensor) else leaf, self.arguments
        )
        return BoundInputs(mapped, self.names)

    def map_named(self, function: Callable[[str, torch.Tensor], Any]) -> dict[str, Any]:
        """The arguments with ``function(name, tensor)`` in place of each tensor and None in place of other leaves."""
        names = iter(self.names)
        mapped: dict[str, Any] = pytree.tree_map(
            lambda leaf: function(next(names), leaf) if isinstance(leaf, torch.Tensor) else None, self.arguments
        )
        return mapped

    def call(self, model: torch.nn.Module) -> Any:
        """``model`` on these inputs."""
        args, kwargs = self.positional(model)
        return model(*args, **kwargs)

    def positional(self, model: torch.nn.Module) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as (args, kwargs) for ``model``."""
        bound = inspect.signature(model.forward).bind_partial()
        bound.arguments.update(self.arguments)
        return bound.args, bound.kwargs


def input_type(model: torch.nn.Module) -> torch.dtype:
    """The type that a model's floating-point inputs are given in: that of its first floating-point parameter.

    Models register their parts in the order in which they run, so that is what the input meets, in a stem of another
    type than most of the model, too. float32 where there is none.
    """
    types = (parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return next(types, torch.float32)


def bind_inputs(
    model: torch.nn.Module, example_inputs: ExampleInputs, names: Sequence[str] | None = None
) -> BoundInputs:
    """Binds example inputs to the parameters of ``model.forward``.

    Args:
        example_inputs: one tensor; a tuple or list of positional arguments; or a mapping from parameter name to value.
            Under the key ``""`` a mapping may hold a tuple of positional arguments beside the named ones.
        names: names for the tensors in the ONNX file; by default those of the parameters.

    Raises:
        SnDeployError: the inputs don't fit the signature, there is no tensor among them or one without data, or names
            are wrong.
    """
    args, kwargs = positional_and_named(example_inputs)
    signature = inspect.signature(model.forward)
    try:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError as error:
        raise SnDeployError(
            f"the inputs don't fit: {error}",
            where=f"{type(model).__name__}.forward{signature}",
            mend="give one input for each required parameter, in order or as NAME=…",
        ) from error
    natural = _natural_names(arguments)
    if not natural:
        raise SnDeployError("there is no tensor among the example inputs", where=f"{type(model).__name__}.forward")
    if names is not None and (len(names) != len(natural) or len(set(names)) != len(names)):
        raise SnDeployError(f"input names are {list(names)}", expected=f"{len(natural)} different names")
    inputs = BoundInputs(arguments, tuple(names or natural))
    for name, tensor in inputs.tensors.items():
        check_plain(name, tensor)
    return inputs


def _natural_names(arguments: dict[str, Any]) -> list[str]:
    """A readable name for each tensor: its parameter's, with the path inside it where the parameter nests."""
    leaves, _ = pytree.tree_flatten_with_path(arguments)
    names = []
    for path, leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            keys = [getattr(key, "key", getattr(key, "idx", getattr(key, "name", "item"))) for key in path]
            names.append("_".join(str(key) for key in keys))
    return names


def resolve_dynamic(inputs: BoundInputs, dynamic: DynamicAxes) -> dict[str, dict[int, str]]:
    """Spells out ``--dynamic``: input name -> {axis: symbolic name}, only inputs with such an axis.

    Raises:
        SnDeployError: an unknown word, input or axis, or a symbol that is no identifier.
    """
    tensors = inputs.tensors
    axes: dict[str, dict[int, str]] = {name: {} for name in tensors}
    if isinstance(dynamic, str):
        dynamic = (dynamic,)
    if isinstance(dynamic, Mapping):
        for name, spec in dynamic.items():
            if not isinstance(spec, Mapping):
                raise _no_dynamic(f"gives input {name!r} a {type(spec).__name__}")
            for axis, symbol in spec.items():
                _add_axis(axes, tensors, name, axis, symbol)
    else:
        if not isinstance(dynamic, Iterable):
            raise _no_dynamic(f"is a {type(dynamic).__name__}")
        for word in dynamic:
            if not isinstance(word, str):
                raise _no_dynamic(f"holds a {type(word).__name__}")
            _add_word(axes, tensors, word)
    return {name: dict(sorted(spec.items())) for name, spec in axes.items() if spec}


def _no_dynamic(what: str) -> SnDeployError:
    return SnDeployError(
        what, where="--dynamic", expected='words ("batch", "spatial"), or axes by input: {"x": {0: "batch"}}'
    )


def _add_word(axes: dict[str, dict[int, str]], tensors: dict[str, torch.Tensor], word: str) -> None:
    if word == "batch":
        for name, tensor in tensors.items():
            if tensor.ndim:
                _add_axis(axes, tensors, name, 0, "batch")
        return
    if word == "spatial":
        images = {name: tensor for name, tensor in tensors.items() if tensor.ndim in _SPATIAL_NAMES}
        if not images:
            raise SnDeployError("no input has spatial axes", where="--dynamic spatial", expected="rank 3, 4 or 5")
        for name, tensor in images.items():
            # Two images need not be of one size, so their axes have names of their own.
            prefix = f"{name}_" if len(images) > 1 else ""
            for axis, symbol in enumerate(_SPATIAL_NAMES[tensor.ndim], start=2):
                _add_axis(axes, tensors, name, axis, prefix + symbol)
        return
    name, colon, specs = word.rpartition(":")
    for spec in specs.split(","):
        index, equals, symbol = spec.partition("=")
        if not (colon and equals and index.strip().lstrip("-").isdigit()):
            raise SnDeployError(
                f"can't read {word!r}", where="--dynamic", expected="batch, spatial or INPUT:AXIS=SYMBOL[,AXIS=SYMBOL…]"
            )
        _add_axis(axes, tensors, name, int(index), symbol.strip())


def _add_axis(
    axes: dict[str, dict[int, str]], tensors: dict[str, torch.Tensor], name: str, axis: int, symbol: str
) -> None:
    if name not in tensors:
        raise SnDeployError(f"there is no input {name!r}", where="--dynamic", expected=" or ".join(tensors))
    rank = tensors[name].ndim
    if not hasattr(axis, "__index__"):  # NumPy's integers have it, too
        raise SnDeployError(f"input {name!r} has no axis {axis!r}", where="--dynamic", expected="a whole number")
    if not -rank <= axis < rank:
        raise SnDeployError(
            f"input {name!r} has no axis {axis}", where="--dynamic", expected=f"an axis below its rank, {rank}"
        )
    if not isinstance(symbol, str) or not symbol.isidentifier():
        raise SnDeployError(f"{symbol!r} is no name for an axis", where="--dynamic", expected="an identifier")
    axes[name][axis % rank] = symbol


def widen_dynamic(inputs: BoundInputs, axes: Mapping[str, Mapping[int, str]]) -> BoundInputs:
    """The inputs with dynamic axes of size 1 repeated to 2: torch.export takes a size of 1 to be a constant."""
    tensors = inputs.tensors

    def widen(name: str, tensor: torch.Tensor) -> torch.Tensor:
        repeats = [2 if axis in axes.get(name, {}) and size == 1 else 1 for axis, size in enumerate(tensor.shape)]
        return tensor.repeat(repeats) if 2 in repeats else tensor

    widened = iter([widen(name, tensor) for name, tensor in tensors.items()])
    return inputs.map(lambda _: next(widened))
