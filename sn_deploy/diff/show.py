"""What changed between two files, as tables and as JSON."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sn_deploy.console import Console
from sn_deploy.table import plain_table
from sn_deploy.text import shape_text

if TYPE_CHECKING:
    from sn_deploy.diff.changes import Change, FileDiff

_WIDEST = 80
MOST_WEIGHTS = 10


def print_diff(
    console: Console, found: FileDiff, most_weights: int | None = MOST_WEIGHTS, rest: str = "in weights"
) -> None:
    """Tables of what differs, and a verdict; ``rest`` is where the weights are that are left out."""
    properties = {**found.properties, **_prefixed("input", found.inputs), **_prefixed("output", found.outputs)}
    if properties:
        table = plain_table("", "before", "after")
        for name, change in properties.items():
            table.add_row(name, _text(change.before), _text(change.after))
        console.print(table)
    if found.ops:
        table = plain_table("operator", "before", "after", "change")
        for op, (before, after) in sorted(found.ops.items(), key=lambda item: -abs(item[1][1] - item[1][0])):
            table.add_row(op, str(before), str(after), f"{after - before:+d}")
        console.print(table)
    _print_weights(console, found, most_weights, rest)
    if found.numerics is not None:
        given = ", ".join(f"{name} {shape}" for name, shape in found.inputs_run.items())
        larger = "" if found.why_larger is None else f" ({found.why_larger})"
        console.print(f"run on {given or 'no input'}{larger}:")
        table = plain_table("output", "shape", "max abs", "rel L2", "cosine", "allowed")
        for output in found.numerics:
            name = output.before if output.before == output.after else f"{output.before} → {output.after}"
            figures = (
                f"{output.max_abs:.3g}",
                f"{output.rel_l2:.3g}",
                f"{output.cosine:.9f}",
                f"{output.tolerance:.1e}",
            )
            table.add_row(name, shape_text(output.shape), *figures, style=None if output.same else "red")
        console.print(table)
    for name in found.drawn:
        console.print(f"output {name!r} is drawn anew in each run, and isn't compared", style="yellow", soft_wrap=True)
    for reason in found.different:
        console.print(f"different: {reason}", style="red", soft_wrap=True)
    if not found.different:
        what = "" if found.numerics is not None else " operators, attributes and weights"
        console.print(f"the same{what}, as far as can be seen", style="green")


def json_from_diff(found: FileDiff) -> dict[str, Any]:
    """The diff as what JSON can hold; a number that is infinite or NaN becomes text."""
    plain = asdict(found)
    for output, described in zip(found.numerics or (), plain["numerics"] or (), strict=True):
        described["same"] = output.same
    plain["same"] = not found.different
    cleaned = _finite(plain)
    assert isinstance(cleaned, dict)
    return cleaned


def _print_weights(console: Console, found: FileDiff, most: int | None, rest: str) -> None:
    weights = found.weights
    parts = [f"{weights.same} the same"]
    parts += [f"{len(weights.renamed)} renamed"] if weights.renamed else []
    parts += [f"{len(weights.changed)} changed"] if weights.changed else []
    for what, sizes in (("removed", weights.removed), ("added", weights.added)):
        parts += [f"{len(sizes)} {what} ({sum(sizes.values()) / 1e6:.3g} MB)"] if sizes else []
    console.print(f"weights: {', '.join(parts)}")
    rows = [
        *((name, "changed", change.what, _number(change.max_abs), _number(change.rel_l2))
          for name, change in weights.changed.items()),
        *((name, "removed", f"{size} bytes", "", "") for name, size in weights.removed.items()),
        *((name, "added", f"{size} bytes", "", "") for name, size in weights.added.items()),
        *((name, "renamed", after, "", "") for name, after in weights.renamed.items()),
    ]  # fmt: skip
    if rows:
        table = plain_table("weight", "", "", "max abs", "rel L2")
        for row in rows[:most]:
            table.add_row(*row)
        console.print(table)
        if most is not None and len(rows) > most:
            console.print(f"… and {len(rows) - most} more: {rest}")


def _prefixed(kind: str, changes: Any) -> dict[str, Change]:
    return {f"{kind} {name}": change for name, change in changes.items()}


def _text(value: str | None) -> str:
    """Without the middle of sizes that are expressions of hundreds of characters."""
    text = value or "–"
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST // 2]}…{text[-_WIDEST // 2 :]}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
