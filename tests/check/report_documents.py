"""Documents that a report may meet: the real one, changed."""

from __future__ import annotations

from typing import Any

from tests.check.real_document import real_document


def bare_document() -> dict[str, Any]:
    """Without what makes pictures."""
    return real_document() | {"latency": None, "layers": [], "importance": []}


def failed_document() -> dict[str, Any]:
    """What a wrong third layer would leave behind."""
    document = real_document()
    parity = document["parity"]["ort"][0]
    parity |= {"rel_l2": 0.05, "passed": False, "nonfinite_mismatch": 2}
    limit = next(one for one in document["assertions"] if one["backend"] == "ort" and one["metric"] == "rel_l2")
    limit |= {"text": "ort: linear: rel_l2 0.05 <= 1e-05", "passed": False, "value": 0.05}
    report = document["layers"][0]
    report |= {"culprit": "sn3", "culprit_part": "layer"}
    for layer in report["layers"][2:]:
        layer |= {"rel_l2": 0.05, "input_rel_l2": 0.05, "passed": False}
    report["layers"][2]["own_rel_l2"] = 0.05
    document["bisect"] = {
        "backend": "ort",
        "blocks": 5,
        "kept": ["sn3", "sn4"],
        "passed": True,
        "minimal": True,
        "runs": 7,
        "says": ["ort: it passes with 2 of 5 blocks in float32: sn3, sn4.", "ort: none of them can be left out."],
        "culprit": None,
        "culprit_part": None,
        "file": "mixed.onnx",
    }
    return document


NASTY = (
    "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"'>&lt;{{ 7*7 }}{% raw %}$x_1^$ ]]> --> "
    "\u202e\x00\n日本"
)


def poisoned(value: Any, key: str = "") -> Any:
    """Every text with markup at its end; what was the same name is so still."""
    if isinstance(value, str):
        return f"{value}{NASTY}"
    if isinstance(value, dict):
        looked_up = key in ("mean", "var", "percentiles", "tolerance")
        named = NASTY if key == "parity" else ""
        return {f"{name}{named}": item if looked_up else poisoned(item, name) for name, item in value.items()}
    return [poisoned(item, key) for item in value] if isinstance(value, list) else value


def many_layers(count: int) -> dict[str, Any]:
    document = real_document()
    layer = document["layers"][0]["layers"][0]
    document["layers"] = [
        {
            "backend": backend,
            "layers": [layer | {"layer": f"block{index}.sn", "index": index} for index in range(count)],
            "culprit": None,
            "culprit_part": None,
        }
        for backend in ("ort", "ort-native")
    ]
    weights = document["importance"][0]
    document["importance"] = [weights | {"name": f"block{index}.sn"} for index in range(count)]
    return document


def exact(document: dict[str, Any]) -> dict[str, Any]:
    """Outputs that are equal, bit for bit, and layers without any error."""
    for outputs in document["parity"].values():
        outputs[0] |= dict.fromkeys(("rel_l2", "worst_rel_l2", "max_abs", "max_rel"), 0.0)
        outputs[0] |= {"snr_db": None, "cosine": 1.0}
    for layer in document["layers"][0]["layers"]:
        layer |= {"rel_l2": 0.0, "own_rel_l2": 0.0, "input_rel_l2": 0.0}
    return document


def equal_where_finite(document: dict[str, Any], elements: int = 10) -> dict[str, Any]:
    """So many numbers that are equal, and NaNs."""
    for outputs in exact(document)["parity"].values():
        outputs[0] |= {"elements": elements, "nonfinite": 3, "nonfinite_mismatch": 3, "passed": False}
    return document


def not_finite(document: dict[str, Any]) -> dict[str, Any]:
    """NaN in all that may be NaN, as JSON has it."""
    for outputs in document["parity"].values():
        outputs[0] |= dict.fromkeys(("rel_l2", "worst_rel_l2", "max_abs", "max_rel", "snr_db", "cosine"), None)
        outputs[0]["percentiles"] = dict.fromkeys(outputs[0]["percentiles"], None)
    for layer in document["layers"][0]["layers"]:
        layer |= {"rel_l2": None, "own_rel_l2": None, "input_rel_l2": None, "passed": False}
    document["layers"][0] |= {"culprit": "sn1", "culprit_part": "layer"}
    document["metrics"] = [metric | {"value": None, "low": None, "high": None} for metric in document["metrics"]]
    document["latency"]["results"][0] |= {"ratio": None, "times_ms": [None]}
    return document


def steady(document: dict[str, Any]) -> dict[str, Any]:
    """Backends without any spread, one of them a thousand times as fast, at one batch size."""
    rows = document["latency"]["results"][:3]
    for row, ms in zip(rows, (1.0, 0.001, 1000.0), strict=True):
        row |= {"times_ms": [ms], "median_ms": ms, "p90_ms": ms, "p99_ms": ms, "ratio": ms, "ratio_low": ms}
        row |= {"ratio_high": ms, "memory_mib": None, "device_ms": 0.5 * ms, "throughput": 1000 / ms, "calls": 1}
    document["latency"]["results"] = rows
    return document


def crowd(document: dict[str, Any]) -> dict[str, Any]:
    """Eight backends with long names."""
    rows = [row for row in document["latency"]["results"] if row["backend"] == "ort"]
    name = "resnet50sn-imagenet-finetuned-on-a-long-name-{}.onnx".format
    document["backends"] += [document["backends"][1] | {"name": name(index)} for index in range(8)]
    document["latency"]["results"] += [row | {"backend": name(index)} for index in range(8) for row in rows]
    document["parity"] |= {name(index): document["parity"]["ort"] for index in range(8)}
    return document
