"""What the benchmarks share: `sn_deploy.check`'s way of timing in turns, tables of it, and files of results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from sn_deploy.atomic import atomic_output
from sn_deploy.check.latency import ratio_of
from sn_deploy.check.machine import machine_facts
from sn_deploy.check.rounds import take_turns

_ROOT = Path(__file__).resolve().parents[1]


def times_of(calls: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, np.ndarray]:
    """Name -> wall times in ms, one a round, after a warm-up. Each round calls everything once, in a random order."""
    return dict(take_turns(calls, rounds=rounds).times_ms)


def summary(times_ms: Mapping[str, np.ndarray], baseline: str) -> dict[str, dict[str, float]]:
    """Median and spread of each, and its ratio to the baseline.

    ``ratio`` is the median over rounds of the ratio within the round, with its quartiles and the 95 % interval of the
    median (bootstrapped in blocks of rounds); ``ratio_of_minima`` needs one undisturbed round of each.
    """
    rows = {}
    for name, values in times_ms.items():
        ratios = values / times_ms[baseline]
        ratio, low, high = ratio_of(values, times_ms[baseline])
        row = {
            "median_ms": np.median(values),
            "p10_ms": np.percentile(values, 10),
            "p90_ms": np.percentile(values, 90),
            "ratio": ratio,
            "ratio_q25": np.percentile(ratios, 25),
            "ratio_q75": np.percentile(ratios, 75),
            "ratio_low": low,
            "ratio_high": high,
            "ratio_of_minima": values.min() / times_ms[baseline].min(),
        }
        rows[name] = {key: round(float(value), 4) for key, value in row.items()}
    return rows


def machine(packages: Sequence[str], threads: int) -> dict[str, Any]:
    """What a figure depends on and nothing that names the machine."""
    return {**machine_facts(), "threads": threads, **{name: metadata.version(name) for name in packages}}


def command_line() -> str:
    """How the figures were made: paths in the project from its root on, others by their last part."""

    def short(argument: str) -> str:
        path = Path(argument)
        if not path.is_absolute():
            return argument
        return str(path.relative_to(_ROOT)) if path.is_relative_to(_ROOT) else path.name

    return " ".join(["python", *map(short, sys.argv)])


def table(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The summary as text, fastest first."""
    lines = [f"{'':52s} {'median':>9s} {'p10-p90':>17s} {'ratio':>6s} {'95 %':>13s} {'minima':>7s}"]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["ratio"]):
        spread = f"{row['p10_ms']:.2f}-{row['p90_ms']:.2f}"
        interval = f"{row['ratio_low']:.3f}-{row['ratio_high']:.3f}"
        lines.append(
            f"{name:52s} {row['median_ms']:6.2f} ms {spread:>17s} {row['ratio']:6.3f} {interval:>13s} "
            f"{row['ratio_of_minima']:7.3f}"
        )
    return "\n".join(lines)


def write_results(results: Mapping[str, Any], output: Path | None) -> None:
    """Writes what there is so far, so that a run that is ended leaves what it has measured; nothing without a file."""
    if output is not None:
        with atomic_output(output) as path:
            path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
