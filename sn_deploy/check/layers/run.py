"""The layers of all backends, batch by batch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.open import Backends
from sn_deploy.check.backends.served import TRITON
from sn_deploy.check.backends.spec import TORCH
from sn_deploy.check.batch import Batch
from sn_deploy.check.layers.comparison import LayerComparison, LayerTolerance
from sn_deploy.check.layers.match import Match, match_layers
from sn_deploy.check.layers.tensors import Tapped, Taps
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

# Bytes of one backend's layers that are held at a time. Two backends are: this one and the reference.
_MOST_BYTES: Final = 256 << 20


def open_taps(backend: AdaptedBackend) -> Taps:
    """The layers of a backend.

    Raises:
        SnDeployError: they can't be looked into.
    """
    if backend.info.kind == TORCH:
        from sn_deploy.check.layers.torch_taps import TorchTaps

        return TorchTaps(backend, backend.runner)  # type: ignore[arg-type]
    if backend.info.kind.startswith("ort"):
        from sn_deploy.check.layers.onnx_taps import OnnxTaps

        assert backend.info.file is not None
        return OnnxTaps(backend, backend.runner, Path(backend.info.file))  # type: ignore[arg-type]
    what = "a served model" if backend.info.kind == TRITON else "an engine"
    raise SnDeployError(
        f"what is inside of {what} can't be read",
        where=backend.info.name,
        mend="compare the layers of the ONNX file that it is made from",
    )


class LayerRun:
    """Runs each batch through all backends once more, in slices that fit into memory, and compares their layers.

    Args:
        backends: all.
        tolerance: what is allowed.

    Raises:
        SnDeployError: the reference's layers can't be looked into, or no other's can.
    """

    def __init__(self, backends: Backends, tolerance: LayerTolerance) -> None:
        infos = [backend.info for backend in backends.all]
        self.comparison = LayerComparison(infos, backends.reference, tolerance)
        self._fixed_batch = backends.fixed_batch is not None
        self._taps: dict[str, Taps] = {}
        for backend in backends.all:
            name = backend.info.name
            try:
                self._taps[name] = open_taps(backend)
            except SnDeployError as error:
                if name == backends.reference:
                    raise
                self.comparison.notes[name] = [str(error)]
        if len(self._taps) < 2:
            raise SnDeployError(
                "; ".join(note for notes in self.comparison.notes.values() for note in notes), where="--layers"
            )
        self._matches: dict[str, list[Match]] = {}
        self._slices: dict[tuple[tuple[int, ...], ...], int] = {}

    def update(self, batch: Batch) -> None:
        """Takes in one batch.

        Raises:
            SnDeployError: a backend fails, or no layer can be compared.
        """
        size = self._slice_size(batch)
        for start in range(0, batch.samples, size):
            part = _samples_of(batch.inputs, start, start + size)
            self._update(part if size < batch.samples else batch.inputs)

    def close(self) -> None:
        """Frees what was opened."""
        for taps in self._taps.values():
            taps.close()

    def _update(self, inputs: Mapping[str, Array]) -> None:
        reference = self.comparison.reference
        expected = self._taps[reference].run(inputs, self._forms(reference))
        for name, taps in self._taps.items():
            if name != reference:
                self.comparison.update(name, self._matches[name], expected, taps.run(inputs, self._forms(name)))

    def _slice_size(self, batch: Batch) -> int:
        """Samples that are run at a time: the same for every batch of one shape, in whichever part it is run."""
        shapes = tuple(value.shape[1:] for value in batch.inputs.values())
        if shapes not in self._slices:
            first = batch.inputs if self._fixed_batch else _samples_of(batch.inputs, 0, 1)
            sizes = self._look(first)
            self._slices[shapes] = max(1, _MOST_BYTES // max(sizes, 1))
        return batch.samples if self._fixed_batch else min(batch.samples, self._slices[shapes])

    def _look(self, inputs: Mapping[str, Array]) -> int:
        """Runs all once, to match their layers and to see how large they are; gives the largest's bytes."""
        found = {name: taps.run(inputs, self._forms(name)) for name, taps in self._taps.items()}
        if not self._matches:
            self._match(found)
        # Of what is compared alone: a first run gives more, and parts of a check have other first runs.
        return max(
            sum(found[name].tensors[match.own].bytes_of(match.form) for match in matches)
            for name, matches in self._matches.items()
        )

    def _match(self, found: Mapping[str, Tapped]) -> None:
        reference = self.comparison.reference
        if not found[reference].layers:
            raise SnDeployError(
                "has no SN layer that could be found", where=f"--layers, {reference}", mend="see: sn-deploy fuse"
            )
        for name, tapped in found.items():
            notes = list(self._taps[name].notes)
            if name != reference:
                self._matches[name], more = match_layers(found[reference], tapped, name)
                notes += more
            self.comparison.notes.setdefault(name, []).extend(notes)
        if not any(self._matches.values()):
            raise SnDeployError(
                "no layer can be compared",
                where="--layers",
                mend="; ".join(note for notes in self.comparison.notes.values() for note in notes) or None,
            )

    def _forms(self, name: str) -> dict[str, frozenset[str]] | None:
        """Layer -> the points that are compared."""
        if not self._matches:
            return None
        forms: dict[str, set[str]] = {}
        for backend, matches in self._matches.items():
            for match in matches:
                if name == self.comparison.reference:
                    forms.setdefault(match.reference, set()).add(match.form)
                elif name == backend:
                    forms.setdefault(match.own, set()).add(match.form)
        return {layer: frozenset(points) for layer, points in forms.items()}


def _samples_of(inputs: Mapping[str, Array], first: int, last: int) -> dict[str, Array]:
    """Those samples; what has no axis for them is that of all."""
    return {name: value[first:last] if value.ndim else value for name, value in inputs.items()}
