"""Figures of the task: accuracy, agreement, mIoU and the user's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sn_deploy.check.metrics.classification import TIES
from sn_deploy.check.report.page import Cell, Column, Section, Table
from sn_deploy.text import number, percent

_TITLES: Final = {
    "top1_agreement": "Top-1 agreement",
    "top5_agreement": "Top-5 agreement",
    "top1_accuracy": "Top-1 accuracy",
    "top5_accuracy": "Top-5 accuracy",
    TIES: "Ties for the first place",
    "pixel_agreement": "Pixel agreement",
    "pixel_accuracy": "Pixel accuracy",
    "miou": "Mean IoU",
    "miou_agreement": "Mean IoU with the reference",
}
_SURPRISING: Final = 0.05


def task_section(document: Mapping[str, Any]) -> Section | None:
    """A row for each figure of each backend."""
    metrics = [metric for metric in document["metrics"] if metric["name"] != TIES or metric["value"]]
    if not metrics:
        return None
    several = len({metric["output"] for metric in metrics if metric["output"]}) > 1
    columns = [
        Column("Figure"),
        Column("Backend"),
        Column("Value", True),
        Column("95% interval", True),
        Column(f"Beside {document['reference']}", True),
        Column("p-value", True),
        Column("Of", True),
    ]
    table = Table(
        "Each figure of each backend",
        columns,
        [_row(metric, several) for metric in metrics],
        "Agreement is with the reference's answer, accuracy with the labels. The p-value is of McNemar's exact test "
        "that backend and reference are equally often right: a small one would mean that the difference is no chance.",
    )
    return Section("task", "Figures of the task", list(_says(document)), tables=[table])


def title(metric: Mapping[str, Any], *, with_output: bool = False) -> str:
    """A figure's name for people."""
    name = _TITLES.get(metric["name"], metric["name"])
    return f"{name} of {metric['output']}" if with_output and metric["output"] else str(name)


def value_text(metric: Mapping[str, Any], value: float | None) -> str:
    """Shares in per cent, other figures as they are."""
    return percent(value) if metric["name"] in _TITLES else number(value, 4)


def interval_text(metric: Mapping[str, Any]) -> str:
    """``99.1 % to 100 %``, or a dash."""
    if metric["low"] is None or metric["high"] is None:
        return "–"
    return f"{value_text(metric, metric['low'])} to {value_text(metric, metric['high'])}"


def _row(metric: Mapping[str, Any], several: bool) -> list[Cell]:
    p_value = metric["p_value"]
    return [
        Cell(title(metric, with_output=several)),
        Cell(metric["backend"]),
        Cell(value_text(metric, metric["value"])),
        Cell(interval_text(metric)),
        Cell(_difference(metric)),
        Cell(
            "–" if p_value is None else f"{p_value:.3g}", "bad" if p_value is not None and p_value < _SURPRISING else ""
        ),
        Cell(number(metric["count"])),
    ]


def _difference(metric: Mapping[str, Any]) -> str:
    value = metric["difference"]
    if value is None:
        return "–"
    sign = "+" if value > 0 else "−" if value < 0 else "±"
    shown = f"{100 * abs(value):.2f} points" if metric["name"] in _TITLES else number(abs(value), 3)
    return f"{sign}{shown}" if value else "no difference"


def _says(document: Mapping[str, Any]) -> Iterator[str]:
    reference = document["reference"]
    agreements = [metric for metric in document["metrics"] if metric["name"] == "top1_agreement"]
    if agreements:
        worst = min(agreements, key=lambda metric: -1.0 if metric["value"] is None else metric["value"])
        if worst["value"] == 1:
            whose = "Every backend gives" if len(agreements) > 1 else f"{worst['backend']} gives"
            yield (
                f"{whose} the class that {reference} gives, for all {number(worst['count'])} samples. Of other such "
                f"samples at least {percent(worst['low'])} would agree, with 95% confidence."
            )
        else:
            yield (
                f"{worst['backend']} gives the class that {reference} gives for {percent(worst['value'])} of "
                f"{number(worst['count'])} samples, the fewest of all (95% interval {interval_text(worst)})."
            )
    compared = [metric for metric in document["metrics"] if metric["p_value"] is not None]
    surprising = [metric for metric in compared if metric["p_value"] < _SURPRISING]
    if surprising:
        first = surprising[0]
        yield (
            f"The {title(first)} of {first['backend']} differs from that of {reference} by more than chance explains "
            f"(p = {first['p_value']:.2g})."
        )
    elif compared:
        yield f"No accuracy differs from that of {reference} by more than chance explains."
