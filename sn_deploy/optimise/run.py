"""`optimise`: a portable file becomes one that is faster on this machine."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import onnx_ir as ir
import onnx_ir.passes.common as common_passes

import sn_deploy
from sn_deploy.compare.fit import as_arrays
from sn_deploy.compare.model_type import coarsest_type
from sn_deploy.draft_folder import draft_folder
from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.epilogue import fuse_epilogues
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.graph.layers import count_nodes, needed_nodes
from sn_deploy.graph.portable_file import load_portable
from sn_deploy.graph.save import save
from sn_deploy.hashing import sha256_of_file
from sn_deploy.input_file import read_head, source_path
from sn_deploy.optimise.layers import Layer, layers_of
from sn_deploy.optimise.processor import describe_processor
from sn_deploy.optimise.proof import Proof, prove
from sn_deploy.optimise.stand_ins import BLOCK_SIZES, DISABLED_OPTIMIZERS, found_on_blocks, put_layers, put_stand_ins
from sn_deploy.output_file import check_onnx_output
from sn_deploy.printed import Printed
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.native import SWITCH, ort_library
from sn_deploy.runtime.ort import NCHWC_DOMAIN, block_size, version, write_optimised_graph
from sn_deploy.runtime.stamp import Stamp, refuse_optimised
from sn_deploy.text import counted

if TYPE_CHECKING:
    from sn_deploy.console import Console

# What a file can be optimised for.
TARGETS: Final = ("ort-cpu",)

# A graph of more than 2 GiB isn't written in one piece.
_DRAFT_DATA: Final = "draft.data"


@dataclass(frozen=True)
class LayerOutcome:
    """What became of one layer: ``why_not`` is None where it works on blocks."""

    name: str
    why_not: str | None


@dataclass(frozen=True, repr=False)
class OptimiseReport(Printed):
    """What `optimise` did.

    Attributes:
        path, data_path: the files that were written; the latter None without external data.
        stamp: what the file was made for, and of what.
        layers: each SN layer, in the order in which they run.
        nodes_before, nodes_after: of the portable graph, and of the optimised one.
        reorders: reorders between plain and blocked tensors that are left, at the borders of what is on blocks.
        proof: how near the result is to the source's.
    """

    path: Path
    data_path: Path | None
    stamp: Stamp
    layers: tuple[LayerOutcome, ...]
    nodes_before: int
    nodes_after: int
    reorders: int
    proof: Proof

    @property
    def source_beside(self) -> bool:
        """Whether the portable file is where it is looked for when the optimised one doesn't belong to a machine."""
        return self.path.with_name(self.stamp.source).is_file()

    def _line(self) -> str:
        on_blocks = sum(layer.why_not is None for layer in self.layers)
        return f"{self.path}, {on_blocks} of {counted(len(self.layers), 'SN layer')} on blocks"

    def _print(self, console: Console) -> None:
        from sn_deploy.optimise.show import print_report

        print_report(console, self)


@dataclass(frozen=True)
class _Made:
    """A graph of ONNX Runtime's with the layers back in it."""

    model: ir.Model
    layers: tuple[Layer, ...]
    on_blocks: Collection[str]
    nodes_before: int
    precision: str  # the coarsest type of the portable graph


@naming_arguments(**{"for": "target"})
def optimise(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    target: Literal["ort-cpu"] = "ort-cpu",
    inputs: Mapping[str, Any] | None = None,
    external_data: bool | None = None,
) -> OptimiseReport:
    """Writes a file that is faster on this machine, and belongs to it.

    For ``ort-cpu``: the graph that ONNX Runtime itself makes at load, in its blocked layout, with the SN layers on
    blocks too, so that nothing is reordered around them. The file is tied to the processor's block size and to this
    version of ONNX Runtime; `sn_deploy.runtime.ort.OrtSession` runs the portable file beside it where they differ.

    Args:
        model: a portable file, written by `sn_deploy.export`.
        output: the file to write. A portable file beside it, of the name and content of ``model``, is what runs
            elsewhere.
        target: ``ort-cpu``, ONNX Runtime on the CPU.
        inputs: arrays or tensors to try the result with, by input name; random input of the graph's own shape where it
            is left out, with 2 samples and extents of 64 where these are dynamic.
        external_data: whether large tensors go to a file beside it; by default only where they have to.

    Raises:
        CheckFailedError: the result isn't the source's. Nothing is written.
        SnDeployError: no such target, a file that can't be read or has no SN layer, no native operators, no blocked
            layout on this processor, no layer that could be on blocks, or a path that can't be written.
    """
    source = source_path(model)
    check_onnx_output(output)
    values = as_arrays(inputs)
    path = Path(output)
    if target not in TARGETS:
        raise SnDeployError(f"unknown target {target!r}", where="--for", expected=", ".join(TARGETS))
    _check_paths(source, path)
    block = _check_machine()
    stamp = Stamp(target, version(), block, describe_processor(), source.name, sha256_of_file(source))
    # Weights stay in files of this folder until they are written, however large they are.
    with draft_folder(path, of=str(source)) as folder:
        made = _on_blocks(source, block, folder)
        made.model.metadata_props.update(stamp.as_metadata())
        save(made.model, folder / path.name, external_data=external_data)
        proof = prove(source, folder / path.name, values, made.precision)
        data = save(made.model, path, external_data=external_data)
    return OptimiseReport(
        path,
        data,
        stamp,
        tuple(LayerOutcome(layer.name, _why_not(layer, made.on_blocks)) for layer in made.layers),
        made.nodes_before,
        count_nodes(made.model),
        sum(node.op_type.startswith("Reorder") for node in made.model.graph.all_nodes() if node.domain == NCHWC_DOMAIN),
        proof,
    )


def _check_paths(source: Path, path: Path) -> None:
    read_head(source)
    if path.exists() and path.samefile(source):
        raise SnDeployError(
            "is the portable file, which is needed wherever the optimised one doesn't run",
            where=str(path),
            mend="write to another file",
        )
    refuse_optimised(source)


def _check_machine() -> int:
    if ort_library() is None:
        raise SnDeployError(
            "the native operators aren't built, or are turned off",
            where="--for ort-cpu",
            mend=f"install with them (see `sn-deploy doctor`), and leave {SWITCH}=0 out",
        )
    block = block_size()
    if block is None:
        raise SnDeployError(
            f"ONNX Runtime {version()} has no blocked convolutions on this processor ({describe_processor()})",
            where="--for ort-cpu",
            mend="run the portable file here: it is as fast as it gets",
        )
    if block not in BLOCK_SIZES:
        raise SnDeployError(
            f"ONNX Runtime {version()} has blocks of {block} channels on this processor ({describe_processor()})",
            where="--for ort-cpu",
            expected=" or ".join(map(str, BLOCK_SIZES)),
            mend="run the portable file here, and please report this",
        )
    return block


def _on_blocks(source: Path, block: int, folder: Path) -> _Made:
    """The optimised graph. What ONNX Runtime doesn't take on blocks is a layer again before it looks once more."""
    model = _load(source)
    mend = "find the layers of other files with: sn-deploy fuse; without SN, ONNX Runtime does all by itself"
    needed_nodes(model, str(source), mend=mend)
    layers = layers_of(model)
    wanted = {layer.tag for layer in layers if layer.unfit is None}
    while wanted:
        model = _load(source)
        layers, before, precision = layers_of(model), count_nodes(model), coarsest_type(model)
        outputs, metadata = list(model.graph.outputs), dict(model.metadata_props)
        put_stand_ins(layers, wanted)
        optimised = _optimised_graph(model, folder)
        found = found_on_blocks(optimised, wanted)
        if found == wanted:
            put_layers(optimised, layers, block, version())
            _describe(optimised, outputs, metadata)
            return _Made(optimised, layers, wanted, before, precision)
        wanted = found
    reasons = {layer.name: _why_not(layer, wanted) for layer in layers}
    name, reason = next(iter(reasons.items()))
    raise SnDeployError(
        f"none of its {len(layers)} SN layers can work on ONNX Runtime's blocks; {name}: {reason}",
        where=str(source),
        mend="run the portable file: it is as fast as it gets here",
    )


def _load(source: Path) -> ir.Model:
    """The portable graph, its layers fused with what follows them."""

    def read() -> ir.Model:
        model = load_portable(source)
        infer_shapes(model, str(source))
        return model

    model = read()
    try:
        fuse_epilogues(model)
    except SnDeployError:
        return read()  # as it is: slower, and right
    return model


def _optimised_graph(model: ir.Model, folder: Path) -> ir.Model:
    draft = folder / "draft.onnx"
    ir.save(model, draft, external_data=_DRAFT_DATA)
    return ir.load(write_optimised_graph(draft, folder, disabled_optimizers=DISABLED_OPTIMIZERS))


def _describe(model: ir.Model, outputs: Sequence[ir.Value], metadata: Mapping[str, str]) -> None:
    """What the file says of itself: its outputs as the source has them, and no more imports than it needs."""
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and any(isinstance(dim, int) and dim < 0 for dim in value.shape):
                value.shape = None  # an extent that ONNX Runtime doesn't know it writes as -1
    for value, own in zip(model.graph.outputs, outputs, strict=True):
        value.shape, value.type = own.shape, own.type
    common_passes.NameFixPass()(model)  # ONNX Runtime gives one name to tensors of several graphs
    model.metadata_props.update(metadata)
    model.producer_name, model.producer_version = "sn-deploy", sn_deploy.__version__
    used = {node.domain for node in model.graph.all_nodes()} | {""}
    for domain in [domain for domain in model.opset_imports if domain not in used]:
        del model.opset_imports[domain]
    model.opset_imports[op.BLOCKED_DOMAIN] = op.BLOCKED_VERSION


def _why_not(layer: Layer, on_blocks: Collection[str]) -> str | None:
    if layer.tag in on_blocks:
        return None
    if layer.unfit is not None:
        return layer.unfit
    return f"ONNX Runtime doesn't keep what it reads on blocks (made by {layer.made_by})"
