"""The layers of an engine, as TensorRT's inspector gives them, and what is to be seen in them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sn_deploy.runtime.cuda import Tactic
from sn_deploy.runtime.trt.inspector import is_switch_norm

# How the inspector names element types in its descriptions of formats, which differ from version to version.
_PRECISIONS: Final = (
    ("bfloat16", r"bf16|bfloat"),
    ("float8", r"fp8|float8|\be4m3"),
    ("float16", r"fp16|half"),
    ("float32", r"fp32|float"),
    ("int8", r"int8"),
    ("int64", r"int64"),
    ("int32", r"int32"),
    ("bool", r"bool"),
)
_NOT_TOLD: Final = "N/A"  # due to dynamic shapes


@dataclass(frozen=True)
class LayerRow:
    """A layer of an engine.

    Attributes:
        kind: what TensorRT calls its type.
        tactic: the kernel's name, or the tactic's number; of an SN plugin, both ("cluster of 8, 0x802"); ``''``
            where it isn't told.
        inputs, outputs: the types and formats of its tensors, as TensorRT describes them; ``''`` for what it doesn't.
        precision: of its first output, as NumPy names it; ``''`` where it isn't told.
        is_plugin: an SN plugin's layer. is_reformat: one that only copies into another format.
        beside_plugin: a reformat that writes what a plugin reads, or reads what one writes.
        ms: its time in one call; None where it wasn't measured.
        share: of all layers' time.
    """

    name: str
    kind: str
    tactic: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: str
    is_plugin: bool
    is_reformat: bool
    beside_plugin: bool
    ms: float | None = None
    share: float | None = None


def layer_rows(layers: Sequence[Mapping[str, Any]], times_ms: Mapping[str, float] | None = None) -> list[LayerRow]:
    """The layers, in order, with their times where these are given by name."""
    touched: set[str] = set()
    for layer in layers:
        if is_switch_norm(layer):
            touched |= _tensors(layer)
    total = sum((times_ms or {}).values())
    rows = []
    for layer in layers:
        ms = (times_ms or {}).get(str(layer.get("Name")))
        outputs = tuple(_formats(layer, "Outputs"))
        rows.append(
            LayerRow(
                name=str(layer.get("Name", "")),
                kind=str(layer.get("LayerType", "")),
                tactic=_tactic(layer),
                inputs=tuple(_formats(layer, "Inputs")),
                outputs=outputs,
                precision=_precision(outputs),
                is_plugin=is_switch_norm(layer),
                is_reformat=is_reformat(layer),
                beside_plugin=is_reformat(layer) and bool(touched & _tensors(layer)),
                ms=ms,
                share=ms / total if ms is not None and total else None,
            )
        )
    return rows


def is_reformat(layer: Mapping[str, Any]) -> bool:
    """Whether it only copies into another format or type."""
    return "reformat" in str(layer.get("LayerType", "")).lower()


def layer_counts(rows: Iterable[LayerRow]) -> dict[str, int]:
    """How many layers, plugins, reformats, and reformats next to a plugin."""
    found = list(rows)
    return {
        "layers": len(found),
        "plugins": sum(row.is_plugin for row in found),
        "reformats": sum(row.is_reformat for row in found),
        "reformats_beside_plugins": sum(row.beside_plugin for row in found),
    }


def _tensors(layer: Mapping[str, Any]) -> set[str]:
    """Names of what it reads and writes."""
    both = [*layer.get("Inputs", ()), *layer.get("Outputs", ())]
    return {str(tensor["Name"]) for tensor in both if isinstance(tensor, dict) and "Name" in tensor}


def _tactic(layer: Mapping[str, Any]) -> str:
    told = str(layer.get("TacticName") or layer.get("TacticValue") or "")
    if is_switch_norm(layer) and re.fullmatch(r"0x[0-9a-fA-F]{1,16}", told) and int(told, 16) > 0:
        return f"{Tactic(int(told, 16)).name}, {int(told, 16):#x}"
    return told


def _formats(layer: Mapping[str, Any], key: str) -> Iterable[str]:
    for tensor in layer.get(key, ()):
        if isinstance(tensor, dict):
            yield _format(tensor)


def _format(tensor: Mapping[str, Any]) -> str:
    """TensorRT 10 says both in one; 11 has the type in Datatype (DataType, where it describes inputs and outputs)."""
    both = tensor.get("Format/Datatype")
    apart = (tensor.get("Datatype") or tensor.get("DataType"), tensor.get("Format"))
    known = (str(part) for part in ([both] if both else apart) if part)
    return " ".join(part for part in known if not part.startswith(_NOT_TOLD))


def _precision(formats: Sequence[str]) -> str:
    first = formats[0].lower() if formats else ""
    return next((name for name, pattern in _PRECISIONS if re.search(pattern, first)), "")
