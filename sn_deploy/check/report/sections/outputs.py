"""How far each output is from the reference's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sn_deploy.check.report.page import Cell, Column, Section, Table, verdict
from sn_deploy.text import counted, error, number, percent, shape_text


def outputs_section(document: Mapping[str, Any]) -> Section | None:
    """A row for each output of each backend."""
    pairs = list(parities(document))
    if not pairs:
        return None
    columns = [
        Column("Output"),
        Column("Result"),
        Column("Relative L2 error", True),
        Column("Its limit", True),
        Column("Used of it", True),
        Column("Worst sample's", True),
        Column("Largest absolute", True),
        Column("Largest relative", True),
        Column("Median absolute", True),
        Column("99% below", True),
        Column("Cosine", True),
        Column("SNR", True),
        Column("NaN, Inf", True),
        Column("Numbers", True),
        Column("Type, shape"),
    ]
    table = Table(
        f"Differences from {document['reference']}",
        columns,
        [_row(backend, parity, document["sample_names"]) for backend, parity in pairs],
        "Relative L2 is the length of the whole difference over that of the reference. Relative differences of single "
        "numbers are taken of the number or of the root mean square of its batch, whichever is larger. SNR is the same "
        "as relative L2, in decibels. Samples are counted from 0.",
    )
    return Section("outputs", "Outputs", list(_says(document)), tables=[table])


def parities(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Backend and output, in the document's order."""
    for backend, outputs in document["parity"].items():
        for parity in outputs:
            yield backend, parity


def used_share(parity: Mapping[str, Any]) -> float | None:
    """The relative L2 error over its limit; None where there is none, infinite where the error is."""
    limit = parity["tolerance"].get("rel_l2")
    if limit is None:
        return None
    if parity["rel_l2"] is None:
        return float("inf")
    return float(parity["rel_l2"] / limit) if limit else float("inf") if parity["rel_l2"] else 0.0


def share_text(share: float | None) -> str:
    """How much of a limit is used."""
    if share is None:
        return "–"
    return percent(share, 0 if share >= 0.1 else 1) if share < 10 else f"{number(share, 2)} times"


def _says(document: Mapping[str, Any]) -> Iterator[str]:
    reference = document["reference"]
    backend, worst = max(
        parities(document), key=lambda pair: float("inf") if pair[1]["rel_l2"] is None else pair[1]["rel_l2"]
    )
    share = used_share(worst)
    strange = sum(parity["nonfinite_mismatch"] for _, parity in parities(document))
    if worst["rel_l2"] == 0:
        if not any(parity["elements"] for _, parity in parities(document)):
            yield "There was no finite number to compare."
        elif strange:
            yield f"What is finite in both equals {reference}'s."
        else:
            yield f"All outputs equal those of {reference}, bit for bit."
    else:
        limit = worst["tolerance"].get("rel_l2")
        beside = f", {share_text(share)} of its limit of {error(limit)}" if share is not None else ""
        yield (
            f"The output farthest from {reference} is {worst['output']} of {backend}: its relative L2 error is "
            f"{error(worst['rel_l2'])}{beside}."
        )
        yield _meaning(worst["rel_l2"])
    if strange:
        verb = "is" if strange == 1 else "are"
        yield f"{counted(strange, 'number')} that should be finite, or the same infinity, {verb} not."


def _meaning(rel_l2: float | None) -> str:
    if rel_l2 is None:
        return "Its difference from the reference isn't even finite."
    if rel_l2 >= 0.1:
        return "That is another result."
    return f"That is a difference of one part in {_round_count(1 / rel_l2)}."


def _round_count(value: float) -> str:
    """``3 million``: one digit, in words where it is large."""
    for size, name in ((1e12, "million million"), (1e9, "thousand million"), (1e6, "million")):
        if value >= size:
            return f"{number(float(f'{value / size:.1g}'), 1)} {name}"
    return f"{int(float(f'{value:.1g}')):,}"


def _row(backend: str, parity: Mapping[str, Any], names: Mapping[str, str]) -> list[Cell]:
    def at(index: int) -> str:
        return names.get(str(index), f"sample {index}")

    share = used_share(parity)
    percentiles = parity["percentiles"]
    strange = parity["nonfinite"]
    mismatch = f", {parity['nonfinite_mismatch']} unlike" if parity["nonfinite_mismatch"] else ""
    return [
        Cell(f"{backend}: {parity['output']}"),
        verdict(parity["passed"]),
        Cell(error(parity["rel_l2"])),
        Cell(error(parity["tolerance"]["rel_l2"]) if "rel_l2" in parity["tolerance"] else "–"),
        Cell(share_text(share), "bad" if share is not None and share > 1 else ""),
        Cell(f"{error(parity['worst_rel_l2'])} ({at(parity['worst_rel_l2_sample'])})"),
        Cell(f"{error(parity['max_abs'])} ({at(parity['max_abs_sample'])})"),
        Cell(error(parity["max_rel"])),
        Cell(error(percentiles["50"]) if "50" in percentiles else "–"),
        Cell(error(percentiles["99"]) if "99" in percentiles else "–"),
        Cell(_cosine(parity["cosine"])),
        Cell("∞" if parity["snr_db"] is None and parity["rel_l2"] == 0 else _decibels(parity["snr_db"])),
        Cell(f"{number(strange)}{mismatch}", "bad" if mismatch else ""),
        Cell(number(parity["elements"])),
        Cell(f"{parity['dtype']}\u00a0{shape_text(parity['shape'])}"),
    ]


def _cosine(value: float | None) -> str:
    if value is None:
        return "–"
    # Of what is nearly 1, what is missing says more.
    return f"1 − {error(1 - value)}" if 0 < 1 - value < 1e-3 else f"{value:.4f}".rstrip("0").rstrip(".")


def _decibels(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} dB"
