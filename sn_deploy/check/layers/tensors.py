"""What a backend gives of its SN layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph import op
from sn_deploy.runtime.tensors import Array

# Where a layer's output can be compared: after the layer, after its ReLU, after its residual and ReLU. The last first.
FORMS: Final = (op.SWITCH_NORM_ADD_RELU, op.SWITCH_NORM_RELU, op.SWITCH_NORM)


@dataclass(frozen=True)
class LayerTensors:
    """What one layer read and made in one call.

    Attributes:
        x: (N, C, *spatial).
        outputs: form of `FORMS` -> the tensor at that point, of x's shape.
        residual: what was added, where the form with a residual is among them.
    """

    x: Array
    outputs: Mapping[str, Array]
    residual: Array | None = None

    def bytes_of(self, form: str) -> int:
        """Bytes of what is needed to compare the layer at one point."""
        residual = self.x.nbytes if form == op.SWITCH_NORM_ADD_RELU else 0
        return self.x.nbytes + self.outputs[form].nbytes + residual


@dataclass(frozen=True)
class TappedLayer:
    """A layer whose tensors a backend gives.

    Attributes:
        name: as the backend has it; a layer that is called again has ``#2`` and so on behind it.
        folded: its meaning.
        rounds_once: whether it promises statistics in float32 and one rounding of Y, as the operator's contract has it;
            otherwise every step may round to the type that it computes in.
    """

    name: str
    folded: FoldedSwitchNorm
    rounds_once: bool


@dataclass(frozen=True)
class Tapped:
    """One call.

    Attributes:
        layers: name -> the layer, in the order in which they run.
        tensors: name -> what it read and made.
    """

    layers: Mapping[str, TappedLayer]
    tensors: Mapping[str, LayerTensors]


class Taps(Protocol):
    """A backend whose layers can be looked into.

    Attributes:
        notes: for people, what can't be looked into and why.
    """

    notes: Sequence[str]

    def run(self, inputs: Mapping[str, Array], forms: Mapping[str, frozenset[str]] | None = None) -> Tapped:
        """Runs once.

        Args:
            inputs: as `sn_deploy.check.backends.adapted.AdaptedBackend.run` takes them.
            forms: layer -> the points that are wanted; None for all layers and points.
        """
        ...

    def close(self) -> None: ...


@dataclass
class Wanted:
    """Which layers and points somebody asks for; all where ``forms`` is None."""

    forms: Mapping[str, frozenset[str]] | None = field(default=None)

    def layer(self, name: str) -> bool:
        """Whether the layer is wanted at all."""
        return self.forms is None or name in self.forms

    def point(self, name: str, form: str) -> bool:
        """Whether this point of the layer is."""
        return self.forms is None or form in self.forms.get(name, ())
