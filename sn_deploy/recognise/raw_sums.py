"""Sums over batches that were never divided: told by their size against the input that the layer really gets.

Training with ``using_moving_average=False`` leaves S1 = Σ mean and S2 = Σ (mean² + var) in the buffers of the running
statistics. The number of batches N is in no checkpoint, but S2 / E[x²] estimates it, with E[x²] = mean² + var of the
layer's input, and so does S1 / E[x].

What example inputs prove depends on them. Real data: the first SN layer's estimate is good; later layers already get
what broken statistics did to the first, and may look innocent. Data of the wrong size: averages look t² times too
large when the data are t times too small, and their means t times, so that means which agree with the recorded ones
in direction but not in factor acquit. Noise or constants: the size of activations is off by some unknown factor,
hence the large threshold; all-zero channels say nothing and are left out. So a suspicion is strong evidence where
the inputs are real, and none of it is proof; the absence of one proves less than that. Sums are never in one layer
alone: in a ResNet-50 with sums over 30 batches 31 to 33 of 53 layers are suspected whatever the input, with averages 2
at most (of an all-zero image). So ask all layers before refusing a model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array
from sn_deploy.recognise.candidates import Candidate, candidate_from_module

# Real data of another kind than the training data change E[x²] by less; training sums hundreds of batches.
_SUSPICIOUS = 20.0


def suspect_raw_sums(
    module: torch.nn.Module, observed_mean: npt.ArrayLike, observed_var: npt.ArrayLike
) -> float | None:
    """The estimated number of batches that the layer's running statistics are sums over, or None if they look fine.

    Args:
        module: a module that looks like SN; one without running statistics gives None.
        observed_mean, observed_var: (C,) statistics of the layer's real input, over everything but the channels.

    Returns:
        The median over channels of running_var / (observed_mean² + observed_var), where that is above 20 and the
        means don't speak against it.
    """
    candidate = candidate_from_module("", module)
    if candidate is None or candidate.running_mean is None or candidate.running_var is None:
        return None
    frozen_mean, frozen_var = candidate.values(candidate.running_mean), candidate.values(candidate.running_var)
    mean, var = (np.asarray(array, dtype=np.float64).reshape(-1) for array in (observed_mean, observed_var))
    assert frozen_mean is not None
    assert frozen_var is not None
    if len({array.shape for array in (frozen_mean, frozen_var, mean, var)}) > 1:
        return None
    square = mean**2 + var
    told = np.isfinite(square) & (square > 0)
    if 2 * told.sum() < told.size or not told.any():
        return None
    factor = float(np.median(frozen_var[told] / square[told]))
    if not factor > _SUSPICIOUS or _means_acquit(frozen_mean[told], mean[told], factor):
        return None
    return factor


def _means_acquit(frozen: Float64Array, observed: Float64Array, factor: float) -> bool:
    """Whether the means agree but for a factor far below ``factor``: data of the wrong size, not sums."""
    sizes = float(np.linalg.norm(frozen) * np.linalg.norm(observed))
    if frozen.size < 4 or sizes == 0:
        return False
    agreement = float(frozen @ observed) / sizes  # cosine
    return agreement > 0.9 and float(np.linalg.norm(frozen) / np.linalg.norm(observed)) < factor / 3


def refuse_raw_sums(
    name: str, module: torch.nn.Module, observed_mean: npt.ArrayLike, observed_var: npt.ArrayLike
) -> None:
    """Refuses running statistics that look like sums over batches; see `suspect_raw_sums` for the arguments.

    Raises:
        SnDeployError: they do; the mend is the option that divides them.
    """
    factor = suspect_raw_sums(module, observed_mean, observed_var)
    if factor is not None:
        raise SnDeployError(
            f"running_var is about {factor:.3g} times the mean square of the layer's input: it looks like a sum over "
            "batches that was never divided (using_moving_average=False)",
            where=f"layer {name!r}",
            mend="give --finalize-batch-average N, with N the number of batches summed; if these are averages, give "
            "example inputs of the size of real data, or --trust-statistics",
        )


def refuse_raw_sums_in_most(
    model: torch.nn.Module, observed: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]]
) -> None:
    """Refuses running statistics that look like sums in most layers: sums are never in one layer alone.

    Args:
        observed: layer -> statistics of its real input; see `suspect_raw_sums`.

    Raises:
        SnDeployError: what `refuse_raw_sums` raises, of the first layer.
    """
    modules = {name: model.get_submodule(name) for name in observed}
    suspects = [name for name, module in modules.items() if suspect_raw_sums(module, *observed[name]) is not None]
    if 2 * len(suspects) > len(observed):
        refuse_raw_sums(suspects[0], modules[suspects[0]], *observed[suspects[0]])


def why_undivided(candidate: Candidate) -> str | None:
    """Why sums that a layer keeps apart from its statistics (the detection code's) were never divided, if so."""
    if candidate.sums is None or candidate.running_var is None:
        return None
    recorded, summed = candidate.values(candidate.running_var), candidate.values(candidate.sums[1])
    if np.any(recorded) or not np.any(summed):
        return None
    return (
        f"{candidate.running_var} is all zero while {candidate.sums[1]} holds sums over batches that were never divided"
    )
