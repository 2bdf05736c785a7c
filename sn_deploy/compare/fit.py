"""Samples as arrays, and whether they are what an input takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import ml_dtypes
import numpy as np

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import Array, TensorInfo

# Names under which a file or a dict has its labels.
LABEL_NAMES: Final = ("labels", "label")


def as_array(value: Any, where: str) -> Array:
    """What the user holds samples in, as an array; ``where`` says which, for the error.

    Raises:
        SnDeployError: it holds no numbers.
    """
    if hasattr(value, "detach"):  # a torch tensor
        from sn_deploy.runtime.torch import array_from_tensor, is_plain

        if not is_plain(value) and not value.is_complex():  # whose type says it all
            kind = "on the meta device, without data" if value.is_meta else f"{value.layout} of {value.dtype}"
            kind = "nested" if value.is_nested else kind
            raise SnDeployError(f"is a tensor that is {kind}", where=where, expected="a dense one, with its data")
        return array_from_tensor(value)
    try:
        array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # ragged lists; lists of tensors that have a gradient
        raise SnDeployError(f"is no array: {first_line(error)}", where=where) from error
    if array.dtype.kind in "OSUmM":
        of = f" of {array.dtype}" if isinstance(value, np.ndarray) else ""
        raise SnDeployError(f"is a {type(value).__name__}{of}", where=where, expected="an array or tensor of numbers")
    return array


def as_arrays(given: Any) -> dict[str, Array]:
    """Values of inputs by name, as arrays; none for None.

    Raises:
        SnDeployError: it is no dict by name, or a value holds no numbers.
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise SnDeployError(
            f"is a {type(given).__name__}", where="inputs", expected='a dict by input name, such as {"x": samples}'
        )
    return {name: as_array(value, f"inputs, {name}") for name, value in given.items()}


def is_float(dtype: np.dtype[np.generic]) -> bool:
    """Whether these are floating-point numbers, those of ml_dtypes included."""
    return dtype.kind == "f" or dtype == ml_dtypes.bfloat16


def keeps_values(value: Array, dtype: np.dtype[np.generic]) -> bool:
    """Whether the numbers are the same in this type, rounding to a floating-point one aside: 0.3 is no truth value."""
    if is_float(dtype) or value.dtype == dtype:
        return True
    with np.errstate(invalid="ignore"):  # NaN, and what is too large, is caught by the comparison
        return np.array_equal(value.astype(dtype), value)


def fits(info: TensorInfo, array: Array, *, batch_axis: bool = True) -> bool:
    """Whether samples (samples, …), or one without that axis, can be given to an input, perhaps after a cast."""
    if info.shape == ():  # a number that all samples share
        if array.ndim:
            return False
    elif info.shape is not None:
        own, given = info.shape[1:], array.shape[1:] if batch_axis else array.shape
        if (batch_axis and not array.ndim) or len(own) != len(given):
            return False
        if any(isinstance(size, int) and size != other for size, other in zip(own, given, strict=True)):
            return False
    return is_float(info.dtype) == is_float(array.dtype) and (info.dtype == np.bool_) == (array.dtype == np.bool_)


def check_fits(info: TensorInfo, array: Array, where: str) -> None:
    """Refuses samples that an input can't take.

    Raises:
        SnDeployError: a wrong size or kind of number, with what is wanted.
    """
    if fits(info, array):
        return
    mend = "scale and normalise them as in training" if is_float(info.dtype) and not is_float(array.dtype) else None
    raise SnDeployError(
        f"samples for {info.name} are {array.dtype} {array.shape}",
        where=where,
        expected=str(info),
        mend=mend,
    )
