"""The limits of a check, and which of them hold."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sn_deploy.arguments import real_number
from sn_deploy.check.result import Assertion, OutputParity, TaskMetric
from sn_deploy.compare.parity import PERCENTS, Parity
from sn_deploy.compare.tolerances import WORST_SAMPLE, coarsest, tolerance_for
from sn_deploy.errors import SnDeployError
from sn_deploy.python_words import naming_arguments

EVERY_OUTPUT: Final = "*"

# Figures of `OutputParity` that may have a limit -> True where the limit is the smallest value that is allowed.
PARITY_LIMITS: Final = {
    "rel_l2": False,
    "worst_rel_l2": False,
    "max_abs": False,
    "max_rel": False,
    **{f"p{percent}": False for percent in PERCENTS},
    "nonfinite_mismatch": False,
    "cosine": True,
    "snr_db": True,
}
# Not for the user: an output of which nothing was compared has to have a first element.
COMPARED: Final = "elements"
_MINIMA: Final = {**PARITY_LIMITS, COMPARED: True}


@dataclass(frozen=True)
class Limits:
    """What the user asked for; what isn't asked for comes from the table of tolerances.

    Attributes:
        tolerances: output, or ``*`` for every one -> figure of `PARITY_LIMITS` -> limit.
        minima, maxima: figure of the task -> limit, for every backend that has it.
        drops: figure of the task -> how much worse (lower) than the reference's it may be.

    Raises:
        SnDeployError: one of them is no dict of numbers, or there is no such figure.
    """

    tolerances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    minima: Mapping[str, float] = field(default_factory=dict)
    maxima: Mapping[str, float] = field(default_factory=dict)
    drops: Mapping[str, float] = field(default_factory=dict)

    @naming_arguments()
    def __post_init__(self) -> None:
        for name in ("minima", "maxima", "drops"):
            object.__setattr__(self, name, _figures(getattr(self, name), f"Limits.{name}"))
        of_outputs = _dict(self.tolerances, "Limits.tolerances", '{"*": {"rel_l2": 1e-4}}, by output')
        checked = {
            output: _figures(figures, f"Limits.tolerances of {output}") for output, figures in of_outputs.items()
        }
        object.__setattr__(self, "tolerances", checked)
        unknown = [name for figures in checked.values() for name in figures if name not in PARITY_LIMITS]
        if unknown:
            raise SnDeployError(
                f"there is no figure {unknown[0]!r}", where="Limits.tolerances", expected=", ".join(PARITY_LIMITS)
            )

    def state(self) -> dict[str, Any]:
        """The limits as JSON holds them exactly: what is infinite as text."""
        return {
            "tolerances": {output: _texts(figures) for output, figures in self.tolerances.items()},
            **{name: _texts(getattr(self, name)) for name in ("minima", "maxima", "drops")},
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Limits:
        """What `state` wrote.

        Raises:
            KeyError, TypeError, ValueError: it isn't that.
        """
        tolerances = {str(output): _numbers(figures) for output, figures in state["tolerances"].items()}
        return cls(tolerances, *(_numbers(state[name]) for name in ("minima", "maxima", "drops")))

    def tolerance(self, output: str, dtypes: Sequence[str]) -> dict[str, float]:
        """Figure -> limit for one output.

        Args:
            dtypes: the output's type first, then those that its backend and the reference compute in.

        Raises:
            SnDeployError: one of them has no row in the table, and no limit of the relative L2 error is given.
        """
        given = {**self.tolerances.get(EVERY_OUTPUT, {}), **self.tolerances.get(output, {})}
        if dtypes[0] in _EXACT:
            return {"max_abs": 0.0, "nonfinite_mismatch": 0.0, **given}
        rel_l2 = given["rel_l2"] if "rel_l2" in given else tolerance_for(coarsest(list(dtypes))).rel_l2
        return {"rel_l2": rel_l2, "worst_rel_l2": WORST_SAMPLE * rel_l2, "nonfinite_mismatch": 0.0, **given}

    def check_outputs(self, outputs: Iterable[str]) -> None:
        """Refuses tolerances for outputs that aren't there.

        Raises:
            SnDeployError: there is such a one.
        """
        names = list(outputs)
        for name in self.tolerances:
            if name not in (EVERY_OUTPUT, *names):
                raise SnDeployError(
                    f"there is no output {name!r}", where="--tolerance", expected=" or ".join(names) or "some output"
                )

    def check_metrics(self, metrics: Iterable[TaskMetric]) -> None:
        """Refuses limits of figures that this check doesn't give.

        Raises:
            SnDeployError: there is such a one.
        """
        names = {metric.name for metric in metrics}
        compared = {metric.name for metric in metrics if metric.difference is not None}
        for option, limits, known in (
            ("--min", self.minima, names),
            ("--max", self.maxima, names),
            ("--max-drop", self.drops, compared),
        ):
            for name in limits:
                if name not in known:
                    raise SnDeployError(
                        f"there is no figure {name!r}",
                        where=option,
                        expected=" or ".join(sorted(known)) or "no such option, for this data and these outputs",
                        mend="accuracies need labels, (N,) of a classification or (N, H, W) of a segmentation, or "
                        "one-hot; see --task and --metric",
                    )

    def of_metrics(self, metrics: Sequence[TaskMetric]) -> list[Assertion]:
        """The assertions about figures of the task."""
        made = []
        for metric in metrics:
            if metric.name in self.minima:
                made.append(_at_least(metric, self.minima[metric.name]))
            if metric.name in self.maxima:
                made.append(_at_most(metric, self.maxima[metric.name]))
            if metric.name in self.drops and metric.difference is not None:
                made.append(_no_drop(metric, self.drops[metric.name]))
        return made


# Types of outputs in which every difference is a fault.
_EXACT: Final = frozenset({"bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"})


def parity_value(parity: Parity, metric: str) -> float:
    """The figure that a limit is about."""
    if metric[1:] in PERCENTS:
        return float(parity.percentiles[metric[1:]])
    return float(getattr(parity, metric))


def holds(metric: str, value: float, limit: float) -> bool:
    """Whether a figure of `PARITY_LIMITS`, or `COMPARED`, keeps its limit. NaN doesn't."""
    return value >= limit if _MINIMA[metric] else value <= limit


def of_parity(backend: str, parity: OutputParity) -> list[Assertion]:
    """The assertions about one output."""
    made = []
    for metric, limit in parity.tolerance.items():
        value = parity_value(parity, metric)
        sign = ">=" if _MINIMA[metric] else "<="
        text = f"{backend}: {parity.output}: {metric} {_compared(value, sign, limit)}"
        made.append(Assertion(text, metric, backend, value, limit, holds(metric, value, limit)))
    return made


def _figures(given: object, where: str) -> dict[str, float]:
    figures = _dict(given, where, '{"top1_agreement": 0.99}' if "of " not in where else '{"rel_l2": 1e-4}')
    return {name: real_number(value, f"{where}, {name}") for name, value in figures.items()}


def _dict(given: object, where: str, expected: str) -> Mapping[str, object]:
    if not isinstance(given, Mapping):
        raise SnDeployError(f"is a {type(given).__name__}", where=where, expected=f"a dict, such as {expected}")
    return given


def _texts(figures: Mapping[str, float]) -> dict[str, Any]:
    return {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}


def _numbers(figures: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in figures.items()}


def _title(metric: TaskMetric) -> str:
    return f"{metric.backend}: {metric.output + ': ' if metric.output else ''}{metric.name}"


def _at_least(metric: TaskMetric, limit: float) -> Assertion:
    text = f"{_title(metric)} {_compared(metric.value, '>=', limit)}"
    return Assertion(text, metric.name, metric.backend, metric.value, limit, metric.value >= limit)


def _at_most(metric: TaskMetric, limit: float) -> Assertion:
    text = f"{_title(metric)} {_compared(metric.value, '<=', limit)}"
    return Assertion(text, metric.name, metric.backend, metric.value, limit, metric.value <= limit)


def _no_drop(metric: TaskMetric, limit: float) -> Assertion:
    assert metric.difference is not None
    drop = -metric.difference + 0.0  # no negative zero
    text = f"{_title(metric)}: drop from the reference {_compared(drop, '<=', limit)}"
    return Assertion(text, f"{metric.name}_drop", metric.backend, drop, limit, drop <= limit)


def _compared(value: float, sign: str, limit: float) -> str:
    texts = number(value), number(limit)
    if texts[0] == texts[1] and value != limit:
        texts = repr(value), repr(limit)
    return f"{texts[0]} {sign} {texts[1]}"


def number(value: float) -> str:
    """A figure for people."""
    if not math.isfinite(value):
        return {math.inf: "infinite", -math.inf: "-infinite"}.get(value, "NaN")
    return f"{value:.4g}"
