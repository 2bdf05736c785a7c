"""Samples: the same whatever their batch, limit or shard, and refused when they don't fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from sn_deploy.check.batch import Batch, Source
from sn_deploy.check.data.open import DataOptions, open_data
from sn_deploy.check.shard import Shard, parse_shard
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo

Array = npt.NDArray[Any]

IMAGE = TensorInfo("image", ("N", 3, 4, 4), np.dtype(np.float32))
IDS = TensorInfo("ids", ("N", 5), np.dtype(np.int64))
MASK = TensorInfo("mask", ("N", 5), np.dtype(np.bool_))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, from which modules are imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    return tmp_path


def opened(data: str, *inputs: TensorInfo, **options: Any) -> Source:
    return open_data(DataOptions(data, **options), inputs or (IMAGE,))


def joined(batches: list[Batch], name: str = "image") -> Array:
    return np.concatenate([batch.inputs[name] for batch in batches])


def test_random_samples_do_not_depend_on_batch_limit_or_shard() -> None:
    whole = joined(list(opened("random:seed=3", batch_size=7, limit=20)))
    assert whole.shape == (20, 3, 4, 4)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(joined(list(opened("random:seed=3", batch_size=4, limit=9))), whole[:9])
    for number in (1, 2, 3):
        for batch in opened("random:seed=3", batch_size=7, limit=20, shard=Shard(number, 3)):
            np.testing.assert_array_equal(batch.inputs["image"], whole[batch.first : batch.first + batch.samples])
    assert not np.array_equal(joined(list(opened("random:seed=4", limit=20))), whole)


def test_random_samples_are_what_they_say() -> None:
    values = joined(list(opened("random:mean=3,std=0.5", limit=400)))
    assert values.mean() == pytest.approx(3, abs=0.02)
    assert values.std() == pytest.approx(0.5, abs=0.02)
    values = joined(list(opened("random:distribution=uniform,low=-2,high=4", limit=400)))
    assert -2 <= values.min() < -1.9
    assert 3.9 < values.max() < 4
    assert len(np.unique(values, axis=0)) == 400  # no sample twice


def test_random_integers_and_booleans() -> None:
    (batch,) = opened("random", IDS, MASK, limit=8)
    assert batch.inputs["ids"].dtype == np.int64
    assert set(np.unique(batch.inputs["ids"])) == {0, 1}
    assert batch.inputs["mask"].dtype == np.bool_
    (batch,) = opened("random:low=5,high=9", IDS, limit=8)
    assert set(np.unique(batch.inputs["ids"])) == {5, 6, 7, 8, 9}
    described = opened("random:seed=2", IDS, limit=8).describe()
    assert (described["kind"], described["seed"]) == ("random", 2)
    assert (described["samples"], described["batch_size"], described["shapes"]) == (8, 8, {"ids": [5]})


@pytest.mark.parametrize(
    ("dtype", "text", "expected"),
    [
        (np.uint8, "high=256", "0 to 255"),
        (np.int8, "low=-129", "-128 to 127"),
        (np.int64, "high=1e30", f"{-(2**63)} to {2**63 - 1}"),
        (np.uint64, "high=1e19", f"0 to {2**63 - 1}"),
    ],
)
def test_random_integers_that_a_type_does_not_hold(dtype: Any, text: str, expected: str) -> None:
    # As uint8, 256 would be 0, and nobody would know.
    with pytest.raises(SnDeployError, match=rf"no integers that input ids: .* holds \(expected {expected}\)"):
        opened(f"random:{text}", TensorInfo("ids", ("N", 5), np.dtype(dtype)))


def test_a_batch_of_random_samples_has_to_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # A sample takes 384 bytes with its copy, so does each of a batch.
    monkeypatch.setattr("sn_deploy.compare.size.free_memory", lambda: 1000)
    assert [batch.samples for batch in opened("random", batch_size=2, limit=4)] == [2, 2]
    with pytest.raises(SnDeployError, match="random values of 3×3×4×4 take"):
        list(opened("random", batch_size=3, limit=4))


@pytest.mark.parametrize(("samples", "batch", "parts"), [(20, 3, 3), (8, 8, 1), (9, 2, 5)])
def test_shards_take_each_batch_once(samples: int, batch: int, parts: int) -> None:
    whole = [(one.index, one.first, one.samples) for one in opened("random", batch_size=batch, limit=samples)]
    assert sum(count for _, _, count in whole) == samples
    shards = [opened("random", batch_size=batch, limit=samples, shard=Shard(n + 1, parts)) for n in range(parts)]
    found = [[(one.index, one.first, one.samples) for one in shard] for shard in shards]
    assert [len(one) for one in found] == [shard.batches for shard in shards]
    assert sorted(one for part in found for one in part) == whole
    assert len({str(shard.describe()) for shard in shards}) == 1


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "1/0", "a/b", "-1/3", "1/3/5"])
def test_shards_that_are_none(text: str) -> None:
    with pytest.raises(SnDeployError, match="expected PART/PARTS"):
        parse_shard(text)


def test_a_file_of_one_array() -> None:
    values = np.random.default_rng(0).standard_normal((10, 3, 4, 4))
    np.save("x.npy", values)
    source = opened("x.npy", batch_size=4, limit=9)
    assert source.batches == 3
    np.testing.assert_array_equal(joined(list(source)), values[:9])
    assert source.describe()["labels"] == "none"
    assert len(source.describe()["sha256"]) == 64


def test_a_file_of_several_arrays_by_name_or_by_order() -> None:
    image, ids = np.zeros((6, 3, 4, 4), np.float32), np.arange(30).reshape(6, 5)
    np.savez("named.npz", ids=ids, image=image, labels=np.arange(6))
    (batch,) = opened("named.npz", IMAGE, IDS)
    np.testing.assert_array_equal(batch.inputs["ids"], ids)
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 2, 3, 4, 5]
    (batch,) = opened("named.npz", IMAGE, IDS, labels="none")
    assert batch.labels is None
    np.savez("ordered.npz", image, ids)
    (batch,) = opened("ordered.npz", IMAGE, IDS)
    np.testing.assert_array_equal(batch.inputs["ids"], ids)
    np.savez("by_shape.npz", second=ids, first=image)
    (batch,) = opened("by_shape.npz", IMAGE, IDS)
    np.testing.assert_array_equal(batch.inputs["ids"], ids)


def test_labels_from_another_file() -> None:
    np.save("x.npy", np.zeros((3, 3, 4, 4), np.float32))
    np.save("y.npy", np.array([4, 5, 6]))
    Path("y.txt").write_text("4\n\n5\n6\n")
    for labels in ("y.npy", "y.txt"):
        (batch,) = opened("x.npy", labels=labels)
        assert batch.labels is not None
        assert batch.labels.tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("arrays", "inputs", "message"),
    [
        (
            {"x": np.zeros((2, 3, 4, 5), np.float32)},
            [IMAGE],
            r"for image are float32 \(2, 3, 4, 5\)",
        ),
        ({"x": np.zeros((2, 3, 4, 4), np.uint8)}, [IMAGE], "uint8.*scale and normalise them as in training"),
        ({"x": np.zeros((3, 4, 4), np.float32)}, [IMAGE], r"expected image: float32 \(N, 3, 4, 4\)"),
        ({"x": np.float32(1)}, [IMAGE], "samples for image are"),
        ({"x": np.zeros((2, 5))}, [IDS], "samples for ids are float64"),
        (
            {"x": np.zeros((2, 5), int)},
            [IMAGE, IDS],
            "inputs are x .expected image, ids.; give each input under its name",
        ),
        ({"image": np.zeros((2, 3, 4, 4), np.float32), "labels": np.zeros(3, int)}, [IMAGE], "image 2, labels 3"),
        ({"image": np.zeros((0, 3, 4, 4), np.float32)}, [IMAGE], "there are no samples"),
        ({"image": np.array([None])}, [IMAGE], "can't be read"),
    ],
)
def test_arrays_that_do_not_fit(arrays: dict[str, Array], inputs: list[TensorInfo], message: str) -> None:
    np.savez("x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(SnDeployError, match=message):
        opened("x.npz", *inputs)


def test_arrays_that_can_be_matched_in_several_ways_are_refused() -> None:
    np.savez("x.npz", a=np.zeros((2, 5), int), b=np.zeros((2, 5), int))
    with pytest.raises(SnDeployError, match=r"inputs a, b can be matched in several ways .expected ids, more"):
        opened("x.npz", IDS, TensorInfo("more", ("N", 5), np.dtype(np.int64)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1\nx 2\n", "has lines with a name and lines without"),
        ("1\n2\n", "has 2 labels for 3 samples"),
        ("a.png 1\n", "gives labels by name, and these samples have none"),
        ("a.png 1\nb.png 2\na.png 3\n", "line 3 gives a.png the label 3, another line 1"),
        ("cat\n", "line 1 is 'cat'"),
        ("1.5\n", "line 1 is '1.5'"),
        ("9" * 5000, "line 1 is '9{60}'"),
        ("a.png " + "9" * 19, "line 1 is 'a.png 9{19}'"),
        (f"a{' ' * 100_000}b 1\nx", "line 2 is 'x'"),
        (f"a{', ' * 50_000}1x", "line 1 is 'a, , "),
    ],
)
def test_labels_that_do_not_fit(text: str, message: str) -> None:
    np.save("x.npy", np.zeros((3, 3, 4, 4), np.float32))
    Path("labels.txt").write_text(text)
    with pytest.raises(SnDeployError, match=f"--labels labels.txt: {message}"):
        opened("x.npy", labels="labels.txt")


@pytest.mark.parametrize("array", [np.zeros(3), np.array(3), np.array(["a", "b", "c"])])
def test_labels_that_are_no_integers(array: Array) -> None:
    np.save("x.npy", np.zeros((3, 3, 4, 4), np.float32))
    np.save("y.npy", array)
    with pytest.raises(SnDeployError, match=r"--labels y.npy: is no array of integers"):
        opened("x.npy", labels="y.npy")


def user_source(code: str, *inputs: TensorInfo, **options: Any) -> Source:
    Path("mine.py").write_text(f"import numpy as np, torch\n{code}")
    return opened("mine.py:data", *inputs, **options)


BATCHES = "[np.full((n, 3, 4, 4), n, np.float32) for n in (2, 3)]"


@pytest.mark.parametrize(
    "code",
    [
        f"data = {BATCHES}",
        f"def data():\n    return {BATCHES}",
        f"def data():\n    yield from {BATCHES}",
        f"def data():\n    yield from map(torch.from_numpy, {BATCHES})",
        f"def data():\n    return [dict(image=x) for x in {BATCHES}]",
        f"def data():\n    return [(x,) for x in {BATCHES}]",
    ],
)
def test_batches_of_the_users_own(code: str) -> None:
    source = user_source(code)
    batches = list(source)
    assert [(batch.index, batch.first, batch.samples) for batch in batches] == [(0, 0, 2), (1, 2, 3)]
    assert joined(batches)[:, 0, 0, 0].tolist() == [2, 2, 3, 3, 3]
    assert joined(list(source)).shape == (5, 3, 4, 4)  # a second pass
    described = source.describe()
    assert (described["samples"], len(described["sha256"])) == (5, 64)
    assert "batch_size" not in described


@pytest.mark.parametrize(
    "item", ["(x, i)", "(x, torch.tensor(i))", "dict(image=x, label=i)", "(dict(image=x), i)", "[x, np.int32(i)]"]
)
def test_samples_with_labels_are_stacked(item: str) -> None:
    code = f"def data():\n    for i in range(5):\n        x = np.full((3, 4, 4), i, np.float32)\n        yield {item}"
    batches = list(user_source(code, batch_size=2, limit=5))
    assert [batch.samples for batch in batches] == [2, 2, 1]
    assert [batch.labels.tolist() for batch in batches if batch.labels is not None] == [[0, 1], [2, 3], [4]]
    assert joined(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert all(batch.labels is None for batch in opened("mine.py:data", labels="none"))


def test_several_inputs_of_the_users_own_in_order() -> None:
    code = "data = [(np.zeros((2, 3, 4, 4), np.float32), np.ones((2, 5), np.int64), np.array([7, 8]))]"
    (batch,) = user_source(code, IMAGE, IDS)
    assert batch.inputs["ids"].shape == (2, 5)
    assert batch.labels is not None
    assert batch.labels.tolist() == [7, 8]


def test_a_torch_data_loader() -> None:
    code = (
        "from torch.utils.data import DataLoader, TensorDataset\n"
        "set_ = TensorDataset(torch.arange(7.0)[:, None, None, None].expand(7, 3, 4, 4), torch.arange(7))\n"
        "data = DataLoader(set_, batch_size=3)"
    )
    batches = list(user_source(code, limit=5))
    assert [batch.samples for batch in batches] == [3, 2]
    assert joined(batches)[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("loaded", [1, 2, 4, 6, 9, 12])
@pytest.mark.parametrize("fixed", [1, 4])
def test_batches_are_cut_to_what_a_file_fixes(loaded: int, fixed: int) -> None:
    images = np.random.default_rng(0).standard_normal((12, 3, 4, 4)).astype(np.float32)
    loader = DataLoader(TensorDataset(torch.from_numpy(images), torch.arange(12)), batch_size=loaded)
    input_ = TensorInfo("image", (fixed, 3, 4, 4), np.dtype(np.float32))
    source = open_data(DataOptions(loader, batch_size=fixed, limit=8), (input_,))
    batches = list(source)
    assert [(one.index, one.first, one.samples) for one in batches] == [
        (i, i * fixed, fixed) for i in range(8 // fixed)
    ]
    np.testing.assert_array_equal(joined(batches), images[:8])
    assert [label for one in batches if one.labels is not None for label in one.labels] == list(range(8))
    # What is left is told as soon as it is known.
    over = open_data(DataOptions(loader, batch_size=fixed, limit=9), (input_,))
    if fixed == 1:
        assert len(list(over)) == 9
    else:
        with pytest.raises(SnDeployError, match=r"DataLoader: 9 samples are no whole batches of 4, .*; --limit 8"):
            list(over)


def boxes(count: int) -> torch.Tensor:
    return torch.arange(4.0 * count).reshape(count, 4)


DETECTED = {
    "dicts": [{"boxes": boxes(n), "labels": torch.zeros(n), "id": n, "file": f"{n}.jpg"} for n in (0, 2, 1)],
    "arrays": [boxes(n) for n in (2, 1, 3)],
    "lists": [[[0, 1, 2, 3]], [], [[1.0] * 4, [2.0] * 4]],
}


@pytest.mark.parametrize("kind", DETECTED)
def test_labels_that_no_array_holds(kind: str) -> None:
    labels, images = DETECTED[kind], torch.zeros(3, 3, 4, 4)
    (batch,) = open_data(DataOptions([(images, labels)]), (IMAGE,))
    assert batch.labels is not None
    assert (batch.labels.shape, batch.labels.dtype) == ((3,), np.dtype(object))
    for own, given in zip(batch.labels, labels, strict=True):
        if isinstance(given, dict):
            np.testing.assert_array_equal(own["boxes"], given["boxes"].numpy())
            assert isinstance(own["boxes"], np.ndarray)
            assert (own["id"], own["file"]) == (given["id"], given["file"])
        else:
            np.testing.assert_array_equal(np.asarray(own), np.asarray(given))
    assert [one.labels for one in open_data(DataOptions([(images, labels)], labels="none"), (IMAGE,))] == [None]


def test_labels_that_no_array_holds_of_single_samples_and_of_parts() -> None:
    labels = DETECTED["dicts"]

    def source(of: list[Any], **options: Any) -> Source:
        return open_data(DataOptions([(torch.zeros(3, 4, 4), one) for one in of], batch_size=2, **options), (IMAGE,))

    batches = list(whole := source(labels))
    assert [[one["id"] for one in batch.labels] for batch in batches if batch.labels is not None] == [[0, 2], [1]]
    parts = [source(labels, shard=Shard(number, 2)) for number in (1, 2)]
    assert [[one["id"] for one in batch.labels] for part in parts for batch in part if batch.labels is not None] == [
        [0, 2],
        [1],
    ]
    assert [part.describe() for part in parts] == [whole.describe()] * 2
    # Other boxes are other data: parts of the two make no whole.
    other = source([labels[0], {**labels[1], "boxes": boxes(2) + 1}, labels[2]])
    list(other)
    assert other.describe()["sha256"] != whole.describe()["sha256"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog", "cat"], "labels: is a list .expected an array"),
        ({"boxes": torch.zeros(3, 2, 4)}, "labels: is a dict"),
        ([{"boxes": boxes(1)}], r"inputs and labels have \[1, 3\] samples"),
        ([{"boxes": object()}] * 3, "labels: is a object"),
    ],
)
def test_labels_of_no_kind(labels: Any, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        list(open_data(DataOptions([(torch.zeros(3, 3, 4, 4), labels)]), (IMAGE,)))


def test_shards_of_the_users_own() -> None:
    code = "def data():\n    for i in range(7):\n        yield np.full((3, 4, 4), i, np.float32), i"
    whole = user_source(code, batch_size=2)
    parts = [opened("mine.py:data", batch_size=2, shard=Shard(number, 3)) for number in (1, 2, 3)]
    labels = [[batch.labels.tolist() for batch in part if batch.labels is not None] for part in parts]
    assert labels == [[[0, 1], [6]], [[2, 3]], [[4, 5]]]
    list(whole)
    assert [part.describe() for part in parts] == [whole.describe()] * 3
    with pytest.raises(SnDeployError, match="there are 4 batches for 5 parts; make at most 4 parts"):
        list(opened("mine.py:data", batch_size=2, shard=Shard(1, 5)))
    with pytest.raises(SnDeployError, match="there is 1 batch for 2 parts; make smaller batches"):
        list(opened("mine.py:data", batch_size=8, shard=Shard(1, 2)))


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def data():\n    return 3", "gives a int .expected something to iterate over"),
        ("data = iter([])", "can be iterated only once; give a function that makes the iterator"),
        ("data = []", "gives no samples"),
        ("data = ['x']", "item 0, image: is a str .expected an array or tensor of numbers"),
        ("data = [[[1, 2], [3]]]", "item 0"),
        ("data = [np.zeros((2, 3, 4, 4), np.uint8)]", "item 0: samples for image are uint8"),
        ("data = [np.zeros((2, 3, 5, 4))]", r"expected image: float32 \(N, 3, 4, 4\)"),
        ("data = [(np.zeros((2, 3, 4, 4)), np.zeros(3, int))]", r"item 0: inputs and labels have \[2, 3\] samples"),
        ("data = [(np.zeros((2, 3, 4, 4)), 1, 2)]", "item 0: has 3 parts .expected image, and perhaps the labels"),
        ("data = [dict(x=np.zeros((2, 3, 4, 4)), y=np.zeros(2))]", "item 0: inputs are x, y .expected image"),
        (
            "def data():\n    for n in (0, 1, 2):\n        x = np.zeros((3, 4, 4), np.float32)\n"
            "        yield (x, 1) if n == 1 else (x,)",
            "items 0 to 2: some have labels and some have none",
        ),
        ("def data(n):\n    return []", "doesn't take these arguments"),
        ("def data():\n    raise OSError('gone')", "failed: OSError: gone"),
    ],
)
def test_items_that_do_not_fit(code: str, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        list(user_source(code))


def test_the_next_batch_is_loaded_while_one_is_worked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Event

    from sn_deploy.check.data.samples import SampleBatches

    loaded = [Event() for _ in range(4)]

    class Samples:
        def __len__(self) -> int:
            return 4

        def load(self, first: int, last: int) -> tuple[dict[str, Array], None]:
            loaded[first].set()
            return {"x": np.zeros((last - first, 1))}, None

        def describe(self) -> dict[str, Any]:
            return {}

    batches: Iterator[Batch] = iter(SampleBatches(Samples(), 1))
    next(batches)
    assert loaded[1].wait(10)
    assert not loaded[2].wait(0.05)  # but no more than that: batches are large
    assert len(list(batches)) == 3


def test_bfloat16_tensors_of_the_users_own() -> None:
    (batch,) = user_source("data = [torch.ones(2, 3, 4, 4, dtype=torch.bfloat16)]")
    assert str(batch.inputs["image"].dtype) == "bfloat16"
    assert torch.ones(1).dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "example"),
    [
        (("N", 1, "d", "h", "w"), "v=1x1x32x32x32"),
        (("N", None, "h", "w"), "v=1x3x224x224"),
        ((None, 12, "l"), "v=1x12x32"),
        (None, "v=1x3x224x224"),
    ],
)
def test_open_axes_are_refused_with_a_shape_that_fits(shape: tuple[int | str | None, ...] | None, example: str) -> None:
    with pytest.raises(SnDeployError, match=rf"give it: --input {example}$"):
        open_data(DataOptions("random"), [TensorInfo("v", shape, np.dtype(np.float32))])


GAIN = TensorInfo("gain", (), np.dtype(np.float32))


def test_a_scalar_is_one_number_for_all_samples() -> None:
    batches = list(opened("random", GAIN, IMAGE, batch_size=4, limit=6))
    assert [batch.samples for batch in batches] == [4, 2]
    gains = {batch.inputs["gain"].item() for batch in batches}
    assert len(gains) == 1
    assert all(batch.inputs["gain"].shape == () for batch in batches)
    np.savez("x.npz", gain=np.float32(3), image=np.zeros((5, 3, 4, 4), np.float32), labels=np.arange(5))
    first, second = opened("x.npz", GAIN, IMAGE, batch_size=4)
    assert (first.samples, second.samples, first.inputs["gain"].shape) == (4, 1, ())
    assert second.inputs["gain"] == 3
    np.savez("x.npz", gain=np.ones(5, np.float32), image=np.zeros((5, 3, 4, 4), np.float32))
    with pytest.raises(SnDeployError, match=r"samples for gain are float32 \(5,\) \(expected gain: float32 \(\)\)"):
        opened("x.npz", GAIN, IMAGE)


def test_a_scalar_of_the_users_own() -> None:
    batches = "data = [dict(gain=np.float32(2), image=np.zeros((n, 3, 4, 4), np.float32)) for n in (2, 3)]"
    found = list(user_source(batches, GAIN, IMAGE, limit=4))
    assert [(batch.samples, batch.inputs["gain"].item()) for batch in found] == [(2, 2), (2, 2)]


def test_scalars_of_samples_that_are_stacked_have_to_agree() -> None:
    samples = "data = [dict(gain=np.float32(n // 2), image=np.zeros((3, 4, 4), np.float32)) for n in range(4)]"
    found = list(user_source(samples, GAIN, IMAGE, batch_size=2))
    assert [batch.inputs["gain"].item() for batch in found] == [0, 1]
    with pytest.raises(SnDeployError, match="items 0 to 2: input gain has no axis for samples, and isn't the same"):
        list(opened("mine.py:data", GAIN, IMAGE, batch_size=3))


def test_a_number_alone_is_a_sample_of_a_net_without_arrays() -> None:
    (batch,) = user_source("data = [np.float32(2)]", GAIN)
    assert (batch.samples, batch.inputs["gain"].item()) == (1, 2)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            "[np.zeros((2, 3, 4, 5)), np.zeros((3, 4, 5)), np.zeros((3, 4, 6))]",
            r"items 1 to 2: input image: samples have the shapes \(3, 4, 5\) and \(3, 4, 6\), which make no batch",
        ),
        (
            "[(np.zeros((3, 4, 5)), np.zeros(4, int)), (np.zeros((3, 4, 5)), np.zeros(5, int))]",
            r"items 0 to 1: labels: samples have the shapes \(4,\) and \(5,\)",
        ),
    ],
)
def test_samples_of_several_sizes_make_no_batch(items: str, message: str) -> None:
    wide = TensorInfo("image", ("N", 3, 4, "width"), np.dtype(np.float32))
    with pytest.raises(SnDeployError, match=message):
        list(user_source(f"data = {items}", wide, batch_size=2))


def test_labels_in_a_file_that_begins_with_a_byte_order_mark() -> None:
    np.save("x.npy", np.zeros((2, 3, 4, 4), np.float32))
    Path("labels.txt").write_text("1\n2\n", encoding="utf-8-sig")  # as editors of Windows save it
    (batch,) = opened("x.npy", labels="labels.txt")
    assert batch.labels is not None
    assert batch.labels.tolist() == [1, 2]
