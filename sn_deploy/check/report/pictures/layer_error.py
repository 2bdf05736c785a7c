"""How the error grows from layer to layer, for each backend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sn_deploy.check.report.palette import BAD, INK, MUTED
from sn_deploy.check.report.pictures.canvas import (
    Picture,
    add_legend,
    colour_of,
    layer_axis,
    log_axis,
    picture,
    set_height,
)
from sn_deploy.text import cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def layer_error_picture(reports: Sequence[Mapping[str, Any]], places: Mapping[str, int], says: str) -> Picture:
    """One panel a backend.

    Args:
        reports: the document's ``layers``, each with at least one layer.
        places: backend -> its place in the document.
        says: what it means, for who can't see it.
    """
    floor = _floor(reports)

    def draw(figure: Figure, is_narrow: bool) -> None:
        set_height(figure, 0.55 + len(reports) * (1.75 if is_narrow else 2.05))
        rows = figure.subplots(len(reports), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        for axes, report in zip(rows, reports, strict=True):
            _draw_panel(axes, report, colour_of(places.get(report["backend"], 0)), floor, is_narrow)
        for axes in rows[:-1]:
            axes.set_xlabel("")
        add_legend(figure, rows[0], is_narrow)

    how = (
        "Each dot is an SN layer; the scale is logarithmic, one line up is ten times the error or more. A tolerance is "
        "drawn as a dashed line, and a layer above its line has failed."
    )
    return picture("layer-error", draw, alt=f"Error by layer. {says}", how=how)


def _draw_panel(axes: Axes, report: Mapping[str, Any], colour: str, floor: float, is_narrow: bool) -> None:
    layers = report["layers"]
    index = np.arange(len(layers))
    size = 3.6 if len(layers) <= 60 else 2.4

    def drawn(key: str) -> Any:
        values = np.array([np.inf if layer[key] is None else layer[key] for layer in layers], dtype=float)
        return np.maximum(values, floor)

    axes.set_yscale("log")
    axes.plot(index, drawn("rel_l2"), color=colour, marker="o", markersize=size, linewidth=1.4, label="error so far")
    axes.plot(index, drawn("own_rel_l2"), color=MUTED, marker=".", markersize=size, linewidth=0.8, label="layer's own")
    axes.plot(index, drawn("tolerance"), color=BAD, linestyle=(0, (4, 2)), linewidth=1, label="tolerance so far")
    axes.plot(
        index, drawn("own_tolerance"), color=BAD, linestyle=(0, (1, 2)), linewidth=1, label="tolerance of its own"
    )
    culprit = next((place for place, layer in enumerate(layers) if layer["layer"] == report["culprit"]), None)
    if culprit is not None:
        height = max(drawn("rel_l2")[culprit], drawn("own_rel_l2")[culprit])
        if np.isfinite(height):
            axes.plot([culprit], [height], "o", markersize=9, markerfacecolor="none", markeredgecolor=BAD)
        late = culprit > len(layers) / 2
        axes.annotate(
            cut(report["culprit"], 22 if is_narrow else 40),
            (culprit, height if np.isfinite(height) else axes.get_ylim()[1]),
            xytext=(-7 if late else 7, 5),
            textcoords="offset points",
            ha="right" if late else "left",
            color=BAD,
        )
    axes.set_title(cut(report["backend"], 24 if is_narrow else 60), color=INK, fontweight="bold")
    axes.set_ylabel("relative L2 error")
    axes.grid(axis="y")
    log_axis(axes.yaxis)
    layer_axis(axes, len(layers))
    axes.margins(y=0.12)


def _floor(reports: Sequence[Mapping[str, Any]]) -> float:
    """Where an error of 0 is drawn on the logarithmic scale: below all others."""
    keys = ("rel_l2", "own_rel_l2", "tolerance", "own_tolerance")
    values = [layer[key] for report in reports for layer in report["layers"] for key in keys if layer[key]]
    return min(values) / 3 if values else 1e-12
