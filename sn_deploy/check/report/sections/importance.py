"""The weights of IN, LN and BN in each layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sn_deploy.check.report.page import Cell, Column, Section, Table
from sn_deploy.check.report.pictures.importance import importance_picture
from sn_deploy.text import counted, percent

_BRANCHES: Final = ("IN", "LN", "BN")


def importance_section(document: Mapping[str, Any]) -> Section | None:
    """A picture and a table of what each layer uses."""
    layers = [layer for layer in document["importance"] if _is_whole(layer)]
    if not layers:
        return None
    means = {branch: math.fsum(layer["mean"][branch] for layer in layers) / len(layers) for branch in _BRANCHES}
    variances = {branch: math.fsum(layer["var"][branch] for layer in layers) / len(layers) for branch in _BRANCHES}
    says = (
        f"On average over {counted(len(layers), 'SN layer')} the mean is "
        f"{', '.join(f'{percent(means[branch], 0)} {branch}' for branch in _BRANCHES)}, and the variance "
        f"{', '.join(f'{percent(variances[branch], 0)} {branch}' for branch in _BRANCHES)}."
    )
    heads = [f"{title}: {branch}" for title in ("Mean", "Variance") for branch in _BRANCHES]
    table = Table(
        "Weights of IN, LN and BN",
        [Column("Layer"), Column("No.", True), *(Column(head, True) for head in heads)],
        [_row(number, layer) for number, layer in enumerate(layers, 1)],
    )
    return Section("importance", "What each layer uses", [says], [importance_picture(layers, says)], [table])


def _row(number: int, layer: Mapping[str, Any]) -> list[Cell]:
    weights = [layer[statistic][branch] for statistic in ("mean", "var") for branch in _BRANCHES]
    name = str(layer.get("name", f"layer {number}"))
    return [Cell(name, code=True), Cell(str(number)), *(Cell(f"{weight:.3f}") for weight in weights)]


def _is_whole(layer: Any) -> bool:
    """It is what `sn-deploy inspect` writes; older or other documents may hold something else."""
    return isinstance(layer, dict) and all(
        isinstance(layer.get(statistic), dict) and all(_is_weight(layer[statistic].get(branch)) for branch in _BRANCHES)
        for statistic in ("mean", "var")
    )


def _is_weight(value: Any) -> bool:
    """Of a softmax, rounded."""
    return isinstance(value, int | float) and 0 <= value <= 1.001
