"""What a tensor of a layer is for, as far as its name tells. Names only propose: the probe decides."""

from __future__ import annotations

import re

_AFFINE_SCALE = frozenset({"weight", "gamma", "scale"})
_AFFINE_BIAS = frozenset({"bias", "beta", "shift"})
_MEAN = frozenset({"mean", "means", "mu"})
_VAR = frozenset({"var", "vars", "variance", "std", "sigma", "logvar", "lnvar"})
_RECORDED = frozenset({"running", "moving", "ema", "population"})
_SUMMED = frozenset({"batch"})
_MIX = frozenset(
    (
        *("weight", "weights", "w", "mix", "mixing", "mixture", "logit", "logits", "share", "shares", "softmax"),
        *("switch", "alpha", "lambda", "lam", "ratio", "ratios", "gate", "gates", "importance", "coefficients"),
    )
)


def tokens(name: str) -> frozenset[str]:
    """The words of an attribute's name: ``runningMean_bn`` -> running, mean, bn."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return frozenset(re.findall(r"[a-z]+", spaced.lower()))


def is_scale(name: str) -> bool:
    """A per-channel factor."""
    return name.lower() in _AFFINE_SCALE


def is_bias(name: str) -> bool:
    """A per-channel shift."""
    return name.lower() in _AFFINE_BIAS


def of_mean(name: str) -> bool:
    """The name speaks of a mean."""
    return bool(tokens(name) & _MEAN)


def of_var(name: str) -> bool:
    """The name speaks of a variance or a deviation."""
    return bool(tokens(name) & _VAR)


def is_recorded(name: str) -> bool:
    """A statistic that training left behind, to be used in evaluation."""
    return bool(tokens(name) & _RECORDED) and (of_mean(name) or of_var(name))


def is_summed(name: str) -> bool:
    """A sum over batches, which evaluation doesn't read: ``batch_mean``, ``batch_var``."""
    return bool(tokens(name) & _SUMMED) and not is_recorded(name) and (of_mean(name) or of_var(name))


def is_mix(name: str) -> bool:
    """The weights of a mixture."""
    return bool(tokens(name) & _MIX)


def of_what(name: str) -> frozenset[str]:
    """The words of a statistic's name but for that of its kind: a mean and its variance share them."""
    return tokens(name) - _MEAN - _VAR
