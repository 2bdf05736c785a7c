"""``sn-deploy demo``: from trained weights to a compared ONNX file, on handwritten digits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich import box
from rich.table import Table

from sn_deploy.check.metrics.classification import accuracy, top1_agreement
from sn_deploy.compare.parity import Parity, compare
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.console import Console, output_console
from sn_deploy.runtime.tensors import Array

if TYPE_CHECKING:
    from collections.abc import Callable

    from sn_deploy.check.result import BackendLatency
    from sn_deploy.onnx_export import ExportReport

_LARGEST_REL_L2 = TOLERANCES["float32"].rel_l2


@click.command(name="demo")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.onnx", help="Keep the exported file.")
@click.option("--calls", type=click.IntRange(min=10), default=300, show_default=True, help="Timed calls per backend.")
def command(output: Path | None, calls: int) -> None:
    """Export a trained digit classifier, run it in ONNX Runtime and compare it with PyTorch.

    The network has SN layers with and without the BN branch; its weights come with the package, trained by
    tools/train_demo.py on the handwritten digits that scikit-learn ships (UCI).
    """
    from sn_deploy.output_file import check_onnx_output
    from sn_deploy.runtime.torch import require_torch

    if output is not None:
        check_onnx_output(output)
    require_torch("sn-deploy demo")
    console = output_console()
    with tempfile.TemporaryDirectory() as folder:
        run(console, output or Path(folder) / "digits.onnx", calls)
    if output is not None:
        console.print(f"\nThe file: {output}. Its layers: sn-deploy inspect {output}")


def run(console: Console, path: Path, calls: int) -> None:
    """Exports to ``path``, compares on the held-out digits, prints the tables.

    Raises:
        CheckFailedError: ONNX Runtime and PyTorch don't agree.
    """
    from sn_deploy.check.digits_data import load_digits_split
    from sn_deploy.check.latency import measure
    from sn_deploy.errors import CheckFailedError
    from sn_deploy.models.digits import load_pretrained
    from sn_deploy.onnx_export import export
    from sn_deploy.runtime.native import ort_library
    from sn_deploy.runtime.ort import OrtSession
    from sn_deploy.runtime.torch import TorchModel, tensor_from_array, use_threads

    digits = load_digits_split()
    model = load_pretrained()
    report = export(model, tensor_from_array(digits.test_images[:1]), path, dynamic="batch")
    console.print(
        f"Exported a digit classifier with {len(report.layers)} SN layers: {report.nodes} nodes, "
        f"{report.file_bytes / 1e3:.0f} kB (torch's own export: {report.nodes_standard} nodes)."
    )
    # One thread each: so small a net gains nothing from more, and what they wait for each other would be measured.
    use_threads(1)
    (name,) = report.inputs
    backends: dict[str, Any] = {
        "PyTorch": TorchModel(model, [name]),
        "ONNX Runtime": OrtSession(path, threads=1, native=False),
    }
    if ort_library() is not None:
        backends["with native op"] = OrtSession(path, threads=1)
    outputs = {title: _only(backend.run({name: digits.test_images})) for title, backend in backends.items()}
    single = {name: digits.test_images[:1]}
    timed = measure(backends, {1: single}, rounds=calls, threads=1)
    latencies = {row.backend: row for row in timed.results}
    parities = {title: compare(outputs["PyTorch"], output) for title, output in outputs.items()}
    console.print(_comparison(outputs, parities, digits.test_labels, latencies))
    console.print(_weights(report))
    for title, parity in parities.items():
        if not parity.rel_l2 <= _LARGEST_REL_L2:
            raise CheckFailedError(
                f"{title} differs from PyTorch by a relative L2 of {parity.rel_l2:.2g}",
                expected=f"{_LARGEST_REL_L2:.0e}",
            )


def _only(outputs: dict[str, Array]) -> Array:
    (value,) = outputs.values()
    return value


def _comparison(
    outputs: dict[str, Array], parities: dict[str, Parity], labels: Array, latencies: dict[str, BackendLatency]
) -> Table:
    title = f"{len(labels)} held-out digits, float32, CPU; latency: one image, one thread"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column()
    for title in outputs:
        table.add_column(title, justify="right")
    reference = next(iter(outputs))

    def row(heading: str, value: Callable[[str], str], *, compared: bool = False) -> None:
        texts = ("reference" if compared and title == reference else value(title) for title in outputs)
        table.add_row(heading, *texts)

    row("accuracy", lambda title: f"{accuracy(outputs[title], labels):.2%}")
    row("top-1 agreement", lambda title: f"{top1_agreement(outputs[reference], outputs[title]):.2%}", compared=True)
    row("largest abs. difference", lambda title: f"{parities[title].max_abs:.1e}", compared=True)
    row("largest rel. difference", lambda title: f"{parities[title].max_rel:.1e}", compared=True)
    row("median latency", lambda title: f"{latencies[title].median_ms:.3f} ms")
    row("90th percentile", lambda title: f"{latencies[title].p90_ms:.2f} ms")
    return table


def _weights(report: ExportReport) -> Table:
    table = Table(title="What each SN layer chose: IN, LN and BN", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("layer")
    for header in ("mean: IN", "LN", "BN", "variance: IN", "LN", "BN"):
        table.add_column(header, justify="right")
    for layer in report.layers:
        folded = layer.folded
        shares = (folded.mean_in, folded.mean_ln, folded.mean_bn, folded.var_in, folded.var_ln, folded.var_bn)
        table.add_row(folded.name, *(f"{share:.0%}" if share else "–" for share in shares))
    return table
