"""What every figure of the task is, whatever the task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from sn_deploy.check.batch import Batch
from sn_deploy.check.result import TaskMetric
from sn_deploy.runtime.tensors import Array

# Backend -> output -> array.
Outputs = Mapping[str, Mapping[str, Array]]


class Metric(Protocol):
    """Some figures, gathered over batches. What it has gathered merges exactly, in any order.

    Attributes:
        spec: what `sn_deploy.check.metrics.choose.metric_from_spec` makes an empty one like it from.
    """

    @property
    def spec(self) -> dict[str, Any]: ...

    def update(self, batch: Batch, outputs: Outputs) -> None:
        """Takes in one batch."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything, as JSON holds it exactly."""
        ...

    def merge(self, state: Mapping[str, Any]) -> None:
        """Takes in what another of its kind has gathered.

        Raises:
            KeyError, TypeError, ValueError: it isn't what `state` gives.
        """
        ...

    def figures(self) -> list[TaskMetric]:
        """The figures of all batches so far."""
        ...
