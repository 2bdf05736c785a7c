"""Which statistics may go: those that save most time for the error that they cost, as long as the budget holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.graph.overloads import CONSTANT
from sn_deploy.specialise.budget import Budget
from sn_deploy.specialise.drafts import Changes, Drafts
from sn_deploy.specialise.expected import BRANCHES, Expected, without
from sn_deploy.specialise.layers import Layer
from sn_deploy.specialise.samples import Error, Yardstick

# What may be dropped of a layer together.
DROPS: Final = (frozenset({"ln"}), frozenset({"in"}), frozenset(BRANCHES))

# A candidate that saves less of a layer's time is none: timings scatter by as much.
_LEAST_SAVED: Final = 0.05

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Candidate:
    """Some statistics of one layer.

    Attributes:
        layer: its name.
        branches: what would go: ``in``, ``ln`` or both.
        saved_ms: in one call of the network, by ONNX Runtime's profile.
        error: of the whole network, were this all that went.
    """

    layer: str
    branches: frozenset[str]
    saved_ms: float
    error: Error

    @property
    def value(self) -> float:
        """Time saved for the error."""
        return self.saved_ms / max(self.error.rel_l2, 1e-30)


@dataclass
class Found:
    """What `search` found.

    Attributes:
        dropped: layer -> what of it goes.
        error: of the whole network on the samples for choosing; None where nothing goes.
        candidates: all that were tried, by what they are worth.
        refused: candidates that the budget had no room for.
    """

    dropped: dict[str, frozenset[str]] = field(default_factory=dict)
    error: Error | None = None
    candidates: Sequence[Candidate] = ()
    refused: list[Candidate] = field(default_factory=list)


@dataclass(frozen=True)
class Search:
    """The search's surroundings.

    Attributes:
        drafts: of the file.
        layers: that may lose statistics.
        expected: their averages.
        times_ms: what went everywhere -> layer -> its time then; a layer that isn't there costs nothing any more.
        few, all: some of the samples for choosing, on which single candidates are tried, and all of them.
        budget: what must hold.
        max_weight: the largest share that may be dropped.
        on_progress: called with what is done and how far it is, 0 to 1.
    """

    drafts: Drafts
    layers: Sequence[Layer]
    expected: Mapping[str, Expected]
    times_ms: Mapping[frozenset[str], Mapping[str, float]]
    few: Yardstick
    all: Yardstick
    budget: Budget
    max_weight: float
    on_progress: Progress

    def run(self) -> Found:
        """Tries all candidates, and takes them in the order of their worth."""
        worth = list(self._worthwhile())
        candidates = []
        for place, (layer, branches, saved) in enumerate(worth):
            self.on_progress(f"trying {layer.name}", place / len(worth) / 2)
            error = self._error({layer.name: branches}, self.few)
            candidates.append(Candidate(layer.name, branches, saved, error))
        candidates.sort(key=lambda one: one.value, reverse=True)
        return self._taken(candidates)

    def changes(self, dropped: Mapping[str, frozenset[str]]) -> Changes:
        """The layers' constants without what is dropped."""
        return {
            layer.name: without(layer.folded, sorted(dropped[layer.name]), self.expected[layer.name])
            for layer in self.layers
            if dropped.get(layer.name)
        }

    def _worthwhile(self) -> Iterator[tuple[Layer, frozenset[str], float]]:
        before = self.times_ms[frozenset()]
        for layer in self.layers:
            own = frozenset(branch for branch in BRANCHES if _share(layer.folded, branch) > 0)
            for branches in dict.fromkeys(drop & own for drop in DROPS):
                if not branches or any(_share(layer.folded, branch) > self.max_weight for branch in branches):
                    continue
                if not self._computes_less(layer, branches):
                    continue
                # What drops all that a layer has makes it a constant, as dropping both does.
                after = self.times_ms[frozenset(BRANCHES) if branches == own else branches].get(layer.name, 0.0)
                saved = before.get(layer.name, 0.0) - after
                if saved > _LEAST_SAVED * before.get(layer.name, 0.0):
                    yield layer, branches, saved

    def _computes_less(self, layer: Layer, branches: frozenset[str]) -> bool:
        """Whether the layer would leave anything out: otherwise what seems to be saved is how timings scatter."""
        after = replace(layer, folded=without(layer.folded, sorted(branches), self.expected[layer.name])).overload
        # The native operators take all statistics or none.
        return after == CONSTANT if self.drafts.native else after != layer.overload

    def _taken(self, candidates: Sequence[Candidate]) -> Found:
        """As many as fit, by runs of doubling length: each is tried together with all that were taken before."""
        found = Found(candidates=candidates)
        place, length = 0, 1
        while place < len(candidates):
            self.on_progress("putting together", 0.5 + place / len(candidates) / 2)
            some = candidates[place : place + length]
            dropped = dict(found.dropped)
            for one in some:
                dropped[one.layer] = dropped.get(one.layer, frozenset()) | one.branches
            error = found.error if dropped == found.dropped else self._error(dropped, self.all)
            if error is not None and error.within(self.budget, bound=True):
                found.dropped, found.error = dropped, error
                place, length = place + len(some), length * 2
            elif len(some) > 1:
                length = len(some) // 2
            else:
                found.refused += some
                place += 1
        return found

    def _error(self, dropped: Mapping[str, frozenset[str]], yardstick: Yardstick) -> Error:
        path = self.drafts.write(self.drafts.changed(self.changes(dropped)))
        with self.drafts.open(path) as session:
            return yardstick.error_of(session.run)


def _share(folded: FoldedSwitchNorm, branch: str) -> float:
    """The larger of a branch's two weights."""
    return max(abs(float(getattr(folded, f"{statistic}_{branch}"))) for statistic in ("mean", "var"))
