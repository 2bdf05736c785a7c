"""The layers of an ONNX file in ONNX Runtime: their tensors made outputs of a copy of the graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.layers.onnx_points import LayerInFile, TensorRef, layers_in_file
from sn_deploy.check.layers.tensors import LayerTensors, Tapped, Wanted
from sn_deploy.graph import op
from sn_deploy.onnx_file import read_proto
from sn_deploy.runtime.ort import NCHWC_DOMAIN, OrtSession
from sn_deploy.runtime.tensors import Array

_PLAIN: Final = "sn_deploy.plain/"  # before the name of a tensor on blocks: the same, (N, C, H, W)


class OnnxTaps:
    """See `sn_deploy.check.layers.tensors.Taps`.

    Args:
        backend: of the file.
        session: its runner.
        path: the file.

    Raises:
        SnDeployError: the file's graph can't be followed.
    """

    def __init__(self, backend: AdaptedBackend, session: OrtSession, path: Path) -> None:
        self._backend, self._session = backend, session
        self._proto = read_proto(path)
        found = layers_in_file(path)
        known = {name for node in self._proto.graph.node for name in node.output}
        known |= {value.name for value in self._proto.graph.input}
        self._layers: dict[str, LayerInFile] = {}
        notes = list(found.notes)
        for name, layer in found.layers.items():
            missing = [one.name for one in layer.tensors if one.name not in known]
            if missing:
                notes.append(f"layer {name} isn't compared: {missing[0]} is no tensor of the file's own graph")
            else:
                self._layers[name] = layer
        self.notes: Sequence[str] = [f"{backend.info.name}: {note}" for note in notes]
        self._opened: tuple[frozenset[TensorRef], OrtSession] | None = None

    def run(self, inputs: Mapping[str, Array], forms: Mapping[str, frozenset[str]] | None = None) -> Tapped:
        """See `Taps`.

        Raises:
            SnDeployError: ONNX Runtime fails.
        """
        given, wanted = self._backend.cast(inputs), Wanted(forms)
        needed: dict[str, dict[str, TensorRef | None]] = {}
        refs: set[TensorRef] = set()
        for name, layer in self._layers.items():
            points = {form: point for form, point in layer.points.items() if wanted.point(name, form)}
            if points:
                needed[name] = {form: point.residual for form, point in points.items()}
                refs |= {layer.x, *(one for point in points.values() for one in point.tensors)}
        found = {**given, **self._session_with(refs).run(given)}
        tensors = {}
        for name, residuals in needed.items():
            layer = self._layers[name]
            outputs = {form: _plain(found, layer.points[form].output) for form in residuals}
            added = residuals.get(op.SWITCH_NORM_ADD_RELU)
            residual = None if added is None else _plain(found, added)
            tensors[name] = LayerTensors(_plain(found, layer.x), outputs, residual)
        return Tapped({name: self._layers[name].layer for name in tensors}, tensors)

    def close(self) -> None:
        """Frees the session."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    def _session_with(self, refs: Iterable[TensorRef]) -> OrtSession:
        key = frozenset(refs)
        if self._opened is None or self._opened[0] != key:
            self.close()
            model = with_outputs(self._proto, sorted(key, key=lambda one: one.name))
            self._opened = key, self._session.with_model(model.SerializeToString())
        return self._opened[1]


def with_outputs(proto: onnx.ModelProto, tensors: Iterable[TensorRef]) -> onnx.ModelProto:
    """A copy of the model that gives these tensors, too; those on blocks under another name, (N, C, H, W)."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    there = {value.name for value in (*model.graph.input, *model.graph.output)}
    for one in tensors:
        name = _output_name(one)
        if name in there:
            continue
        there.add(name)
        if one.blocked_channels is not None:
            reorder = onnx.helper.make_node("ReorderOutput", [one.name], [name], domain=NCHWC_DOMAIN)
            reorder.attribute.append(onnx.helper.make_attribute("channels", one.blocked_channels))
            model.graph.node.append(reorder)
        # ONNX Runtime finds the type itself.
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    return model


def _output_name(one: TensorRef) -> str:
    return one.name if one.blocked_channels is None else f"{_PLAIN}{one.name}"


def _plain(found: Mapping[str, Array], one: TensorRef) -> Array:
    """The tensor as (N, C, *spatial)."""
    value = found[_output_name(one)]
    return np.moveaxis(value, -1, 1) if one.channels_last else value
