"""A runner under the check's own names, with inputs in the types that it wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import numpy as np

from sn_deploy.check.names import match_names
from sn_deploy.check.result import BackendInfo
from sn_deploy.compare.fit import is_float
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import Array, TensorInfo


class Runner(Protocol):
    """A model opened in some runtime, as `sn_deploy.runtime` has them."""

    @property
    def inputs(self) -> Sequence[TensorInfo]: ...

    def run(self, inputs: Mapping[str, Array], /) -> Mapping[str, Array]: ...

    def close(self) -> None: ...


class FileRunner(Runner, Protocol):
    """One that knows its outputs before it has run."""

    @property
    def outputs(self) -> Sequence[TensorInfo]: ...


class AdaptedBackend:
    """A model opened in some runtime, under the check's own names of inputs and outputs, whatever the file's are.

    Args:
        info: what it is.
        runner: what runs it.
        reopen: opens it once more, perhaps in another process: to be pickled.
        input_names: name in the check -> the runner's own.
        output_names: name in the check -> the runner's own, or names in the check in the runner's order; None for its
            own.
    """

    def __init__(
        self,
        info: BackendInfo,
        runner: Runner,
        reopen: Callable[[], Runner],
        input_names: Mapping[str, str],
        output_names: Mapping[str, str] | Sequence[str] | None,
    ) -> None:
        self.info, self.runner, self.reopen = info, runner, reopen
        self._input_names, self._output_names = dict(input_names), output_names
        self._inputs = {one.name: one for one in runner.inputs}
        self._own_outputs = dict(output_names) if isinstance(output_names, Mapping) else None

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs, by name. Inputs of another float type than the model's are cast.

        Raises:
            SnDeployError: the runner fails, or its outputs can't be told apart.
        """
        results = self._run(self.cast(inputs))
        if self._own_outputs is None:
            self._own_outputs = self._match_outputs(list(results))
        return {name: results[own] for name, own in self._own_outputs.items()}

    def with_runner(self, info: BackendInfo, runner: Runner, reopen: Callable[[], Runner]) -> AdaptedBackend:
        """Another runner with the same inputs and outputs."""
        return AdaptedBackend(info, runner, reopen, self._input_names, self._own_outputs or self._output_names)

    def timed(self, inputs: Mapping[int, Mapping[str, Array]]) -> Any:
        """A runner for `sn_deploy.check.latency.measure` that is given ``inputs`` cast beforehand.

        What the runner can do beside `run` (tell its device's times or its layers'), this one can, too.
        """
        own = {id(batch): self.cast(batch) for batch in inputs.values()}
        methods = ("run", "device_time_ms", "layer_times_ms")
        there = {name: getattr(self.runner, name) for name in methods if hasattr(self.runner, name)}

        def on_own_inputs(method: Callable[[Mapping[str, Array]], object]) -> Callable[[Mapping[str, Array]], object]:
            return lambda batch: method(own[id(batch)])

        return SimpleNamespace(**{name: on_own_inputs(method) for name, method in there.items()})

    def close(self) -> None:
        """Frees what the runner holds."""
        self.runner.close()

    def _run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            return self.runner.run(inputs)
        except SnDeployError:
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {value.dtype} {value.shape}" for name, value in inputs.items())
            raise SnDeployError(
                f"fails on {shapes}: {type(error).__name__}: {first_line(error)}", where=self.info.name
            ) from error

    def cast(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs under the runner's names and in its types."""
        return {
            own: cast_input(inputs[name], self._inputs[own], self.info.name) for name, own in self._input_names.items()
        }

    def _match_outputs(self, own: list[str]) -> dict[str, str]:
        if self._output_names is None:
            return {name: name for name in own}
        return match_names(list(self._output_names), own, self.info.name, what="output", ordered=True)


def cast_input(value: Array, info: TensorInfo, where: str) -> Array:
    """A value in the type that an input has: floats to floats, integers to integers that hold them.

    Raises:
        SnDeployError: it isn't of that kind.
    """
    if value.dtype == info.dtype:
        return value
    if is_float(value.dtype) and is_float(info.dtype):
        with np.errstate(over="ignore"):  # what doesn't fit becomes infinite and is counted
            return value.astype(info.dtype)
    if value.dtype.kind in "iu" and info.dtype.kind in "iu":
        cast = value.astype(info.dtype)
        if np.array_equal(cast, value):
            return cast
    raise SnDeployError(f"input {info.name} is given {value.dtype}", where=where, expected=str(info))
