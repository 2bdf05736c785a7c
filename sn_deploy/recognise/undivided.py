"""Whether a model still holds sums over batches, which were never divided: seen where it runs on real data."""

from __future__ import annotations

from collections.abc import Callable

import torch

from sn_deploy.capture.trace import watched
from sn_deploy.errors import SnDeployError
from sn_deploy.recognise.candidates import candidates
from sn_deploy.recognise.raw_sums import refuse_raw_sums_in_most, why_undivided


def undivided_sums(model: torch.nn.Module, run: Callable[[], object]) -> str | None:
    """What speaks for it, with the first layer; None where nothing does.

    Args:
        run: calls the model on real data.
    """
    # What is inside of TorchScript can't be watched.
    found = [one for one in candidates(model) if not isinstance(one.module, torch.jit.ScriptModule)]
    layers = {one.name: one for one in found if one.running_var is not None}
    with watched(model, layers) as traces:
        run()
    for name in traces:
        reason = why_undivided(layers[name])
        if reason is not None:
            return f"layer {name!r}: {reason}"
    seen = {name: (one.mean, one.var) for name, one in traces.items() if one.mean is not None and one.var is not None}
    try:
        refuse_raw_sums_in_most(model, seen)
    except SnDeployError as error:
        return f"{error.where}: {error.what}"
    return None
