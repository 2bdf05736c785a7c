"""The user's PyTorch model as a runner."""

from __future__ import annotations

import hashlib
import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sn_deploy.capture.nested_inputs import called_nested, nested_places
from sn_deploy.compare.fit import is_float
from sn_deploy.compare.tolerances import TOLERANCES, coarsest
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.hashing import sha256_of_file
from sn_deploy.runtime.tensors import Array, TensorInfo

if TYPE_CHECKING:
    from sn_deploy.checkpoint import LoadReport


@dataclass(frozen=True)
class ModelOptions:
    """What ``--model`` and its options say.

    Attributes:
        reference: ``PACKAGE.MODULE:CALLABLE``; arguments: of it.
        checkpoint, key, strict: the weights.
        finalize_batch_average: the number of batches whose sums the running statistics are; None if they are averages.
    """

    reference: str
    arguments: Mapping[str, Any]
    checkpoint: Path | None = None
    key: str | None = None
    strict: bool = True
    finalize_batch_average: int | None = None

    def build(self) -> tuple[Any, LoadReport | None]:
        """The module with its weights, and what was loaded."""
        from sn_deploy.capture.private_copy import private_copy
        from sn_deploy.capture.user_model import build_model
        from sn_deploy.checkpoint import load_into

        model, report = build_model(self.reference, self.arguments), None
        if self.checkpoint is not None:
            report = load_into(model, self.checkpoint, key=self.key, strict=self.strict)
        # To be divided: a module that was built already is built once for all who ask for it.
        return model if self.finalize_batch_average is None else private_copy(model), report


@dataclass(frozen=True)
class HeldModel:
    """A model that is in memory, with its weights. It stays as it is: copies of it are run.

    Attributes:
        module: on any device, in training or evaluation mode.
        finalize_batch_average: as of `ModelOptions`.
    """

    module: Any
    finalize_batch_average: int | None = None
    checkpoint: ClassVar[None] = None

    @property
    def reference(self) -> str:
        """What it is called in the result: its class."""
        return f"{type(self.module).__module__}:{type(self.module).__qualname__}"

    def build(self) -> tuple[Any, None]:
        """A copy, out of what training wrapped around it and its parts."""
        from sn_deploy.capture.private_copy import private_copy
        from sn_deploy.capture.unwrap import unwrap_inside_, unwrapped

        model = private_copy(unwrapped(self.module))
        unwrap_inside_(model)
        return model, None


class TorchRunner:
    """A model in evaluation mode on the CPU.

    Args:
        model: a torch module.
        inputs: of the check, in order; floats become the type that the model takes.

    Attributes:
        model: the module itself.

    Raises:
        SnDeployError: its forward doesn't take these.
    """

    def __init__(self, model: Any, inputs: Sequence[TensorInfo]) -> None:
        from sn_deploy.capture.inputs import input_type
        from sn_deploy.runtime.torch import TorchModel

        self.precision = precision_of(model)
        input_names = [info.name for info in inputs]
        own = np.dtype(str(input_type(model)).removeprefix("torch."))
        self.inputs = tuple(TensorInfo(i.name, None, own if is_float(i.dtype) else i.dtype) for i in inputs)
        self.model = model
        self._model, *otherwise = [TorchModel(way, input_names) for way in _ways(model, input_names)]
        self._otherwise = next(iter(otherwise), None)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The model's tensors, in the order in which torch flattens its output.

        Raises:
            SnDeployError: it fails since its code casts to half precision by itself. Other errors are its own.
        """
        try:
            return self._model.run(inputs)
        except SnDeployError:
            raise
        except Exception as error:
            if self._otherwise is not None:
                return self._run_otherwise(inputs, error)
            from sn_deploy.capture.half_inside import half_inside

            half = half_inside(self.model, (), lambda: self._model.run(inputs))
            if half is None:
                raise
            what = f"the model fails: {half[0]}: {type(error).__name__}: {first_line(error)}"
            raise SnDeployError(what, mend=half[1]) from error

    def _run_otherwise(self, inputs: Mapping[str, Array], nested_error: Exception) -> dict[str, Array]:
        """Of a model that takes no nested inputs: its parameters have other names, as it is called from now on."""
        assert self._otherwise is not None
        self._model, self._otherwise = self._otherwise, None
        try:
            return self.run(inputs)
        except SnDeployError:
            raise
        except Exception as error:
            names = ", ".join(info.name for info in self.inputs)
            raise SnDeployError(
                f"the model fails on {names}: {type(error).__name__}: {first_line(error)}; and where a parameter holds "
                f"it in a dict or a list: {type(nested_error).__name__}: {first_line(nested_error)}",
                where=f"--model, {type(self.model).__name__}",
            ) from error

    def close(self) -> None:
        """Nothing to free: Python does it."""


def load_model(options: ModelOptions | HeldModel) -> tuple[Any, LoadReport | None]:
    """The model with its weights, in evaluation mode on the CPU, and what was loaded.

    Raises:
        SnDeployError: what `sn_deploy export` would say about it.
    """
    from sn_deploy.capture.parametrized import settle_parametrizations_
    from sn_deploy.recognise import finalize_batch_average_, lift_cuda_checks_
    from sn_deploy.runtime.torch import own_surroundings

    with own_surroundings():
        model, report = options.build()
        if options.finalize_batch_average is not None:
            finalize_batch_average_(model, options.finalize_batch_average)
        model = model.cpu().eval()
        settle_parametrizations_(model)
        lift_cuda_checks_(model)
        return model, report


def open_runner(options: ModelOptions | HeldModel, inputs: Sequence[TensorInfo], threads: int | None) -> TorchRunner:
    """The model once more, as another process needs it.

    Raises:
        SnDeployError: what `load_model` raises.
    """
    from sn_deploy.runtime.torch import use_threads

    if threads is not None:
        use_threads(threads)
    return TorchRunner(load_model(options)[0], inputs)


def in_float64(model: Any) -> Any:
    """A copy of the model that computes in float64."""
    from sn_deploy.capture.private_copy import private_copy

    return private_copy(model).double()


def precision_of(model: Any) -> str:
    """The coarsest floating-point type of the model's parameters and buffers, as of an ONNX file's weights.

    A part in half precision costs what a whole does. Where most elements are of a type that has no tolerance, that.
    """
    elements = _elements([*model.parameters(), *model.buffers()])
    most = _most(elements)
    known = [name for name in elements if name in TOLERANCES]
    return coarsest(known) if known and most in TOLERANCES else most


def _elements(tensors: Iterable[Any]) -> Counter[str]:
    """Floating-point type -> how many elements are of it."""
    elements: Counter[str] = Counter()
    for tensor in tensors:
        if tensor.is_floating_point():
            elements[str(tensor.dtype).removeprefix("torch.")] += tensor.numel()
    return elements


def _most(elements: Counter[str]) -> str:
    return elements.most_common(1)[0][0] if elements else "float32"


def weights_sha256(model: Any) -> str:
    """Of all parameters and buffers: models without a checkpoint are often random, and then another one each time."""
    from sn_deploy.runtime.torch import array_from_tensor

    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        if hasattr(value, "detach"):
            array = np.ascontiguousarray(array_from_tensor(value))
            digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def checkpoint_sha256(options: ModelOptions | HeldModel) -> str | None:
    """Of the checkpoint file, where there is one."""
    return None if options.checkpoint is None else sha256_of_file(options.checkpoint)


def required_inputs(model: Any, named: Collection[str] = ()) -> list[TensorInfo]:
    """The parameters that its forward has to be given, float32 and of unknown shapes: nothing says more.

    Args:
        named: those of its other parameters that somebody has named are inputs, too.
    """
    parameters = inspect.signature(model.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    given = (*positional, inspect.Parameter.KEYWORD_ONLY)
    names = [
        one.name
        for one in parameters
        if (one.kind in positional and one.default is one.empty) or (one.kind in given and one.name in named)
    ]
    return [TensorInfo(name, None, np.dtype(np.float32)) for name in names]


def _ways(model: Any, input_names: Sequence[str]) -> list[Callable[..., Any]]:
    """What may call the model on its inputs in order, the likeliest first.

    A name with a parameter's in front is a part of what that holds, or another name for it: the model has to tell.

    Raises:
        SnDeployError: its forward doesn't take these.
    """
    places = nested_places(model, input_names)
    nested = [] if places is None else [called_nested(model, places)]
    try:
        keywords = _keywords(model, input_names)
    except SnDeployError:
        if not nested:
            raise
        return nested
    return [_called_by_name(model, keywords)] if keywords else [*nested, model]


def _keywords(model: Any, input_names: Sequence[str]) -> list[str] | None:
    """The names to call ``forward`` by; None to call it by position."""
    parameters = inspect.signature(model.forward).parameters.values()
    by_name = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    required = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if by_name >= set(input_names) >= set(required):
        return list(input_names)
    by_position = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    any_number = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    if len(required) <= len(input_names) and (any_number or len(input_names) <= len(by_position)):
        return None
    raise SnDeployError(
        f"takes forward{inspect.signature(model.forward)}",
        where=f"--model, {type(model).__name__}",
        expected=f"parameters for the inputs {', '.join(input_names)}",
        mend="where one parameter holds several inputs, a list or a dict, wrap the model in a module that is given "
        "each by itself and puts them together",
    )


def _called_by_name(model: Any, names: Sequence[str]) -> Callable[..., Any]:
    return lambda *tensors: model(**dict(zip(names, tensors, strict=True)))
