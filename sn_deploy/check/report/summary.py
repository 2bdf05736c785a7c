"""The top of the page: what was compared, on what, and what came of it, for somebody who wasn't there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from sn_deploy.check.report.page import Tile
from sn_deploy.check.report.sections.latency import comparison_sentence, timed_rows
from sn_deploy.check.report.sections.outputs import parities, share_text, used_share
from sn_deploy.check.report.sections.task import interval_text, title, value_text
from sn_deploy.text import counted, error, listed, number, plain

_MOST_FAILURES: Final = 5


def title_from_document(document: Mapping[str, Any]) -> str:
    """``ort and ort-native beside torch``."""
    others = [info["name"] for info in document["backends"] if info["name"] != document["reference"]]
    return f"{listed(others)} beside {document['reference']}" if others else str(document["reference"])


def lead_sentences(document: Mapping[str, Any]) -> Iterator[str]:
    """What was compared on what data, and the verdict."""
    yield f"{_compared(document)} on {counted(document['samples'], 'sample')}: {_data(document['data'])}."
    if document["shard"]:
        yield f"This is part {document['shard']} of a check: its limits say little alone."
    total = len(document["assertions"])
    failed = sum(not assertion["passed"] for assertion in document["assertions"])
    if not total:
        yield "No limit was set."
    elif failed:
        yield f"{failed} of {counted(total, 'limit')} {'does' if failed == 1 else 'do'} not hold."
    else:
        yield "The one limit holds." if total == 1 else f"All {total} limits hold."
    for report in document["layers"]:
        if report["culprit"] is not None:
            where = "is at fault" if report["culprit_part"] == "layer" else "is reached by an error from before it"
            yield f"In {report['backend']}, {report['culprit']} is the first layer out of its tolerance and {where}."
    row = _headline(document)
    if row is not None:
        yield f"{comparison_sentence(row, document['latency']['baseline'])}, at batch {row['batch']}."


def failures(document: Mapping[str, Any]) -> tuple[list[str], int]:
    """The first limits that don't hold, and how many more there are."""
    texts = [assertion["text"] for assertion in document["assertions"] if not assertion["passed"]]
    return texts[:_MOST_FAILURES], max(0, len(texts) - _MOST_FAILURES)


def tiles(document: Mapping[str, Any]) -> Iterator[Tile]:
    """The few figures that are looked for first."""
    total = len(document["assertions"])
    held = sum(assertion["passed"] for assertion in document["assertions"])
    if total:
        yield Tile("Limits that hold", f"{held} of {total}", "", "good" if held == total else "bad")
    pairs = list(parities(document))
    if pairs:
        _, worst = max(pairs, key=lambda pair: float("inf") if pair[1]["rel_l2"] is None else pair[1]["rel_l2"])
        share = used_share(worst)
        beside = f"relative L2, {share_text(share)} of its limit" if share is not None else "relative L2"
        yield Tile("Largest error", error(worst["rel_l2"]), beside, "" if worst["passed"] else "bad")
    metric = _headline_metric(document)
    if metric is not None:
        interval = interval_text(metric)
        beside = metric["backend"] if interval == "–" else f"{metric['backend']}, {interval}"
        yield Tile(title(metric), value_text(metric, metric["value"]), beside)
    row = _headline(document)
    if row is not None:
        interval = f"{number(1 / row['ratio_high'])} to {number(1 / row['ratio_low'])}"
        beside = f"that of {document['latency']['baseline']} ({interval}), batch {row['batch']}"
        yield Tile(f"Speed of {row['backend']}", f"{number(1 / row['ratio'])}×", beside)


def _compared(document: Mapping[str, Any]) -> str:
    others = [info["name"] for info in document["backends"] if info["name"] != document["reference"]]
    if not others:
        return f"{document['reference']} was run"
    return f"{listed(others)} {'was' if len(others) == 1 else 'were'} compared with {document['reference']}"


def _data(data: Mapping[str, Any]) -> str:
    kind = data.get("kind")
    if kind == "random":
        seed = f", seed {plain(data['seed'])}" if "seed" in data else ""
        return f"random numbers ({plain(data.get('distribution', 'normal'))}{seed})"
    if kind == "images":
        return f"images from {plain(data.get('folder'))}"
    if kind == "callable":
        return f"what {plain(data.get('callable'))} gave"
    if "file" in data:
        return f"arrays from {plain(data['file'])}"
    return plain(kind) if kind is not None else "see the data below"


def _headline(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The fastest backend beside the baseline, at the smallest batch size."""
    rows = timed_rows(document)
    if not rows:
        return None
    smallest = min(row["batch"] for row in rows)
    others = [row for row in rows if row["batch"] == smallest and row["backend"] != document["latency"]["baseline"]]
    return min(others, key=lambda row: float(row["ratio"]), default=None)


def _headline_metric(document: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The worst of the first figure that compares with the reference, or the worst of the first figure."""
    metrics = [metric for metric in document["metrics"] if metric["value"] is not None]
    agreements = [metric for metric in metrics if "agreement" in metric["name"]] or metrics
    if not agreements:
        return None
    first = agreements[0]["name"]
    own = [metric for metric in agreements if metric["name"] == first and metric["backend"] != document["reference"]]
    worst: Mapping[str, Any] = min(own or agreements[:1], key=lambda metric: float(metric["value"]))
    return worst
