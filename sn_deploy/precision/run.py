"""`convert_precision`: an ONNX file in float32 becomes one in half precision, proved against it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import onnx_ir as ir

from sn_deploy.arguments import check_is_function, real_number, several_texts
from sn_deploy.check.batch import Source
from sn_deploy.check.data.open import OPTIONS_IN_PYTHON
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.draft_folder import draft_folder
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph import keep as keeping
from sn_deploy.graph import op
from sn_deploy.graph.emulate_half import emulate_half
from sn_deploy.graph.layers import switch_norm_nodes
from sn_deploy.graph.portable_file import load_portable
from sn_deploy.graph.precision import HALF_TYPES, Conversion
from sn_deploy.graph.precision import convert_precision as convert_graph
from sn_deploy.graph.rounded_weights import RoundedWeight
from sn_deploy.graph.save import save
from sn_deploy.precision.files import check_paths, file_bytes
from sn_deploy.precision.proof import TIES, Proof, compare_files, hold_otherwise, hold_tolerance
from sn_deploy.precision.ranges import LARGEST, Range, largest_values
from sn_deploy.precision.samples import open_samples
from sn_deploy.printed import Printed
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.ort import OrtSession

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True, repr=False)
class PrecisionReport(Printed):
    """What `convert_precision` did.

    Attributes:
        path, data_path: the files that were written; the latter None without external data.
        conversion: what became of the nodes and weights.
        proof: how near the result is to the source's, with every rounding that a GPU does.
        ranges: the largest absolute value of each node's outputs, the largest first; empty unless asked for.
        bytes, bytes_before: of the files, with external data.
        layers: SwitchNorm nodes, whose statistics stay float32. SN in standard operators is none of them.
    """

    path: Path
    data_path: Path | None
    precision: str
    conversion: Conversion
    proof: Proof
    ranges: Sequence[Range]
    bytes: int
    bytes_before: int
    layers: int

    def _line(self) -> str:
        return f"{self.path}, {self.precision}, relative L2 {self.proof.rel_l2:.1e} from its source"

    def _print(self, console: Console) -> None:
        from sn_deploy.precision.show import print_conversion

        print_conversion(console, self)


@naming_arguments(OPTIONS_IN_PYTHON, data="samples", input="samples")
def convert_precision(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: Literal["fp16", "bf16"],
    keep: Sequence[str] = (),
    keep_convolutions: bool = False,
    keep_io_types: bool = True,
    max_rel_l2: float | None = None,
    samples: object = "random",
    check_range: bool = False,
    external_data: bool | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> PrecisionReport:
    """Writes a half-precision file of a float32 one, and proves it on data before it is there.

    Weights and activations become half; SwitchNorm's parameters, attributes and statistics stay float32.

    Args:
        model: an ONNX file, of `sn_deploy.export` or `sn_deploy.fuse`, or any other in float32.
        output: the .onnx file to write; not ``model``, which the result is held against.
        precision: ``fp16`` or ``bf16``.
        keep: what stays float32: names of nodes, SN layers or operators, or patterns of them.
        keep_convolutions: also the convolutions in front of the SN layers that ``keep`` names.
        keep_io_types: inputs and outputs of the graph stay float32.
        max_rel_l2: the largest relative L2 difference of an output; by default what the type explains.
        samples: what the proof runs on, as `sn_deploy.check.check` takes its data, in a `DataOptions` or not; 8 random
            ones by default.
        check_range: measure how large every activation gets on these samples in float32, first.
        external_data: whether large tensors go to a file beside it; by default only where they have to.
        on_batch: called after each batch of the samples.

    Raises:
        CheckFailedError: a weight or an activation is beyond the type's range, or an output is further from the
            source's than the type's tolerance. Nothing is written.
        SnDeployError: a file, name or option that can't be used.
    """
    source, path = check_paths(model, output)
    max_rel_l2 = None if max_rel_l2 is None else real_number(max_rel_l2, "max_rel_l2")
    check_is_function(on_batch, "on_batch")
    keep = several_texts(keep, "keep", "NAME")
    graph = load_portable(source)
    kept = keeping.named_nodes(graph, keep)
    if keep_convolutions:
        kept = _with_convolutions(kept)
    conversion = convert_graph(
        graph,
        precision,
        keep=kept,
        keep_io_types=keep_io_types,
    )
    refuse_too_large(conversion.rounded, precision, source, mend=lambda nodes: _keep_or_bf16(nodes, precision))
    with OrtSession(source, native=False) as session:
        batches = open_samples(samples, session.inputs)
    ranges = _ranges(source, batches, conversion, precision) if check_range else []
    with draft_folder(path, of=str(source)) as folder:
        draft = folder / path.name
        save(graph, draft, external_data=external_data)
        proof = _prove(source, draft, precision, max_rel_l2, batches, on_batch)
        data = save(graph, path, external_data=external_data)
    return PrecisionReport(
        path,
        data,
        precision,
        conversion,
        proof,
        ranges,
        file_bytes(path),
        file_bytes(source),
        len(switch_norm_nodes(graph)),
    )


def _with_convolutions(kept: set[ir.Node]) -> set[ir.Node]:
    layers = [node for node in kept if node.domain == op.DOMAIN]
    if not any(keeping.convolution_of(node) for node in layers):
        why = "no convolution makes the input of an SN layer" if layers else "no SN layer is"
        raise SnDeployError(
            f"without effect: {why} among what --keep names",
            where="--keep-convolutions",
            mend="name SN layers, too (sn-deploy inspect lists them), or leave it out",
        )
    return keeping.with_their_convolutions(kept)


def refuse_too_large(
    rounded: Sequence[RoundedWeight], precision: str, source: Path, *, mend: Callable[[Sequence[str]], str]
) -> None:
    """Refuses weights that would be infinite.

    Args:
        mend: says what to do about the nodes that read them.

    Raises:
        CheckFailedError: there are such weights.
    """
    found = [weight for weight in rounded if weight.too_large]
    if not found:
        return
    first = max(found, key=lambda weight: weight.largest)
    others = f", and {len(found) - 1} more weights like it" if len(found) > 1 else ""
    raise CheckFailedError(
        f"weight {first.name!r} has {first.too_large} of {first.elements} values beyond {LARGEST[precision]:g}, the "
        f"largest {first.largest:g}{others}",
        where=f"{source}, node {first.node}",
        mend=mend([weight.node for weight in found]),
    )


def _keep_or_bf16(nodes: Sequence[str], precision: str) -> str:
    keep = " ".join(f"--keep '{node}'" for node in nodes[:4])
    return keep if precision == "bf16" else f"{keep}, or --precision bf16"


def _ranges(source: Path, batches: Source, conversion: Conversion, precision: str) -> list[Range]:
    ranges = largest_values(source, batches, set(conversion.converted))
    beyond = [one for one in ranges if one.largest > LARGEST[precision]]
    if beyond:
        others = f", and {len(beyond) - 1} more nodes like it" if len(beyond) > 1 else ""
        raise CheckFailedError(
            f"its output gets to {beyond[0].largest:g} on this data, beyond {LARGEST[precision]:g}{others}",
            where=f"{source}, node {beyond[0].node}",
            mend=_keep_or_bf16([one.node for one in beyond], precision),
        )
    return ranges


def _prove(
    source: Path,
    draft: Path,
    precision: str,
    max_rel_l2: float | None,
    batches: Source,
    on_batch: Callable[[], None],
) -> Proof:
    candidate = write_emulated(draft, draft.with_name("emulated.onnx"))
    proof = compare_files(source, candidate, batches, title=str(source), data=batches.describe(), on_batch=on_batch)
    most = TOLERANCES[HALF_TYPES[precision].numpy().name].rel_l2 if max_rel_l2 is None else max_rel_l2
    other = "" if precision == "bf16" else ", use bf16"
    mend = f"keep sensitive layers in float32 with --keep{other}, or allow more with --max-rel-l2"
    hold_tolerance(proof, most, TIES * most, where=str(source), mend=mend)
    hold_otherwise(source, candidate, batches, most, TIES * most, where=str(source), mend=mend)
    return proof


def write_emulated(half: Path, path: Path) -> Path:
    """The file with every rounding that a GPU does, for ONNX Runtime's CPU provider."""
    model = load_portable(half)
    emulate_half(model)
    ir.save(model, path, external_data=f"{path.name}.data")
    return path
