"""An engine, its sidecar and its layers as text and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from sn_deploy.console import Console
from sn_deploy.engine.inspect import Inspection
from sn_deploy.engine.layers import LayerRow, layer_counts, layer_rows
from sn_deploy.runtime.trt.sidecar import EMBEDDED, LOADED, Sidecar
from sn_deploy.summary import Summary
from sn_deploy.table import plain_table
from sn_deploy.text import typed_shape

if TYPE_CHECKING:
    from sn_deploy.engine.build import BuildReport
    from sn_deploy.engine.refit import RefitReport

FLAG: Final = "next to an SN plugin"
_PLUGIN_TEXTS: Final = {
    EMBEDDED: "inside the engine ({library})",
    LOADED: "{library}, loaded beside the engine",
}


def print_summary(console: Console, sidecar: Sidecar) -> None:
    """What the sidecar says, but for the layers."""
    summary = Summary()
    for name, value in _facts(sidecar):
        summary.add(name, value)
    summary.print(console)


def layer_table(rows: Sequence[LayerRow]) -> Table:
    """The layers, in the order in which they run."""
    timed = any(row.ms is not None for row in rows)
    heads = ("layer", "type", "tactic", "precision", "in", "out")
    table = plain_table(*heads, numbers=("µs", "share") if timed else ())
    table.add_column("")
    for row in rows:
        times = ["" if row.ms is None else f"{row.ms * 1e3:.1f}", "" if row.share is None else f"{row.share:.1%}"]
        table.add_row(
            Text(row.name),
            Text(row.kind),
            Text(row.tactic),
            row.precision,
            Text(" | ".join(row.inputs)),
            Text(" | ".join(row.outputs)),
            *(times if timed else ()),
            Text(FLAG, style="yellow") if row.beside_plugin else "",
        )
    return table


def layers_summary(rows: Sequence[LayerRow]) -> str:
    """The layers in a line."""
    counts = layer_counts(rows)
    line = (
        f"{counts['layers']} layers, {counts['plugins']} of them SN plugins; {counts['reformats']} reformats, "
        f"{counts['reformats_beside_plugins']} of them {FLAG}"
    )
    of_plugins = [row.share for row in rows if row.is_plugin and row.share is not None]
    if of_plugins:
        line += f"; the plugins take {sum(of_plugins):.1%} of the layers' time"
    untold = sum("" in (*row.inputs, *row.outputs) for row in rows)
    return line + (f"; TensorRT doesn't tell all formats of {untold} layers" if untold else "")


def json_from_engine(path: Path, found: Inspection) -> dict[str, Any]:
    """The document of ``inspect --json``."""
    sidecar, rows = found.sidecar, found.rows
    plain = None if sidecar is None else {key: value for key, value in sidecar.as_json().items() if key != "layers"}
    return {
        "engine": str(path),
        "sidecar": plain,
        "counts": None if rows is None else layer_counts(rows),
        "layers": None if rows is None else [asdict(row) for row in rows],
        "missing": found.missing,
    }


def _facts(sidecar: Sidecar) -> Iterator[tuple[str, str]]:
    size = sidecar.engine.get("bytes")
    yield "built", f"{sidecar.created} by sn-deploy {sidecar.sn_deploy}, in {sidecar.seconds:g} s"
    yield "TensorRT", sidecar.tensorrt
    yield "GPU", f"{sidecar.gpu['name']} (compute capability {sidecar.gpu['compute_capability']})"
    if isinstance(size, int) and abs(size) < 2**63:
        yield "size", f"{size / 1e6:.1f} MB"
    yield "of", f"{sidecar.onnx['file']}, {sidecar.onnx.get('switch_norm_nodes', '?')} SN layers"
    yield "precision", sidecar.precision + (", float32 parts in TF32" if sidecar.tf32 else "")
    plugin = _PLUGIN_TEXTS.get(str(sidecar.plugin["use"]), "none: SN layers run by their function's operators")
    yield "plugin", plugin.format(library=sidecar.plugin.get("library"))
    for key, tensors in (("input", sidecar.inputs), ("output", sidecar.outputs)):
        for tensor in tensors:
            yield key, f"{tensor.get('name')}: {tensor.get('dtype')} {_axes(tensor.get('shape'))}"
    for index, profile in enumerate(sidecar.profiles):
        for name, three in profile.items():
            yield f"profile {index}", f"{name} {_range(three)}"
    settings = [f"{name} {value}" for name, value in sidecar.settings.items() if value not in (None, False, "none")]
    if settings:
        yield "settings", ", ".join(settings).replace("_", " ")
    if sidecar.holds_host_code:
        yield "host code", "in the engine: it is loaded with --allow-host-code only"


def _axes(shape: Sequence[Any] | None) -> str:
    return "(?)" if shape is None else "(" + ", ".join("?" if axis is None else str(axis) for axis in shape) + ")"


def _range(three: Mapping[str, Sequence[int]]) -> str:
    low, best, high = (typed_shape(three.get(kind, ())) for kind in ("min", "opt", "max"))
    return best if low == high else f"{low} to {high}, fastest at {best}"


def print_build(console: Console, report: BuildReport) -> None:
    """What was built."""
    print_summary(console, report.sidecar)
    if report.sidecar.layers is not None:
        console.print(layers_summary(layer_rows(report.sidecar.layers)))
    console.print(f"wrote {report.path} and {report.sidecar_path.name}")


def print_refit(console: Console, report: RefitReport) -> None:
    """What got its weights."""
    print_summary(console, report.sidecar)
    console.print(f"wrote {report.path} and {report.sidecar_path.name}")
