"""One pass of a model over data, in evaluation mode, with the input of every BN branch measured."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack

import numpy as np
import torch

from sn_deploy.calibrate.batch_form import check_enough_values
from sn_deploy.calibrate.branches import Branch, examine
from sn_deploy.calibrate.one_pass import Pass
from sn_deploy.calibrate.tally import BATCH_AVERAGE, Tally
from sn_deploy.capture.half_inside import half_inside
from sn_deploy.capture.inputs import bind_inputs, input_type
from sn_deploy.capture.nested_inputs import called_nested, nested_places
from sn_deploy.capture.swap import MEND_OF_TRAIN
from sn_deploy.capture.watch import watching
from sn_deploy.check.batch import Batch
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.torch import own_surroundings, tensor_from_array
from sn_deploy.turns import running_a_model

OnBatch = Callable[[int], None]


def sweep(
    model: torch.nn.Module,
    branches: list[Branch],
    result: Pass,
    batches: Iterator[Batch],
    *,
    keep_unrecognised: bool = False,
    on_batch: OnBatch | None = None,
) -> None:
    """Runs ``model`` over ``batches`` and adds the moments of what each BN branch is given to ``result``.

    Under BATCH_AVERAGE every call of a layer first gets the statistics of its own batch, as in training, so that what
    follows sees what it saw in training; afterwards the branches hold those of the last batch. Under POPULATION the
    statistics stay as they are.

    Args:
        model: a private copy, in evaluation mode.
        branches: its BN branches, in the order of ``result.tallies``.
        keep_unrecognised: leave layers out that look like SN and aren't, instead of refusing them.
        on_batch: called with the number of samples after each batch.

    Raises:
        SnDeployError: inputs that don't fit the model or make it fail; NaN or infinity, with the layer that they reach
            first; a layer that isn't SN; a batch too small for a layer.
    """
    # What the user compiles is compiled for other calls than watched ones.
    with ExitStack() as stack, torch.compiler.set_stance("force_eager"):
        for branch, tally in zip(branches, result.tallies, strict=True):
            for name, module in branch.readers.items():
                stack.enter_context(_watched(module, branch, name, tally, result, keep_unrecognised))
        for batch in batches:
            if not isinstance(batch, Batch):
                raise SnDeployError(
                    f"the data gives a {type(batch).__name__}",
                    expected="objects of sn_deploy.check.batch.Batch, with NumPy arrays by the names of the inputs",
                )
            _run(model, batch)
            result.batches[batch.index] = batch.samples
            if on_batch is not None:
                on_batch(batch.samples)


def _watched(
    module: torch.nn.Module, branch: Branch, name: str, tally: Tally, result: Pass, keep_unrecognised: bool
) -> AbstractContextManager[None]:
    def before(x: torch.Tensor | None) -> None:
        if x is None or not x.numel():  # no regions of interest in this image, say
            return
        if module.training and tally.statistics != BATCH_AVERAGE:
            raise SnDeployError(
                "is in training mode though the model is in evaluation mode, so what follows it gets other numbers",
                where=f"layer {name!r}",
                mend=MEND_OF_TRAIN,
            )
        if branch.form is None and branch.refusal is None:
            examine(branch, name, tuple(x.shape))
        if branch.refusal is not None:
            if not keep_unrecognised:
                raise _refusal(name, branch.refusal.reason, branch.refusal.mend)
            result.refused[branch.identity.layer] = branch.refusal.reason
            return
        if branch.identity.layer not in result.order:
            result.order.append(branch.identity.layer)
        tally.traits = branch.traits
        _measure(branch, name, tally, x)

    return watching(name, module, before)


def _refusal(name: str, reason: str, mend: str | None) -> SnDeployError:
    leave = "or leave the statistics of such layers as they are with --keep-unrecognised"
    return SnDeployError(reason, where=f"layer {name!r}", mend=f"{mend}, {leave}" if mend else leave)


def _measure(branch: Branch, name: str, tally: Tally, x: torch.Tensor) -> None:
    form, shape = branch.form, tuple(x.shape)
    assert form is not None
    as_in_training = tally.statistics == BATCH_AVERAGE
    if as_in_training or form.per_sample:
        check_enough_values(form, shape, name)
    mean, var = (moment.cpu().numpy() for moment in form.moments(x))
    count = form.count(shape)
    if not as_in_training and not form.per_sample and count <= form.ddof:
        var = np.zeros_like(mean)  # one value: its weight is 0
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(mean**2 + var)
    if not finite.all():
        raise _not_finite(name, x, int(finite.argmin()))
    tally.add(mean, var, count)
    if as_in_training:
        branch.install(mean, var)


def _not_finite(name: str, x: torch.Tensor, channel: int) -> SnDeployError:
    values = x.detach()[:, channel]
    kind = "NaN" if bool(values.isnan().any()) else "infinite" if bool(values.isinf().any()) else "too large"
    return SnDeployError(
        f"its input has {kind} values in channel {channel}",
        where=f"layer {name!r}",
        expected="finite numbers: no statistics can be had from others",
        mend="look for what makes them, in the weights or in the layers before it",
    )


def _run(model: torch.nn.Module, batch: Batch) -> None:
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    tensors: dict[str, torch.Tensor] = {}

    def call() -> None:
        with running_a_model(), torch.no_grad(), own_surroundings(device.type):
            _call(model, tensors)

    try:
        tensors = _tensors(model, batch, device)
        call()
    except SnDeployError as error:
        where = f"batch {batch.index}" if error.where is None else f"batch {batch.index}, {error.where}"
        raise error.but(where=where) from error
    except Exception as error:
        shapes = ", ".join(f"{name}: {value.shape} {value.dtype}" for name, value in batch.inputs.items())
        cause, mend = f" ({shapes})", "check the shapes and the types of the data"
        half = half_inside(model, tensors.values(), call) if tensors else None
        if half is not None:
            cause, mend = f": {half[0]}", half[1]
        raise SnDeployError(
            f"the model fails{cause}: {type(error).__name__}: {first_line(error)}",
            where=f"batch {batch.index}",
            mend=mend,
        ) from error


def _tensors(model: torch.nn.Module, batch: Batch, device: torch.device) -> dict[str, torch.Tensor]:
    """The batch as the model takes it, by name."""
    dtype = input_type(model)

    def tensor(name: str) -> torch.Tensor:
        value = tensor_from_array(batch.inputs[name].copy())  # a model may write to its inputs
        if not value.is_floating_point():
            return value.to(device)
        if not bool(value.isfinite().all()):
            raise SnDeployError(f"input {name!r} has NaN or infinite values", expected="finite numbers")
        return value.to(device, dtype)

    return {name: tensor(name) for name in batch.inputs}


def _call(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor]) -> None:
    """By name where all names are parameters, or parts of what these hold; else in order."""
    by_name = tensors.keys() <= inspect.signature(model.forward).parameters.keys()
    places = None if by_name else nested_places(model, list(tensors))
    if places is not None:
        called_nested(model, places)(*tensors.values())
    else:
        bind_inputs(model, tensors if by_name else tuple(tensors.values())).call(model)
