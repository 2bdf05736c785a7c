"""The layers as a table for people and as JSON for machines."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from sn_deploy.console import Console
from sn_deploy.inspection.layer import BRANCHES, LayerWeights, Spread, averages
from sn_deploy.table import plain_table

STATISTICS = {"mean": "mean", "var": "variance"}


def table_from_layers(layers: list[LayerWeights]) -> Table:
    """One row a layer, weights above a half in bold, and the averages below. Names are folded, never cut.

    What follows a layer in its node has a column of its own where there is any.
    """
    fused = any(layer.epilogue for layer in layers)
    table = Table(box=None, padding=(0, 1, 0, 0), show_footer=True, header_style="bold", footer_style="bold")
    table.add_column("\n#", justify="right", no_wrap=True)
    table.add_column("\nlayer", "average", overflow="fold", min_width=8)
    table.add_column("\nkind", no_wrap=True)
    table.add_column("\nX", overflow="fold", min_width=6)
    for statistic, weights in averages(layers).items():
        for branch, weight in zip(BRANCHES, weights, strict=True):
            head = f"{statistic if branch == 'IN' else ''}\n{branch}"
            table.add_column(head, f"{weight:.3f}", justify="right", no_wrap=True)
    if fused:
        table.add_column("\nthen", overflow="fold", min_width=9)
    for number, layer in enumerate(layers, 1):
        table.add_row(
            str(number),
            Text(layer.name),  # not str: names may have brackets, which rich takes for markup
            layer.kind,
            Text(layer.size_text),
            *_cells(layer.mean),
            *_cells(layer.var),
            *([", ".join(layer.epilogue or ())] if fused else []),
        )
    return table


def _cells(weights: tuple[float, float, float]) -> list[Text]:
    # Only a clear choice is set in bold: thirds are no choice.
    return [Text(f"{weight:.3f}", style="bold cyan" if weight > 0.5 else "") for weight in weights]


def statistics_from_layers(layers: list[LayerWeights]) -> Table:
    """One row a layer: gamma, and the population's statistics in its BN branch; medians, and ranges over channels."""
    table = plain_table()
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("layer", overflow="fold", min_width=8)
    for head in ("gamma", "population mean", "population variance"):
        table.add_column(f"{head}: median (range)", justify="right")
    for number, layer in enumerate(layers, 1):
        spreads = (layer.gamma, layer.population_mean, layer.population_var)
        table.add_row(str(number), Text(layer.name), *(_spread_text(each) for each in spreads))
    return table


def _spread_text(spread: Spread | None) -> str:
    return "–" if spread is None else f"{spread.median:.3g} ({spread.smallest:.3g} to {spread.largest:.3g})"


def print_layers(console: Console, layers: list[LayerWeights]) -> None:
    """The table, and what they chose on average."""
    console.print(table_from_layers(layers))
    console.print(summary_from_layers(layers))


def summary_from_layers(layers: list[LayerWeights]) -> str:
    """One line: how many layers there are and what they chose on average."""
    parts = [
        f"{STATISTICS[statistic]} " + " + ".join(f"{w:.3f} {b}" for w, b in zip(weights, BRANCHES, strict=True))
        for statistic, weights in averages(layers).items()
    ]
    return f"{len(layers)} SN layer{'' if len(layers) == 1 else 's'}; on average {', '.join(parts)}"


def json_from_layers(layers: list[LayerWeights], path: Path) -> dict[str, object]:
    """The same as plain data. Weights are the exact floats; what is unknown or absent is null: a shape, dimension,
    channel count, epilogue, or the statistics of a BN branch."""
    return {
        "file": str(path),
        "layers": [
            {
                "name": layer.name,
                "kind": layer.kind,
                "channels": layer.channels,
                "shape": None if layer.shape is None else list(layer.shape),
                "mean": dict(zip(BRANCHES, layer.mean, strict=True)),
                "var": dict(zip(BRANCHES, layer.var, strict=True)),
                "epilogue": None if layer.epilogue is None else list(layer.epilogue),
                "gamma": _spread_json(layer.gamma),
                "population_mean": _spread_json(layer.population_mean),
                "population_var": _spread_json(layer.population_var),
            }
            for layer in layers
        ],
        "average": {
            statistic: dict(zip(BRANCHES, weights, strict=True)) for statistic, weights in averages(layers).items()
        },
    }


def _spread_json(spread: Spread | None) -> dict[str, float | None] | None:
    if spread is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in asdict(spread).items()}
