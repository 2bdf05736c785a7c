"""What is known of the layers: sums over all batches, and the verdict on each."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sn_deploy.arguments import real_number
from sn_deploy.check.layers.expected import expected_output
from sn_deploy.check.layers.match import Match
from sn_deploy.check.layers.sums import LayerSums
from sn_deploy.check.layers.tensors import Tapped
from sn_deploy.check.result import Assertion, BackendInfo, LayerError, LayerReport
from sn_deploy.compare.tolerances import coarsest, tolerance_for
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.python_words import naming_arguments

# How many times what one float32 rounding of each term may change, a layer may change its output by rounding.
_ROUNDINGS: Final = 4.0
# Roundings to its type that a layer may take which doesn't promise to take one.
_STEPS: Final = 8.0

LAYER_LIMITS: Final = ("rel_l2", "own_rel_l2")
OUTSIDE: Final = "layers_outside_tolerance"


@dataclass(frozen=True)
class LayerTolerance:
    """What the user allows; None for the default.

    Attributes:
        rel_l2: of the error so far; by default that of an output of the type that is computed in.
        own_rel_l2: of what a layer adds; by default what its own numbers can lose to rounding.

    Raises:
        SnDeployError: one of them is no number.
    """

    rel_l2: float | None = None
    own_rel_l2: float | None = None

    @naming_arguments()
    def __post_init__(self) -> None:
        for name in LAYER_LIMITS:
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, real_number(given, f"LayerTolerance.{name}"))

    def state(self) -> dict[str, Any]:
        """As JSON holds it exactly."""
        return {name: None if value is None else value.hex() for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> LayerTolerance:
        """What `state` wrote.

        Raises:
            KeyError, TypeError, ValueError: it isn't that.
        """
        values = {name: None if state[name] is None else float.fromhex(state[name]) for name in LAYER_LIMITS}
        return cls(**values)


@dataclass
class LayerComparison:
    """The layers of all backends beside the reference's.

    Attributes:
        backends: all, in the order of the tables; reference: one of them.
        layers: backend -> layer, under the reference's name -> its sums, in the reference's order.
        notes: backend -> what is to be said about it.
    """

    backends: Sequence[BackendInfo]
    reference: str
    tolerance: LayerTolerance = LayerTolerance()
    layers: dict[str, dict[str, LayerSums]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def update(self, backend: str, matches: Sequence[Match], reference: Tapped, own: Tapped) -> None:
        """Takes in one call of the reference and one of the backend, on the same samples.

        Raises:
            CheckFailedError: a tensor has another shape than the reference's.
            SnDeployError: a layer that has no value for its input.
        """
        for match in matches:
            expected, actual = reference.tensors[match.reference], own.tensors[match.own]
            made, layer = actual.outputs[match.form], own.layers[match.own]
            where = f"{backend}: layer {match.reference}"
            if expected.x.shape != actual.x.shape or made.shape != actual.x.shape:
                shapes = f"X {actual.x.shape} and Y {made.shape}"
                raise CheckFailedError(f"has {shapes}", where=where, expected=f"the reference's, {expected.x.shape}")
            shape = ("N", *made.shape[1:])
            sums = self.layers.setdefault(backend, {}).setdefault(
                match.reference, LayerSums(match.form, layer.rounds_once, str(made.dtype), shape)
            )
            sums.join_shape(shape, where)
            sums.given.update(expected.x, actual.x)
            sums.made.update(expected.outputs[match.form], made)
            own_expected = expected_output(
                reference.layers[match.reference].folded,
                actual.x,
                match.form,
                actual.residual,
                rounds_once=layer.rounds_once,
            )
            sums.own.update(own_expected.y, made, only_where_finite=True)
            if math.isfinite(own_expected.rounding) and math.isfinite(own_expected.carried):
                sums.rounding.add([own_expected.rounding])
                sums.carried.add([own_expected.carried])

    def reports(self) -> list[LayerReport]:
        """The verdicts.

        Raises:
            SnDeployError: a type without a tolerance.
        """
        return [self._report(info) for info in self.backends if info.name in self.layers or self.notes.get(info.name)]

    def assertions(self) -> list[Assertion]:
        """One for each backend: that no layer is outside its tolerance."""
        made = []
        for report in self.reports():
            if report.layers:
                count = sum(not layer.passed for layer in report.layers)
                first = f", the first: {report.culprit}" if report.culprit else ""
                text = f"{report.backend}: {OUTSIDE} {count} <= 0{first}"
                made.append(Assertion(text, OUTSIDE, report.backend, float(count), 0.0, count == 0))
        return made

    def _report(self, info: BackendInfo) -> LayerReport:
        errors = [
            self._error(info, name, index, sums)
            for index, (name, sums) in enumerate(self.layers.get(info.name, {}).items())
        ]
        culprit = next((error for error in errors if not error.passed), None)
        part = None
        if culprit is not None:
            part = "layer" if not culprit.own_rel_l2 <= culprit.own_tolerance else "before"
        return LayerReport(info.name, errors, culprit.layer if culprit else None, part, self.notes.get(info.name, []))

    def _error(self, info: BackendInfo, name: str, index: int, sums: LayerSums) -> LayerError:
        tolerance, own_tolerance = self._tolerances(info, sums)
        so_far, own = sums.made.rel_l2, sums.own.rel_l2
        return LayerError(
            layer=name,
            index=index,
            shape=list(sums.shape),
            dtype=sums.dtype,
            input_rel_l2=sums.given.rel_l2,
            rel_l2=so_far,
            own_rel_l2=own,
            tolerance=tolerance,
            own_tolerance=own_tolerance,
            passed=so_far <= tolerance and own <= own_tolerance,
        )

    def _tolerances(self, info: BackendInfo, sums: LayerSums) -> tuple[float, float]:
        so_far, own = self.tolerance.rel_l2, self.tolerance.own_rel_l2
        if so_far is None:
            reference = next(one for one in self.backends if one.name == self.reference)
            precisions = [one.settings.get("precision") for one in (info, reference)]
            so_far = self._of_type(coarsest, [sums.dtype, *(one for one in precisions if one)])
        if own is None:
            own = _ROUNDINGS * sums.beside_output(sums.rounding) + self._stored(sums)
        return so_far, own

    def _of_type(self, choose: Any, dtypes: list[str]) -> float:
        try:
            return tolerance_for(choose(dtypes)).rel_l2
        except SnDeployError as error:
            raise error.but(mend="say what is allowed: --layer-tolerance rel_l2=0.05") from None

    def _stored(self, sums: LayerSums) -> float:
        """What storing Y costs, and X: a runtime may go on with more digits of it than it shows.

        Without the promise to round once, each step may cost as much.
        """
        try:
            roundoff = tolerance_for(sums.dtype).roundoff
        except SnDeployError as error:
            raise error.but(mend="say what is allowed: --layer-tolerance own_rel_l2=0.01") from None
        return roundoff * (1.0 + sums.beside_output(sums.carried)) * (1.0 if sums.rounds_once else _STEPS)

    def state(self) -> dict[str, Any]:
        """All that was gathered, as JSON holds it exactly."""
        return {
            name: {"notes": self.notes.get(name, []), "layers": [[layer, sums.state()] for layer, sums in rows.items()]}
            for name in (info.name for info in self.backends)
            if (rows := self.layers.get(name, {})) or self.notes.get(name)
        }

    def merge(self, state: Mapping[str, Any]) -> None:
        """Takes in what `state` of another part gave.

        Raises:
            KeyError, TypeError, ValueError: it isn't that.
            SnDeployError: the parts have different layers.
        """
        for name, found in state.items():
            rows = {str(layer): LayerSums.from_state(sums) for layer, sums in found["layers"]}
            if name in self.layers and list(rows) != list(self.layers[name]):
                raise SnDeployError("the parts have different layers", where=name)
            for layer, sums in rows.items():
                own = self.layers.setdefault(name, {})
                if layer in own:
                    own[layer].merge(sums, f"{name}: layer {layer}")
                else:
                    own[layer] = sums
            notes = self.notes.setdefault(name, [])
            notes += [note for note in found["notes"] if note not in notes]
