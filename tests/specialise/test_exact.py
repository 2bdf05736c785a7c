"""What layers become by their weights alone: the nodes, and the numbers against float64."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph import op
from sn_deploy.runtime.native import ort_library
from sn_deploy.specialise import fold, specialise
from sn_deploy.specialise.forms import Runtime
from sn_deploy.specialise.layers import layers_of
from sn_deploy.specialise.load import load
from sn_deploy.specialise.report import SpecialiseReport
from tests.specialise.nets import BN, FINISH, IN, LN, MIXED, Net, Weights, ops, rel_l2, run

X = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
C = 6
RUNTIMES = [Runtime.ORT, Runtime.ORT_NATIVE] if ort_library() is not None else [Runtime.ORT]


def one_layer(
    folder: Path,
    mean: Weights,
    var: Weights,
    op_type: str = op.SWITCH_NORM,
    *,
    spatial: tuple[int | str, ...] = (8, 8),
    ddof: int = 1,
) -> tuple[Net, Path]:
    """Two convolutions of x, a layer after the first, the second its residual."""
    net = Net()
    y = net.conv("x", "conv", (3, C))
    other = net.conv("x", "other", (3, C)) if op_type == op.SWITCH_NORM_ADD_RELU else None
    net.norm(y, "sn", C, mean, var, op_type=op_type, residual=other, ddof=ddof)
    return net, net.save(folder / "in.onnx", ["N", 3, *spatial], ["sn"])


def changed(source: Path, **options: object) -> tuple[SpecialiseReport, Path]:
    path = source.with_name("out.onnx")
    return specialise(source, path, threads=1, **options), path  # type: ignore[arg-type]


def expected_output(net: Net, source: Path, op_type: str, x: np.ndarray = X) -> np.ndarray:
    """In float64 from what the convolutions give."""
    model = onnx.load(source)
    del model.graph.output[:]
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "ConvTranspose", "Gemm")]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in names)
    for output in model.graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT
    kept = [node for node in model.graph.node if node.domain == ""]
    del model.graph.node[:]
    model.graph.node.extend(kept)
    onnx.save(model, source.with_name("convs.onnx"))
    made = run(source.with_name("convs.onnx"), x)
    y = net.layers["sn"].evaluate(made[names[0]])
    return FINISH[op_type](y, made[names[-1]].astype(np.float64))


def combinations() -> list[tuple[Weights, Weights, str, Runtime]]:
    """All choices of mean and variance, each with some operator and runtime; with all, those that become others."""
    every = itertools.product(op.OP_TYPES, RUNTIMES)
    chosen = [
        (mean, var, op.OP_TYPES[place % 3], RUNTIMES[place % len(RUNTIMES)])
        for place, (mean, var) in enumerate(itertools.product((IN, LN, BN, MIXED), repeat=2))
        if mean != var
    ]
    return chosen + [(weights, weights, *both) for both in every for weights in (BN, IN)]


@pytest.mark.parametrize(("mean", "var", "op_type", "runtime"), combinations())
def test_every_choice_of_mean_and_variance(
    mean: Weights, var: Weights, op_type: str, runtime: Runtime, tmp_path: Path
) -> None:
    net, source = one_layer(tmp_path, mean, var, op_type)
    report, path = changed(source, runtime=runtime)
    exact = expected_output(net, source, op_type)
    assert rel_l2(exact, run(path, X)["sn"]) < 1e-6
    assert rel_l2(exact, run(path, X, native=True)["sn"]) < 1e-6
    found = ops(path)
    after = {op.SWITCH_NORM_RELU: ["Relu"], op.SWITCH_NORM_ADD_RELU: ["Add", "Relu"]}.get(op_type, [])
    convs = {"Conv": 2 if op_type == op.SWITCH_NORM_ADD_RELU else 1}
    (layer,) = report.layers
    if (mean, var) == (BN, BN):
        assert found == Counter(after) + Counter(convs)
        assert (layer.form, layer.after_ms) == ("folded", 0.0)
    elif (mean, var) == (IN, IN) and runtime is Runtime.ORT:
        assert found == Counter(after) + Counter({**convs, "InstanceNormalization": 1})
        assert layer.form == "InstanceNormalization"
    else:
        used = "_".join(
            f"{statistic}_{branch}"
            for statistic, weights in (("mean", mean), ("var", var))
            for branch, weight in zip(("in", "ln"), weights, strict=False)
            if weight
        )
        overload = "" if "var_ln" in used else used  # all others are computed on the way to LN's variance
        assert found == Counter({**convs, f"{op_type}:{overload}": 1})
        assert layer.form == ("kept" if not overload else "fewer statistics")
    assert 0 <= report.exact_rel_l2 < 1e-6
    assert report.held_out.rel_l2 < 1e-6


@pytest.mark.parametrize("ddof", [0, 1])
def test_instance_normalization_is_exact_with_either_divisor(ddof: int, tmp_path: Path) -> None:
    # 2×2 positions: the divisors differ by a third.
    net, source = one_layer(tmp_path, IN, IN, spatial=(2, 2), ddof=ddof)
    report, path = changed(source, runtime=Runtime.ORT)
    assert report.layers[0].form == "InstanceNormalization"
    x = X[:, :, :2, :2]
    assert rel_l2(expected_output(net, source, op.SWITCH_NORM, x), run(path, x)["sn"]) < 1e-6


@pytest.mark.parametrize(
    ("mean", "var", "spatial", "options", "reason"),
    [
        (IN, IN, ("H", "W"), {}, "its extents are dynamic"),
        (IN, IN, (256, 256), {}, "sums rows of 65536 less exactly"),
        (LN, LN, (8, 8), {}, "its variances are unbiased, channel by channel"),
        (LN, LN, (8, 8), {"ddof": 0}, "no faster kernel of GroupNormalization"),
    ],
)
def test_what_stays_says_why(
    mean: Weights, var: Weights, spatial: tuple[int | str, ...], options: dict[str, int], reason: str, tmp_path: Path
) -> None:
    _, source = one_layer(tmp_path, mean, var, spatial=spatial, **options)
    report, path = changed(source, runtime=Runtime.ORT)
    (layer,) = report.layers
    assert reason in str(layer.reason)
    assert layer.form == ("kept" if mean == LN else "fewer statistics")
    assert ops(path)["InstanceNormalization"] == 0


def test_half_precision_keeps_float32_constants(tmp_path: Path) -> None:
    net = Net(dtype=TensorProto.FLOAT16)
    net.norm(net.conv("x", "conv", (3, C), bias=True), "sn", C, BN, BN, op_type=op.SWITCH_NORM_RELU)
    net.norm("sn", "sn2", C, IN, IN)
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["sn2"])
    report, path = changed(source, runtime=Runtime.ORT)
    assert [layer.form for layer in report.layers] == ["folded", "fewer statistics"]
    assert "half precision" in str(report.layers[1].reason)
    x = X.astype(np.float16)
    assert run(path, x)["sn2"].dtype == np.float16
    assert rel_l2(run(source, x)["sn2"], run(path, x)["sn2"]) < TOLERANCES["float16"].rel_l2


def test_a_file_that_computes_in_half_precision_between_casts(tmp_path: Path) -> None:
    """It was held to float32's bound, and refused."""
    net = Net()
    net.add("Cast", [net.conv("x", "conv", (3, C), bias=True)], "half", to=TensorProto.FLOAT16)
    net.norm(net.norm("half", "sn", C, MIXED, MIXED), "sn2", C, BN, MIXED)
    net.add("Cast", ["sn2"], "y", to=TensorProto.FLOAT)
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["y"])
    report, path = changed(source, runtime=Runtime.ORT_NATIVE)
    assert report.exact_tolerance == TOLERANCES["float16"].rel_l2
    assert rel_l2(run(source, X)["y"], run(path, X)["y"]) < TOLERANCES["float16"].rel_l2


def test_half_precision_weights_that_would_overflow_stay(tmp_path: Path) -> None:
    net = Net(dtype=TensorProto.FLOAT16)
    net.norm(net.conv("x", "conv", (3, C)), "sn", C, BN, BN)
    (tensor,) = (one for one in net.initializers if one.name == "sn.var_offset")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(C, 1e-14, np.float32), tensor.name))
    assert "leave the range of float16" in why_not(net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["sn"]))


def why_not(source: Path) -> str:
    (layer,), _ = layers_of(load(source))
    return str(fold.why_not_foldable(layer))


def test_weights_that_are_inputs_are_no_constants(tmp_path: Path) -> None:
    net = Net()
    net.norm(net.conv("x", "conv", (3, C)), "sn", C, BN, BN)
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["sn"])
    model = onnx.load(source)
    model.graph.input.append(onnx.helper.make_tensor_value_info("conv.weight", TensorProto.FLOAT, [C, 3, 3, 3]))
    onnx.save(model, source)
    assert "are no constants" in why_not(source)


PRODUCERS = ["bias", "groups", "transposed", "transposed_groups", "gemm", "gemm_scaled", "gemm_transposed"]


@pytest.mark.parametrize("kind", PRODUCERS)
def test_all_that_has_weights_takes_the_layer_in(kind: str, tmp_path: Path) -> None:
    net, x = Net(), X
    if kind in ("bias", "groups"):
        y = net.conv("x", "conv", (3, C), bias=True, group=3 if kind == "groups" else 1)
    elif kind.startswith("transposed"):
        group = 3 if kind == "transposed_groups" else 1
        weight = net.constant("w", 3, C // group, 2, 2)
        y = net.add("ConvTranspose", ["x", weight, net.constant("b", C)], "up", strides=[2, 2], group=group)
    else:
        x = X.reshape(2, -1)
        attributes = {"gemm_scaled": {"alpha": 0.5, "beta": 3.0}, "gemm_transposed": {"transB": 1}}.get(kind, {})
        weight = net.constant("w", *((C, 192) if kind == "gemm_transposed" else (192, C)), scale=0.1)
        y = net.add("Gemm", ["x", weight, net.constant("b", C)], "fc", **attributes)
    net.norm(y, "sn", C, BN, BN)
    source = net.save(tmp_path / "in.onnx", ["N", *x.shape[1:]], ["sn"])
    report, path = changed(source)
    assert report.layers[0].form == "folded"
    assert not any(node.domain == op.DOMAIN for node in onnx.load(path).graph.node)
    assert not onnx.load(path).functions
    assert rel_l2(expected_output(net, source, op.SWITCH_NORM, x), run(path, x)["sn"]) < 1e-6


def test_what_else_reads_the_convolution_still_has_it(tmp_path: Path) -> None:
    net = Net()
    y = net.conv("x", "conv", (3, C))
    net.norm(y, "sn", C, BN, BN, op_type=op.SWITCH_NORM_RELU)
    net.add("Sigmoid", [y], "other")
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["sn", "other"])
    report, path = changed(source)
    assert report.layers[0].form == "fewer statistics"
    assert report.layers[0].reason == "'conv' is read 2 times"
    assert ops(path)["SwitchNormRelu:constant"] == 1
    for name, value in run(source, X).items():
        assert rel_l2(value, run(path, X)[name]) < 1e-6


@pytest.mark.parametrize("what", ["graph output", "graph input", "pool"])
def test_where_nothing_takes_the_layer_in_it_costs_no_statistics(what: str, tmp_path: Path) -> None:
    net, outputs = Net(), ["sn"]
    channels = 3 if what in ("graph input", "pool") else C
    y = {"graph input": lambda: "x", "pool": lambda: net.add("MaxPool", ["x"], "pool", kernel_shape=[2, 2])}.get(
        what, lambda: net.conv("x", "conv", (3, C))
    )()
    net.norm(y, "sn", channels, BN, BN)
    outputs += ["conv"] if what == "graph output" else []
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], outputs)
    report, path = changed(source)
    assert report.layers[0].form == "fewer statistics"
    assert report.layers[0].reason is not None
    assert ops(path)["SwitchNorm:constant"] == 1
    assert rel_l2(run(source, X)["sn"], run(path, X)["sn"]) < 1e-6


def test_a_sparse_net_that_chooses_differently_for_mean_and_variance(tmp_path: Path) -> None:
    net = Net(seed=4)
    y, channels = "x", 3
    for place, (mean, var) in enumerate(itertools.product((BN, IN, LN), repeat=2)):
        y = net.conv(y, f"conv{place}", (channels, C))
        y, channels = net.norm(y, f"sn{place}", C, mean, var, op_type=op.SWITCH_NORM_RELU), C
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], [y])
    for runtime in RUNTIMES:
        report, path = changed(source, runtime=runtime)
        assert rel_l2(run(source, X)[y], run(path, X)[y]) < 1e-5
        assert Counter(layer.form for layer in report.layers) == (
            {"folded": 1, "InstanceNormalization": 1, "fewer statistics": 4, "kept": 3}
            if runtime is Runtime.ORT
            else {"folded": 1, "fewer statistics": 5, "kept": 3}
        )


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    _, source = one_layer(tmp_path, BN, IN)
    _, path = changed(source)
    once = path.read_bytes()
    specialise(path, path, threads=1)
    assert path.read_bytes() == once


def test_soft_weights_change_nothing(tmp_path: Path) -> None:
    _, source = one_layer(tmp_path, MIXED, MIXED, op.SWITCH_NORM_RELU)
    report, path = changed(source)
    assert report.layers[0].form == "kept"
    assert np.array_equal(run(source, X)["sn"], run(path, X)["sn"])


def wrong_sign(layer):
    a, b = right(layer)
    return a, -b


def wrong_channel(layer):
    a, b = right(layer)
    return np.roll(a, 1), b


right = fold.affine_from_folded


@pytest.mark.parametrize("fault", [wrong_sign, wrong_channel])
def test_a_wrong_fold_is_caught_and_nothing_is_written(
    fault: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, source = one_layer(tmp_path, BN, BN)
    monkeypatch.setattr(fold, "affine_from_folded", fault)
    with pytest.raises(CheckFailedError, match="the layers' new forms differ by"):
        changed(source)
    assert not source.with_name("out.onnx").exists()


def test_what_is_no_file_of_ours_is_refused(tmp_path: Path) -> None:
    net = Net()
    net.conv("x", "conv", (3, C))
    source = net.save(tmp_path / "in.onnx", ["N", 3, 8, 8], ["conv"])
    with pytest.raises(SnDeployError, match="has no SwitchNorm node"):
        changed(source)
