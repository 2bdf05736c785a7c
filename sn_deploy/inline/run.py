"""A file of standard operators alone made of one with SwitchNorm nodes, for tools that expand no local functions.

What such a tool opens is often of an older opset, too: with the functions gone onnx's converter can bring it there. The
whole is then held against its source, as in `sn_deploy.fuse`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from sn_deploy.compare.fit import as_arrays
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse.whole import WholeFile, save_compared
from sn_deploy.graph.calls import settle_calls
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.inline import inline as inline_layers
from sn_deploy.graph.layers import check_nodes, count_nodes, switch_norm_nodes, write_functions
from sn_deploy.graph.order import check_order
from sn_deploy.inline.opset import brought_to, check_opset
from sn_deploy.input_file import read_head, source_path
from sn_deploy.onnx_file import as_unworkable, model_of, read_proto, size_with_data
from sn_deploy.onnx_sizes import refuse_sparse
from sn_deploy.output_file import check_onnx_output
from sn_deploy.printed import Printed
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.stamp import refuse_optimised
from sn_deploy.text import counted

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True, repr=False)
class InlineReport(Printed):
    """What `inline` did.

    Attributes:
        path: the file that was written.
        data_path: its external data, or None.
        layers: how many SwitchNorm nodes, of any form, became standard operators.
        opset_before, opset: versions of the standard operators.
        nodes_before, nodes: of the graph.
        bytes_before, bytes: of the files with their external data.
        whole: how near the file is to its source.
    """

    path: Path
    data_path: Path | None
    layers: int
    opset_before: int
    opset: int
    nodes_before: int
    nodes: int
    bytes_before: int
    bytes: int
    whole: WholeFile

    def _line(self) -> str:
        return f"{self.path}, {counted(self.layers, 'SwitchNorm node')} in standard operators, opset {self.opset}"

    def _print(self, console: Console) -> None:
        from sn_deploy.inline.show import print_report

        print_report(console, self)


@naming_arguments()
def inline(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    opset: int | None = None,
    external_data: bool | None = None,
    inputs: Mapping[str, Any] | None = None,
    run: bool = True,
) -> InlineReport:
    """Puts the bodies of an ONNX file's SN layers in the place of its SwitchNorm nodes.

    Nodes whose function a tool has dropped get it back first.

    Args:
        source: a file of `sn_deploy.export`, `fuse`, `specialise`, … or one that another tool has changed since.
        path: the file to write; may be ``source``.
        opset: what the standard operators are brought to, `MIN_OPSET` to `MAX_OPSET`; by default they stay as they are.
        external_data: write large tensors to a file beside it; by default only above protobuf's 2 GiB.
        inputs: what both files are run on, by input name, arrays or tensors; see `sn_deploy.fuse.fuse`.
        run: run both files and compare them, in another process.

    Raises:
        SnDeployError: no ONNX file, one without SwitchNorm nodes (with ``opset`` it needs none), one made for a single
            machine, or one that can't be brought to ``opset``.
        CheckFailedError: what would be written computes something else. Nothing is written.
    """
    source = source_path(source)
    check_onnx_output(path)
    values = as_arrays(inputs)
    path = Path(path)
    read_head(source)
    refuse_optimised(source, mend="inline the portable file that it was made of: {source}")
    proto = read_proto(source)
    size = size_with_data(proto, source)
    refuse_sparse(proto, source)
    settle_calls(proto)
    model = model_of(proto, source)
    check_order(model, str(source))
    before, nodes_before = model.opset_imports.get("", 0), count_nodes(model)
    layers = switch_norm_nodes(model)
    _check_layers(model, layers, source, opset)
    _complete(model, layers, source)
    with as_unworkable(source, "its functions can't go in the place of their calls"):
        inline_layers(model)
    if opset is not None and opset != before:
        model = brought_to(model, opset, source)
    infer_shapes(model, str(source))
    given = values if run else None
    data_path, whole = save_compared(model, path, source, size, given, external_data)
    return InlineReport(
        path=path,
        data_path=data_path,
        layers=len(layers),
        opset_before=before,
        opset=model.opset_imports[""],
        nodes_before=nodes_before,
        nodes=count_nodes(model),
        bytes_before=size,
        bytes=sum(file.stat().st_size for file in (path, data_path) if file is not None),
        whole=whole,
    )


def _check_layers(model: ir.Model, layers: Sequence[ir.Node], source: Path, opset: int | None) -> None:
    if opset is not None:
        check_opset(opset)
    elif not layers:
        raise SnDeployError(
            "has no SwitchNorm node, so there is nothing to inline",
            where=str(source),
            expected="a file of `sn-deploy export` without --inline, or of `sn-deploy fuse`",
            mend="take it as it is; --opset brings it to another opset",
        )
    check_nodes(model, str(source))


def _complete(model: ir.Model, layers: Sequence[ir.Node], source: Path) -> None:
    """Gives nodes back the functions that tools have dropped: onnx's converter does. Those that are there stay."""
    if all(node.op_identifier() in model.functions for node in layers):
        return
    infer_shapes(model, str(source))
    there = dict(model.functions)
    write_functions(model)
    model.functions.update(there)
