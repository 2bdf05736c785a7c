"""The tables of docs/performance.md, from what tools/gpu_check.py measured.

    python tools/gpu_report.py [gpu-results/gpu_results.json]               # prints them
    python tools/gpu_report.py [gpu-results/gpu_results.json] --write       # puts them into docs/performance.md

Without a file, or where it has nothing, a table says "not measured". Goals are set for one kind of GPU: what another
one measured is shown, and neither met nor missed. A rehearsal's times mean nothing: they are printed as such, and never
written. Needs the standard library alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/performance.md"
BEGIN, END = "<!-- begin: made by tools/gpu_report.py -->", "<!-- end -->"

NOT_MEASURED = "not measured"
NETS = ("resnet50 v1", "resnet50 v2", "digits")
PRECISIONS = ("fp16", "bf16", "int8", "fp32")
BATCHES = (1, 8, 32, 128)
SHAPES = ("static", "dynamic")
GOALS_GPU = "H200"
# Of the floor, in fp16.
FLOOR_GOALS = {1: 1.32, 8: 1.35, 32: 1.40, 128: 1.42}
BODY_GOAL = 3.0
BODY_BATCH = 32
AGREEMENT_GOAL = 0.995
ERROR_GOAL = 5e-3
COLUMNS = (
    ("plugin", "plugin"),
    ("floor", "floor"),
    ("function body", "function body"),
    ("torch.compile", "torch.compile"),
    ("torch eager", "torch eager"),
    ("ONNX Runtime CUDA, launched", "ONNX Runtime CUDA"),
)

Figures = Mapping[str, Any]


def cell(figures: Figures, net: str, precision: str, shapes: str, batch: int) -> Figures:
    """One measurement of benchmarks/gpu_engines.py; empty where there is none."""
    found: Any = figures.get("gpu_engines", {}).get("nets", {})
    for key in (net, precision, shapes, str(batch)):
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, Mapping) and "us" in found else {}


def times_us(row: Figures) -> dict[str, float]:
    """Median times by name; those of what is slow to prepare were taken beside the others in a run of their own."""
    slow = row.get("slow", {}).get("us", {})
    return {key: value["median_us"] for key, value in {**slow, **row.get("us", {})}.items()}


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def goals(figures: Figures) -> list[str]:
    """What was to be reached, and what was."""
    rows = []
    for net in ("resnet50 v1", "resnet50 v2"):
        for batch, goal in FLOOR_GOALS.items():
            ratio = cell(figures, net, "fp16", "static", batch).get("ratio_to_floor", {}).get("plugin")
            what = f"{net}, fp16, batch {batch}: engine over the net with batch norms folded"
            own = _verdict(figures, ratio, "{:.3f}", lambda x, goal=goal: x <= goal)
            rows.append([what, f"at most {goal:.2f}", *own])
    for net in ("resnet50 v1", "resnet50 v2"):
        rows.append(
            [
                f"{net}, fp16, batch {BODY_BATCH}: what SN costs over that net, function body / plugin",
                f"at least {BODY_GOAL:g}",
                *_verdict(figures, _body_over_plugin(figures, net), "{:.2f}", lambda x: x >= BODY_GOAL),
            ]
        )
    counts = [
        len(row["engines"]["plugin"]["reformats_beside_plugins"])
        for net in ("resnet50 v1", "resnet50 v2")
        for batch in BATCHES
        if "plugin" in (row := cell(figures, net, "fp16", "static", batch)).get("engines", {})
    ]
    worst = max(counts) if counts else None
    own = _verdict(figures, worst, "{:d}", lambda x: x == 0)
    rows.append(["ResNet-50, fp16: reformats next to a plugin", "0", *own])
    demo = cell(figures, "digits", "fp16", "dynamic", 128).get("engines", {}).get("plugin", {})
    agreement = demo.get("top1_agreement") if demo.get("images", 0) >= 1000 else None
    what = "demo, fp16: same class as PyTorch in float32, 1,000 images"
    own = _verdict(figures, agreement, "{:.2%}", lambda x: x >= AGREEMENT_GOAL)
    rows.append([what, f"at least {AGREEMENT_GOAL:.1%}", *own])
    for net in ("resnet50 v1", "resnet50 v2"):
        error = cell(figures, net, "fp16", "static", 32).get("engines", {}).get("plugin", {}).get("relative_l2")
        what = f"{net}, fp16: relative L2 to PyTorch in float32"
        own = _verdict(figures, error, "{:.1e}", lambda x: x < ERROR_GOAL)
        rows.append([what, f"under {ERROR_GOAL:.0e}", *own])
    return table([f"goal, on an {GOALS_GPU}", "wanted", "measured", ""], rows)


def gpu_name(figures: Figures) -> str:
    """What it was measured on; empty where nothing was."""
    own = figures.get("gpu_engines", {}).get("machine", {}).get("gpu_name")
    return str(own or figures.get("device", {}).get("gpu", {}).get("name") or "")


def _verdict(figures: Figures, value: Any, form: str, holds: Any) -> list[str]:
    if value is None:
        return [NOT_MEASURED, ""]
    if GOALS_GPU not in gpu_name(figures):
        return [form.format(value), f"on another GPU ({gpu_name(figures) or 'unknown'})"]
    return [form.format(value), "met" if holds(value) else "missed"]


def _body_over_plugin(figures: Figures, net: str) -> float | None:
    # Of one run, in which the three were timed in turns.
    times = cell(figures, net, "fp16", "static", BODY_BATCH).get("slow", {}).get("us", {})
    if not {"plugin", "floor", "function body"} <= set(times):
        return None
    plugin, floor, body = (times[key]["median_us"] for key in ("plugin", "floor", "function body"))
    return float((body - floor) / (plugin - floor)) if plugin > floor else float("inf")


def times(figures: Figures, net: str, precision: str) -> list[str]:
    """Of all batches, static and dynamic."""
    rows = []
    for shapes in SHAPES:
        for batch in BATCHES:
            row = cell(figures, net, precision, shapes, batch)
            known = times_us(row)
            values = [f"{known[key]:.0f}" if key in known else "–" for key, _ in COLUMNS]
            ratio = row.get("ratio_to_floor", {}).get("plugin")
            plugin = row.get("engines", {}).get("plugin", {})
            beside = len(plugin["reformats_beside_plugins"]) if plugin else None
            rows.append(
                [
                    shapes,
                    str(batch),
                    *values,
                    f"{ratio:.3f}" if ratio is not None else "–",
                    str(beside) if beside is not None else "–",
                    f"{plugin['relative_l2']:.1e}" if plugin else "–",
                ]
            )
    if all(value == "–" for row in rows for value in row[2 : 2 + len(COLUMNS)]):
        return [NOT_MEASURED]
    head = ["shapes", "batch", *(f"{name}, µs" for _, name in COLUMNS), "plugin / floor", "reformats", "relative L2"]
    return table(head, rows)


def checks(figures: Figures) -> list[str]:
    """What came of each part."""
    parts = figures.get("gpu_check", {}).get("parts", {})
    if not parts:
        return [NOT_MEASURED]
    rows = [[name, part["status"], f"{part['seconds']:.0f} s", part["reason"][:120]] for name, part in parts.items()]
    return table(["part", "result", "time", ""], rows)


def machine(figures: Figures) -> str:
    """What it was measured on."""
    gpu = figures.get("device", {}).get("gpu", {})
    facts = figures.get("gpu_engines", {}).get("machine", {})
    if not gpu and not facts.get("gpu_name"):
        return f"Machine: {NOT_MEASURED}."
    return f"Machine: {gpu_name(figures)}; TensorRT {facts.get('tensorrt', '?')}, torch {facts.get('torch', '?')}."


def is_rehearsal(figures: Figures) -> bool:
    """Whether its times mean nothing."""
    parts = (figures.get(name, {}) for name in ("gpu_engines", "gpu_kernels"))
    return any(part.get("rehearsal") or part.get("machine", {}).get("rehearsal") for part in parts)


def page(figures: Figures) -> str:
    """Everything between the marks."""
    lines = [machine(figures), "", "### Goals", "", *goals(figures), ""]
    for net in NETS:
        for precision in PRECISIONS:
            lines += [f"### {net}, {precision}", "", *times(figures, net, precision), ""]
    lines += ["### Checks", "", *checks(figures)]
    return "\n".join(lines)


def written(text: str, block: str) -> str:
    """The page with the block between its marks.

    Raises:
        ValueError: it has no marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"there is no '{BEGIN}' … '{END}' in it")
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="?", metavar="gpu_results.json")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/performance.md")
    parser.add_argument("--page", type=Path, default=PAGE, help="another page")
    options = parser.parse_args(arguments)
    try:
        figures = json.loads(options.results.read_text(encoding="utf-8")) if options.results is not None else {}
        if not isinstance(figures, dict):
            raise ValueError("it is no JSON object")
        if options.write and is_rehearsal(figures):
            raise ValueError("it is of a rehearsal, whose times mean nothing")
        block = page(figures)
        if options.write:
            options.page.write_text(written(options.page.read_text(encoding="utf-8"), block), encoding="utf-8")
            return 0
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"error: {options.results or options.page}: {error}", file=sys.stderr)
        return 2
    if is_rehearsal(figures):
        print("A rehearsal: the times mean nothing.\n")
    print(block)
    return 0


if __name__ == "__main__":
    sys.exit(main())
