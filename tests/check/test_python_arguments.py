"""Arguments of `sn_deploy.check.check` and its options: what stands for what, and one line for what is of no kind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sn_deploy.check import Bisect, DataOptions, ImageOptions, Latency, LayerTolerance, Limits, check
from sn_deploy.check.timing import Speedup
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array
from tests.check.small_net import write_net


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_net(tmp_path_factory.mktemp("net") / "net.onnx")


def twice(file: Path, **arguments: Any) -> Any:
    """The file against itself."""
    return check(file, **{"backends": f"same=ort:{file}", "limit": 4, **arguments})


def first_score(outputs: dict[str, Array], labels: Array | None) -> Array:
    return next(iter(outputs.values())).reshape(len(next(iter(outputs.values()))), -1)[:, 0]


def test_one_stands_for_a_list_of_one(file: Path) -> None:
    result = twice(file, metrics=first_score)
    assert [one.name for one in result.backends][-1] == "same"
    assert {row.name for row in result.metrics} >= {"first_score"}


def test_speedups_as_text() -> None:
    wanted = [Speedup("a", "b", 1.2), Speedup("a", "b", 2.0, 8)]
    assert Latency(speedups=["a/b:1.2", wanted[1]]).wanted == wanted
    assert Latency(speedups="a/b:1.2").wanted == wanted[:1]


def test_numbers_of_other_libraries_become_plain_ones() -> None:
    latency = Latency(batches=np.array([1, 8]), calls=np.int64(3), concurrency=np.array([2]))
    assert [type(one) for one in (*latency.batches, latency.calls, *latency.concurrency)] == [int] * 4
    limits = Limits(tolerances={"*": {"rel_l2": torch.tensor(0.5)}}, minima={"top1_agreement": np.float32(0.5)})
    assert limits == Limits(tolerances={"*": {"rel_l2": 0.5}}, minima={"top1_agreement": 0.5})
    assert isinstance(limits.minima["top1_agreement"], float)
    assert LayerTolerance(1, 2).state() == LayerTolerance(1.0, 2.0).state()
    assert DataOptions(limit=np.int32(3)).limit == 3


def test_the_batch_size_of_the_data_counts(file: Path) -> None:
    assert twice(file, data=DataOptions(batch_size=3), limit=6).batches == 2
    assert twice(file, data=DataOptions(batch_size=3), limit=6, batch_size=2).batches == 3


def test_torch_has_its_number_of_threads_again(file: Path) -> None:
    before = torch.get_num_threads()
    model = torch.nn.Flatten()
    try:
        torch.set_num_threads(3)
        with pytest.raises(SnDeployError):  # the outputs have other shapes
            check(file, model=model, limit=2, threads=1)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "yes"}, r"^layers: is a str \(expected True, False or a LayerTolerance\)$"),
        ({"layers": LayerTolerance}, r"^layers: is the class LayerTolerance \(expected"),
        (
            {"latency": {"calls": 3}},
            r"^latency: is a dict \(expected True, False or a Latency\); give Latency\(calls=…\)$",
        ),
        ({"bisect": 3}, r"^bisect: is a int"),
        ({"limits": {"minima": {}}}, r"^limits: is a dict \(expected a Limits\); give Limits\(minima=…\)$"),
        ({"limits": None}, "^limits: is a NoneType"),
        ({"max_rel_l2": "1e-3"}, r"^max_rel_l2: is '1e-3' \(expected a number\)$"),
        ({"task": "detection"}, r"^task: is 'detection' \(expected auto or none or classification\[:OUTPUT\] or"),
        ({"task": "auto:y"}, r"^task: is 'auto:y'"),
        ({"task": "segmentation:"}, r"^task: is 'segmentation:'"),
        ({"task": 3}, r"^task: is 3"),
        ({"metrics": 3}, r"^metrics: is a int \(expected a function or class, or a list of them\)$"),
        ({"backends": [Path("a.onnx")]}, r"^backends: is a PosixPath \(expected texts of the form NAME=KIND:FILE\)$"),
        ({"served": 3}, r"^served: is a int \(expected texts of the form grpc"),
        ({"access": True}, r"^access: is a bool \(expected an Access\)$"),
        ({"reference_dtype": torch.float64}, r"^reference_dtype: is torch.float64 \(expected 'float64' or None\)$"),
        ({"threads": "2"}, r"^threads: is '2' \(expected a whole number of at least 1\)$"),
        ({"limit": 0}, r"^limit: is 0 \(expected a whole number of at least 1\)$"),
        ({"limit": True}, r"^limit: is True \(expected"),
        ({"batch_size": 2.5}, r"^batch_size: is 2.5 \(expected a whole number"),
        ({"on_batch": None}, r"^on_batch: is a NoneType \(expected a function without arguments\)$"),
        ({"data": ([[1.0]],) * 3}, "data, a tuple"),
    ],
)
def test_arguments_of_no_kind(file: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        twice(file, **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Latency(calls=0), "^Latency.calls: is 0"),
        (lambda: Latency(batches=4), r"^Latency.batches: is 4 \(expected whole numbers, such as \[1, 8\]\)$"),
        (lambda: Latency(batches=[0]), "^Latency.batches: is 0"),
        (lambda: Latency(concurrency=[1.5]), "^Latency.concurrency: is 1.5"),
        (lambda: Latency(speedups=[1.2]), r"^Latency.speedups: is a float \(expected a Speedup\)$"),
        (lambda: Latency(speedups=["a:1.2"]), "can't be read .expected BACKEND/OVER:FACTOR"),
        (lambda: Bisect(runs=0), "^Bisect.runs: is 0"),
        (lambda: Bisect(output=3), "^Bisect.output: is a int"),
        (lambda: Limits(minima={"top1_agreement": "0.9"}), "^Limits.minima, top1_agreement: is '0.9'"),
        (lambda: Limits(minima=[("a", 1)]), r"^Limits.minima: is a list \(expected a dict, such as"),
        (lambda: Limits(tolerances={"rel_l2": 1e-3}), r"^Limits.tolerances of rel_l2: is a float \(expected a dict"),
        (
            lambda: Limits(tolerances={"*": {"rel": 1}}),
            r"^Limits.tolerances: there is no figure 'rel' \(expected rel_l2,",
        ),
        (lambda: LayerTolerance("1"), "^LayerTolerance.rel_l2: is '1'"),
        (lambda: DataOptions(limit=-1), "^limit: is -1"),
        (lambda: DataOptions(labels=np.zeros(3)), "^labels: is a ndarray .*give labels in memory with the samples"),
        (lambda: DataOptions(images="small"), r"^images: is a str \(expected an ImageOptions\)$"),
    ],
)
def test_options_of_no_kind(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        make()


def test_several_files_in_a_list(file: Path) -> None:
    with pytest.raises(SnDeployError, match=r"a file: is a list .*one after another: check\(\*files"):
        check([file], backends=f"same=ort:{file}")


def test_the_mixed_file_of_a_bisection_may_be_text(tmp_path: Path, file: Path) -> None:
    half = write_net(tmp_path / "half.onnx", dtype="float16")
    with pytest.raises(SnDeployError, match="has no ONNX file's name"):
        check(file, half, reference="ort-net", limit=4, bisect=Bisect(str(tmp_path / "mixed.pth")))
    assert Bisect(str(tmp_path / "mixed.onnx")).output == str(tmp_path / "mixed.onnx")


def test_image_options_are_for_folders(file: Path) -> None:
    with pytest.raises(SnDeployError, match="is for a folder of images"):
        twice(file, data=DataOptions("random", images=ImageOptions(resize=8)))
