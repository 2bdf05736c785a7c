"""What a calibration changed: as a table for people and as plain data for machines."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from rich.table import Table
from rich.text import Text

from sn_deploy.calibrate.movement import Movement, movement
from sn_deploy.calibrate.one_pass import Calibration, LayerStatistics
from sn_deploy.calibrate.state import statistics_of
from sn_deploy.console import Console
from sn_deploy.table import plain_table
from sn_deploy.text import counted

SCHEMA: Final = 1


@dataclass(frozen=True, eq=False)
class Change:
    """One layer's new statistics, and how far they are from the old ones."""

    layer: LayerStatistics
    moved: Movement


def changes_from(tensors: Mapping[str, torch.Tensor], layers: Iterable[LayerStatistics]) -> list[Change]:
    """What ``layers`` change of the statistics in ``tensors``, a state dict."""
    return [
        Change(layer, movement(statistics_of(tensors, layer.identity), (layer.mean, layer.var))) for layer in layers
    ]


def table_from_changes(changes: Sequence[Change]) -> Table:
    """One row a layer, in the order in which they ran; what looks wrong stands at its end."""
    ran = any(change.layer.traits is not None for change in changes)
    noted = any(change.moved.suspicion for change in changes)
    table = plain_table()
    table.add_column("\nlayer", overflow="fold", min_width=8)
    if ran:
        table.add_column("\ncalls", justify="right", no_wrap=True)
        table.add_column("weight of BN\nmean, variance", justify="right", no_wrap=True)
    table.add_column("mean moved, deviations\nmedian (largest)", justify="right", no_wrap=True)
    table.add_column("variance, times\nmedian (range)", justify="right", no_wrap=True)
    if noted:
        table.add_column("\nnote", overflow="fold", min_width=12)
    for change in changes:
        traits, moved = change.layer.traits, change.moved
        weights = "" if traits is None else f"{traits.mean_bn:.3f}, {traits.var_bn:.3f}"
        table.add_row(
            Text(change.layer.name),
            *([str(change.layer.calls), weights] if ran else []),
            _pair(moved.mean, f"{moved.largest_mean:.2g}"),
            _pair(moved.var, f"{moved.smallest_var:.3g} to {moved.largest_var:.3g}"),
            *([Text(_note(change), style="yellow")] if noted else []),
        )
    return table


def _pair(middle: float, extreme: str) -> str:
    return "–" if math.isnan(middle) else f"{middle:.3g} ({extreme})"


def _note(change: Change) -> str:
    return change.moved.suspicion or ""


def print_calibration(console: Console, calibration: Calibration) -> None:
    """What the new statistics are of; how far they are from the old ones, `table_from_changes` tells."""
    batches = counted(len(calibration.batches), "batch")
    console.print(
        f"{calibration.statistics} of {counted(len(calibration.layers), 'layer')} over "
        f"{counted(calibration.samples, 'sample')} in {batches}"
    )
    for line in lines_from_calibration(calibration):
        console.print(line)


def lines_from_calibration(calibration: Calibration) -> list[str]:
    """What else there is to say, a line each; empty where all is as usual."""
    lines = []
    assumed = [layer.name for layer in calibration.layers if layer.traits is not None and layer.traits.assumed]
    if assumed:
        lines.append(
            f"{', '.join(assumed)}: the training code couldn't be asked how it takes a batch's statistics, so they "
            "are taken as the published layers do"
        )
    for names, what in (
        (calibration.unused, "never ran on this data: the statistics stay as they were"),
        (calibration.without_bn, "no BN branch, nothing to calibrate"),
    ):
        if names:
            lines.append(f"{', '.join(names)}: {what}")
    lines += [f"{name}: left as it was, not SN: {reason}" for name, reason in calibration.refused.items()]
    return lines


def line_from_sweeps(moved: Sequence[float], tolerance: float) -> str:
    """How many sweeps a population took, and whether its statistics have settled.

    Args:
        moved: by how much each sweep moved the statistics: of a deviation, or relative to a variance.
        tolerance: what is taken for no movement.
    """
    sweeps = counted(len(moved), "sweep")
    last = f"moved the statistics by {moved[-1]:.1e} (tolerance {tolerance:g})"
    if moved[-1] <= tolerance:
        return f"settled after {sweeps}: the last {last}"
    return f"not settled after {sweeps}: the last still {last}; give more --sweeps, or a larger --tolerance"


def json_from_changes(changes: Sequence[Change], calibration: Calibration | None) -> dict[str, Any]:
    """The same as plain data; numbers that there are none of are null. docs/guides/calibrate.md says what each is."""
    document: dict[str, Any] = {"schema": SCHEMA, "layers": [_row(change) for change in changes]}
    if calibration is None:
        return {**document, "statistics": "finalised"}
    return {
        **document,
        "statistics": calibration.statistics,
        "samples": calibration.samples,
        "batches": len(calibration.batches),
        "batch_sizes": {str(size): count for size, count in sorted(Counter(calibration.batches).items())},
        "unused": list(calibration.unused),
        "without_bn": list(calibration.without_bn),
        "refused": calibration.refused,
        "sweeps_moved": list(calibration.moved),
        "converged": calibration.converged,
    }


def _row(change: Change) -> dict[str, Any]:
    layer, moved = change.layer, change.moved
    return {
        "name": layer.name,
        "channels": int(layer.mean.size),
        "calls": layer.calls,
        "weight_of_bn": None if layer.traits is None else {"mean": layer.traits.mean_bn, "var": layer.traits.var_bn},
        "mean_moved": {"median": _number(moved.mean), "largest": _number(moved.largest_mean)},
        "var_times": {
            "median": _number(moved.var),
            "smallest": _number(moved.smallest_var),
            "largest": _number(moved.largest_var),
        },
        "note": moved.suspicion,
    }


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
