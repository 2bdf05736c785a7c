"""What is to be dropped for a budget: statistics gathered, forms timed, candidates searched."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from sn_deploy.check.backends.own_types import InOwnTypes
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.specialise.budget import Budget
from sn_deploy.specialise.drafts import Changes, Drafts
from sn_deploy.specialise.expected import Expected, expected_statistics, without
from sn_deploy.specialise.layers import Layer, layers_of
from sn_deploy.specialise.load import load
from sn_deploy.specialise.samples import Yardstick
from sn_deploy.specialise.search import DROPS, Found, Progress, Search

# Samples on which each candidate is tried alone.
_FEW: Final = 64


@dataclass(frozen=True)
class Outcome:
    """What goes: the layers' new constants, and how they were found."""

    changes: Changes = field(default_factory=dict)
    found: Found = field(default_factory=Found)


@dataclass(frozen=True)
class Limits:
    """What the user allows: the budget, and the largest share of a branch that may be dropped."""

    budget: Budget
    max_weight: float


def choose_drops(
    drafts: Drafts, running: OrtSession, choosing: InOwnTypes, limits: Limits, batch: int, on_progress: Progress
) -> Outcome:
    """Which statistics may be replaced by their averages.

    Args:
        running: the source, as it will run.
        choosing: samples.
        batch: samples in a call that is timed.

    Raises:
        SnDeployError: a budget for the top class where the outputs have none.
    """
    model = load(drafts.source)
    # What isn't in the main graph can't be an output of it, and so isn't measured.
    layers = [layer for layer in layers_of(model)[0] if layer.node.graph is model.graph]
    on_progress("measuring statistics", 0.0)
    where = str(drafts.source)
    everything = Yardstick(choosing, running.run, where=where)
    _check_top1(everything, running, limits.budget)
    few = Yardstick(choosing, running.run, _FEW, where=where) if everything.samples > _FEW else everything
    with drafts.open(drafts.write(drafts.with_statistics(layers))) as session:
        expected = expected_statistics(session.run, everything.batches(), layers)
    times = _times(drafts, layers, expected, everything, batch)
    search = Search(drafts, layers, expected, times, few, everything, limits.budget, limits.max_weight, on_progress)
    found = search.run()
    return Outcome(search.changes(found.dropped), found)


def _check_top1(yardstick: Yardstick, running: OrtSession, budget: Budget) -> None:
    if budget.top1 is not None and yardstick.error_of(running.run).top1 is None:
        outputs = ", ".join(str(info) for info in running.outputs)
        raise SnDeployError(
            f"the outputs are {outputs}",
            where="--budget top1",
            expected="one output of scores, (N, classes)",
            mend="give a budget of rel_l2",
        )


def _times(
    drafts: Drafts, layers: list[Layer], expected: dict[str, Expected], yardstick: Yardstick, batch: int
) -> dict[frozenset[str], dict[str, float]]:
    """What goes in all layers -> layer -> its time then."""
    inputs = yardstick.first_inputs(batch)
    times = {}
    for drop in (frozenset[str](), *DROPS):
        changes = {layer.name: without(layer.folded, sorted(drop), expected[layer.name]) for layer in layers}
        model, _ = drafts.specialised(changes)
        times[drop] = drafts.layer_times_ms(model, inputs)
    if not times[frozenset()]:
        # Weights in a file of their own: the profile doesn't tell. What a layer costs goes with its size.
        times[frozenset()] = {layer.name: float(layer.folded.channels * (layer.positions or 1)) for layer in layers}
    return times
