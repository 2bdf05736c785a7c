"""Whether a PyTorch model that nothing agrees with still holds sums over batches, which were never divided."""

from __future__ import annotations

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.spec import TORCH
from sn_deploy.check.backends.torch_model import TorchRunner
from sn_deploy.check.batch import Batch
from sn_deploy.errors import SnDeployError


def why_undivided(backend: AdaptedBackend, batch: Batch) -> str | None:
    """What speaks for it, as export says it, and the option that divides; None where nothing does.

    Args:
        backend: any; only PyTorch models are looked into.
        batch: of real data, or what the check takes for it.
    """
    if backend.info.kind != TORCH or not isinstance(backend.runner, TorchRunner):
        return None
    from sn_deploy.capture.trace import watched
    from sn_deploy.recognise.candidates import candidates
    from sn_deploy.recognise.raw_sums import refuse_raw_sums_in_most, why_undivided

    model = backend.runner.model
    layers = {one.name: one for one in candidates(model) if one.running_var is not None}
    with watched(model, layers) as traces:
        backend.run(batch.inputs)
    mend = "give --finalize-batch-average N, with N the number of batches summed, to check as to export"
    for name in traces:
        reason = why_undivided(layers[name])
        if reason is not None:
            return f"layer {name!r}: {reason}; {mend}"
    seen = {name: (one.mean, one.var) for name, one in traces.items() if one.mean is not None and one.var is not None}
    try:
        refuse_raw_sums_in_most(model, seen)
    except SnDeployError as error:
        return f"{error.where}: {error.what}; {mend}"
    return None
