"""Arguments of a wrong kind, in every function that a command has: one line with the argument's name, and no file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import sn_deploy
from sn_deploy.calibrate import calibrate, with_statistics
from sn_deploy.diff import diff
from sn_deploy.errors import SnDeployError
from sn_deploy.models.digits import load_pretrained
from sn_deploy.nn import convert
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.serve import ServeOptions, serve_triton
from sn_deploy.specialise import Budget, specialise


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path, dynamic="batch")
    return path


def half(net: Path, path: Path, **given: Any) -> object:
    return convert_precision(net, path, precision="fp16", **given)


def int8(net: Path, path: Path, **given: Any) -> object:
    return quantize(net, path, precision="int8", **given)


def cheaper(net: Path, path: Path, **given: Any) -> object:
    return specialise(net, path, **given)


def differ(net: Path, path: Path, **given: Any) -> object:
    return diff(net, net, **given)


def statistics(net: Path, path: Path, **given: Any) -> object:
    return calibrate(load_pretrained(), torch.rand(8, 1, 8, 8), statistics="population", **given)


def serve(net: Path, path: Path, **given: Any) -> object:
    return serve_triton(net, path, ServeOptions("a"), **given)


@pytest.mark.parametrize(
    ("function", "name", "value", "message"),
    [
        (half, "max_rel_l2", "a", "is 'a' .expected a number"),
        (half, "on_batch", 3, "is a int .expected a function"),
        (half, "keep", [3], "is a int .expected texts of the form NAME"),
        (int8, "max_rel_l2", [1], r"is \[1\] .expected a number"),
        (int8, "min_top1_agreement", 99, "is 99 .expected 0 to 1"),
        (int8, "on_batch", None, "is a NoneType"),
        (cheaper, "runtime", "tensorrt", "is 'tensorrt' .expected 'ort' or 'ort-native'"),
        (cheaper, "threads", "2", "is '2' .expected a whole number"),
        (cheaper, "max_weight", 2, "is 2 .expected 0 to 1"),
        (cheaper, "on_progress", 3, "is a int .expected a function of a text and a share"),
        (differ, "tolerance", "a", "is 'a' .expected a number"),
        (differ, "seed", -1, "is -1 .expected a whole number of at least 0"),
        (statistics, "sweeps", 1.5, "is 1.5 .expected a whole number"),
        (statistics, "tolerance", "a", "is 'a' .expected a number"),
        (statistics, "on_batch", 3, "is a int .expected a function of the pass"),
        (serve, "engines", [3], "is a int .expected texts"),
        (serve, "deploy", "k8s", "is a str .expected a DeployOptions"),
    ],
)
def test_an_argument_of_another_kind(
    function: Callable[..., object], name: str, value: Any, message: str, net: Path, tmp_path: Path
) -> None:
    with pytest.raises(SnDeployError, match=f"^{name}: {message}"):
        function(net, tmp_path / "other.onnx", **{name: value})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Budget(rel_l2="a"), r"^Budget.rel_l2: is 'a' .expected a number"),  # type: ignore[arg-type]
        (lambda: Budget(top1=-1), r"^Budget.top1: is -1 .expected 0 to 1"),
        (lambda: ServeOptions(3), r"^ServeOptions.name: is a int"),  # type: ignore[arg-type]
        (lambda: ServeOptions("a", max_batch="8"), r"^ServeOptions.max_batch: is '8' .*from 0 to"),  # type: ignore[arg-type]
        (lambda: ServeOptions("a", labels="a.txt"), r"^ServeOptions.labels: is a str .*a dict"),  # type: ignore[arg-type]
        (lambda: ServeOptions("a", sizes=(1,)), r"^ServeOptions.sizes: is a tuple .*a dict"),  # type: ignore[arg-type]
        (lambda: convert(torch.nn.ReLU(), other_share="a"), r"^other_share: is 'a'"),  # type: ignore[arg-type]
        (lambda: with_statistics(torch.nn.ReLU(), []), r"^tensors: is a ReLU .*; give its state_dict"),  # type: ignore[arg-type]
        (
            lambda: with_statistics({}, calibrate(load_pretrained(), torch.rand(8, 1, 8, 8))),  # type: ignore[arg-type]
            r"^layers: is a Calibration .*; give calibration.layers",
        ),
    ],
)
def test_options_of_another_kind(make: Callable[[], object], message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        make()


def test_one_name_stands_for_a_list_of_one(net: Path, tmp_path: Path) -> None:
    kept = convert_precision(net, tmp_path / "other.onnx", precision="fp16", keep="Conv").conversion.kept
    assert len(kept) == 4
    assert specialise(net, tmp_path / "other.onnx", runtime="ort").runtime == "ort"
