"""Which layer of a backend is which of the reference's, and where both can be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sn_deploy.check.layers.tensors import FORMS, LayerTensors, Tapped


@dataclass(frozen=True)
class Match:
    """One layer.

    Attributes:
        reference, own: its name in the reference, in the backend.
        form: the point at which both have its output.
    """

    reference: str
    own: str
    form: str


def match_layers(reference: Tapped, other: Tapped, backend: str) -> tuple[list[Match], list[str]]:
    """The layers that both have, in the reference's order, and what is to be said of the others.

    Layers of one name belong together. Where names don't tell, the rest goes by order, if it is as many on both sides
    and their tensors are of the same shapes.

    Args:
        backend: the other's name.
    """
    pairs = {name: name for name in reference.layers if name in other.layers}
    rest = [name for name in reference.layers if name not in pairs]
    own = [name for name in other.layers if name not in pairs]
    notes = []
    if rest and len(rest) == len(own):
        shapes = [
            (reference.tensors[one].x.shape, other.tensors[two].x.shape) for one, two in zip(rest, own, strict=True)
        ]
        if all(one == two for one, two in shapes):
            pairs |= dict(zip(rest, own, strict=True))
            notes.append(
                f"{backend}: names of {len(rest)} layers are others than the reference's: matched by their order"
            )
            rest, own = [], []
    if rest:
        notes.append(f"{backend}: not compared, since it has no such layers: {_listed(rest)}")
    if own:
        notes.append(f"{backend}: not compared, since the reference has no such layers: {_listed(own)}")
    matches = []
    for name in reference.layers:
        if name in pairs:
            form = _common(reference.tensors[name], other.tensors[pairs[name]])
            if form is None:
                notes.append(
                    f"{backend}: layer {name} isn't compared: it is fused with other operators than the reference's"
                )
            else:
                matches.append(Match(name, pairs[name], form))
    return matches, notes


def _common(one: LayerTensors, other: LayerTensors) -> str | None:
    return next((form for form in FORMS if form in one.outputs and form in other.outputs), None)


def _listed(names: Sequence[str]) -> str:
    few = ", ".join(names[:5])
    return few if len(names) <= 5 else f"{few} and {len(names) - 5} more"
