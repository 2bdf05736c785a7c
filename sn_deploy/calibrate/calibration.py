"""Statistics of a model's BN branches from data; docs/decisions/0008-calibrate.md says why these and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, Literal

import torch

from sn_deploy.arguments import check_is_function, real_number, whole_number
from sn_deploy.calibrate.branches import find_branches
from sn_deploy.calibrate.data import source_from
from sn_deploy.calibrate.movement import distance
from sn_deploy.calibrate.one_pass import Calibration, Pass, calibration_from_pass
from sn_deploy.calibrate.sweep import sweep
from sn_deploy.calibrate.tally import BATCH_AVERAGE, POPULATION, STATISTICS, Tally
from sn_deploy.capture.originals import refusing_calls_of
from sn_deploy.capture.parametrized import settle_parametrizations_
from sn_deploy.capture.private_copy import private_copy
from sn_deploy.check.data.open import OPTIONS_IN_PYTHON
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.python_words import naming_arguments
from sn_deploy.recognise import lift_cuda_checks_

# Just above what rounding in float32 activations leaves of a statistic.
DEFAULT_TOLERANCE: Final = 1e-6

# The number of the pass, from 0, and the samples of the batch that is done.
OnBatch = Callable[[int, int], None]


@naming_arguments(OPTIONS_IN_PYTHON, data="source", input="source")
def calibrate(
    model: torch.nn.Module,
    source: object,
    *,
    statistics: Literal["batch-average", "population"] = BATCH_AVERAGE,
    sweeps: int | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    device: str = "cpu",
    keep_unrecognised: bool = False,
    on_batch: OnBatch | None = None,
) -> Calibration:
    """The statistics of every BN branch of ``model`` over ``source``.

    BATCH_AVERAGE is one pass in which each layer normalises with its batch's own statistics, as in training; these are
    averaged over batches, as training with ``using_moving_average=False`` does: S1/N and S2/N - (S1/N)².

    POPULATION are the statistics of all samples as one batch, in the network that is deployed: every layer's are those
    of its own input while all layers use theirs. The first pass is that of BATCH_AVERAGE; then sweeps in evaluation
    mode each replace all statistics, until they stay. Sweep k makes the k-th layer of every path exact, whatever the
    data.

    Args:
        model: not changed: a copy in evaluation mode is run.
        source: samples as training saw them, which give the same batches each time they are gone through: a torch
            DataLoader or Dataset, an array or tensor, a dict of these by input name, a `DataOptions` or anything else
            that `sn_deploy.check.check` takes as data, but that items of a list or a function are batches; or a
            `Source`.
        statistics: BATCH_AVERAGE or POPULATION.
        sweeps: at most so many after the first pass; by default one more than there are branches, which is enough.
        tolerance: sweeps end when none moved a mean by more than this share of a deviation, nor a variance by more
            than this share of itself.
        device: where the copy runs.
        keep_unrecognised: leave the statistics of layers that look like SN and aren't, instead of refusing them.
        on_batch: called after each batch.

    Raises:
        SnDeployError: with the layer, batch or argument at fault.
    """
    if statistics not in STATISTICS:
        raise SnDeployError(f"statistics are {statistics!r}", expected=" or ".join(STATISTICS))
    sweeps = None if sweeps is None else whole_number(sweeps, "sweeps")
    tolerance = real_number(tolerance, "tolerance")
    if on_batch is not None:
        check_is_function(on_batch, "on_batch", "a function of the pass and the samples of a batch")
    if sweeps is not None and (statistics != POPULATION or sweeps < 1):
        raise SnDeployError(f"sweeps are {sweeps}", expected="1 or more, of population statistics alone")
    runner = _Runner(model, source, device, keep_unrecognised, on_batch)
    result = runner.run(BATCH_AVERAGE)
    if statistics == BATCH_AVERAGE:
        return calibration_from_pass(result)
    moved: list[float] = []
    for _ in range(sweeps or len(runner.branches) + 1):
        runner.install(result)
        before, result = result, runner.run(POPULATION)
        moved.append(_moved(before, result))
        if moved[-1] <= tolerance:
            break
    return calibration_from_pass(result, moved, moved[-1] <= tolerance)


@naming_arguments(OPTIONS_IN_PYTHON, data="source", input="source")
def calibrate_part(
    model: torch.nn.Module,
    source: object,
    *,
    statistics: Literal["batch-average", "population"] = BATCH_AVERAGE,
    device: str = "cpu",
    keep_unrecognised: bool = False,
    on_batch: OnBatch | None = None,
) -> Pass:
    """One pass over a part of the data, to be merged with the others; arguments and errors as in `calibrate`.

    With POPULATION it is one sweep with the statistics that the model has.
    """
    if statistics not in STATISTICS:
        raise SnDeployError(f"statistics are {statistics!r}", expected=" or ".join(STATISTICS))
    return _Runner(model, source, device, keep_unrecognised, on_batch).run(statistics)


class _Runner:
    """A private copy of the model, run over the data pass by pass."""

    def __init__(
        self,
        model: torch.nn.Module,
        source: object,
        device: str,
        keep_unrecognised: bool,
        on_batch: OnBatch | None,
    ) -> None:
        self._original, self._model = model, _copy_on(model, device)
        self._source, self._keep, self._on_batch = source_from(model, source), keep_unrecognised, on_batch
        self.branches, self._without_bn = find_branches(self._model)
        self._passes = 0
        if not self.branches:
            raise SnDeployError(
                "no layer looks like SN with a BN branch, so there is nothing to calibrate",
                where=type(model).__name__,
                mend="check --model and --model-arg",
            )

    def run(self, statistics: str) -> Pass:
        if not isinstance(self._source, Iterable):
            raise SnDeployError(
                f"the data is a {type(self._source).__name__}",
                expected="a source of batches: sn_deploy.check.data.open.open_data, or objects of its Batch",
            )
        number, self._passes = self._passes, self._passes + 1
        report = self._on_batch
        result = Pass(statistics, [Tally(branch.identity, statistics) for branch in self.branches], self._without_bn)
        with refusing_calls_of(self._original, self._model):
            sweep(
                self._model,
                self.branches,
                result,
                iter(self._source),
                keep_unrecognised=self._keep,
                on_batch=None if report is None else lambda samples: report(number, samples),
            )
        if not result.batches:
            raise SnDeployError("the data has no batch", mend="check --data, --limit and --shard")
        return result

    def install(self, result: Pass) -> None:
        """Gives the layers that ran the statistics that the pass came to."""
        for branch, tally in zip(self.branches, result.tallies, strict=True):
            if tally.sums.calls:
                branch.install(*tally.moments())


def _moved(before: Pass, after: Pass) -> float:
    pairs = zip(before.tallies, after.tallies, strict=True)
    return max((distance(old.moments(), new.moments()) for old, new in pairs if new.sums.calls), default=0.0)


def _copy_on(model: torch.nn.Module, device: str) -> torch.nn.Module:
    """A copy in evaluation mode on ``device``; half precision becomes float32, in which half's statistics are exact.

    Layers that only ask for CUDA run on the CPU, too (`sn_deploy.recognise.cuda_check`).
    """
    private = private_copy(model)
    moved: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def move(tensor: torch.Tensor) -> torch.Tensor:
        # By identity, so that buffers that layers share stay shared.
        if id(tensor) not in moved:
            half = tensor.dtype in (torch.float16, torch.bfloat16)
            moved[id(tensor)] = (tensor, tensor.to(device, torch.float32 if half else tensor.dtype))
        return moved[id(tensor)][1]

    try:
        private._apply(move)  # type: ignore[no-untyped-call]
    except Exception as error:
        raise SnDeployError(
            f"the model can't be moved there: {first_line(error)}",
            where=f"--device {device}",
            expected="cpu, or cuda where PyTorch has a GPU",
        ) from error
    if device == "cpu":
        lift_cuda_checks_(private)
    private.eval()
    settle_parametrizations_(private)
    return private
