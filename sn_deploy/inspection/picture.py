"""The importance ratios of all layers in one picture, after the figure of the SN paper (Luo et al., ICLR 2019)."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sn_deploy.atomic import atomic_output, check_writable
from sn_deploy.errors import SnDeployError
from sn_deploy.inspection.layer import BRANCHES, LayerWeights

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision, and in grey by their lightness.
_COLOURS: Final = {"IN": "#0072B2", "LN": "#E69F00", "BN": "#009E73"}

_INCHES_PER_BAR: Final = 0.14
_MAX_INCHES: Final = 400  # above it a PNG would have more than the 65536 pixels that matplotlib can draw
_LABEL_POINTS: Final = 6.5
_LABEL_CHARACTERS: Final = 48
# No timestamps: the same layers give the same file.
_METADATA: Final = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}


def check_picture_path(path: Path) -> None:
    """Refuses, before any work is done, a picture that can't be written.

    Raises:
        SnDeployError: the suffix names no format that is known, or see `sn_deploy.atomic.check_writable`.
    """
    if path.suffix.lower() not in _METADATA:
        raise SnDeployError(
            f"the suffix {path.suffix!r} names no format of a picture",
            where=str(path),
            expected=".svg, .png or .pdf",
        )
    check_writable(path)


def write_picture(layers: list[LayerWeights], path: Path, title: str) -> None:
    """Draws one stacked bar a layer, for the mean above and for the variance below.

    Args:
        layers: in network order, at least one.
        path: a .svg, .png or .pdf file. In SVG each part of a bar is a group with the id ``mean-IN-0``,
            ``var-BN-52`` and so on.
        title: stands above.

    Raises:
        SnDeployError: see `check_picture_path`.
    """
    check_picture_path(path)
    # matplotlib without pyplot: no global figures, no display, whatever backend the user has set.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    labels, prefix = _short_names([layer.name for layer in layers])
    width = min(max(6.4, 1.4 + _INCHES_PER_BAR * len(layers)), _MAX_INCHES)
    height = 4.6 + 0.02 * width + 0.055 * max(len(label) for label in labels)
    title = _cut(title, int((width - 3) * 10))  # the legend stands beside it
    figure = Figure(figsize=(width, height), layout="constrained")
    _draw(figure, layers, title, labels, prefix)
    with (
        atomic_output(path) as temporary,
        mpl.rc_context({"svg.hashsalt": "sn-deploy"}),
        warnings.catch_warnings(),
    ):
        # A character that the font lacks is drawn as a box; the table shows it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(temporary, dpi=150, metadata=_METADATA[path.suffix.lower()])


def _draw(figure: Figure, layers: list[LayerWeights], title: str, labels: list[str], prefix: str) -> None:
    above, below = figure.subplots(2, 1, sharex=True)
    _draw_panel(above, layers, "mean", "weights of the mean")
    _draw_panel(below, layers, "var", "weights of the variance")
    below.set_xticks(range(len(layers)), labels, rotation=90, fontsize=_LABEL_POINTS, parse_math=False)
    above.tick_params(bottom=False)
    if prefix:
        below.set_xlabel(f"layers below {prefix}, in network order", fontsize=8, parse_math=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    handles, names = above.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=len(BRANCHES), frameon=False, fontsize=9)


def _draw_panel(axes: Axes, layers: list[LayerWeights], statistic: str, label: str) -> None:
    positions = range(len(layers))
    bottoms = [0.0] * len(layers)
    for index, branch in enumerate(BRANCHES):
        heights = [getattr(layer, statistic)[index] for layer in layers]
        bars = axes.bar(positions, heights, 0.84, bottoms, color=_COLOURS[branch], label=branch, linewidth=0)
        for position, bar in enumerate(bars):
            bar.set_gid(f"{statistic}-{branch}-{position}")
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.set_ylabel(label, fontsize=9)
    axes.set_xlim(-0.7, len(layers) - 0.3)
    axes.set_ylim(0, max(1.0, *bottoms))
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    # Over the bars: a grid behind them would be hidden, since they fill the panel.
    axes.grid(axis="y", color="white", linewidth=0.5, alpha=0.6)
    axes.set_axisbelow(False)


def _short_names(names: list[str]) -> tuple[list[str], str]:
    """The names' ends, without the modules that they all are in, and those modules."""
    modules = [name.split(".")[:-1] for name in names]
    # takewhile over the columns: os.path.commonprefix would cut inside a name.
    columns = zip(*modules, strict=False)
    shared = [column[0] for column in itertools.takewhile(lambda column: len(set(column)) == 1, columns)]
    prefix = "".join(f"{module}." for module in shared) if len(names) > 1 else ""
    ends = [name[len(prefix) :] for name in names]
    return [_cut(end, _LABEL_CHARACTERS) for end in ends], prefix.rstrip(".")


def _cut(text: str, characters: int) -> str:
    """The end of a text that is too long: the suffix of a file, the last module of a layer's name."""
    return text if len(text) <= characters else "…" + text[1 - characters :]
