"""Latency: how the calls are distributed, the ratios to the baseline, and the throughput by batch size."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from sn_deploy.check.report.palette import INK, MUTED
from sn_deploy.check.report.pictures.canvas import (
    SMALL,
    Picture,
    add_legend,
    colour_of,
    draw_lines,
    marker_of,
    picture,
    set_height,
)
from sn_deploy.text import cut, milliseconds, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Rows = Sequence[Mapping[str, Any]]
Floats = npt.NDArray[np.float64]

_RIDGE: Final = 0.5  # height of the highest distribution, in rows
_MOST_CALLS: Final = 2000  # that a density is computed from


def distribution_picture(rows: Rows, places: Mapping[str, int], says: str) -> Picture:
    """One panel a batch size, one row a backend: the density of its times, with the median and the 90th percentile."""
    panels = _by_batch(rows)

    def draw(figure: Figure, is_narrow: bool) -> None:
        heights = [len(panel) for panel in panels.values()]
        set_height(figure, 0.15 + sum(0.5 + height * (0.5 if is_narrow else 0.4) for height in heights))
        ratios = [0.3 + height for height in heights]
        column = figure.subplots(len(panels), 1, squeeze=False, height_ratios=ratios)[:, 0]
        for axes, (batch, panel) in zip(column, panels.items(), strict=True):
            _draw_ridges(axes, panel, places, is_narrow)
            axes.set_title(f"batch {batch}", color=INK, fontweight="bold")
        column[-1].set_xlabel("time of one call in ms")

    how = (
        "Each hill shows how often a call took that long: narrow is steady, wide or with several tops is not. The long "
        "line is the median, the short one the 90th percentile. The scale begins at 0, so half as far is half the time."
    )
    return picture("latency", draw, alt=f"Distribution of latencies. {says}", says=says, how=how)


def _draw_ridges(axes: Axes, panel: Rows, places: Mapping[str, int], is_narrow: bool) -> None:
    count = len(panel)
    right = 1.08 * max(row["p99_ms"] or 0.0 for row in panel) or 1.0
    right = min(right, 2.5 * max(row["median_ms"] or 0.0 for row in panel) or right)
    grid = np.linspace(0, right, 400)
    for place, row in enumerate(panel):
        base = count - 1 - place
        colour = colour_of(places.get(row["backend"], 0))
        hill = density(np.asarray(row["times_ms"], dtype=float), grid)
        axes.axhline(base, color=colour, linewidth=0.5, alpha=0.5)
        shown = hill > 1e-3
        axes.fill_between(grid, base, base + _RIDGE * hill, where=shown, color=colour, alpha=0.3, linewidth=0)
        axes.plot(np.where(shown, grid, np.nan), base + _RIDGE * hill, color=colour, linewidth=0.8)
        axes.vlines(row["median_ms"], base, base + 0.8, color=colour, linewidth=2.2)
        if row["p90_ms"] <= right:
            axes.vlines(row["p90_ms"], base, base + 0.3, color=colour, linewidth=1.4)
        _label_median(axes, row["median_ms"], base, right)
    axes.set_xlim(0, right)
    axes.set_ylim(-0.15, count - 0.1)
    labels = [cut(row["backend"], 14 if is_narrow else 28) for row in panel]
    axes.set_yticks(range(count - 1, -1, -1), labels, color=INK, va="bottom")
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")


def _label_median(axes: Axes, median: float, base: float, right: float) -> None:
    late = median > 0.75 * right
    axes.annotate(
        milliseconds(median),
        (median, base + _RIDGE),
        xytext=(-4 if late else 4, 1.5),
        textcoords="offset points",
        ha="right" if late else "left",
        va="bottom",
        fontsize=SMALL,
    )


def density(times_ms: Floats, grid: Floats) -> Floats:
    """A Gaussian kernel density of the times at the grid's points, its highest being 1.

    The bandwidth is Silverman's rule with the smaller of the deviation and the scaled quartile distance, which outliers
    don't widen; at least half a hundredth of the grid, so that equal times are seen.
    """
    values = np.sort(times_ms)
    if len(values) > _MOST_CALLS:
        values = np.quantile(values, (np.arange(_MOST_CALLS) + 0.5) / _MOST_CALLS)
    quartiles = np.subtract(*np.percentile(values, [75, 25])) / 1.349
    spread = min(float(values.std()), float(quartiles) or np.inf)
    bandwidth = max(0.9 * spread * len(values) ** -0.2, float(grid[-1] - grid[0]) / 200)
    total = np.zeros_like(grid)
    for chunk in np.array_split(values, -(-len(values) // 200)):
        total += np.exp(-0.5 * ((grid[:, None] - chunk) / bandwidth) ** 2).sum(axis=1)
    highest = float(total.max())
    return total / highest if highest > 0 else total


def ratio_picture(rows: Rows, baseline: str, places: Mapping[str, int], says: str) -> Picture:
    """A row a backend and batch size: its time over the baseline's, with the 95% interval."""
    others = [row for row in rows if row["backend"] != baseline]
    batches = list(_by_batch(others))

    def draw(figure: Figure, is_narrow: bool) -> None:
        set_height(figure, 0.65 + 0.3 * len(others))
        axes = figure.subplots()
        labels = []
        for place, row in enumerate(others):
            y, index = len(others) - 1 - place, places.get(row["backend"], 0)
            colour = colour_of(index)
            axes.plot([row["ratio_low"], row["ratio_high"]], [y, y], color=colour, linewidth=3.2, alpha=0.45)
            (point,) = axes.plot([row["ratio"]], [y], marker=marker_of(index), color=colour, markersize=5.5)
            point.set_gid(f"point-{place}")
            axes.annotate(
                number(row["ratio"]),
                (row["ratio"], y),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center",
                fontsize=SMALL,
            )
            name = cut(row["backend"], 14 if is_narrow else 28)
            labels.append(f"{name}, batch {row['batch']}" if len(batches) > 1 else name)
        _ratio_axis(axes, others)
        axes.set_ylim(-0.6, len(others) - 0.3)
        axes.set_yticks(range(len(others) - 1, -1, -1), labels, color=INK)
        wide_label = f"time over that of {cut(baseline, 40)}: left of 1 is faster"
        axes.set_xlabel(f"time over that of {cut(baseline, 14)}" if is_narrow else wide_label)

    how = (
        f"1 is the time of {baseline}; left of it is faster. The bar is the 95% interval: where it reaches over 1, no "
        "difference was shown."
    )
    return picture("ratio", draw, alt=f"Ratios to {baseline}. {says}", says=says, how=how)


def _ratio_axis(axes: Axes, rows: Rows) -> None:
    """Logarithmic, since half is as far from 1 as double is; with 1 on it."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low = min(1.0, *(row["ratio_low"] for row in rows), *(row["ratio"] for row in rows))
    high = max(1.0, *(row["ratio_high"] for row in rows), *(row["ratio"] for row in rows))
    low, high = low / 1.06, high * 1.06
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.axvline(1, color=MUTED, linewidth=1)
    axes.xaxis.set_major_locator(FixedLocator(_ratio_ticks(low, high)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.3g}"))
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


def _ratio_ticks(low: float, high: float) -> list[float]:
    """From below 1 to above it; 1 is among them."""
    if high / low > 6:
        first, last = int(np.ceil(np.log2(low))), int(np.floor(np.log2(high)))
        # At most seven, as many as a phone has room for.
        every = max(1, -(-(last - first + 1) // 7))
        return [2.0**power for power in range(first, last + 1) if power % every == 0]
    step = next(step for step in (0.02, 0.05, 0.1, 0.2, 0.5, 1) if (high - low) / step <= 8)
    return sorted({float(tick) for tick in (*np.arange(1, high, step), *np.arange(1, low, -step)) if tick > 1e-9})


def throughput_picture(rows: Rows, places: Mapping[str, int], says: str) -> Picture:
    """Samples a second by batch size, a line a backend."""
    batches = list(_by_batch(rows))

    def draw(figure: Figure, is_narrow: bool) -> None:
        set_height(figure, 2.5 if is_narrow else 2.9)
        axes = figure.subplots()
        draw_lines(axes, rows, places, x="batch", y="throughput", is_narrow=is_narrow, marker_size=4.5, width=1.4)
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, [str(batch) for batch in batches])
        axes.minorticks_off()
        axes.set_xlabel("batch size")
        axes.set_ylabel("samples per second")
        add_legend(figure, axes, is_narrow)

    how = "Higher is better. A line that goes flat has found the batch size beyond which only the waiting grows."
    return picture("throughput", draw, alt=f"Throughput by batch size. {says}", says=says, how=how)


def _by_batch(rows: Rows) -> dict[int, list[Mapping[str, Any]]]:
    ordered = sorted(rows, key=lambda row: row["batch"])
    return {batch: list(group) for batch, group in itertools.groupby(ordered, key=lambda row: row["batch"])}
