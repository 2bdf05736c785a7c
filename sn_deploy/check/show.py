"""A result as tables on a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sn_deploy.check.layers.words import sentences
from sn_deploy.check.limits import number
from sn_deploy.check.metrics.classification import TIES
from sn_deploy.check.result import (
    BackendInfo,
    CheckResult,
    LatencyReport,
    LayerError,
    LoadResult,
    OutputParity,
    TaskMetric,
    as_json_object,
)
from sn_deploy.table import plain_table
from sn_deploy.text import percent

_PERCENT: Final = ("agreement", "accuracy", "miou", "ties")


def tables_from_result(result: CheckResult) -> Group:
    """All that was found, for people; the assertions at the end."""
    return Group(*_parts(result))


def verdict(result: CheckResult) -> str:
    """One line: whether every limit holds, or how many don't."""
    failed, limits = len(result.failed), len(result.assertions)
    return f"failed: {failed} of {limits} limits don't hold" if failed else f"passed: all {limits} limits hold"


def data_text(data: Mapping[str, Any], samples: int) -> str:
    """One line about the samples."""
    hidden = ("kind", "samples", "batch_size", "files_sha256", "sha256", "labels_sha256", "shapes")
    details = ", ".join(f"{key} {_plain(value)}" for key, value in data.items() if key not in hidden)
    size = f"batches of {data['batch_size']}" if "batch_size" in data else "batches of its own"
    kind = str(data.get("kind"))
    # Of what is called or in memory the one detail has the kind's name.
    what = details if details.startswith(f"{kind} ") else f"{kind}; {details}"
    return f"{samples} samples ({what}), in {size}"


def _plain(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _parts(result: CheckResult) -> Iterator[RenderableType]:
    part = f", part {result.shard}" if result.shard else ""
    yield Text(f"data: {data_text(result.data, result.samples)}{part}")
    yield _backends(result.backends, result.reference)
    yield _parity(result)
    for index, name in result.sample_names.items():
        yield Text(f"#{index} is {name}", style="dim")
    if result.metrics:
        yield _metrics(result.metrics, [info.name for info in result.backends])
    if result.layers:
        yield from _layers(result)
    if result.bisect is not None:
        yield Text("\nLayers that must stay in float32", style="bold")
        yield from (Text(line) for line in result.bisect.says)
        if result.bisect.file is not None:
            yield Text(f"wrote {result.bisect.file}")
    if result.latency is not None:
        yield _latency(result.latency)
        if result.latency.load:
            yield _load(result.latency.load)
    yield _assertions(result)


def _backends(backends: Sequence[BackendInfo], reference: str) -> Table:
    table = plain_table("", "file", "runtime", "precision", title="\nBackends")
    for info in backends:
        name = f"{info.name} (reference)" if info.name == reference else info.name
        file = info.file or str(info.settings.get("model") or info.settings.get("address") or "")
        versions = ", ".join(f"{library} {version}" for library, version in info.versions.items())
        table.add_row(Text(name), Text(file), versions, str(info.settings.get("precision", "")))
    return table


def _parity(result: CheckResult) -> Table:
    numbers = ("rel. L2", "allowed", "worst sample", "max abs.", "99.9 %", "SNR", "not finite", "")
    table = plain_table("backend", "output", numbers=numbers, title=f"\nDifference from {result.reference}")
    for backend, rows in result.parity.items():
        for row in rows:
            table.add_row(Text(backend), Text(row.output), *_parity_cells(row), _verdict(row.passed))
    return table


def _parity_cells(row: OutputParity) -> list[str]:
    nonfinite = f"{row.nonfinite_mismatch} of {row.nonfinite}" if row.nonfinite or row.nonfinite_mismatch else "0"
    limit = row.tolerance.get("rel_l2")
    return [
        f"{row.rel_l2:.2e}",
        "" if limit is None else number(limit),
        f"{row.worst_rel_l2:.1e} #{row.worst_rel_l2_sample}",
        f"{row.max_abs:.1e} #{row.max_abs_sample}",
        f"{row.percentiles['99.9']:.1e}",
        _snr(row),
        nonfinite,
    ]


def _snr(row: OutputParity) -> str:
    if not math.isinf(row.snr_db):
        return f"{row.snr_db:.0f} dB"
    # What isn't finite is left out of it, and may be all.
    return "equal" if row.snr_db > 0 and not row.nonfinite_mismatch else ""


def _metrics(metrics: Sequence[TaskMetric], backends: Sequence[str]) -> Table:
    table = plain_table("", title="\nTask (95 % intervals)")
    for name in backends:
        table.add_column(Text(name), justify="right")
    rows: dict[tuple[str | None, str], dict[str, TaskMetric]] = {}
    for metric in metrics:
        if metric.name != TIES or metric.value:
            rows.setdefault((metric.output, metric.name), {})[metric.backend] = metric
    outputs = {output for output, _ in rows if output is not None}
    for (output, title), row in rows.items():
        heading = f"{output}: {title}" if len(outputs) > 1 and output else title
        table.add_row(Text(heading), *(_metric_cell(row[name]) if name in row else "" for name in backends))
        if any(metric.p_value is not None for metric in row.values()):
            cells = (row.get(name) for name in backends)
            table.add_row(
                "  McNemar p",
                *("" if cell is None or cell.p_value is None else f"{cell.p_value:.3g}" for cell in cells),
            )
    return table


def _metric_cell(metric: TaskMetric) -> str:
    if not metric.name.endswith(_PERCENT) and not metric.name.startswith("miou"):
        return number(metric.value)
    text = percent(metric.value, zeros=True)
    if metric.low is not None and metric.high is not None:
        text += f" ({metric.low:.1%}–{metric.high:.1%})"
    return text


def _layers(result: CheckResult) -> Iterator[RenderableType]:
    """How the error grows, one column a backend: the error so far, and what the layer adds of its own."""
    reports = [report for report in result.layers if report.layers]
    rows: dict[str, dict[str, LayerError]] = {}
    for report in sorted(reports, key=lambda report: -len(report.layers)):  # in the reference's order
        for layer in report.layers:
            rows.setdefault(layer.layer, {})[report.backend] = layer
    table = plain_table("layer", title="\nSN layers: rel. L2 so far (own)")
    for report in reports:
        table.add_column(Text(report.backend), justify="right")
    for name, cells in rows.items():
        table.add_row(Text(name), *(_layer_cell(cells.get(report.backend)) for report in reports))
    yield table
    for report in reports:
        hold = all(row.passed for row in result.parity.get(report.backend, ()))
        style = "" if report.culprit is None and hold else "bold red"
        for line in sentences(as_json_object(report), outputs_hold=hold):
            yield Text(line, style=style)
    for report in result.layers:
        yield from (Text(note, style="yellow") for note in report.notes)


def _layer_cell(layer: LayerError | None) -> Text:
    if layer is None:
        return Text("")
    text = f"{layer.rel_l2:.1e} ({layer.own_rel_l2:.1e})"
    return Text(text) if layer.passed else Text(text, style="bold red")


def _latency(report: LatencyReport) -> Table:
    headings = ["batch", "median", "90 %", "99 %", "ratio (95 %)", "a second"]
    with_device = any(row.device_ms is not None for row in report.results)
    with_memory = any(row.memory_mib is not None for row in report.results)
    headings += ["device"] * with_device + ["memory"] * with_memory
    title = f"\nLatency: {report.baseline} is 1, {report.threads or 'default'} threads"
    table = plain_table("backend", numbers=headings, title=title)
    for row in report.results:
        cells = [str(row.batch), *(f"{ms:.4g} ms" for ms in (row.median_ms, row.p90_ms, row.p99_ms))]
        cells += [f"{row.ratio:.3f} ({row.ratio_low:.3f}–{row.ratio_high:.3f})", f"{row.throughput:.4g}"]
        if with_device:
            cells.append("" if row.device_ms is None else f"{row.device_ms:.4g} ms")
        if with_memory:
            cells.append("" if row.memory_mib is None else f"{row.memory_mib:.0f} MiB")
        table.add_row(Text(row.backend), *cells)
    return table


def _load(rows: Sequence[LoadResult]) -> Table:
    numbers = ("batch", "callers", "a second", "median", "90 %", "99 %", "calls")
    table = plain_table("backend", numbers=numbers, title="\nLoad: callers at once, each waits for its answer")
    for row in rows:
        times = (f"{ms:.4g} ms" for ms in (row.median_ms, row.p90_ms, row.p99_ms))
        cells = (str(row.batch), str(row.concurrency), f"{row.throughput:.4g}", *times, str(row.calls))
        table.add_row(Text(row.backend), *cells)
    return table


def _assertions(result: CheckResult) -> Group:
    lines: list[RenderableType] = [Text("\nLimits", style="bold")]
    lines += [Text.assemble(_verdict(one.passed), f"  {one.text}") for one in result.assertions]
    warnings = result.latency.warnings if result.latency is not None else ()
    lines += [Text(f"note: {warning}", style="yellow") for warning in warnings]
    return Group(*lines)


def _verdict(passed: bool) -> Text:
    return Text("holds", style="green") if passed else Text("FAILS", style="bold red")
