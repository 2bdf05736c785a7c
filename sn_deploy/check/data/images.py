"""A folder of images: ImageNet's layout, a folder for each class, or all in one."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from sn_deploy.check.data.labels import Labels, description_of
from sn_deploy.check.data.transform import Transform
from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.imports import imported
from sn_deploy.runtime.tensors import Array

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
# Pillow's names of what these suffixes stand for. It goes by a file's content, whatever its name, and for some formats
# runs other programs: Ghostscript, for PostScript.
_FORMATS: Final = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM")
_MOST_THREADS: Final = 4


class ImageSamples:
    """The images of a folder, sorted by name.

    Args:
        folder: where they are.
        input_name: of the one input.
        transform: from an image to its tensor.
        labels: from a file; ``folders`` for the number of each image's folder among the sorted ones, where there are
            folders; None for none.
        limit: take so many, evenly spread over the sorted list, so that few images are still of all classes.

    Raises:
        SnDeployError: there is no such folder, no image in it, images beside folders of images, or a label is missing.
    """

    def __init__(
        self, folder: Path, input_name: str, transform: Transform, labels: Labels | str | None, limit: int | None
    ) -> None:
        imported("PIL", called="Pillow, which reads images,", where="--data", extra="images")
        self._folder, self._input_name, self._transform = folder, input_name, transform
        names, self._classes = _list(folder)
        self._digest = _digest(folder, names)
        numbers = _labels(names, self._classes, labels)
        chosen = _spread(len(names), limit)
        self._names = [names[index] for index in chosen]
        self._labels = None if numbers is None else numbers[chosen]
        own = labels if isinstance(labels, Labels) else None
        self._described = description_of(own, numbers, "folders")
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)

    @property
    def label_classes(self) -> int | None:
        """How many folders the labels are numbers of; None where they are from elsewhere."""
        return len(self._classes) if self._described["labels"] == "folders" else None

    def name_of(self, sample: int) -> str:
        """The sample's path in the folder."""
        return self._names[sample]

    def __len__(self) -> int:
        return len(self._names)

    def load(self, first: int, last: int) -> tuple[dict[str, Array], Array | None]:
        """See `Samples`.

        Raises:
            SnDeployError: an image is damaged, or of another size than the first where nothing resizes them.
        """
        names = self._names[first:last]
        # Decoding and resizing release Python's lock.
        with ThreadPoolExecutor(min(self._threads, len(names))) as pool:
            images = list(pool.map(self._read, names))
        for name, image in zip(names, images, strict=True):
            if image.shape != images[0].shape:
                raise SnDeployError(
                    f"gives an array of {image.shape}, and {names[0]} of {images[0].shape}",
                    where=str(self._folder / name),
                    mend="make them of one size with --resize and --crop",
                )
        return {self._input_name: np.stack(images)}, None if self._labels is None else self._labels[first:last]

    def _read(self, name: str) -> Array:
        from PIL import Image

        path = self._folder / name
        try:
            with Image.open(path, formats=_FORMATS) as image:
                return self._transform(image)
        except Exception as error:
            # Pillow raises whatever its decoders stumble over in a damaged file.
            raise SnDeployError(
                f"can't be read as an image: {first_line(error)}", where=str(path), mend="mend or remove the file"
            ) from error

    def describe(self) -> dict[str, Any]:
        """See `Samples`."""
        return {
            "kind": "images",
            "folder": str(self._folder),
            "files_sha256": self._digest,
            **self._described,
            **self._transform.describe(),
        }


def _list(folder: Path) -> tuple[list[str], list[str]]:
    """The images' paths in the folder, and the folders that are classes; empty where all images lie in one."""
    flat = sorted(path.name for path in folder.iterdir() if _is_image(path))
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    found = {name: _images_below(folder / name, folder) for name in classes}
    nested = [path for name in classes for path in found[name]]
    if flat and nested:
        raise SnDeployError(
            f"has {len(flat)} images beside folders with {len(nested)}",
            where=f"--data {folder}",
            expected="images, or a folder of images for each class",
        )
    if not flat and not nested:
        raise SnDeployError(
            "has no images", where=f"--data {folder}", expected=f"files with {', '.join(sorted(SUFFIXES))}"
        )
    # A class without images is one all the same: the numbers of the others depend on it.
    return (flat, []) if flat else (nested, classes)


def _images_below(folder: Path, root: Path) -> list[str]:
    found = (path.relative_to(root) for path in folder.rglob("*") if _is_image(path))
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _digest(folder: Path, names: list[str]) -> str:
    """Of names and sizes: reading all contents would take as long as the check."""
    lines = (f"{name}\0{(folder / name).stat().st_size}\n" for name in names)
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def _labels(names: list[str], classes: list[str], labels: Labels | str | None) -> Array | None:
    if isinstance(labels, Labels):
        return labels.for_names(names)
    if labels is None or not classes:
        return None
    numbers = {name: number for number, name in enumerate(classes)}
    return np.array([numbers[name.partition("/")[0]] for name in names])


def _spread(count: int, limit: int | None) -> list[int]:
    if limit is None or limit >= count:
        return list(range(count))
    return [index * count // limit for index in range(limit)]
