"""How long each SN layer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sn_deploy.check.report.pictures.canvas import (
    Picture,
    add_legend,
    colour_of,
    layer_axis,
    marker_of,
    picture,
    plain_axis,
    set_height,
)
from sn_deploy.text import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layer_time_picture(rows: Sequence[Mapping[str, Any]], places: Mapping[str, int], says: str) -> Picture:
    """A line a backend, over the layers in the order in which they run."""
    count = 1 + max(row["index"] for row in rows)

    def draw(figure: Figure, is_narrow: bool) -> None:
        set_height(figure, 2.4 if is_narrow else 2.7)
        axes = figure.subplots()
        for name in dict.fromkeys(row["backend"] for row in rows):
            own = sorted((row for row in rows if row["backend"] == name), key=lambda row: row["index"])
            index = places.get(name, 0)
            axes.plot(
                [row["index"] for row in own],
                [row["ms"] for row in own],
                color=colour_of(index),
                marker=marker_of(index),
                markersize=3.6 if count <= 60 else 2.4,
                linewidth=1.2,
                label=cut(name, 18 if is_narrow else 28),
            )
        axes.set_ylim(bottom=0)
        plain_axis(axes.yaxis)
        axes.set_ylabel("ms in one call")
        axes.grid(axis="y")
        layer_axis(axes, count)
        add_legend(figure, axes, is_narrow)

    how = "Each mark is an SN layer. The first layers have the largest images and so, most often, the longest times."
    return picture("layer-time", draw, alt=f"Time by layer. {says}", how=how)
