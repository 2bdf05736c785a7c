"""``sn-deploy demo``: from trained weights to a compared ONNX file, on handwritten digits."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from sn_deploy.check.latency import Latency
    from sn_deploy.graph.export import ExportReport

# One float32 step in the logits is about 1e-7 of them; ten layers of rounding stay well below this.
_LARGEST_REL_L2 = 1e-5


@click.command(name="demo")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.onnx", help="Keep the exported file.")
@click.option("--calls", type=click.IntRange(min=10), default=300, show_default=True, help="Timed calls per backend.")
def command(output: Path | None, calls: int) -> None:
    """Export a trained digit classifier, run it in ONNX Runtime and compare it with PyTorch.

    The network has SN layers with and without the BN branch; its weights come with the package, trained by
    tools/train_demo.py on the handwritten digits that scikit-learn ships (UCI).
    """
    from sn_deploy.atomic import check_writable
    from sn_deploy.runtime.torch import require_torch

    if output is not None:
        check_writable(output)
    require_torch("sn-deploy demo")
    console = Console(markup=False, highlight=False)
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
    from sn_deploy.graph.export import export
    from sn_deploy.models.digits import load_pretrained
    from sn_deploy.runtime.ort import OrtSession
    from sn_deploy.runtime.torch import TorchModel, tensor_from_array, use_threads

    digits = load_digits_split()
    images, labels = digits.test_images, digits.test_labels
    model = load_pretrained()
    report = export(model, tensor_from_array(images[:1]), path, dynamic="batch")
    console.print(
        f"Exported a digit classifier with {len(report.layers)} SN layers: {report.nodes} nodes, "
        f"{report.file_bytes / 1e3:.0f} kB (torch's own export: {report.nodes_standard} nodes)."
    )
    reference = TorchModel(model, list(report.inputs))
    # One thread each: so small a net gains nothing from more, and what they wait for each other would be measured.
    use_threads(1)
    with OrtSession(path, threads=1) as session:
        (name,) = report.inputs
        expected, actual = (_only(backend.run({name: images})) for backend in (reference, session))
        single = {name: images[:1]}
        latencies = measure(
            {"PyTorch": lambda: reference.run(single), "ONNX Runtime": lambda: session.run(single)}, calls=calls
        )
    console.print(_comparison(expected, actual, labels, latencies))
    console.print(_weights(report))
    from sn_deploy.check.parity import compare

    rel_l2 = compare(expected, actual).rel_l2
    if not rel_l2 <= _LARGEST_REL_L2:
        raise CheckFailedError(
            f"ONNX Runtime differs from PyTorch by a relative L2 of {rel_l2:.2g}", expected=f"{_LARGEST_REL_L2:.0e}"
        )


def _only(outputs: dict[str, Any]) -> np.ndarray[Any, np.dtype[Any]]:
    (value,) = outputs.values()
    return np.asarray(value)


def _comparison(
    expected: np.ndarray[Any, np.dtype[Any]],
    actual: np.ndarray[Any, np.dtype[Any]],
    labels: np.ndarray[Any, np.dtype[Any]],
    latencies: dict[str, Latency],
) -> Table:
    from sn_deploy.check.parity import accuracy, compare, top1_agreement

    parity = compare(expected, actual)
    table = Table(title=f"{len(labels)} held-out digits, float32, on the CPU", title_justify="left")
    table.add_column()
    for name in latencies:
        table.add_column(name, justify="right")

    def row(title: str, value: Callable[[str], str]) -> None:
        table.add_row(title, *(value(name) for name in latencies))

    scores = dict(zip(latencies, (expected, actual), strict=True))
    row("accuracy", lambda name: f"{accuracy(scores[name], labels):.2%}")
    candidate_only = {"PyTorch": "reference"}
    row("top-1 agreement", lambda name: candidate_only.get(name, f"{top1_agreement(expected, actual):.2%}"))
    row("largest absolute difference", lambda name: candidate_only.get(name, f"{parity.max_abs:.1e}"))
    row("largest relative difference", lambda name: candidate_only.get(name, f"{parity.max_rel:.1e}"))
    row("median latency, one thread", lambda name: f"{latencies[name].median_ms:.3f} ms")
    row("  10th to 90th percentile", lambda n: f"{latencies[n].p10_ms:.3f} to {latencies[n].p90_ms:.3f} ms")
    return table


def _weights(report: ExportReport) -> Table:
    table = Table(title="What each SN layer chose: shares of IN, LN and BN", title_justify="left")
    table.add_column("layer")
    for header in ("mean: IN", "LN", "BN", "variance: IN", "LN", "BN"):
        table.add_column(header, justify="right")
    for layer in report.layers:
        folded = layer.folded
        shares = (folded.mean_in, folded.mean_ln, folded.mean_bn, folded.var_in, folded.var_ln, folded.var_bn)
        table.add_row(folded.name, *(f"{share:.0%}" if share else "–" for share in shares))
    return table
