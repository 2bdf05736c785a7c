"""Folders of images: their order, labels and transforms, and what is wrong with a damaged one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sn_deploy.check.data.open import DataOptions, open_data
from sn_deploy.check.data.samples import SampleBatches
from sn_deploy.check.data.transform import IMAGENET_MEAN, IMAGENET_STD, ImageOptions, Transform, transform_for
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo

Array = npt.NDArray[Any]


def image_input(*shape: int | str, dtype: Any = np.float32) -> TensorInfo:
    return TensorInfo("image", ("N", *shape), np.dtype(dtype))


SMALL = image_input(3, 8, 8)


def picture(height: int = 8, width: int = 8, seed: int = 0, channels: int = 3) -> Array:
    values = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[:, :, 0] if channels == 1 else values


def save(path: Path, values: Array) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def opened(folder: Path, info: TensorInfo = SMALL, **options: Any) -> SampleBatches:
    images = ImageOptions(
        **{key: options.pop(key) for key in list(options) if key in ImageOptions.__dataclass_fields__}
    )
    source = open_data(DataOptions(str(folder), images=images, **options), [info])
    assert isinstance(source, SampleBatches)
    return source


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name, seed in (("dog/b.png", 0), ("cat/z.PNG", 1), ("cat/a.jpeg", 2), ("dog/deep/c.bmp", 3)):
        save(tmp_path / name, picture(seed=seed))
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    save(tmp_path / ".cache" / "x.png", picture())
    save(tmp_path / "cat" / "._z.png", picture())
    source = opened(tmp_path)
    assert [source.name_of(index) for index in range(4)] == ["cat/a.jpeg", "cat/z.PNG", "dog/b.png", "dog/deep/c.bmp"]
    (batch,) = source
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 0, 1, 1]
    assert source.label_classes == 3  # the empty one, too: the numbers of those after it depend on it
    assert batch.inputs["image"].shape == (4, 3, 8, 8)
    assert batch.inputs["image"].dtype == np.float32
    described = source.describe()
    assert (described["kind"], described["labels"], described["samples"]) == ("images", "folders", 4)
    (unlabelled,) = opened(tmp_path, labels="none")
    assert unlabelled.labels is None


def test_a_limit_takes_images_of_all_classes(tmp_path: Path) -> None:
    for label in range(4):
        for number in range(5):
            save(tmp_path / f"class{label}" / f"{number}.png", picture(2, 2))
    source = opened(tmp_path, image_input(3, 2, 2), limit=8)
    (batch,) = source
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_flat_folder_with_labels_by_name_or_in_order(tmp_path: Path) -> None:
    for name in ("b.png", "a 1,2.png", "c.png"):
        save(tmp_path / "images" / name, picture())
    labels = tmp_path / "labels.txt"
    labels.write_text("c.png 7\nimages/b.png\t5\na 1,2.png, 3\nb.png 5\n")
    for text in (labels.read_text(), "3\n5\n7\n"):
        labels.write_text(text)
        (batch,) = opened(tmp_path / "images", labels=str(labels))
        assert batch.labels is not None
        assert batch.labels.tolist() == [3, 5, 7]
    (batch,) = opened(tmp_path / "images")
    assert batch.labels is None
    labels.write_text("c.png 7\n")
    with pytest.raises(SnDeployError, match=r"2 of 3 samples have no label, a 1,2.png among them"):
        opened(tmp_path / "images", labels=str(labels))


def test_without_a_resize_pixels_are_only_normalised(tmp_path: Path) -> None:
    values = picture()
    save(tmp_path / "x.png", values)
    (batch,) = opened(tmp_path)
    expected = (values.transpose(2, 0, 1) / 255 - np.array(IMAGENET_MEAN)[:, None, None]) / np.array(IMAGENET_STD)[
        :, None, None
    ]
    np.testing.assert_allclose(batch.inputs["image"][0], expected, rtol=1e-5, atol=1e-6)
    (batch,) = opened(tmp_path, mean="0", std="1", channel_order="bgr")
    np.testing.assert_allclose(batch.inputs["image"][0], values[:, :, ::-1].transpose(2, 0, 1) / 255, rtol=1e-6)


def test_channels_last_grey_and_integer_inputs(tmp_path: Path) -> None:
    values = picture()
    save(tmp_path / "x.png", values)
    (batch,) = opened(tmp_path, image_input(8, 8, 3, dtype=np.uint8))
    np.testing.assert_array_equal(batch.inputs["image"][0], values)
    (batch,) = opened(tmp_path, image_input(1, 8, 8))
    grey = np.asarray(Image.fromarray(values).convert("L"))
    np.testing.assert_allclose(batch.inputs["image"][0, 0], grey / 255, rtol=1e-6)


def test_the_short_side_is_resized_and_the_middle_taken(tmp_path: Path) -> None:
    values = picture(60, 41)
    save(tmp_path / "x.png", values)
    (batch,) = opened(tmp_path, image_input(3, 20, 20), resize="32", crop="20", mean="0", std="1")
    # As torchvision does it: the long side is cut to an integer, and the middle is rounded.
    resized = Image.fromarray(values).resize((32, 46), Image.Resampling.BILINEAR)
    expected = np.asarray(resized)[13:33, 6:26].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(batch.inputs["image"][0], expected, rtol=1e-6)


def test_options_in_python_may_be_numbers() -> None:
    numbers = ImageOptions(resize=320, crop=(224, 320), mean=(0.485, 0.1, 0), std=np.float64(0.3))
    made = transform_for(image_input(3, 224, 320), numbers)
    assert (made.resize, made.crop, made.mean, made.std) == ((320,), (224, 320), (0.485, 0.1, 0.0), (0.3, 0.3, 0.3))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"channel_order": "BGR"},
            "ImageOptions.channel_order: is 'BGR' .expected rgb or bgr",
        ),
        ({"interpolation": "lanczos"}, "ImageOptions.interpolation: is 'lanczos' .expected bilinear or bicubic"),
        ({"mean": ("a", "b", "c")}, "ImageOptions.mean: is 'a' .expected a number"),
    ],
)
def test_options_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        ImageOptions(**options)


def steps(info: TensorInfo, **options: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    transform = transform_for(info, ImageOptions(**options))
    return transform.resize, transform.crop


@pytest.mark.parametrize(
    ("shape", "options", "expected"),
    [
        ((3, 224, 224), {}, ((256,), (224, 224))),
        ((3, 299, 299), {}, ((342,), (299, 299))),
        ((3, "h", "w"), {}, ((256,), (224, 224))),
        ((224, 224, 3), {}, ((256,), (224, 224))),
        ((3, 32, 32), {}, ((32, 32), ())),
        ((3, 512, 1024), {}, ((512, 1024), ())),
        ((3, 224, 224), {"resize": "240"}, ((240,), (224, 224))),
        ((3, 224, 224), {"resize": "224x224"}, ((224, 224), ())),
        ((3, "h", "w"), {"crop": "100"}, ((114,), (100, 100))),
        ((3, "h", "w"), {"resize": "none", "crop": "none"}, ((), ())),
        ((3, 64, 48), {"resize": "none", "crop": "64x48"}, ((), (64, 48))),
    ],
)
def test_sizes_follow_the_input(shape: tuple[int | str, ...], options: dict[str, str], expected: Any) -> None:
    assert steps(image_input(*shape), **options) == expected


@pytest.mark.parametrize(
    ("info", "options", "message"),
    [
        (SMALL, {"crop": "9"}, r"--resize and --crop: images of 9x9 don't fit"),
        (SMALL, {"resize": "none", "crop": "none"}, "images would keep their own sizes"),
        (SMALL, {"resize": "4", "crop": "8"}, "--crop: 8x8 is more than what --resize 4 leaves"),
        (SMALL, {"resize": "big"}, "--resize: can't read 'big'"),
        (SMALL, {"crop": "0"}, "--crop: can't read '0'"),
        (SMALL, {"mean": "1,2"}, "--mean: can't read '1,2' .expected 3 numbers"),
        (SMALL, {"std": "1,0,1"}, "--std: is not above 0"),
        (SMALL, {"std": "a"}, "--std: can't read 'a'"),
        (image_input(3, 8, 8, dtype=np.uint8), {"mean": "0"}, "takes pixels as they are"),
        (image_input(1, 8, 8), {"channel_order": "bgr"}, r"--channel-order bgr: input image: .* has one channel"),
        (image_input(5), {}, r"input image: float32 \(N, 5\): takes no images"),
        (image_input(4, 8, 8), {}, "with 1 or 3 channels"),
    ],
)
def test_transforms_that_cannot_be(info: TensorInfo, options: dict[str, str], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        transform_for(info, ImageOptions(**options))


def damaged(tmp_path: Path, kind: str) -> str:
    path = tmp_path / "bad.png"
    save(path, picture(64, 64))
    whole = path.read_bytes()
    if kind == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "a web page":
        path.write_text("<html>404</html>")
    elif kind == "16 bits":
        Image.fromarray(np.zeros((8, 8), np.uint16)).save(path)
    elif kind == "spoilt inside":
        path.write_bytes(whole[:60] + bytes(200) + whole[260:])
    return str(path)


@pytest.mark.parametrize("kind", ["cut off", "empty", "a web page", "16 bits", "spoilt inside"])
def test_a_damaged_image_is_named(tmp_path: Path, kind: str) -> None:
    save(tmp_path / "good.png", picture())
    path = damaged(tmp_path, kind)
    with pytest.raises(SnDeployError, match="can't be read as an image") as caught:
        list(opened(tmp_path))
    assert str(caught.value).startswith(f"{path}: ")


def test_images_of_several_sizes_are_refused_where_nothing_resizes_them(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(8, 8))
    save(tmp_path / "b.png", picture(8, 9))
    with pytest.raises(SnDeployError, match=r"b.png: gives an array of \(3, 8, 9\), and a.png of \(3, 8, 8\)"):
        list(opened(tmp_path, image_input(3, "h", "w"), resize="none", crop="none"))
    save(tmp_path / "b.png", picture(4, 4))
    with pytest.raises(
        SnDeployError, match=r"b.png: can't be read as an image: it is 4x4, smaller than the crop of 8x8"
    ):
        list(opened(tmp_path, resize="none", crop="8"))


def test_folders_that_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(SnDeployError, match=r"has no images .expected files with .bmp, .jpeg"):
        opened(tmp_path)
    save(tmp_path / "a.png", picture())
    save(tmp_path / "cat" / "b.png", picture())
    with pytest.raises(SnDeployError, match="has 1 images beside folders with 1"):
        opened(tmp_path)
    with pytest.raises(SnDeployError, match="the model has 2 inputs: image, ids"):
        open_data(DataOptions(str(tmp_path)), [SMALL, TensorInfo("ids", ("N", 5), np.dtype(np.int64))])


def test_the_description_tells_one_folder_from_another(tmp_path: Path) -> None:
    save(tmp_path / "one" / "a.png", picture())
    before = opened(tmp_path / "one").describe()
    assert before == opened(tmp_path / "one").describe()
    save(tmp_path / "one" / "b.png", picture())
    assert opened(tmp_path / "one").describe()["files_sha256"] != before["files_sha256"]
    labels = tmp_path / "labels.txt"
    found = set()
    for text in ("1\n2\n", "2\n1\n", "b.png 2\na.png 1\n"):
        labels.write_text(text)
        found.add(opened(tmp_path / "one", labels=str(labels)).describe()["labels_sha256"])
    assert len(found) == 2  # the third says what the first said


def test_a_transform_says_what_it_does() -> None:
    transform = transform_for(image_input(3, 224, 224), ImageOptions())
    assert isinstance(transform, Transform)
    assert transform.describe() == {
        "resize": "256",
        "crop": "224x224",
        "mean": list(IMAGENET_MEAN),
        "std": list(IMAGENET_STD),
        "channel_order": "rgb",
        "interpolation": "bilinear",
    }


def test_a_picture_is_no_program(tmp_path: Path) -> None:
    # Pillow hands PostScript to Ghostscript, an interpreter, whatever the file is called.
    save(tmp_path / "a.png", picture())
    (tmp_path / "b.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    with pytest.raises(SnDeployError, match=r"b\.png: can't be read as an image: cannot identify"):
        list(opened(tmp_path))


def test_a_picture_may_be_of_another_kind_than_its_suffix(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture())
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")  # ImageNet has such ones
    assert sum(batch.samples for batch in opened(tmp_path)) == 1
