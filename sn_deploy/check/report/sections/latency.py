"""Latency, ratios, throughput and memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sn_deploy.check.report.page import Cell, Column, Section, Table
from sn_deploy.check.report.pictures.canvas import Picture
from sn_deploy.check.report.pictures.latency import distribution_picture, ratio_picture, throughput_picture
from sn_deploy.check.report.pictures.layer_time import layer_time_picture
from sn_deploy.text import counted, listed, milliseconds, number, percent

Row = Mapping[str, Any]


# A time in ms, a ratio of two or samples in a second; whoever edits a document may write any number.
_LEAST: Final = 1e-12


def latency_section(document: Mapping[str, Any], places: Mapping[str, int]) -> Section | None:
    """What was timed, in pictures and one table."""
    report = document["latency"]
    rows = timed_rows(document)
    if not rows:
        return None
    baseline = report["baseline"]
    table = Table("Latencies", _columns(rows, baseline), [_row(row, rows, baseline) for row in rows], _note(report))
    pictures, tables = list(_pictures(rows, baseline, places)), [table]
    if report["load"]:
        tables.append(_load_table(report["load"]))
    return Section("latency", "Latency", list(_how_timed(report, rows)), pictures, tables, report["warnings"])


def timed_rows(document: Mapping[str, Any]) -> list[Row]:
    """The rows whose figures are such as a clock gives: of others there is nothing to draw or to say."""
    report = document["latency"]
    needed = ("median_ms", "p90_ms", "p99_ms", "ratio", "ratio_low", "ratio_high", "throughput")
    return [
        row | {"times_ms": [time for time in row["times_ms"] if time is not None]}
        for row in (report["results"] if report else [])
        if all(row[name] is not None and _LEAST < row[name] < 1 / _LEAST for name in needed)
        and any(time is not None for time in row["times_ms"])
    ]


def comparison_sentence(row: Row, baseline: str) -> str:
    """``ort is 4.7 times as fast as torch (95% interval 4.5 to 4.9)``, without a full stop."""
    ratio, low, high = (float(row[name]) for name in ("ratio", "ratio_low", "ratio_high"))
    if low <= 1 <= high:
        taken = f"{row['backend']} takes {number(ratio)} times as long as {baseline}"
        return f"{taken} (95% interval {number(low)} to {number(high)}): no difference was shown"
    if ratio < 1:
        interval = f"{number(1 / high)} to {number(1 / low)}"
        return f"{row['backend']} is {number(1 / ratio)} times as fast as {baseline} (95% interval {interval})"
    interval = f"{number(low)} to {number(high)}"
    return f"{row['backend']} takes {number(ratio)} times as long as {baseline} (95% interval {interval})"


def _how_timed(report: Mapping[str, Any], rows: list[Row]) -> Iterator[str]:
    names = list(dict.fromkeys(row["backend"] for row in rows))
    batches = sorted({row["batch"] for row in rows})
    threads = f" with {counted(report['threads'], 'thread')}" if report["threads"] else ""
    calls = sorted({row["calls"] for row in rows})
    many = f"{calls[0]:,}" if len(calls) == 1 else f"{calls[0]:,} to {calls[-1]:,}"
    sizes = listed([str(batch) for batch in batches])
    yield (
        f"{listed(names)} took turns{threads} in one process, in a new random order each round, {many} calls of each "
        f"at batch size {sizes}. Times are from arrays in memory to arrays in memory, what a caller waits for."
    )


def _pictures(rows: list[Row], baseline: str, places: Mapping[str, int]) -> Iterator[Picture]:
    yield distribution_picture(rows, places, _medians(rows))
    others = [row for row in rows if row["backend"] != baseline]
    if others:
        smallest = min(row["batch"] for row in rows)
        says = [comparison_sentence(row, baseline) for row in others if row["batch"] == smallest]
        at = f"At batch {smallest} " if len({row["batch"] for row in rows}) > 1 else ""
        yield ratio_picture(rows, baseline, places, f"{at}{'; '.join(says)}.")
    if len({row["batch"] for row in rows}) > 1:
        yield throughput_picture(rows, places, _best_throughput(rows))


def _medians(rows: list[Row]) -> str:
    smallest = min(row["batch"] for row in rows)
    own = sorted((row for row in rows if row["batch"] == smallest), key=lambda row: row["median_ms"])
    medians = listed([f"{milliseconds(row['median_ms'])} for {row['backend']}" for row in own])
    steadiest = min(own, key=lambda row: row["p99_ms"] / row["median_ms"])
    return (
        f"At batch {smallest} half of the calls take at most {medians}. The steadiest is {steadiest['backend']}: 99 "
        f"of 100 of its calls take at most {milliseconds(steadiest['p99_ms'])}."
    )


def _best_throughput(rows: list[Row]) -> str:
    best = {
        name: max((row for row in rows if row["backend"] == name), key=lambda row: row["throughput"])
        for name in dict.fromkeys(row["backend"] for row in rows)
    }
    ordered = sorted(best.values(), key=lambda row: -row["throughput"])
    says = [f"{row['backend']} {number(row['throughput'])} at batch {row['batch']}" for row in ordered]
    return f"The most samples a second: {listed(says)}."


def _columns(rows: list[Row], baseline: str) -> list[Column]:
    heads = ["Batch", "Median", "90% below", "99% below", f"Ratio to {baseline}", "95% interval", "Samples / s"]
    heads += ["On the device"] * _any(rows, "device_ms") + ["Memory"] * _any(rows, "memory_mib") + ["Calls"]
    return [Column("Backend"), *(Column(head, True) for head in heads)]


def _row(row: Row, rows: list[Row], baseline: str) -> list[Cell]:
    own = row["backend"] == baseline
    cells = [
        Cell(row["backend"]),
        Cell(str(row["batch"])),
        Cell(milliseconds(row["median_ms"])),
        Cell(milliseconds(row["p90_ms"])),
        Cell(milliseconds(row["p99_ms"])),
        Cell("baseline" if own else number(row["ratio"]), "muted" if own else ""),
        Cell("–" if own else f"{number(row['ratio_low'])} to {number(row['ratio_high'])}"),
        Cell(number(row["throughput"])),
    ]
    if _any(rows, "device_ms"):
        cells.append(Cell(milliseconds(row["device_ms"])))
    if _any(rows, "memory_mib"):
        cells.append(Cell("–" if row["memory_mib"] is None else f"{number(row['memory_mib'])} MiB"))
    return [*cells, Cell(number(row["calls"]))]


def _load_table(rows: Sequence[Row]) -> Table:
    heads = ("Batch", "Callers", "Samples / s", "Median", "90% below", "99% below", "Calls")
    cells = [
        [
            Cell(row["backend"]),
            *(Cell(str(row[name])) for name in ("batch", "concurrency")),
            Cell(number(row["throughput"])),
            *(Cell(milliseconds(row[name])) for name in ("median_ms", "p90_ms", "p99_ms")),
            Cell(number(row["calls"])),
        ]
        for row in rows
        if None not in row.values()
    ]
    note = (
        "So many callers at once, each of which asks again when it has its answer. Each row ran for itself, not in "
        "turns: small differences between backends say little."
    )
    return Table("Throughput under load", [Column("Backend"), *(Column(head, True) for head in heads)], cells, note)


def _any(rows: list[Row], key: str) -> bool:
    return any(row[key] is not None for row in rows)


def _note(report: Mapping[str, Any]) -> str:
    note = (
        "The ratio is the median over rounds of the ratio within the round; its interval is bootstrapped over blocks "
        "of rounds. Of fewer than some hundred calls the 99th percentile is nearly the slowest."
    )
    if _any(report["results"], "device_ms"):
        note += " The time on the device leaves out the copies to and from it."
    if _any(report["results"], "memory_mib"):
        note += " Memory is what opening and running the backend added to the peak of a process of its own."
    return note


def layer_time_section(document: Mapping[str, Any], places: Mapping[str, int]) -> Section | None:
    """How long each SN layer takes, where a runtime told."""
    report = document["latency"]
    rows = [row for row in (report["layer_times"] if report else []) if row["ms"] is not None]
    if not rows:
        return None
    says = [_layers_say(document, name, rows) for name in dict.fromkeys(row["backend"] for row in rows)]
    names = {row["index"]: row["layer"] for row in rows}
    backends = list(dict.fromkeys(row["backend"] for row in rows))
    times = {(row["backend"], row["index"]): row["ms"] for row in rows}
    table = Table(
        f"Time of each SN layer in one call of batch {rows[0]['batch']}",
        [Column("Layer"), Column("No.", True), *(Column(name, True) for name in backends)],
        [
            [
                Cell(names[index], code=True),
                Cell(str(index + 1)),
                *(Cell(milliseconds(times.get((name, index)))) for name in backends),
            ]
            for index in sorted(names)
        ],
        "By the runtime's own profile, whose clocks make each layer a little slower than it is.",
    )
    return Section("layer-times", "Time by layer", says, [layer_time_picture(rows, places, " ".join(says))], [table])


def _layers_say(document: Mapping[str, Any], backend: str, rows: list[Row]) -> str:
    own = [row for row in rows if row["backend"] == backend]
    total = sum(row["ms"] for row in own)
    slowest = max(own, key=lambda row: row["ms"])
    whole = [row for row in timed_rows(document) if row["backend"] == backend and row["batch"] == own[0]["batch"]]
    share = f", {percent(total / whole[0]['median_ms'], 0)} of a call" if whole else ""
    return (
        f"{backend}: {counted(len(own), 'SN layer')} {'takes' if len(own) == 1 else 'take'} {milliseconds(total)} "
        f"together{share}; the longest is {slowest['layer']} with {milliseconds(slowest['ms'])}."
    )
