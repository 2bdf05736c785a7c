"""`export`: a trained torch model with SN layers becomes one ONNX file."""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import onnx_ir as ir
import torch

from sn_deploy import recognise
from sn_deploy.capture.capture import MAX_OPSET, MIN_OPSET, capture_with_limits
from sn_deploy.capture.inputs import (
    BoundInputs,
    DynamicAxes,
    ExampleInputs,
    bind_inputs,
    resolve_dynamic,
    widen_dynamic,
)
from sn_deploy.capture.originals import refusing_calls_of
from sn_deploy.capture.outputs import give_tensors_alone
from sn_deploy.capture.parametrized import settle_parametrizations_
from sn_deploy.capture.precision import cast_inputs, dtype_from_precision
from sn_deploy.capture.private_copy import private_copy
from sn_deploy.capture.standard_nodes import StandardNodes
from sn_deploy.capture.swap import OpaqueSwitchNorm, refuse_changed, settings_of, swap
from sn_deploy.capture.torchscript import refuse_scripted
from sn_deploy.capture.unwrap import unwrap_inside_, unwrapped
from sn_deploy.errors import SnDeployError
from sn_deploy.graph import inline as inliner
from sn_deploy.graph import layers as graph_layers
from sn_deploy.graph import op
from sn_deploy.graph.epilogue import fuse_epilogues
from sn_deploy.graph.io_names import check_count, given_names, name_outputs, refuse_names_twice
from sn_deploy.graph.io_types import keep_float32_io
from sn_deploy.graph.precision import BF16_OPSET, operators_of_newer_opset
from sn_deploy.graph.save import save
from sn_deploy.onnx_export.layers import recognised_layers, refuse_raw_sums
from sn_deploy.onnx_export.proof import Proof, prove
from sn_deploy.onnx_export.reference import Reference
from sn_deploy.onnx_export.refusals import no_layer_runs, not_recognised
from sn_deploy.onnx_export.report import ExportedLayer, ExportReport
from sn_deploy.onnx_export.sizes import at_one_size, refuse_other_sizes
from sn_deploy.output_file import check_onnx_output
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.torch import output_names as output_names_of
from sn_deploy.runtime.torch import own_surroundings
from sn_deploy.text import shape_text
from sn_deploy.turns import exporting

DEFAULT_OPSET = 20


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One export at a time, and no model beside it: torch.export keeps what it is about in variables of its modules.

    With float32 as the type of new tensors: in that of a program that has set float64, those that a model makes would
    not be of the type of its weights, which are float32 in the file.
    """
    with exporting(), own_surroundings():
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


@naming_arguments(input="example_inputs", output_name="output_names")
@_alone()
def export(
    model: torch.nn.Module,
    example_inputs: ExampleInputs,
    path: str | os.PathLike[str],
    *,
    dynamic: DynamicAxes = (),
    opset: int | None = None,
    precision: Literal["fp32", "fp16", "bf16"] = "fp32",
    keep_io_types: bool = False,
    inline: bool = False,
    fuse: bool = True,
    keep_unrecognised: bool = False,
    finalize_batch_average: int | None = None,
    trust_statistics: bool = False,
    external_data: bool | None = None,
    run: bool = True,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
) -> ExportReport:
    """Exports a trained model with SN layers to one ONNX file that every runtime opens.

    Each SN layer becomes one ``sn_deploy::SwitchNorm`` node with its BN branch and learned weights folded in, or one
    ``SwitchNormRelu`` or ``SwitchNormAddRelu`` node together with the ReLU, or the residual and the ReLU, that follow.
    The file carries each operator that it uses as a local function of standard operators too. The model itself is not
    changed: a copy is put into evaluation mode, on the CPU. Of DataParallel, DistributedDataParallel, AveragedModel,
    torch.compile and checkpoint_wrapper the module inside is taken, wherever they stand in the model.

    The file's outputs are the tensors that the model gives, in the order in which torch flattens what they are in;
    dataclasses and mappings are gone through field by field, numbers and text are left out.

    It may be called from any thread: exports, checks and calibrations of others wait for their turn. Models that the
    program itself runs meanwhile round otherwise, as torch.export turns oneDNN off for all threads while it traces.

    Args:
        model: the trained model, any device, training or evaluation mode.
        example_inputs: a tensor, a tuple of positional arguments, or a dict from parameter name to value. Values matter
            little, shapes and types do.
        path: the ONNX file to write; its name ends in .onnx.
        dynamic: axes that may change: ``("batch",)``, ``("batch", "spatial")``, ``("x:2=height,3=width",)`` or
            ``{"x": {0: "batch"}}``. All others are fixed to the example's.
        opset: version of the standard operators, 18 to 23; by default 20, in bf16 22, the first with convolutions of
            bfloat16.
        precision: ``fp32``, ``fp16`` or ``bf16``: the type of weights and activations. SwitchNorm's constants and
            statistics are float32 in each.
        keep_io_types: with fp16 or bf16, inputs and outputs stay float32.
        inline: write standard operators alone, without the local functions.
        fuse: make one node of a layer and the ReLU, or the residual and the ReLU, that follow it.
        keep_unrecognised: export layers that look like SN and compute something else as torch does, in standard
            operators, instead of refusing them.
        finalize_batch_average: the number of batches whose sums the running statistics are, for checkpoints trained
            with ``using_moving_average=False`` that were never divided.
        trust_statistics: don't refuse running statistics whose size is that of sums rather than of averages.
        external_data: write large tensors to a file beside it; by default only above protobuf's 2 GiB.
        run: run the file in ONNX Runtime, where it is installed, and compare it with the model; see `Proof`.
        input_names, output_names: names in the file, one for each tensor, in order. Without names an output has
            its key in the dict, or its field of the named tuple, that the model returns; else the exporter's name.

    Raises:
        SnDeployError: with the layer, input or option at fault; no file is left behind.
        CheckFailedError: one of them; the file computes something else than the model.
    """
    check_onnx_output(path)
    input_names, output_names = given_names("input_names", input_names), given_names("output_names", output_names)
    dtype = dtype_from_precision(precision)
    if opset is None:
        opset = BF16_OPSET if precision == "bf16" else DEFAULT_OPSET
    if not hasattr(opset, "__index__") or not MIN_OPSET <= opset <= MAX_OPSET:  # NumPy's integers have it, too
        raise SnDeployError(
            f"opset {opset!r} can't be exported", where="--opset", expected=f"{MIN_OPSET} to {MAX_OPSET}"
        )
    private = private_copy(unwrapped(model)).cpu().eval()
    unwrap_inside_(private)
    settle_parametrizations_(private)
    recognise.lift_cuda_checks_(private)
    if finalize_batch_average is not None:
        recognise.finalize_batch_average_(private, finalize_batch_average)
    inputs = bind_inputs(private, example_inputs, input_names).map(lambda tensor: tensor.detach().cpu().clone())
    if not any(tensor.numel() for tensor in inputs.tensors.values()):
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.tensors.items())
        raise SnDeployError(f"the example inputs are empty: {shapes}", expected="at least one sample")
    refuse_names_twice(inputs.names, output_names or ())
    axes = resolve_dynamic(inputs, dynamic)
    inputs = widen_dynamic(inputs, axes)

    settings = settings_of(private)
    with refusing_calls_of(model, private):
        found, traces, result = recognised_layers(private, inputs)
    refuse_changed(private, [name for name in found.layers if name in traces], settings)
    if finalize_batch_average is None and not trust_statistics:
        refuse_raw_sums(private, found, traces, inputs)
    kept = {name: refusal.reason for name, refusal in found.refused.items() if name in traces}
    if kept and not keep_unrecognised:
        raise not_recognised(found, kept)
    called = {name: folded for name, folded in found.layers.items() if name in traces}
    refuse_scripted(private, called)
    if not called and not kept:
        raise no_layer_runs(model, found)
    standard = StandardNodes(private, {name: traces[name].shapes[0] for name in called}, opset)

    fixed = at_one_size(private, called, traces) if any(axis > 1 for spec in axes.values() for axis in spec) else set()
    reference, reference_inputs = Reference(private, called, dtype) if run else None, inputs
    private = swap(private.to(dtype), called)
    if isinstance(private, OpaqueSwitchNorm) and len(inputs.arguments) == 1:
        (x,) = inputs.arguments.values()
        inputs = BoundInputs({"x": x}, inputs.names)  # a model that is a layer may have another name for it
    give_tensors_alone(private, result)
    captured, limits = capture_with_limits(
        private, cast_inputs(inputs, dtype), axes, opset=opset, output_names=output_names
    )
    refuse_other_sizes(captured, fixed)
    check_count(output_names, captured)
    if output_names is None:
        name_outputs(captured, output_names_of(result))
    _refuse_types_of_newer_opset(captured, opset)
    calls = Counter(node.metadata_props[op.METADATA_LAYER] for node in graph_layers.switch_norm_nodes(captured))
    nodes_unfused = graph_layers.count_nodes(captured)
    graph_layers.complete(captured)
    fusion = fuse_epilogues(captured) if fuse else None
    forms = Counter(node.op_type for node in graph_layers.switch_norm_nodes(captured))
    if keep_io_types:
        keep_float32_io(captured)
    if inline:
        inliner.inline(captured)
    proof = Proof("it wasn't asked for")

    def prove_draft(draft: Path) -> None:
        nonlocal proof
        if reference is not None:
            proof = prove(draft, Path(path), captured, limits, reference, reference_inputs, dtype)

    data_path = save(captured, path, external_data=external_data, prove=prove_draft)

    order = [name for name in traces if name in calls]
    return ExportReport(
        path=Path(path),
        data_path=data_path,
        file_bytes=sum(file.stat().st_size for file in (Path(path), data_path) if file is not None),
        opset=opset,
        precision=precision,
        inlined=inline,
        layers=tuple(ExportedLayer(called[name], traces[name].shapes[0], calls[name]) for name in order),
        forms=dict(forms),
        apart={node.name or "": reason for node, reason in fusion.apart.items()} if fusion is not None else {},
        kept=kept,
        proof=proof,
        unused=tuple(name for name in found.layers if name not in calls),
        nodes=graph_layers.count_nodes(captured),
        standard=functools.partial(standard.count, nodes_unfused, calls),
        op_counts=dict(Counter(node.op_type for node in captured.graph.all_nodes()).most_common()),
        inputs={value.name or "": _describe(value) for value in captured.graph.inputs},
        outputs={value.name or "": _describe(value) for value in captured.graph.outputs},
    )


def _refuse_types_of_newer_opset(model: ir.Model, opset: int) -> None:
    """Refuses bfloat16 where the operators don't take it: that of ``precision``, or of casts in the model itself."""
    bfloat16 = ir.DataType.BFLOAT16
    of_it = {
        node.op_type
        for node in model.graph
        if any(value is not None and value.dtype == bfloat16 for value in (*node.inputs, *node.outputs))
    }
    without = [name for name in operators_of_newer_opset(model, bfloat16) if name in of_it]
    if without:
        raise SnDeployError(
            f"opset {opset} has no {', '.join(without)} of bfloat16",
            where="--opset",
            expected=f"{BF16_OPSET} to {MAX_OPSET} with --precision bf16; by default it is {BF16_OPSET}",
            mend="where the model casts to it itself, give that opset, or take torch.autocast out of its forward",
        )


def _describe(value: ir.Value) -> str:
    dims = None if value.shape is None else [dim if isinstance(dim, int) else dim.value for dim in value.shape]
    return f"{'?' if dims is None else shape_text(dims)} {value.dtype.numpy() if value.dtype else '?'}"
