"""How long each SN layer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sn_deploy.check.report.pictures.canvas import Picture, add_legend, draw_lines, layer_axis, picture, set_height

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def layer_time_picture(rows: Sequence[Mapping[str, Any]], places: Mapping[str, int], says: str) -> Picture:
    """A line a backend, over the layers in the order in which they run."""
    count = 1 + max(row["index"] for row in rows)

    def draw(figure: Figure, is_narrow: bool) -> None:
        set_height(figure, 2.4 if is_narrow else 2.7)
        axes = figure.subplots()
        size = 3.6 if count <= 60 else 2.4
        draw_lines(axes, rows, places, x="index", y="ms", is_narrow=is_narrow, marker_size=size, width=1.2)
        axes.set_ylabel("ms in one call")
        layer_axis(axes, count)
        add_legend(figure, axes, is_narrow)

    how = "Each mark is an SN layer. The first layers have the largest images and so, most often, the longest times."
    return picture("layer-time", draw, alt=f"Time by layer. {says}", how=how)
