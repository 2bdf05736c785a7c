"""From an image to what a network was trained on: resized, cropped, normalised, as torchvision does it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from sn_deploy.arguments import real_number
from sn_deploy.compare.fit import is_float
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

INTERPOLATIONS: Final = ("bilinear", "bicubic", "nearest")
CHANNEL_ORDERS: Final = ("rgb", "bgr")

# ImageNet is evaluated on the middle 87.5 % of an image: 224 of 256. Smaller inputs see all of it.
_CENTRE: Final = 0.875
_SMALLEST_CENTRE: Final = 128
_DEFAULT_CROP: Final = 224


@dataclass(frozen=True)
class ImageOptions:
    """What the user says about images; None where the input itself decides.

    Attributes:
        resize: of the short side, ``HxW`` for both, or ``none``; crop: of the middle, the same. A number and a pair of
            them, ``256`` and ``(224, 320)``, become such text.
        mean, std: of each channel, of pixels in 0 to 1, separated by commas; numbers become such text.
        channel_order: ``rgb`` or ``bgr``; interpolation: one of `INTERPOLATIONS`.

    Raises:
        SnDeployError: one of them is of another kind, or none of those.
    """

    resize: str | int | Sequence[int] | None = None
    crop: str | int | Sequence[int] | None = None
    mean: str | float | Sequence[float] | None = None
    std: str | float | Sequence[float] | None = None
    channel_order: str = "rgb"
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        for name, between in (("resize", "x"), ("crop", "x"), ("mean", ","), ("std", ",")):
            object.__setattr__(self, name, _as_text(getattr(self, name), between, f"ImageOptions.{name}"))
        for name, known in (("channel_order", CHANNEL_ORDERS), ("interpolation", INTERPOLATIONS)):
            given = getattr(self, name)
            if given not in known:
                raise SnDeployError(f"is {given!r}", where=f"ImageOptions.{name}", expected=" or ".join(known))


def _as_text(given: object, between: str, where: str) -> str | None:
    if given is None or isinstance(given, str):
        return given
    parts = given if isinstance(given, Iterable) else (given,)
    return between.join(f"{real_number(part, where):.17g}" for part in parts)


@dataclass(frozen=True)
class Transform:
    """The steps, in order.

    Attributes:
        resize: (height, width), the short side as (side,), or () for none.
        crop: (height, width), or () for none.
        mean, std: one for each channel; empty for pixels as they are, 0 to 255.
        channels: 1 (grey) or 3; channels_last: whether they are the last axis.
    """

    resize: tuple[int, ...]
    crop: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    channels_last: bool
    channel_order: str
    interpolation: str
    dtype: np.dtype[Any]

    def __call__(self, image: Image) -> Array:
        """(C, H, W), or (H, W, C), of an image.

        Raises:
            ValueError: the image can't be so transformed.
        """
        if image.mode.startswith(("I", "F")):
            raise ValueError(f"its pixels have more than 8 bits (mode {image.mode})")
        image = image.convert("L" if self.channels == 1 else "RGB")
        image = self._cropped(self._resized(image))
        pixels = np.asarray(image).reshape(image.height, image.width, self.channels)
        if self.channel_order == "bgr":
            pixels = pixels[:, :, ::-1]
        if self.mean:
            values = pixels.astype(np.float32)
            values /= 255
            values -= np.array(self.mean, np.float32)
            values /= np.array(self.std, np.float32)
        else:
            values = pixels.astype(self.dtype)
        return np.ascontiguousarray(values if self.channels_last else values.transpose(2, 0, 1))

    def _resized(self, image: Image) -> Image:
        from PIL.Image import Resampling

        height, width = image.height, image.width
        if len(self.resize) == 2:
            height, width = self.resize
        elif self.resize:
            (side,) = self.resize
            short, long = min(height, width), int(side * max(height, width) / min(height, width))
            height, width = (side, long) if height == short else (long, side)
        if (height, width) == (image.height, image.width):
            return image
        return image.resize((width, height), Resampling[self.interpolation.upper()])

    def _cropped(self, image: Image) -> Image:
        if not self.crop:
            return image
        height, width = self.crop
        if image.height < height or image.width < width:
            raise ValueError(f"it is {image.height}x{image.width}, smaller than the crop of {height}x{width}")
        top, left = round((image.height - height) / 2), round((image.width - width) / 2)
        return image.crop((left, top, left + width, top + height))

    def describe(self) -> dict[str, Any]:
        """The steps as plain data."""
        return {
            "resize": "x".join(map(str, self.resize)) or "none",
            "crop": "x".join(map(str, self.crop)) or "none",
            "mean": list(self.mean),
            "std": list(self.std),
            "channel_order": self.channel_order if self.channels == 3 else "grey",
            "interpolation": self.interpolation,
        }


def transform_for(info: TensorInfo, options: ImageOptions) -> Transform:
    """The steps for an input, those that the user didn't give chosen by its shape and type.

    Raises:
        SnDeployError: the input is no image, or the options contradict it or each other.
    """
    channels, channels_last, size = _layout(info)
    crop = _sizes(options.crop, "--crop", square=True)
    resize = _sizes(options.resize, "--resize", square=False)
    if crop is None and resize is None:
        resize, crop = _default_sizes(size)
    elif crop is None:
        height, width = size
        crop = (height, width) if height and width and len(resize or ()) != 2 else ()
    elif resize is None:
        resize = (round(max(crop) / _CENTRE),) if crop else ()
    _check_sizes(info, resize or (), crop, size)
    if channels == 1 and options.channel_order == "bgr":
        raise SnDeployError(f"input {info} has one channel", where="--channel-order bgr", mend="leave it out")
    mean, std = _normalisation(info, options, channels)
    return Transform(
        resize or (), crop, mean, std, channels, channels_last, options.channel_order, options.interpolation, info.dtype
    )


def _layout(info: TensorInfo) -> tuple[int, bool, tuple[int | None, int | None]]:
    """Channels, whether they are last, and the height and width that the input has, None where any will do."""
    if info.shape is None:
        return 3, False, (None, None)
    shape = tuple(size if isinstance(size, int) else None for size in info.shape)
    if len(shape) == 4:
        for channels_last, channels, size in ((False, shape[1], shape[2:]), (True, shape[3], shape[1:3])):
            if channels in (1, 3):
                return channels, channels_last, (size[0], size[1])
    raise SnDeployError(
        "takes no images", where=f"input {info}", expected="(N, C, H, W) or (N, H, W, C) with 1 or 3 channels"
    )


def _default_sizes(size: tuple[int | None, int | None]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    height, width = size[0] or _DEFAULT_CROP, size[1] or _DEFAULT_CROP
    if height == width >= _SMALLEST_CENTRE:
        return (round(height / _CENTRE),), (height, width)
    return (height, width), ()


def _check_sizes(
    info: TensorInfo, resize: tuple[int, ...], crop: tuple[int, ...], size: tuple[int | None, int | None]
) -> None:
    result = crop or (resize if len(resize) == 2 else ())
    if result and any(own is not None and own != given for own, given in zip(size, result, strict=True)):
        raise SnDeployError(
            f"images of {result[0]}x{result[1]} don't fit", where="--resize and --crop", expected=f"input {info}"
        )
    if not result and None not in size:
        raise SnDeployError(
            "images would keep their own sizes", where="--resize and --crop", expected=f"sizes that fit input {info}"
        )
    if crop and resize and (min(resize) < min(crop) or (len(resize) == 2 and max(resize) < max(crop))):
        raise SnDeployError(
            f"{'x'.join(map(str, crop))} is more than what --resize {'x'.join(map(str, resize))} leaves", where="--crop"
        )


def _sizes(text: object, option: str, *, square: bool) -> tuple[int, ...] | None:
    if not isinstance(text, str):
        return None
    if text == "none":
        return ()
    if not re.fullmatch(r"[1-9]\d{0,4}(x[1-9]\d{0,4})?", text):
        raise SnDeployError(f"can't read {text!r}", where=option, expected="SIZE, HEIGHTxWIDTH or none")
    sizes = tuple(int(size) for size in text.split("x"))
    return sizes * 2 if square and len(sizes) == 1 else sizes


def _normalisation(
    info: TensorInfo, options: ImageOptions, channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if not is_float(info.dtype):
        if options.mean or options.std:
            raise SnDeployError(f"input {info} takes pixels as they are", where="--mean and --std")
        return (), ()
    default = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.0,), (1.0,))
    mean = _numbers(options.mean, "--mean", channels) or default[0]
    std = _numbers(options.std, "--std", channels) or default[1]
    if min(std) <= 0:
        raise SnDeployError("is not above 0", where="--std")
    return mean, std


def _numbers(text: object, option: str, channels: int) -> tuple[float, ...] | None:
    if not isinstance(text, str):
        return None
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, channels) or not np.isfinite(numbers).all():
        raise SnDeployError(f"can't read {text!r}", where=option, expected=f"{channels} numbers, commas between them")
    return numbers * channels if len(numbers) == 1 else numbers
