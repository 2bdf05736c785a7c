"""`quantize`: the convolutions of a float32 file in int8 or FP8, calibrated on data, SN in the float type of choice."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.arguments import check_is_function, limit_between, real_number, several_texts
from sn_deploy.check.batch import Source
from sn_deploy.check.data.open import OPTIONS_IN_PYTHON
from sn_deploy.draft_folder import draft_folder
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph import keep as keeping
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.layers import switch_norm_nodes, write_functions
from sn_deploy.graph.portable_file import load_portable
from sn_deploy.graph.precision import BF16_OPSET
from sn_deploy.graph.precision import convert_precision as convert_graph
from sn_deploy.graph.quantize import FORMATS, QUANTIZED_OPS, Quantized, convolutions, quantize_convolutions
from sn_deploy.graph.raise_opset import raise_opset
from sn_deploy.graph.save import save
from sn_deploy.precision.files import check_paths, file_bytes
from sn_deploy.precision.proof import Proof, compare_files, hold_otherwise, hold_tolerance
from sn_deploy.precision.run import refuse_too_large, write_emulated
from sn_deploy.precision.samples import open_samples
from sn_deploy.printed import Printed
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.ort_calibration import METHODS, calibrate
from sn_deploy.text import counted, percent

if TYPE_CHECKING:
    from sn_deploy.console import Console

FLOAT_TYPES: Final = ("fp32", "fp16", "bf16")

# Of the sources' outputs, in relative L2: what no format costs, and a wrong axis, scale or zero does.
MOST_REL_L2: Final = 0.5
# The same of outputs that are indices.
MOST_CHANGED: Final = 0.5

# The first opset with QuantizeLinear of half types.
_HALF_OPSET: Final = 19


@dataclass(frozen=True, repr=False)
class QuantizeReport(Printed):
    """What `quantize` did.

    Attributes:
        path, data_path: the files that were written; the latter None without external data.
        quantized: which convolutions, in which ranges.
        float_type: what computes everything else.
        proof: how near the result is to the source's, with every rounding that a GPU does.
        bytes, bytes_before: of the files, with external data.
        layers: SwitchNorm nodes, whose statistics stay float32. SN in standard operators is none of them.
    """

    path: Path
    data_path: Path | None
    precision: str
    float_type: str
    method: str
    quantized: Quantized
    proof: Proof
    opset: int
    opset_before: int
    bytes: int
    bytes_before: int
    layers: int

    def _line(self) -> str:
        nodes = counted(len(self.quantized.nodes), "node")
        return f"{self.path}, {nodes} in {self.precision}, relative L2 {self.proof.rel_l2:.1e} from its source"

    def _print(self, console: Console) -> None:
        from sn_deploy.precision.show import print_quantization

        print_quantization(console, self)


@naming_arguments(OPTIONS_IN_PYTHON, data="samples", input="samples")
def quantize(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    precision: Literal["int8", "fp8"],
    samples: object = "random",
    float_type: Literal["fp32", "fp16", "bf16"] = "fp32",
    method: Literal["minmax", "percentile", "entropy"] | None = None,
    keep: Sequence[str] = (),
    keep_first: bool = False,
    keep_last: bool = False,
    keep_io_types: bool = True,
    max_rel_l2: float | None = None,
    min_top1_agreement: float | None = None,
    external_data: bool | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> QuantizeReport:
    """Writes a file whose convolutions compute on int8 or FP8 tensors, with Q/DQ nodes in front of them.

    SN layers, with the ReLU and the residual in them, compute in ``float_type``, their parameters in float32.

    Args:
        model: a float32 file, of `sn_deploy.export` or `sn_deploy.fuse`, or any other.
        output: the .onnx file to write; not ``model``, which the result is held against.
        precision: ``int8`` or ``fp8`` (E4M3).
        samples: what ranges are taken from, and what the result is tried on, as `sn_deploy.check.check` takes its data,
            in a `DataOptions` or not.
        float_type: ``fp32`` (ONNX Runtime on the CPU), ``fp16`` or ``bf16`` (TensorRT).
        method: how a range is chosen, ``minmax``, ``percentile`` or ``entropy``; by default ``percentile`` for int8 and
            ``minmax`` for FP8, whose numbers are denser near 0.
        keep: what isn't quantized: names of nodes or operators, patterns of them, or of the SN layers behind them.
        keep_first, keep_last: leave the first convolution, or the last one or the classifier, as it is.
        keep_io_types: with half types, inputs and outputs of the graph stay float32.
        max_rel_l2, min_top1_agreement: limits on these samples, against the source; without them the result is refused
            only where it isn't near the source at all.
        external_data: whether large tensors go to a file beside it; by default only where they have to.
        on_batch: called after each batch of the samples, of each pass over them.

    Raises:
        CheckFailedError: a weight is beyond the float type's range, or the result leaves a limit. Nothing is written.
        SnDeployError: a file, name or option that can't be used, or a limit of what the file doesn't have.
    """
    source, path = check_paths(model, output)
    max_rel_l2 = None if max_rel_l2 is None else real_number(max_rel_l2, "max_rel_l2")
    if min_top1_agreement is not None:
        min_top1_agreement = limit_between(min_top1_agreement, "min_top1_agreement", 0, 1)
    check_is_function(on_batch, "on_batch")
    keep = several_texts(keep, "keep", "NAME")
    method = method or ("percentile" if precision == "int8" else "minmax")
    _check_options(precision, float_type, method)
    graph = load_portable(source)
    opset_before = graph.opset_imports[""]
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=8)(graph)
    _prepare(graph, precision, float_type, str(source))
    kept = keeping.named_nodes(graph, keep, with_convolutions=True)
    candidates = [node for node in convolutions(graph) if node not in kept]
    kept |= set(candidates[:1] if keep_first else []) | set(candidates[-1:] if keep_last else [])
    if not any(node not in kept for node in convolutions(graph)):
        quantize_convolutions(graph, precision, {}, keep=kept)  # which says why there is nothing to calibrate for
    with OrtSession(source, native=False) as session:
        batches = open_samples(samples, session.inputs)
    with draft_folder(path, of=str(source)) as folder:
        ranges = _ranges(graph, batches, method, folder, on_batch, where=str(source))
        quantized = quantize_convolutions(graph, precision, ranges, keep=kept, scales=float_type)
        if float_type != "fp32":
            conversion = convert_graph(graph, float_type, keep_io_types=keep_io_types)
            wider = "fp32" if float_type == "bf16" else "bf16 or fp32"
            refuse_too_large(conversion.rounded, float_type, source, mend=lambda _: f"--float-type {wider}")
        draft = folder / path.name
        save(graph, draft, external_data=external_data)
        candidate = draft if float_type == "fp32" else write_emulated(draft, folder / "emulated.onnx")
        described = batches.describe()
        proof = compare_files(source, candidate, batches, title=str(source), data=described, on_batch=on_batch)
        _hold_limits(proof, source, max_rel_l2, min_top1_agreement)
        # No range was taken of what the data doesn't lead to: it is held to what no format costs.
        hold_otherwise(
            source,
            candidate,
            batches,
            max(MOST_REL_L2, max_rel_l2 or 0.0),
            MOST_CHANGED,
            where=str(source),
            mend="calibrate on data that leads there, too, or leave what is behind the branches with --keep",
        )
        data = save(graph, path, external_data=external_data)
    return QuantizeReport(
        path,
        data,
        precision,
        float_type,
        method,
        quantized,
        proof,
        graph.opset_imports[""],
        opset_before,
        file_bytes(path),
        file_bytes(source),
        len(switch_norm_nodes(graph)),
    )


def _check_options(precision: str, float_type: str, method: str) -> None:
    if precision not in FORMATS:
        raise SnDeployError(f"{precision!r} is no such precision", where="--precision", expected=" or ".join(FORMATS))
    if float_type not in FLOAT_TYPES:
        raise SnDeployError(f"{float_type!r} is no type", where="--float-type", expected=" or ".join(FLOAT_TYPES))
    if method not in METHODS:
        raise SnDeployError(f"unknown method {method!r}", where="--method", expected=", ".join(METHODS))


def _prepare(graph: ir.Model, precision: str, float_type: str, where: str) -> None:
    """An opset that has the types, and the types of all values."""
    needed = max(
        FORMATS[precision].min_opset,
        {"fp32": 0, "fp16": _HALF_OPSET, "bf16": BF16_OPSET}[float_type],
    )
    infer_shapes(graph, where)
    if graph.opset_imports[""] < needed:
        raise_opset(graph, needed, where=f"--precision {precision} --float-type {float_type}")
        write_functions(graph)
        infer_shapes(graph, where)
    types = {node.inputs[0].dtype for node in convolutions(graph) if node.inputs[0] is not None}
    if types and ir.DataType.FLOAT not in types:
        found = next(iter(types))
        raise SnDeployError(
            f"its convolutions compute in {found.numpy() if found is not None else 'a type that is not known'}",
            where=where,
            expected="float32",
            mend="give the float32 file; --float-type fp16 makes the rest half",
        )


def _ranges(
    graph: ir.Model, batches: Source, method: str, folder: Path, on_batch: Callable[[], None], *, where: str
) -> dict[str, float]:
    path = folder / "float.onnx"
    ir.save(graph, path, external_data="float.data")
    own = folder / "calibration"
    own.mkdir()
    return calibrate(
        path,
        (batch.inputs for batch in batches),
        method=method,
        op_types=QUANTIZED_OPS,
        folder=own,
        on_batch=on_batch,
        where=where,
    )


def _hold_limits(proof: Proof, source: Path, max_rel_l2: float | None, min_top1_agreement: float | None) -> None:
    hold_tolerance(
        proof,
        MOST_REL_L2 if max_rel_l2 is None else max_rel_l2,
        MOST_CHANGED,
        where=str(source),
        mend="calibrate on more, and usual, samples with --data, try another --method, leave sensitive layers with "
        "--keep, --keep-first or --keep-last, or allow more with --max-rel-l2",
    )
    if min_top1_agreement is None:
        return
    if not proof.top1_agreement:
        found = ", ".join(proof.outputs) or "none of floating point"
        raise SnDeployError(
            f"no output is scores, (samples, classes): {found}",
            where="--min-top1-agreement",
            mend="limit it with --max-rel-l2",
        )
    for name, share in proof.top1_agreement.items():
        if share < min_top1_agreement:
            raise CheckFailedError(
                f"the class is the same for {percent(share)} of {proof.samples} samples",
                where=f"{source}, output {name}",
                expected=f"at least {percent(min_top1_agreement)}",
                mend="try another --method, or leave sensitive layers with --keep, --keep-first or --keep-last",
            )
