"""What recognition says about the modules of a model."""

from __future__ import annotations

from dataclasses import dataclass

from sn_deploy.folded import FoldedSwitchNorm


@dataclass(frozen=True)
class Refusal:
    """Why a module that looks like SN can't be expressed by the operator.

    Attributes:
        name: qualified name of the module.
        reason: one clause with the size of the mismatch, where there is one, and its likely cause.
        mend: what the user can do about it, as an imperative; None if nothing is known.
    """

    name: str
    reason: str
    mend: str | None


@dataclass(frozen=True)
class Recognition:
    """The SN layers of a model; both maps are keyed by qualified name, in module order.

    A module that the model holds under several names has the first. The model itself has the name "".
    """

    layers: dict[str, FoldedSwitchNorm]
    refused: dict[str, Refusal]


class RefusedError(Exception):
    """Ends the examination of one module; `recognise` turns it into a `Refusal` with the module's name."""

    def __init__(self, reason: str, mend: str | None = None) -> None:
        self.reason, self.mend = " ".join(reason.split()), mend
        super().__init__(self.reason)
