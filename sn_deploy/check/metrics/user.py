"""The user's own figure, from ``--metric PACKAGE.MODULE:CALLABLE``, or a callable in memory.

What the callable may be:

- a function of two parameters, ``metric(outputs, labels)``, that gives one value for each sample of a batch, an array
  (samples,): the figure is their mean, exact whatever the order. Booleans give an interval, too.
- a class, or a function without required parameters, that makes an object with

      update(outputs, labels)     takes in a batch
      value()                     the figure so far: a number, or several as a dict
      state(), merge(state)       only for shards: what it has gathered as JSON can hold it, and taking in another's

``outputs`` is a dict of arrays by name, ``labels`` what the data has for the batch, or None. Both are copies: whatever
the code writes to them, the next backend's are as they were. Each backend has an object of its own.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sn_deploy import user_code
from sn_deploy.check.batch import Batch
from sn_deploy.check.intervals import wilson
from sn_deploy.check.metrics.metric import Metric, Outputs
from sn_deploy.check.result import TaskMetric
from sn_deploy.compare.exact import ExactSum
from sn_deploy.compare.fit import as_array, is_float
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import Array


def load_metric(metric: str | Callable[..., Any], backends: Sequence[str], reference: str) -> Metric:
    """The metric that ``--metric`` names, or that is given itself.

    Raises:
        SnDeployError: it leads nowhere, or to nothing that is a metric.
    """
    target: Any = user_code.load_object(metric, option="--metric") if isinstance(metric, str) else metric
    text = metric if isinstance(metric, str) else user_code.name_of(metric)
    where = f"--metric {text}"
    if not callable(target):
        raise SnDeployError(f"is a {type(target).__name__}", where=where, expected="a function or a class")
    if not inspect.isclass(target):
        required = _required_parameters(target)
        if required and not _takes_two(target):
            raise SnDeployError(
                f"needs {required} argument{'s' if required > 1 else ''}",
                where=where,
                expected="a function metric(outputs, labels), or a class or function without required arguments",
            )
        if required:
            return _PerSample(text, target, backends, reference)
    objects = {name: _made(target, where) for name in backends}
    if len({id(made) for made in objects.values()}) < len(objects):
        raise SnDeployError(
            "gives the same object twice, in which the outputs of all backends would be mixed",
            where=where,
            expected="a new one at each call",
        )
    return _PerBackend(text, objects, reference)


def _required_parameters(function: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 2  # a builtin that doesn't say
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(one.kind in positional and one.default is one.empty for one in parameters)


def _takes_two(function: Callable[..., Any]) -> bool:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError:
        return False
    except ValueError:
        pass  # a builtin that doesn't say
    return True


def _made(target: Callable[[], Any], where: str) -> Any:
    made = user_code.call(target, {}, option=where)
    missing = [name for name in ("update", "value") if not callable(getattr(made, name, None))]
    if missing:
        raise SnDeployError(
            f"makes a {type(made).__name__} without {' and '.join(missing)}",
            where=where,
            expected="an object with update(outputs, labels) and value()",
        )
    return made


def _title(text: str) -> str:
    return text.rpartition(":")[2].rpartition(".")[2]


def _guarded(where: str, function: Callable[..., Any], *arguments: Any) -> Any:
    with user_code.failures_told(where):
        return function(*arguments)


def _handed(batch: Batch, outputs: Mapping[str, Array]) -> tuple[dict[str, Array], Array | None]:
    """What the user's code is given."""
    return {name: value.copy() for name, value in outputs.items()}, copy.deepcopy(batch.labels)


class _PerSample:
    """A function that gives a value for each sample."""

    def __init__(self, text: str, function: Callable[..., Any], backends: Sequence[str], reference: str) -> None:
        self.spec = {"kind": "user", "callable": text}
        self._where, self._name, self._function, self._reference = f"--metric {text}", _title(text), function, reference
        self._sums = {name: ExactSum() for name in backends}
        self._samples = 0
        self._boolean = True

    def update(self, batch: Batch, outputs: Outputs) -> None:
        self._samples += batch.samples
        for name in self._sums:
            given = _guarded(self._where, self._function, *_handed(batch, outputs[name]))
            values = as_array(given, f"{self._where}, what it gives")
            self._check(values, batch)
            self._boolean &= values.dtype == np.bool_
            self._sums[name].add(values.astype(np.float64).tolist())

    def _check(self, values: Array, batch: Batch) -> None:
        if values.shape != (batch.samples,) or not (values.dtype.kind in "biu" or is_float(values.dtype)):
            raise SnDeployError(
                f"gives an array of {values.dtype} and shape {values.shape} for a batch of {batch.samples}",
                where=self._where,
                expected=f"one number for each sample, shape ({batch.samples},)",
            )

    def state(self) -> dict[str, Any]:
        sums = {name: total.state() for name, total in self._sums.items()}
        return {"samples": self._samples, "boolean": self._boolean, "sums": sums}

    def merge(self, state: Mapping[str, Any]) -> None:
        self._samples += int(state["samples"])
        self._boolean &= bool(state["boolean"])
        for name in self._sums:
            self._sums[name] += ExactSum.from_state(state["sums"][name])

    def figures(self) -> list[TaskMetric]:
        expected = self._sums[self._reference].mean(self._samples)
        return [self._figure(name, total, expected) for name, total in self._sums.items()]

    def _figure(self, name: str, total: ExactSum, expected: float) -> TaskMetric:
        value = total.mean(self._samples)
        share = wilson(int(total.value), self._samples) if self._boolean else None
        return TaskMetric(
            self._name,
            name,
            value,
            low=share.low if share else None,
            high=share.high if share else None,
            count=self._samples,
            difference=None if name == self._reference else value - expected,
        )


class _PerBackend:
    """An object for each backend, that gathers what it likes."""

    def __init__(self, text: str, objects: Mapping[str, Any], reference: str) -> None:
        self.spec = {"kind": "user", "callable": text}
        self._where, self._name, self._objects, self._reference = f"--metric {text}", _title(text), objects, reference
        self._samples = 0

    def update(self, batch: Batch, outputs: Outputs) -> None:
        self._samples += batch.samples
        for name, made in self._objects.items():
            _guarded(self._where, made.update, *_handed(batch, outputs[name]))

    def state(self) -> dict[str, Any]:
        states = {name: _guarded(self._where, self._method(made, "state")) for name, made in self._objects.items()}
        try:
            json.dumps(states, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SnDeployError(
                f"state() gives what JSON can't hold: {first_line(error)}",
                where=self._where,
                expected="numbers that are finite, strings, lists and dicts",
            ) from error
        return {"samples": self._samples, "states": states}

    def merge(self, state: Mapping[str, Any]) -> None:
        self._samples += int(state["samples"])
        for name, made in self._objects.items():
            _guarded(self._where, self._method(made, "merge"), state["states"][name])

    def _method(self, made: Any, name: str) -> Callable[..., Any]:
        method = getattr(made, name, None)
        if not callable(method):
            raise SnDeployError(
                f"{type(made).__name__} has no {name}",
                where=self._where,
                expected="state() and merge(state), for a check in shards",
            )
        return method  # type: ignore[no-any-return]

    def figures(self) -> list[TaskMetric]:
        given = {name: self._value(made) for name, made in self._objects.items()}
        titles = dict.fromkeys(title for row in given.values() for title in row)
        # What only some give is NaN in the others, which keeps no limit.
        values = {title: {name: row.get(title, math.nan) for name, row in given.items()} for title in titles}
        return [
            TaskMetric(
                title,
                name,
                value,
                count=self._samples,
                difference=None if name == self._reference else value - row[self._reference],
            )
            for title, row in values.items()
            for name, value in row.items()
        ]

    def _value(self, made: Any) -> dict[str, float]:
        value = _guarded(self._where, made.value)
        named = dict(value) if isinstance(value, Mapping) else {self._name: value}
        try:
            return {str(title): float(number) for title, number in named.items()}
        except (TypeError, ValueError) as error:
            raise SnDeployError(
                f"value() gives {value!r:.80}", where=self._where, expected="a number, or a dict of numbers"
            ) from error
