"""Whether a layer that was proved at the sizes it was seen with is the same at others.

A layer that is made for one size, or whose variances have divisors that no form knows, can agree with a folded one at
that size alone: its shares make up for the divisor there. A file with dynamic sides needs more.
"""

from __future__ import annotations

import numpy as np
import torch

from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.recognise.forms import Constants
from sn_deploy.recognise.probe import SINGLE_TOLERANCE, TOLERANCE, mismatch, probe_inputs, run_probes
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.subject import Subject


def holds_at_other_sizes(module: torch.nn.Module, folded: FoldedSwitchNorm, shape: tuple[int, ...]) -> bool:
    """Whether ``module`` computes what ``folded`` does at sizes beside that of ``shape``.

    Args:
        module: the layer; it is copied, and not run.
        folded: confirmed at ``shape``.
        shape: (N, C, *spatial), of an input that the layer was seen with.
    """
    subject = Subject(module)
    zeros, none = np.zeros(folded.channels), np.zeros(0)
    plain = Constants(zeros, zeros, zeros, zeros, none, none, has_statistics=False)
    # Small ones first; a layer may have a smallest size, so what fails there is tried near its own.
    for spatial in (None, tuple(size + 3 + axis for axis, size in enumerate(shape[2:]))):
        inputs = probe_inputs(folded.channels, len(shape), plain, 3, spatial)
        try:
            size = mismatch(folded, run_probes(subject, inputs))
        except RefusedError:
            continue
        if size <= TOLERANCE or (size <= SINGLE_TOLERANCE and subject.computes_in_low_precision(inputs[1])):
            return True
    return False
