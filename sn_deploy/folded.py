"""`FoldedSwitchNorm`: a Switchable Normalization layer with everything constant folded, and its float64 meaning.

X has shape (N, C, *spatial). With statistics per sample n (Luo et al., ICLR 2019, equations 2 to 4), over the
HW spatial positions for IN and over all channels for LN:

    mean = w_in·mean_in + w_ln·mean_ln + mean_offset[c]      mean_offset = w_bn·running_mean
    var  = v_in·var_in  + v_ln·var_ln  + var_offset[c]       var_offset  = v_bn·running_var + eps
    y    = (x - mean) / sqrt(var) · scale + bias

where w and v are the softmax (or sparsestmax) weights of the layer's mean and variance. This module is the only
oracle of the project: every export, kernel and engine is held against `FoldedSwitchNorm.evaluate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sn_deploy.errors import SnDeployError

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Moments:
    """What a layer takes from X itself.

    Attributes:
        mean_in, var_in: (N, C, 1), over the spatial positions; (N, 1, 1) zeros for a rank 2 input.
        mean_ln, var_ln: (N, 1, 1), over the channels too.
    """

    mean_in: Float64Array
    var_in: Float64Array
    mean_ln: Float64Array
    var_ln: Float64Array


@dataclass(frozen=True, eq=False)
class FoldedSwitchNorm:
    """One SN layer at inference.

    Attributes:
        name: qualified name of the layer in the source model, such as ``layer1.0.sn1``.
        scale, bias: (C,) affine parameters; ones and zeros where the layer has none.
        mean_offset: (C,) ``w_bn·running_mean``; zeros without a BN branch.
        var_offset: (C,) ``v_bn·running_var + eps``.
        mean_in, mean_ln, mean_bn: weights of the mean. ``mean_bn`` is folded already and kept to be shown.
        var_in, var_ln, var_bn: the same for the variance.
        ddof: 1 where the source divides sums of squares by n - 1 (the authors' code), 0 where it divides by n.

    For a rank 2 input (N, C) there is no IN part: ``mean_in`` and ``var_in`` are 0, and the LN statistics are over C.

    Raises:
        SnDeployError: if shapes disagree, or a value is not finite, or ``ddof`` is neither 0 nor 1.
    """

    name: str
    # Thousands of numbers: an interactive Python prints what `export` gives, with all of its layers.
    scale: Float64Array = field(repr=False)
    bias: Float64Array = field(repr=False)
    mean_offset: Float64Array = field(repr=False)
    var_offset: Float64Array = field(repr=False)
    mean_in: float
    mean_ln: float
    mean_bn: float
    var_in: float
    var_ln: float
    var_bn: float
    ddof: int

    def __post_init__(self) -> None:
        for name in ("scale", "bias", "mean_offset", "var_offset"):
            # A copy: the source is often a torch tensor's memory, which training would change under us.
            array = np.array(getattr(self, name), dtype=np.float64)
            if array.ndim != 1 or array.shape != np.shape(self.scale) or array.size == 0:
                raise SnDeployError(
                    f"{name} has shape {array.shape}", where=self.name, expected=f"(C,) = {np.shape(self.scale)}"
                )
            if not np.isfinite(array).all():
                raise SnDeployError(f"{name} has values that are not finite", where=self.name)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        for name in ("mean_in", "mean_ln", "mean_bn", "var_in", "var_ln", "var_bn"):
            value = float(getattr(self, name))
            if not np.isfinite(value):
                raise SnDeployError(f"weight {name} is {value}", where=self.name, expected="a finite number")
            object.__setattr__(self, name, value)
        if self.ddof not in (0, 1):
            raise SnDeployError(f"ddof is {self.ddof!r}", where=self.name, expected="0 or 1")

    @property
    def channels(self) -> int:
        """C, the number of channels."""
        return int(self.scale.shape[0])

    def as_float32(self) -> FoldedSwitchNorm:
        """The same layer with every constant rounded to float32: what the operator of an exported file receives."""

        def scalar(value: float) -> float:
            return float(np.float32(value))

        def vector(value: Float64Array) -> Float64Array:
            return value.astype(np.float32).astype(np.float64)

        return replace(
            self,
            scale=vector(self.scale),
            bias=vector(self.bias),
            mean_offset=vector(self.mean_offset),
            var_offset=vector(self.var_offset),
            mean_in=scalar(self.mean_in),
            mean_ln=scalar(self.mean_ln),
            mean_bn=scalar(self.mean_bn),
            var_in=scalar(self.var_in),
            var_ln=scalar(self.var_ln),
            var_bn=scalar(self.var_bn),
        )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuses a shape of X for which the layer has no value.

        Raises:
            SnDeployError: wrong rank or channel count, an empty spatial extent, or too few values for an unbiased
                variance (PyTorch gives NaN there).
        """
        if len(shape) < 2 or shape[1] != self.channels:
            raise SnDeployError(
                f"X has shape {tuple(shape)}", where=self.name, expected=f"(N, {self.channels}, *spatial)"
            )
        count = statistics_count(shape)
        if count - self.ddof < 1:
            over = "channels" if len(shape) == 2 else "spatial positions"
            raise SnDeployError(
                f"the variance of {count} {over} with divisor {count} - {self.ddof} has no value (X is {tuple(shape)}; "
                "PyTorch gives NaN)",
                where=self.name,
                expected=f"at least {self.ddof + 1} {over}",
                mend="give a larger input, or train this layer with a biased variance",
            )

    def moments(self, values: Float64Array) -> Moments:
        """The live statistics of X in float64: (N, C, *spatial), not empty, of a shape that `check_shape` lets pass."""
        flat = values.reshape(values.shape[0], self.channels, -1)  # (N, C, HW), HW = 1 for rank 2
        if values.ndim == 2:
            zeros = np.zeros((values.shape[0], 1, 1))
            mean_ln = flat.mean(axis=1, keepdims=True)  # (N, 1, 1)
            return Moments(zeros, zeros, mean_ln, flat.var(axis=1, keepdims=True, ddof=self.ddof))
        mean_in = flat.mean(axis=2, keepdims=True)  # (N, C, 1)
        var_in = flat.var(axis=2, keepdims=True, ddof=self.ddof)
        mean_ln = mean_in.mean(axis=1, keepdims=True)  # (N, 1, 1)
        # The published mean_c(var_in + mean_in²) - mean_ln², without its cancelling subtraction.
        var_ln = var_in.mean(axis=1, keepdims=True) + mean_in.var(axis=1, keepdims=True)
        return Moments(mean_in, var_in, mean_ln, var_ln)

    def mixed(self, moments: Moments) -> tuple[Float64Array, Float64Array]:
        """The mean and the variance that X is normalised with, each (N, C, 1)."""
        mean = self.mean_in * moments.mean_in + self.mean_ln * moments.mean_ln + self.mean_offset[:, None]
        var = self.var_in * moments.var_in + self.var_ln * moments.var_ln + self.var_offset[:, None]
        return mean, var

    def evaluate(self, x: npt.ArrayLike) -> Float64Array:
        """The layer's output in float64.

        Args:
            x: (N, C, *spatial), any real dtype; N may be 0.

        Returns:
            float64 array of x's shape.

        Raises:
            SnDeployError: see `check_shape`.
        """
        values: Float64Array = np.array(x, dtype=np.float64)
        self.check_shape(values.shape)
        if values.size == 0:
            return values
        flat = values.reshape(values.shape[0], self.channels, -1)  # (N, C, HW), HW = 1 for rank 2
        mean, var = self.mixed(self.moments(values))
        y: Float64Array = (flat - mean) / np.sqrt(var) * self.scale[:, None] + self.bias[:, None]
        return y.reshape(values.shape)


def statistics_count(shape: tuple[int, ...]) -> int:
    """How many values one variance is taken over: HW, or C for a rank 2 input (see `FoldedSwitchNorm`)."""
    return int(np.prod(shape[2:], dtype=np.int64)) if len(shape) > 2 else int(shape[1])


def distance(y: Float64Array, reference: Float64Array) -> float:
    """The largest absolute difference of two (N, C, …) over each channel's largest absolute reference; infinite where
    one isn't finite.

    Per channel, so that a channel with a large scale hides no other.
    """
    axes = (0, *range(2, y.ndim))
    with np.errstate(invalid="ignore"):
        difference = np.abs(y - reference).max(axis=axes)
    size = np.abs(reference).max(axis=axes)
    if not (np.isfinite(difference).all() and np.isfinite(size).all()):
        return float("inf")
    return float((difference / np.maximum(size, np.finfo(np.float64).tiny)).max())
