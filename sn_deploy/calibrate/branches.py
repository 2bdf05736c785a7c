"""The BN branches of a model: which running statistics there are, and which layers read them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch

from sn_deploy.calibrate.batch_form import BatchForm, recorded_form, usual_form
from sn_deploy.calibrate.tally import Identity, Traits
from sn_deploy.capture.torchscript import scripted_blocks
from sn_deploy.errors import SnDeployError
from sn_deploy.folded import Float64Array, FoldedSwitchNorm
from sn_deploy.recognise import Refusal, recognise
from sn_deploy.recognise.candidates import Candidate, candidate_from_module, candidates, with_other_statistics


@dataclass(eq=False)
class Branch:
    """One pair of running statistics of a private copy of the model.

    Attributes:
        identity: its names.
        readers: the modules that read it, by qualified name.
        mean, var: the tensors themselves.
        form, traits: known once a reader has run.
        refusal: why its readers aren't SN, where they aren't.
    """

    identity: Identity
    mean: torch.Tensor
    var: torch.Tensor
    readers: dict[str, torch.nn.Module] = field(default_factory=dict)
    form: BatchForm | None = None
    traits: Traits | None = None
    refusal: Refusal | None = None

    @torch.no_grad()
    def install(self, mean: Float64Array, var: Float64Array) -> None:
        """Writes statistics (C,) to where evaluation reads them."""
        for target, value in ((self.mean, mean), (self.var, var)):
            target.copy_(torch.from_numpy(value).reshape(target.shape))

    def recorded(self) -> tuple[Float64Array, Float64Array]:
        """The statistics that it holds now, (C,) each."""
        mean, var = (np.array(tensor.detach().cpu().double().numpy().ravel()) for tensor in (self.mean, self.var))
        return mean, var


def find_branches(model: torch.nn.Module) -> tuple[list[Branch], list[str]]:
    """The BN branches of the layers that look like SN, in module order, and the names of those without one.

    Raises:
        SnDeployError: running statistics that the state dict doesn't hold, so that nothing could be written; or a layer
            inside of TorchScript, where its input can't be seen.
    """
    scripted = tuple(f"{name}." for name in scripted_blocks(model))
    keys: dict[int, list[str]] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        keys.setdefault(id(tensor), []).append(key)
    found: dict[int, Branch] = {}
    without = []
    for candidate in candidates(model):
        if candidate.running_mean is None or candidate.running_var is None:
            without.append(candidate.name)
            continue
        if candidate.name.startswith(scripted):
            raise SnDeployError(
                "is inside of TorchScript (torch.jit.trace or torch.jit.script), where its input can't be seen",
                where=f"layer {candidate.name!r}",
                expected="the torch.nn.Module that it was made of",
            )
        mean, var = candidate.tensor(candidate.running_mean), candidate.tensor(candidate.running_var)
        if id(mean) not in found:
            identity = Identity(candidate.name, *_keys(candidate, keys, mean, var), tuple(mean.shape))
            found[id(mean)] = Branch(identity, mean, var)
        found[id(mean)].readers[candidate.name] = candidate.module
    return list(found.values()), without


def _keys(
    candidate: Candidate, keys: dict[int, list[str]], mean: torch.Tensor, var: torch.Tensor
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    for name, tensor in ((candidate.running_mean, mean), (candidate.running_var, var)):
        if id(tensor) not in keys:
            raise SnDeployError(
                f"{name} is not part of the model's state dict, so no checkpoint can hold it",
                where=f"layer {candidate.name!r}",
                mend="register the buffer with persistent=True",
            )
    return tuple(keys[id(mean)]), tuple(keys[id(var)])


def examine(branch: Branch, name: str, shape: tuple[int, ...]) -> None:
    """Fills in the branch's form and traits, or its refusal, from its reader ``name`` and the shape of its input.

    The recorded statistics may be of no use yet (zero, sums, NaN), and are about to be replaced: random ones take their
    place while a copy of the layer is recognised.
    """
    private = copy.deepcopy(branch.readers[name])
    candidate = candidate_from_module("", private)
    assert candidate is not None
    _make_plausible(candidate)
    found = recognise(private, input_shapes={"": shape})
    if "" in found.refused:
        branch.refusal = found.refused[""]
        return
    folded = found.layers[""]
    if not _reads(candidate, folded):
        branch.refusal = Refusal(
            name,
            f"its evaluation doesn't read {candidate.running_mean} and {candidate.running_var}, which would be "
            "replaced, but other statistics that it recorded",
            "let its forward read these, or calibrate it with its own code",
        )
        return
    form = recorded_form(private, folded.channels, len(shape))
    branch.form = form or usual_form(len(shape), folded.ddof)
    branch.traits = Traits(folded.mean_bn, folded.var_bn, branch.form.per_sample, branch.form.ddof, form is None)


def _reads(candidate: Candidate, folded: FoldedSwitchNorm) -> bool:
    """Whether the layer's constants come from the statistics that would be replaced."""
    mean, var = candidate.values(candidate.running_mean), candidate.values(candidate.running_var)
    assert mean is not None
    assert var is not None
    eps = folded.var_offset - folded.var_bn * var
    return bool(np.abs(folded.mean_offset - folded.mean_bn * mean).max() < 1e-5 and np.ptp(eps) < 1e-5)


@torch.no_grad()
def _make_plausible(candidate: Candidate) -> None:
    generator = np.random.default_rng(0)
    # All that it may read in their place, too: zeros and ones would pass for no branch and for eps.
    for one in (candidate, *with_other_statistics(candidate)):
        assert one.running_mean is not None
        assert one.running_var is not None
        mean, var = one.tensor(one.running_mean), one.tensor(one.running_var)
        mean.copy_(torch.from_numpy(0.5 * generator.standard_normal(mean.shape)))
        var.copy_(torch.from_numpy(generator.uniform(0.5, 2.0, var.shape)))
