"""Which modules look like SN: by the tensors that they own, never by the name of their class.

An SN layer owns two vectors of two or three mix weights (or one, used twice), and per channel optional running
statistics and an optional affine part. Names help where they can; shapes alone suffice where they leave no doubt.
Being a candidate proves nothing yet: the probe holds each one's output against what was read here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter

import numpy as np
import torch

from sn_deploy.folded import Float64Array
from sn_deploy.recognise import roles

_Tensors = dict[str, torch.Tensor]
_CHANNEL_ATTRIBUTES = ("num_features", "num_channels", "channels", "normalized_shape")


@dataclass(frozen=True)
class Candidate:
    """The tensors of a module that looks like SN, by name, and what they seem to be for.

    Attributes:
        name: qualified name.
        module: the module itself, never run and never changed here.
        mean_mix, var_mix: names of the mix weights before softmax; the same name where they are shared.
        scale, bias, running_mean, running_var: names of the per-channel tensors, None where there are none.
        sums: names of the sums over batches that evaluation doesn't read (``batch_mean``, ``batch_var``), or None.
        channels: C, or None where no tensor and no attribute tells.
    """

    name: str
    module: torch.nn.Module
    mean_mix: str
    var_mix: str
    scale: str | None
    bias: str | None
    running_mean: str | None
    running_var: str | None
    sums: tuple[str, str] | None
    channels: int | None

    def tensor(self, name: str) -> torch.Tensor:
        """The tensor called ``name``, the module's own or (``bn.running_mean``) that of a module inside."""
        tensor = attrgetter(name)(self.module)
        assert isinstance(tensor, torch.Tensor)
        return tensor

    def values(self, name: str | None) -> Float64Array | None:
        """The elements of the tensor called ``name`` as a flat float64 copy; None for no name."""
        if name is None:
            return None
        flat = self.tensor(name).detach().cpu().double().reshape(-1)
        return np.array(flat.numpy(), dtype=np.float64)

    @property
    def mix_names(self) -> tuple[str, ...]:
        """Names of the mix weights, once each."""
        return tuple(dict.fromkeys((self.mean_mix, self.var_mix)))

    @property
    def tensor_names(self) -> tuple[str, ...]:
        """Names of all tensors that the layer computes with."""
        optional = (self.scale, self.bias, self.running_mean, self.running_var)
        return (*self.mix_names, *(name for name in optional if name is not None))


def candidates(model: torch.nn.Module) -> Iterator[Candidate]:
    """The modules of ``model`` that look like SN, in module order, each once, by its first name."""
    for name, module in model.named_modules():
        candidate = candidate_from_module(name, module)
        if candidate is not None:
            yield candidate


def candidate_from_module(name: str, module: torch.nn.Module) -> Candidate | None:
    """What the tensors that ``module`` itself owns seem to be for, or None if it doesn't look like SN."""
    if getattr(type(module), "forward", None) is torch.nn.Module.forward:
        return None  # ParameterList and kin hold tensors and compute nothing
    parameters, buffers = _own(module._parameters), _own(module._buffers)
    running = _running_pair({**buffers, **parameters})
    mix = _mix_pair(parameters, buffers, running)
    if mix is None:
        return None
    rest = {key: tensor for key, tensor in {**parameters, **buffers}.items() if key not in mix}
    if running is None:
        running = _unnamed_pair({key: buffer for key, buffer in buffers.items() if key in rest})
    channels = _channels(module, rest, running)
    scale, bias = _affine(parameters, (*mix, *(running or ())), channels)
    if running is None:
        # Whether a module looks like SN doesn't depend on what is inside: blocks have BatchNorms, too.
        running = next(_inside(module, channels), None)
    running_mean, running_var = running or (None, None)
    sums = _pair(key for key in rest if roles.is_summed(key))
    return Candidate(name, module, *mix, scale, bias, running_mean, running_var, sums, channels)


def with_other_statistics(candidate: Candidate) -> Iterator[Candidate]:
    """The candidate with each other mean and variance of its channels for the recorded ones.

    Layers have several where they keep the averages of training beside those of a pass over the data, and their names
    don't tell which of them evaluation reads.
    """
    free = {
        name: buffer
        for name, buffer in _own(candidate.module._buffers).items()
        if buffer.numel() == candidate.channels and name not in candidate.tensor_names and not roles.is_summed(name)
    }
    for mean in filter(roles.of_mean, free):
        for var in filter(roles.of_var, free):
            if roles.of_what(mean) == roles.of_what(var):
                yield replace(candidate, running_mean=mean, running_var=var)
    for mean, var in _inside(candidate.module, candidate.channels):
        if mean != candidate.running_mean:
            yield replace(candidate, running_mean=mean, running_var=var)


def _inside(module: torch.nn.Module, channels: int | None) -> Iterator[tuple[str, str]]:
    """The recorded statistics of modules right inside, such as a BatchNorm that keeps them for the layer."""
    for name, child in module.named_children():
        buffers = _own(child._buffers)
        pair = _running_pair(buffers)
        if pair is not None and {buffers[one].numel() for one in pair} == {channels}:
            yield f"{name}.{pair[0]}", f"{name}.{pair[1]}"


def _own(tensors: Mapping[str, torch.Tensor | None]) -> _Tensors:
    return {
        name: tensor
        for name, tensor in tensors.items()
        if tensor is not None
        and not isinstance(tensor, (torch.nn.UninitializedParameter, torch.nn.UninitializedBuffer))
        and tensor.is_floating_point()
    }


def _is_vector(tensor: torch.Tensor) -> bool:
    """Of two or three elements along one axis, such as [3], [3, 1] or [1, 3, 1]."""
    return tensor.numel() in (2, 3) and max(tensor.shape) == tensor.numel()


def _is_of_more(name: str, tensor: torch.Tensor) -> bool:
    """Mix weights of four or five branches, as Switchable Whitening's or those of statistics at each position, by their
    names: to be refused by what the layer does, not to be missed.
    """
    return (
        tensor.numel() in (4, 5)
        and tensor.ndim == 1
        and roles.is_mix(name)
        and (roles.of_mean(name) or roles.of_var(name))
    )


def _pair(names: Iterator[str]) -> tuple[str, str] | None:
    """The first name that speaks of a mean, and the first that speaks of a variance."""
    listed = list(names)
    mean = next((name for name in listed if roles.of_mean(name)), None)
    var = next((name for name in listed if roles.of_var(name) and name != mean), None)
    return None if mean is None or var is None else (mean, var)


def _running_pair(tensors: _Tensors) -> tuple[str, str] | None:
    """Recorded statistics by name; those of the BN branch where a layer records others too."""
    recorded = [name for name in tensors if roles.is_recorded(name)]
    most = max((tensors[name].numel() for name in recorded), default=0)
    recorded = [name for name in recorded if tensors[name].numel() == most]
    plain = {"running_mean", "running_var", "moving_mean", "moving_var", "moving_variance"}
    recorded.sort(key=lambda name: name not in plain and "bn" not in roles.tokens(name))
    return _pair(iter(recorded))


def _unnamed_pair(buffers: _Tensors) -> tuple[str, str] | None:
    """Two buffers of one size whatever they are called, if there are no more: a mean and a variance, in that order."""
    plausible = [name for name, buffer in buffers.items() if buffer.numel() > 1 and not roles.is_summed(name)]
    if len(plausible) != 2 or buffers[plausible[0]].numel() != buffers[plausible[1]].numel():
        return None
    return _pair(iter(plausible)) or (plausible[0], plausible[1])


def _mix_pair(parameters: _Tensors, buffers: _Tensors, running: tuple[str, str] | None) -> tuple[str, str] | None:
    """The mix weights of the mean and of the variance, or None if this is no SN layer."""
    vectors = {
        name: tensor
        for name, tensor in {**parameters, **buffers}.items()
        if (_is_vector(tensor) or _is_of_more(name, tensor))
        and not (roles.is_scale(name) or roles.is_bias(name) or roles.is_recorded(name) or roles.is_summed(name))
        # A buffer without such a word may be anything: the `mean` and `std` of an image, say.
        and (name in parameters or (roles.is_mix(name) and (roles.of_mean(name) or roles.of_var(name))))
    }
    spoken = _pair(iter(vectors))
    sized = {name: tensor for name, tensor in parameters.items() if name not in vectors}
    recorded = any(roles.is_recorded(name) for name in (*parameters, *buffers))
    per_channel = running is not None or recorded or _has_affine_pair(sized)
    if spoken is not None and vectors[spoken[0]].numel() == vectors[spoken[1]].numel():
        return spoken if per_channel or all(roles.is_mix(name) for name in spoken) else None
    # From here on the names say little, so that the rest must be a normalisation's: nothing but per-channel tensors.
    if not per_channel or len({tensor.numel() for tensor in sized.values() if tensor.numel() > 1}) > 1:
        return None
    if len(vectors) == 2 and len({tensor.numel() for tensor in vectors.values()}) == 1:
        first, second = vectors
        return first, second
    if len(vectors) == 1:
        (only,) = vectors
        unlike = vectors[only].numel() not in {tensor.numel() for tensor in sized.values()}
        # One vector says little: its size must differ from C, its name speak of a mixture, or statistics be there.
        if sum((unlike, running is not None or recorded, roles.is_mix(only))) >= 2:
            return only, only
    return None


def _has_affine_pair(parameters: _Tensors) -> bool:
    """A scale and a bias of one size: by name, or two parameters of a size that mix weights can't have."""
    scale = [tensor.numel() for name, tensor in parameters.items() if roles.is_scale(name)]
    bias = [tensor.numel() for name, tensor in parameters.items() if roles.is_bias(name)]
    if scale and bias:
        return scale[0] == bias[0]
    sizes = Counter(tensor.numel() for tensor in parameters.values() if tensor.numel() > 3)
    return 2 in sizes.values()


def _channels(module: torch.nn.Module, rest: _Tensors, running: tuple[str, str] | None) -> int | None:
    if running is not None:
        return rest[running[0]].numel()
    named = [tensor.numel() for name, tensor in rest.items() if roles.is_scale(name) or roles.is_bias(name)]
    if named:
        return named[0]
    sizes = [tensor.numel() for tensor in rest.values() if tensor.numel() > 1]
    if sizes:
        return Counter(sizes).most_common(1)[0][0]
    for attribute in _CHANNEL_ATTRIBUTES:
        value = getattr(module, attribute, None)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _affine(parameters: _Tensors, taken: tuple[str, ...], channels: int | None) -> tuple[str | None, str | None]:
    free = [name for name, tensor in parameters.items() if name not in taken and tensor.numel() == channels]
    bias = next((name for name in free if roles.is_bias(name)), None)
    scale = next((name for name in free if roles.is_scale(name)), None)
    others = [name for name in free if name not in (scale, bias)]
    # Unknown names: the factor comes first in every layer of torch.
    if scale is None and others:
        scale = others.pop(0)
    if bias is None and others:
        bias = others.pop(0)
    return scale, bias
