"""What each SN layer uses: the weights of IN, LN and BN, after the figure of the SN paper (Luo et al., ICLR 2019)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sn_deploy.check.report.palette import BRANCHES, PAPER
from sn_deploy.check.report.pictures.canvas import Picture, add_legend, layer_axis, picture, set_height

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def importance_picture(layers: Sequence[Mapping[str, Any]], says: str) -> Picture:
    """A stacked bar a layer: for the mean above, for the variance below."""

    def draw(figure: Figure, is_narrow: bool) -> None:
        set_height(figure, 2.9 if is_narrow else 3.1)
        panels = figure.subplots(2, 1, sharex=True)
        for axes, statistic, title in zip(panels, ("mean", "var"), ("mean", "variance"), strict=True):
            bottoms = [0.0] * len(layers)
            for branch, colour in BRANCHES.items():
                heights = [layer[statistic][branch] for layer in layers]
                axes.bar(range(len(layers)), heights, 0.84, bottoms, color=colour, label=branch, linewidth=0)
                bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
            axes.set_ylabel(f"weights of the {title}" if not is_narrow else title)
            axes.set_yticks([0, 0.5, 1], ["0", "½", "1"])
            axes.set_ylim(0, 1)
            axes.spines[["left", "bottom"]].set_visible(False)
            # Over the bars: they fill the panel.
            axes.axhline(0.5, color=PAPER, linewidth=0.7)
            layer_axis(axes, len(layers))
        panels[0].set_xlabel("")
        add_legend(figure, panels[0], is_narrow=False)

    how = (
        "Each bar is an SN layer; its parts are the shares of instance (IN), layer (LN) and batch statistics (BN). BN "
        "is constant at inference; IN and LN are computed from each image, which is what the layer's time goes into."
    )
    return picture("importance", draw, alt=f"Importance of IN, LN and BN by layer. {says}", how=how)
