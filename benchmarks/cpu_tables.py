"""The tables that pages show of what cpu_net.py measured, put between their marks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cpu_backends import BACKENDS
from native_op import FLOOR

from sn_deploy.atomic import atomic_output

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE, README = ROOT / "docs/performance-cpu.md", ROOT / "README.md"
BEGIN: Final = "<!-- begin: made by benchmarks/cpu_net.py -->"
END: Final = "<!-- end: made by benchmarks/cpu_net.py -->"
# Clocks in the file, and their names.
CLOCKS: Final = {"processor": "Processor time", "wall": "Time on the clock"}
LIBRARIES: Final = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO", "torch": "torch"}
README_CELLS: Final = ("batch 1, 2 threads", "batch 8, 2 threads")

Cells = Mapping[str, Mapping[str, Any]]


def all_tables(cells: Cells) -> str:
    """For docs/performance-cpu.md: a table for each clock, and one of memory."""
    parts = [conditions(cells)]
    for clock, title in CLOCKS.items():
        rows = [[name, *(ratio_text(cell[clock][name], name) for cell in cells.values())] for name in BACKENDS]
        parts.append(f"### {title} over the floor's\n\n{table(['', *cells], rows)}")
    rows = [[name, *(f"{cell['memory_mib'][name]:.0f}" for cell in cells.values())] for name in BACKENDS]
    parts.append(f"### Memory in MiB\n\n{table(['', *cells], rows)}")
    return "\n\n".join(parts)


def short_table(cells: Cells) -> str:
    """For the README: two threads, one image and eight."""
    chosen = {name: cells[name] for name in README_CELLS if name in cells}
    heads = [
        "",
        *(f"{title.lower()}, {name.split(',')[0]}" for title in CLOCKS.values() for name in chosen),
        "MiB, batch 1",
    ]
    rows = []
    for name in BACKENDS:
        ratios = [ratio_text(cell[clock][name], name) for clock in CLOCKS for cell in chosen.values()]
        rows.append([name, *ratios, f"{next(iter(chosen.values()))['memory_mib'][name]:.0f}"])
    return f"{conditions(chosen)}\n\n{table(heads, rows)}"


def conditions(cells: Cells) -> str:
    """What the figures depend on, in a sentence."""
    facts = [cell["machine"] for cell in cells.values()]
    machine = facts[0]
    sets = "AVX-512" if "avx512f" in machine.get("instruction_sets", []) else "no AVX-512"
    others = [cell["others_share_of_processors"] for cell in cells.values()]
    known = [share for share in others if share is not None]
    load = f"at most {math.ceil(max(known) * 100)} %" if known else "an unknown share"
    versions = ", ".join(f"{title} {machine[key]}" for key, title in LIBRARIES.items())
    return (
        f"{machine['processor']}, {machine['usable_cpus']} logical processors, {sets}; {versions}.\n"
        f"Other programs took {load} of the processors meanwhile."
    )


def ratio_text(row: Mapping[str, float], name: str) -> str:
    """A ratio with its interval; of the floor, its time."""
    if name == FLOOR:
        return f"1 ({row['median_ms']:.0f} ms)"
    return f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, ["---"] * len(heads), *rows))


def put_between_marks(page: Path, text: str) -> None:
    """Replaces what is between a page's marks."""
    head, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, tail = rest.split(END)
    with atomic_output(page) as draft:
        draft.write_text(f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}", encoding="utf-8")


def write_pages(cells: Cells) -> None:
    """Puts the tables into the pages that show them."""
    put_between_marks(PAGE, all_tables(cells))
    put_between_marks(README, short_table(cells))
