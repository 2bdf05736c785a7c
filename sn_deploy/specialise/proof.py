"""The result against the source: the forms compute the same, the budget holds, and what time it saves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from sn_deploy.check.backends.onnx_file import read_facts
from sn_deploy.check.latency import ratio_of
from sn_deploy.check.rounds import take_turns
from sn_deploy.compare.model_type import coarsest_type
from sn_deploy.compare.tolerances import coarsest, tolerance_for
from sn_deploy.errors import CheckFailedError
from sn_deploy.runtime.tensors import Array
from sn_deploy.specialise.budget import Budget
from sn_deploy.specialise.drafts import Changes, Drafts
from sn_deploy.specialise.samples import Error, Yardstick

_ROUNDS: Final = 50
_REPORT: Final = "please report this with the file"


def prove_forms(drafts: Drafts, changes: Changes, result: Path, held_out: Yardstick) -> tuple[float, float]:
    """How far the result is from SwitchNorm nodes with the same constants, and how far it might be.

    Both by the functions inside them; the result by the native operators, too, if that is what it is for.

    Raises:
        CheckFailedError: it is further off than rounding may bring it.
    """
    model = drafts.changed(changes)
    # A file of float32 weights may compute in half precision between two casts.
    tolerance = tolerance_for(coarsest([read_facts(drafts.source).precision, coarsest_type(model)])).rel_l2
    with drafts.open(drafts.write(model, "constants"), native=False) as plain:
        yardstick = Yardstick(held_out.batches(), plain.run, where=str(drafts.source)) if changes else held_out
        worst = 0.0
        for native in {False, drafts.native}:
            with drafts.open(result, native=native) as session:
                error = yardstick.error_of(session.run)
            if not error.rel_l2 <= tolerance:
                raise CheckFailedError(
                    f"the layers' new forms differ by {error.rel_l2:.2g} (relative L2)",
                    where=str(drafts.source),
                    expected=f"at most {tolerance:.0e}",
                    mend=_REPORT,
                )
            worst = max(worst, error.rel_l2)
    return worst, tolerance


def prove_budget(drafts: Drafts, result: Path, held_out: Yardstick, budget: Budget | None) -> Error:
    """The result's error on the samples that had no part in the choice.

    Raises:
        CheckFailedError: it breaks the budget.
    """
    with drafts.open(result, native=False) as session:
        error = held_out.error_of(session.run)
    if budget is not None and not error.within(budget):
        top1 = "" if error.top1 is None else f", top1 {error.top1:.3g}"
        raise CheckFailedError(
            f"on {error.samples} held-out samples the error is rel_l2 {error.rel_l2:.3g}{top1}, so nothing was written",
            where=str(drafts.source),
            expected=f"at most {budget}",
            mend="give more samples to choose on, or a smaller budget",
        )
    return error


def time_ratio(drafts: Drafts, result: Path, inputs: Mapping[str, Array]) -> tuple[float, float, float]:
    """The result's time over the source's and its 95 % interval, in turns."""
    with drafts.open(drafts.source) as before, drafts.open(result) as after:
        calls = {"before": lambda: before.run(inputs), "after": lambda: after.run(inputs)}
        times = take_turns(calls, rounds=_ROUNDS).times_ms
    return ratio_of(times["after"], times["before"])
