"""From torch modules to `FoldedSwitchNorm`: found by what they own, proved by what they compute.

The class of a module is never asked for its name. `recognise` takes what looks like SN, reads its constants, runs a
private copy of the module and the folded layer on the same probes in float64, and refuses whatever doesn't agree.
Layers that keep their constants in a way of their own are read by functions that users `register`, and proved as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from sn_deploy.capture.unwrap import check_is_module
from sn_deploy.recognise.batch_average import finalize_batch_average_
from sn_deploy.recognise.candidates import Candidate
from sn_deploy.recognise.cuda_check import lift_cuda_checks_
from sn_deploy.recognise.examination import Shape, examine
from sn_deploy.recognise.other_sizes import holds_at_other_sizes
from sn_deploy.recognise.raw_sums import refuse_raw_sums_in_most
from sn_deploy.recognise.readers import Reader, Reading, examine_claim, found_layers, register, unregister
from sn_deploy.recognise.result import Recognition, Refusal, RefusedError
from sn_deploy.runtime.torch import own_surroundings

__all__ = [
    "Reader",
    "Reading",
    "Recognition",
    "Refusal",
    "candidate_names",
    "finalize_batch_average_",
    "holds_at_other_sizes",
    "lift_cuda_checks_",
    "recognise",
    "refuse_raw_sums_in_most",
    "register",
    "unregister",
]


def candidate_names(model: torch.nn.Module) -> list[str]:
    """Qualified names of the modules that look like SN, or that a registered reader claims, in module order.

    They are those that `recognise` will examine.
    """
    return [found.name for found in found_layers(model)]


@own_surroundings()
def recognise(
    model: torch.nn.Module, *, input_shapes: Mapping[str, Shape | Sequence[Shape]] | None = None
) -> Recognition:
    """Examines every module of ``model`` that looks like SN, or that a registered reader claims.

    The model isn't changed, run, or moved: each module is copied, without its hooks, to the CPU in float64 and
    evaluation mode, whatever mode it is in. Torch's random state stays as it was.

    Args:
        model: a torch model, any device and dtype.
        input_shapes: the shape of the input of each module, by qualified name, where it is known, or the shapes of
            its calls, all of one rank. It fixes the rank, and each is probed as well; without it, the usual ranks are
            tried (4, 2, 3, 5, first that of the parameters).

    Returns:
        The layers that agree with their folded form to float64 rounding (1e-9 of each channel's output; 2e-5 for
        modules that cast to float32 inside), and the refused ones with the reasons. What probes can't prove is said
        in `sn_deploy.recognise.probe`.

    Raises:
        SnDeployError: ``model`` is no module.
    """
    check_is_module(model)
    layers, refused = {}, {}
    for found in found_layers(model):
        shapes = _listed((input_shapes or {}).get(found.name, ()))
        try:
            folded = examine(found, shapes) if isinstance(found, Candidate) else examine_claim(found, shapes)
            layers[found.name] = folded
        except RefusedError as error:
            refused[found.name] = Refusal(found.name, error.reason, error.mend)
    return Recognition(layers, refused)


def _listed(shapes: Shape | Sequence[Shape]) -> list[Shape]:
    """One shape, or several, as a list."""
    return [tuple(shapes)] if any(isinstance(size, int) for size in shapes) else list(shapes)  # type: ignore[arg-type]
