"""Users' own variants: functions that read the constants of layers whose tensors don't show them.

A reader says what a layer's shares, statistics, eps and divisors are; it is believed as little as a class name: the
module's own output decides, on the same probes as for every other layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.folded import Float64Array, FoldedSwitchNorm
from sn_deploy.recognise.candidates import Candidate, candidate_from_module
from sn_deploy.recognise.examination import Shape, examine_reading
from sn_deploy.recognise.forms import Constants, Form
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.subject import private_copy

_BRANCHES: Final = ("in", "ln", "bn")


@dataclass(frozen=True)
class Reading:
    """What a layer computes, as a reader says.

    Attributes:
        mean, var: the share of each branch, ``in``, ``ln`` and ``bn``, in the mean and in the variance: what the layer
            multiplies with, after any softmax. A branch that isn't named has none.
        scale, bias: C values each, arrays or tensors of any shape; None for the identity.
        running_mean, running_var: C values each; None where there is no BN branch.
        eps: added to the variance, under the root.
        ddof: variances have the divisor n - ddof: 1, as published, or 0.
        channels: C; needed where nothing of the above tells.
    """

    mean: Mapping[str, float]
    var: Mapping[str, float]
    scale: Any = None
    bias: Any = None
    running_mean: Any = None
    running_var: Any = None
    eps: float = 1e-5
    ddof: int = 1
    channels: int | None = None


# None where the module is not the reader's. It is asked again about a copy in float64, whose Reading counts.
Reader = Callable[[torch.nn.Module], Reading | None]

_readers: list[Reader] = []


def register(reader: Reader) -> Reader:
    """From now on, in this process, ``reader`` is asked about every module, before its tensors are looked at.

    The last one registered is asked first. What it claims is one layer, with all modules inside. May be used as a
    decorator; registering the same function twice changes nothing.

    Args:
        reader: gives a `Reading` of the modules that are its own, and None for all others.

    Returns:
        The reader.

    Raises:
        SnDeployError: it is no function.
    """
    if not callable(reader):
        raise SnDeployError(f"a reader is a {type(reader).__name__}", expected="a function of a module")
    unregister(reader)
    _readers.insert(0, reader)
    return reader


def unregister(reader: Reader) -> None:
    """``reader`` is asked no longer; nothing happens where it never was."""
    _readers[:] = [other for other in _readers if other is not reader]


@dataclass(frozen=True)
class Claim:
    """A module that a reader claims."""

    name: str
    module: torch.nn.Module
    reader: Reader

    @property
    def title(self) -> str:
        """The reader, for messages."""
        return f"the reader {getattr(self.reader, '__qualname__', type(self.reader).__name__)}"


def found_layers(model: torch.nn.Module) -> Iterator[Candidate | Claim]:
    """The modules that readers claim, and those outside of them that look like SN, in module order, each once."""
    inside: set[int] = set()
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        reader = next((reader for reader in _readers if _claims(reader, module)), None)
        if reader is not None:
            inside |= {id(part) for part in module.modules()}
            yield Claim(name, module, reader)
            continue
        candidate = candidate_from_module(name, module)
        if candidate is not None:
            yield candidate


def _claims(reader: Reader, module: torch.nn.Module) -> bool:
    try:
        return reader(module) is not None
    except Exception:  # noqa: BLE001 - whatever the user's code raises: it is told when the layer is examined
        return True


def examine_claim(claim: Claim, shapes: Sequence[Shape]) -> FoldedSwitchNorm:
    """The folded layer, confirmed by the module's own output.

    Raises:
        RefusedError: the reader fails, or its reading can't be used or isn't what the module computes.
    """
    constants, form = _constants(claim, _reading(claim))
    # Of its tensors nothing is known: the reading stands for them.
    candidate = Candidate(
        claim.name, claim.module, "", "", None, None, None, None, sums=None, channels=constants.scale.size
    )
    return examine_reading(candidate, constants, form, shapes, claim.title)


def _reading(claim: Claim) -> Reading:
    """What the reader says of a copy in float64: a softmax in float32 would be off by more than a probe lets pass."""
    copied = private_copy(claim.module)
    try:
        reading: Any = claim.reader(copied)
    except Exception as error:
        raise RefusedError(
            f"{claim.title} fails: {type(error).__name__}: {first_line(error)}", f"correct {claim.title}"
        ) from error
    if not isinstance(reading, Reading):
        raise RefusedError(f"{claim.title} gives a {type(reading).__name__}, not a Reading", f"correct {claim.title}")
    return reading


def _constants(claim: Claim, reading: Reading) -> tuple[Constants, Form]:
    names = ("scale", "bias", "running_mean", "running_var")
    vectors = {name: _vector(claim, name, getattr(reading, name)) for name in names}
    sizes = {vector.size for vector in vectors.values() if vector is not None}
    sizes |= set() if reading.channels is None else {reading.channels}
    shares = [_shares(claim, what, given) for what, given in (("mean", reading.mean), ("var", reading.var))]
    if len(sizes) != 1:
        what = "tells no number of channels" if not sizes else f"gives vectors of {sorted(sizes)} values"
        raise RefusedError(f"{claim.title} {what}", f"correct {claim.title}")
    with_bn = any("bn" in share for share in shares)
    recorded = vectors["running_mean"] is not None and vectors["running_var"] is not None
    if with_bn != recorded:
        what = "a share of bn and no running statistics" if with_bn else "running statistics and no share of bn"
        raise RefusedError(f"{claim.title} gives {what}", f"correct {claim.title}")
    if reading.ddof not in (0, 1) or not reading.eps >= 0:
        raise RefusedError(
            f"{claim.title} gives ddof {reading.ddof} and eps {reading.eps}", "give 0 or 1, and 0 or more"
        )
    (channels,) = sizes
    zeros = np.zeros(channels)
    scale, bias, mean, var = (vectors[name] for name in names)
    constants = Constants(
        scale=np.ones(channels) if scale is None else scale,
        bias=zeros if bias is None else bias,
        running_mean=zeros if mean is None else mean,
        running_var=zeros if var is None else var,
        mean_mix=zeros[:0],
        var_mix=zeros[:0],
        has_statistics=recorded,
    )
    return constants, Form(shares[0], shares[1], float(reading.eps), reading.ddof)


def _vector(claim: Claim, name: str, given: Any) -> Float64Array | None:
    if given is None:
        return None
    try:
        tensor = torch.as_tensor(given).detach().cpu().double().reshape(-1)
        values = np.array(tensor.numpy(), dtype=np.float64)
    except Exception as error:
        raise RefusedError(
            f"{claim.title} gives a {name} that is no array: {first_line(error)}", f"correct {claim.title}"
        ) from error
    if not np.isfinite(values).all():
        raise RefusedError(f"{name} has values that are not finite", "use a checkpoint without NaN and infinity")
    return values


def _shares(claim: Claim, what: str, given: Any) -> dict[Any, float]:
    try:
        shares = {branch: float(torch.as_tensor(share).detach()) for branch, share in given.items()}
    except Exception as error:
        raise RefusedError(f"{claim.title} gives shares of the {what} that are no dict of numbers") from error
    if not shares.keys() <= set(_BRANCHES) or not all(np.isfinite(share) for share in shares.values()):
        raise RefusedError(
            f"{claim.title} gives the shares {shares} of the {what}", f"give numbers for {', '.join(_BRANCHES)}"
        )
    return shares
