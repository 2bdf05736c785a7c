"""`fuse`: an ONNX file in, the same network with one node for each SN layer out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

from sn_deploy.compare.fit import as_arrays
from sn_deploy.errors import CheckFailedError
from sn_deploy.fuse.axes import name_axes
from sn_deploy.fuse.find import Found, find
from sn_deploy.fuse.inlined_names import rename_inlined
from sn_deploy.fuse.load import load
from sn_deploy.fuse.read import ReadLayer
from sn_deploy.fuse.region import Region
from sn_deploy.fuse.replace import replace
from sn_deploy.fuse.report import FusedLayer, FuseReport
from sn_deploy.fuse.tidy import tidy
from sn_deploy.fuse.whole import save_compared
from sn_deploy.graph.epilogue import fuse_epilogues
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.layers import check_nodes, count_nodes, switch_norm_nodes, write_functions
from sn_deploy.graph.own_functions import check_functions
from sn_deploy.input_file import source_path
from sn_deploy.onnx_file import as_unworkable
from sn_deploy.output_file import check_onnx_output
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.stamp import refuse_optimised
from sn_deploy.runtime.tensors import Array


@naming_arguments(no_fuse="fuse_relu=False")
def fuse(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    fuse_relu: bool = True,
    freeze_weights: bool = False,
    strict: bool = False,
    external_data: bool | None = None,
    inputs: Mapping[str, Any] | None = None,
    run: bool = True,
) -> FuseReport:
    """Finds the decomposed SN layers of an ONNX file and writes it with one SwitchNorm node for each.

    Layers are found by structure, whatever exporter or optimiser wrote them, and each is held against what replaces
    it, in float64, on random inputs; what doesn't agree is left as it is and reported with the reason. Then both files
    are run in ONNX Runtime, where that can be done, and their outputs compared.

    Args:
        source: an ONNX file, of any opset up to 24. Below 15 it is converted to 15.
        path: the file to write; may be ``source``.
        fuse_relu: make one node of a layer and the ReLU, or the residual and the ReLU, that follow it.
        freeze_weights: take weights that are inputs of the graph, too, for constants, and no longer for inputs.
        strict: refuse a file in which something looks like an SN layer and can't be fused.
        external_data: write large tensors to a file beside it; by default only above protobuf's 2 GiB.
        inputs: arrays or tensors that both files are run on, by input name; random values of the file's own shape for
            others, with 2 samples and extents of 64 where these are dynamic.
        run: run both files and compare them, in another process.

    Raises:
        SnDeployError: no ONNX file, a path that can't be written, or a value in ``inputs`` that the file doesn't take.
        CheckFailedError: the file has no SN layer, with ``strict`` one that can't be fused, or the whole that would be
            written computes something else. Nothing is written.
    """
    source = source_path(source)
    check_onnx_output(path)
    values = as_arrays(inputs)
    path = Path(path)
    with as_unworkable(source, "can't be worked on"):
        return _fuse(source, path, fuse_relu, freeze_weights, strict, external_data, values if run else None)


def _fuse(
    source: Path,
    path: Path,
    fuse_relu: bool,
    freeze_weights: bool,
    strict: bool,
    external_data: bool | None,
    inputs: Mapping[str, Array] | None,
) -> FuseReport:
    """As `fuse`; without ``inputs`` nothing is run."""
    loaded = load(source, freeze=freeze_weights)
    refuse_optimised(source, "is optimised, for {machine}, and its layers are ONNX Runtime's own there")
    model = loaded.model
    check_nodes(model, str(source))
    check_functions(model, str(source))  # before nodes of theirs go that nothing needs
    # A layer that nothing needs would be replaced and then be gone.
    common_passes.RemoveUnusedNodesPass()(model)
    present = len(switch_norm_nodes(model))
    found = find(model)
    _check_found(found, present, source, strict)
    names = [node.name or "" for node in replace(model, [layer for layer, _ in found.layers])]
    # As exporters write them, and as the constants that the conversion of old files adds should be.
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=0)(model)
    write_functions(model)
    infer_new_shapes(model)
    name_axes(model)
    tidy(model)
    rename_inlined(model)
    fusion = fuse_epilogues(model) if fuse_relu else None
    layers = tuple(_fused_layer(layer, region, name) for (layer, region), name in zip(found.layers, names, strict=True))
    data_path, whole = save_compared(model, path, source, loaded.bytes, inputs, external_data)
    return FuseReport(
        path=path,
        data_path=data_path,
        layers=layers,
        near_misses=tuple(found.near_misses),
        present=present,
        forms=dict(Counter(node.op_type for node in switch_norm_nodes(model))),
        apart={node.name or "": reason for node, reason in fusion.apart.items()} if fusion is not None else {},
        opset_before=loaded.opset,
        opset=model.opset_imports[""],
        nodes_before=loaded.nodes,
        nodes=count_nodes(model),
        bytes_before=loaded.bytes,
        bytes=sum(file.stat().st_size for file in (path, data_path) if file is not None),
        whole=whole,
    )


def _check_found(found: Found, present: int, source: Path, strict: bool) -> None:
    misses = [f"{miss.node}: {miss.reason}" for miss in found.near_misses]
    if strict and misses:
        others = f" (and {len(misses) - 1} more)" if len(misses) > 1 else ""
        raise CheckFailedError(f"looks like an SN layer, but {misses[0]}{others}", where=str(source))
    if not found.layers and not present:
        nearly = f"; {len(misses)} parts look like one, the first: {misses[0]}" if misses else ""
        raise CheckFailedError(
            f"has no SN layer{nearly}",
            where=str(source),
            expected="Switchable Normalization in standard operators",
            mend="see docs/guides/fuse.md for what is found",
        )


def infer_new_shapes(model: ir.Model) -> None:
    """Shapes that were unknown behind a layer's Reshape are X's own now: the fusion of residuals asks for them."""
    values = [value for node in model.graph.all_nodes() for value in node.outputs]
    if all(value.shape is not None for value in values):
        return
    infer_shapes(model)


def _fused_layer(layer: ReadLayer, region: Region, node: str) -> FusedLayer:
    dims = [dim if isinstance(dim, int) else dim.value for dim in layer.source.shape or ()]
    if layer.source_last:
        dims = [dims[0], dims[-1], *dims[1:-1]]
    return FusedLayer(
        folded=layer.folded,
        node=node,
        shape=tuple(dims),
        channels_last=layer.source_last or layer.result_last,
        replaced=len(region.nodes),
        mismatch=layer.mismatch,
    )
