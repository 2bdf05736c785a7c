"""The layers of the user's PyTorch model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.torch_model import TorchRunner
from sn_deploy.check.layers.tensors import LayerTensors, Tapped, TappedLayer, Wanted
from sn_deploy.runtime.tensors import Array


class TorchTaps:
    """See `sn_deploy.check.layers.tensors.Taps`; layers are recognised at the first run.

    Args:
        backend: whose runner is a `TorchRunner`.
        runner: it.
    """

    def __init__(self, backend: AdaptedBackend, runner: TorchRunner) -> None:
        self.notes: Sequence[str] = ()
        self._backend, self._runner = backend, runner
        self._layers: dict[str, TappedLayer] | None = None

    def run(self, inputs: Mapping[str, Array], forms: Mapping[str, frozenset[str]] | None = None) -> Tapped:
        """See `Taps`."""
        from sn_deploy.capture.layer_taps import record_layers
        from sn_deploy.runtime.torch import array_from_tensor

        if self._layers is None:
            self._layers = self._find(inputs)
        wanted, layers = Wanted(forms), self._layers
        calls = record_layers(
            self._runner.model,
            layers,
            lambda: self._backend.run(inputs),
            lambda layer, point: wanted.point(layer, point) if point else wanted.layer(layer),
        )
        tensors = {}
        for name, call in calls.items():
            if call.x is not None and call.outputs:
                tensors[name] = LayerTensors(
                    array_from_tensor(call.x),
                    {form: array_from_tensor(output) for form, output in call.outputs.items()},
                    None if call.residual is None else array_from_tensor(call.residual),
                )
        return Tapped({name: layers[calls[name].module] for name in tensors}, tensors)

    def close(self) -> None:
        """Nothing to free."""

    def _find(self, inputs: Mapping[str, Array]) -> dict[str, TappedLayer]:
        from sn_deploy.recognise.running_layers import find_layers

        found = find_layers(self._runner.model, lambda: self._backend.run(inputs))
        name = self._backend.info.name
        self.notes = [f"{name}: layer {layer} isn't compared: {reason}" for layer, reason in found.refused.items()]
        return {layer: TappedLayer(layer, folded, False) for layer, folded in found.layers.items()}
