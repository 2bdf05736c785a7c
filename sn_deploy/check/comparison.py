"""All that a check gathers while batches stream by: parity and figures of the task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sn_deploy.check.batch import Batch
from sn_deploy.check.layers.comparison import LayerComparison
from sn_deploy.check.limits import COMPARED, Limits, holds, of_parity, parity_value
from sn_deploy.check.metrics.metric import Metric, Outputs
from sn_deploy.check.result import Assertion, BackendInfo, OutputParity, TaskMetric
from sn_deploy.compare.parity import Differences
from sn_deploy.errors import SnDeployError


class Comparison:
    """Compares every backend's outputs with the reference's, batch by batch.

    Args:
        backends: all, in the order of the tables.
        reference: the name of the one that the others are compared with.
        outputs: the names of the outputs.
        metrics: figures of the task.
        limits: what has to hold.
        layers: the SN layers, where they are compared, too; whoever runs them feeds it.

    Raises:
        SnDeployError: a limit for an output that isn't there.
    """

    def __init__(
        self,
        backends: Sequence[BackendInfo],
        reference: str,
        outputs: Sequence[str],
        metrics: Sequence[Metric],
        limits: Limits,
        layers: LayerComparison | None = None,
    ) -> None:
        limits.check_outputs(outputs)
        self.backends = {info.name: info for info in backends}
        self.reference, self.outputs, self.limits = reference, tuple(outputs), limits
        self.layers = layers
        self.samples = self.batches = 0
        self._reference_dtypes = dict.fromkeys(outputs, "")
        self._metrics = list(metrics)
        self._differences = {
            name: {output: Differences() for output in outputs} for name in self.backends if name != reference
        }

    def update(self, batch: Batch, outputs: Outputs) -> None:
        """Takes in one batch: backend -> output -> array.

        Raises:
            CheckFailedError: an output has another shape than the reference's.
        """
        expected = outputs[self.reference]
        for name, differences in self._differences.items():
            for output, difference in differences.items():
                difference.update(
                    expected[output],
                    outputs[name][output],
                    first=batch.first,
                    samples=batch.samples,
                    where=f"{name}: output {output}",
                )
        self._reference_dtypes = {output: str(expected[output].dtype) for output in self.outputs}
        for metric in self._metrics:
            metric.update(batch, outputs)
        if not self.batches:
            if self.limits.minima or self.limits.maxima or self.limits.drops:
                self.limits.check_metrics(self.figures())
            self.parity()  # types without a tolerance are refused here, and not at the end of a long run
        self.samples += batch.samples
        self.batches += 1

    def parity(self) -> dict[str, list[OutputParity]]:
        """Backend -> its outputs beside the reference's.

        Raises:
            SnDeployError: a type without a tolerance.
        """
        return {
            name: [
                self._output_parity(name, output, difference, alone=not _compared(differences.values()))
                for output, difference in differences.items()
            ]
            for name, differences in self._differences.items()
        }

    def _output_parity(self, name: str, output: str, difference: Differences, *, alone: bool) -> OutputParity:
        """``alone``: no output of the backend has an element that was compared."""
        figures = difference.parity()
        dtype = difference.dtype or ""
        precisions = (self.backends[one].settings.get("precision") for one in (name, self.reference))
        dtypes = [dtype, self._reference_dtypes[output], *(one for one in precisions if one)]
        tolerance = self.limits.tolerance(output, dtypes)
        if not figures.elements and (alone or figures.reference_nonfinite or figures.nonfinite):
            tolerance[COMPARED] = 1.0  # an output without elements shows nothing, nor one that is infinite everywhere
        return OutputParity(
            **vars(figures),
            output=output,
            dtype=dtype,
            shape=list(difference.shape or ()),
            tolerance=tolerance,
            passed=all(holds(metric, parity_value(figures, metric), limit) for metric, limit in tolerance.items()),
        )

    def figures(self) -> list[TaskMetric]:
        """The figures of the task."""
        return [figure for metric in self._metrics for figure in metric.figures()]

    def assertions(self) -> list[Assertion]:
        """What has to hold, and whether it does."""
        parity = self.parity()
        made = [one for name, rows in parity.items() for row in rows for one in of_parity(name, row)]
        layers = self.layers.assertions() if self.layers is not None else []
        return made + self.limits.of_metrics(self.figures()) + layers

    def specification(self) -> dict[str, Any]:
        """What another part of the same check must have alike, as JSON holds it."""
        return {
            "reference": self.reference,
            "outputs": list(self.outputs),
            "limits": self.limits.state(),
            "metrics": [metric.spec for metric in self._metrics],
            "layers": None if self.layers is None else self.layers.tolerance.state(),
        }

    def state(self) -> dict[str, Any]:
        """All that was gathered, as JSON holds it exactly."""
        return {
            "samples": self.samples,
            "batches": self.batches,
            "reference_dtypes": dict(self._reference_dtypes),
            "metrics": [metric.state() for metric in self._metrics],
            "layers": None if self.layers is None else self.layers.state(),
            "differences": {
                name: {output: difference.state() for output, difference in differences.items()}
                for name, differences in self._differences.items()
            },
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Takes in what `state` of another part gave.

        Raises:
            KeyError, TypeError, ValueError: it isn't that.
            SnDeployError: the parts' outputs are of different types.
        """
        for name, differences in self._differences.items():
            for output, difference in differences.items():
                difference.merge(Differences.from_state(state["differences"][name][output]))
        for output, dtype in state["reference_dtypes"].items():
            if self._reference_dtypes[output] not in ("", dtype):
                raise SnDeployError(f"output {output} is {dtype} and {self._reference_dtypes[output]}")
            self._reference_dtypes[output] = dtype
        for metric, own in zip(self._metrics, state["metrics"], strict=True):
            metric.merge(own)
        if self.layers is not None:
            self.layers.merge(state["layers"])
        self.samples += int(state["samples"])
        self.batches += int(state["batches"])


def _compared(differences: Iterable[Differences]) -> bool:
    """Whether one of them has an element that was compared."""
    return any(difference.histogram.total for difference in differences)
