"""The figures of all rows, as the table of docs/models.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sn_deploy.atomic import atomic_output

BEGIN: Final = "<!-- made by tools/zoo.py: begin -->"
END: Final = "<!-- made by tools/zoo.py: end -->"

_HEADER: Final = (
    "model",
    "inputs",
    "SN nodes",
    "nodes, torch's export",
    "ours",
    "ONNX Runtime, function",
    "native operator",
    "torch's export, fused",
    "PyTorch float32",
    "agreement",
    "check",
    "own model",
)


def markdown(results: Sequence[Mapping[str, Any]]) -> str:
    """One table for each task, and what made them."""
    lines: list[str] = []
    tasks = dict.fromkeys((result["number"], result["task"]) for result in results)
    for number, task in sorted(tasks):
        rows = [result for result in results if result["number"] == number]
        lines += [f"### {number}. {task}", "", _line(_HEADER), _line(["---"] * len(_HEADER))]
        lines += [_line(_cells(row)) for row in rows]
        notes = [f"- {row['name']}: {row['note']}." for row in rows if row.get("note")]
        lines += ["", *notes, *([""] if notes else [])]
    return "\n".join([*lines, _origin(results)])


def write_into(document: Path, results: Sequence[Mapping[str, Any]]) -> None:
    """Puts the tables between the marks of ``document``.

    Raises:
        SystemExit: the marks aren't there.
    """
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{document} has no {BEGIN} … {END}")
    with atomic_output(document) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n\n{markdown(results)}\n\n{END}{after}")


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [
        row["name"],
        _shapes(row),
        _number(row.get("switch_norm")),
        _number(row.get("nodes_standard")),
        _number(row.get("nodes")),
        error_text(row.get("ort")),
        error_text(row.get("native")),
        _fused(row),
        error_text(row.get("torch")),
        _agreement(row),
        row.get("check") or "–",
        error_text(row.get("own")),
    ]


def _shapes(row: Mapping[str, Any]) -> str:
    shapes = dict.fromkeys(", ".join(shapes) for shapes in row.get("shapes", ()))
    return "; ".join(shapes) or "–"


def _number(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def error_text(value: float | None) -> str:
    """As ``7.7e-3``; a dash for none."""
    if value is None:
        return "–"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return "0" if value == 0 else f"{mantissa}e{int(exponent)}"


def _fused(row: Mapping[str, Any]) -> str:
    if row.get("fused") is None:
        return row.get("fused_text") or "–"
    return f"{row['fuse_found']} found, {error_text(row['fused'])}"


def _agreement(row: Mapping[str, Any]) -> str:
    value = row.get("agreement")
    if value is None:
        return row.get("agreement_text") or "–"
    if row["agreement_kind"] == "cosine":
        return f"cosine ≥ {value:.7f}"
    # 100 % is said of all alone.
    return f"{value:.2%}" if value == 1 or value < 0.9999 else f"{value:.6%}"


def _origin(results: Sequence[Mapping[str, Any]]) -> str:
    """The command, the versions and the repositories; where rows differ in them, all that there were."""
    packages: dict[str, dict[str, None]] = {}
    commits: dict[str, None] = {}
    for result in results:
        for package, version in result["versions"].items():
            packages.setdefault(package, {})[version] = None
        for repository, commit in result["commits"].items():
            commits[f"{repository} at {commit}"] = None
    efforts = " and ".join(dict.fromkeys(f"{result['effort']:g}" for result in results if "effort" in result))
    revisions = " and ".join(dict.fromkeys(result.get("revision", "an earlier one") for result in results))
    versions = ", ".join(f"{package} {' and '.join(found)}" for package, found in packages.items())
    minutes = sum(result.get("seconds", 0) for result in results) / 60
    return "\n\n".join(
        (
            f"Made by `python -m tools.zoo FOLDER --effort {efforts} --output docs/models.json --document "
            f"docs/models.md` at revision {revisions}: {len(results)} rows, {minutes:.0f} minutes.",
            f"Versions: {versions}.",
            f"Repositories: {'; '.join(commits) or 'none'}.",
        )
    )
