"""The file with other constants, or other forms, in some layers: written, opened and timed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir as ir

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.graph.names import taken_names
from sn_deploy.graph.weights import new_weight
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.tensors import Array
from sn_deploy.specialise.expected import add_statistics
from sn_deploy.specialise.forms import Choice, Runtime, choose
from sn_deploy.specialise.layers import Layer, layers_of
from sn_deploy.specialise.load import load, write_draft
from sn_deploy.specialise.replace import replace

# Layer -> what it is to compute instead.
Changes = Mapping[str, FoldedSwitchNorm]


class Drafts:
    """Makes drafts of one file.

    Args:
        source: the file.
        folder: where drafts are written; each replaces the one before of its name.
        runtime: who runs them when they are measured.
        threads: of a session.
    """

    def __init__(self, source: Path, folder: Path, runtime: Runtime, threads: int | None) -> None:
        self.source, self.runtime = source, runtime
        self._folder, self._threads = folder, threads

    @property
    def native(self) -> bool:
        """Whether drafts are measured by the native operators."""
        return self.runtime is Runtime.ORT_NATIVE

    def changed(self, changes: Changes) -> ir.Model:
        """The file with other constants, every node what it was."""
        model = load(self.source)
        layers, taken = layers_of(model)[0], taken_names(model)
        for layer in layers:
            if layer.name in changes:
                put_constants(layer.node, changes[layer.name], taken)
        return model

    def specialised(self, changes: Changes) -> tuple[ir.Model, list[tuple[Layer, Choice]]]:
        """The file with other constants, and each layer in the form that suits it."""
        model = self.changed(changes)
        chosen = [(layer, choose(layer, self.runtime)) for layer in layers_of(model)[0]]
        replace(model, chosen)
        return model, chosen

    def with_statistics(self, layers: list[Layer]) -> ir.Model:
        """The file with the moments of these layers' inputs as outputs."""
        model = load(self.source)
        own = {layer.name: layer for layer in layers_of(model)[0]}
        add_statistics(model, [own[layer.name] for layer in layers])
        return model

    def write(self, model: ir.Model, name: str = "draft") -> Path:
        """The model as a file in the folder."""
        return write_draft(model, self._folder, name)

    def open(self, path: Path, *, native: bool | None = None) -> OrtSession:
        """A session of a file, by the native operators where that is what files are measured for."""
        use_native = self.native if native is None else native
        return OrtSession(path, threads=self._threads, native=use_native, spinning=False)

    def layer_times_ms(self, model: ir.Model, inputs: Mapping[str, Array]) -> dict[str, float]:
        """Layer -> its time in one call; without those that are no SwitchNorm node any more."""
        with self.open(self.write(model, "timed")) as session:
            return session.layer_times_ms(inputs)


def put_constants(node: ir.Node, folded: FoldedSwitchNorm, taken: set[str]) -> None:
    """Lets a SwitchNorm node compute what ``folded`` does. Changes the node; ``taken`` as in `new_weight`."""
    for name, array in op.parameters_from_folded(folded).items():
        index = 1 + op.PARAMETERS.index(name)
        node.replace_input_with(index, new_weight(node.graph, array, f"{folded.name}.{name}", taken))
    for name in op.FLOAT_ATTRIBUTES:
        node.attributes[name] = ir.AttrFloat32(name, float(getattr(folded, name)))
    node.overload = ""
    node.metadata_props[op.METADATA_MEAN_BN] = repr(folded.mean_bn)
    node.metadata_props[op.METADATA_VAR_BN] = repr(folded.var_bn)
