"""What `optimise` refuses, with nothing written; and that its proof finds faults."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.graph import op
from sn_deploy.optimise import optimise, stand_ins
from sn_deploy.optimise.proof import prove
from sn_deploy.precision.run import convert_precision
from sn_deploy.runtime.native import SWITCH
from tests.optimise.nets import Net, plain_chain


def refusal(source: Path, output: Path, **options: object) -> str:
    before = sorted(source.parent.iterdir())
    with pytest.raises(SnDeployError) as error:
        optimise(source, output, **options)  # type: ignore[arg-type]
    assert sorted(source.parent.iterdir()) == before
    assert error.value.exit_code == 2
    return str(error.value)


def test_a_target_that_isnt_known(portable: Path) -> None:
    assert "unknown target 'tpu' (expected ort-cpu)" in refusal(portable, portable.with_name("b.onnx"), target="tpu")


def test_the_source_is_not_overwritten(portable: Path) -> None:
    assert "is the portable file, which is needed" in refusal(portable, portable)


def test_an_optimised_file_is_none_to_optimise(portable: Path) -> None:
    here = portable.with_name("here.onnx")
    optimise(portable, here)
    text = refusal(here, portable.with_name("again.onnx"))
    assert "is optimised already, for ONNX Runtime " in text
    assert text.endswith("give the portable file that it was made of: net.onnx")


def test_the_same_file_again(portable: Path) -> None:
    here = portable.with_name("here.onnx")
    optimise(portable, here)
    first = here.read_bytes()
    optimise(portable, here)
    assert here.read_bytes() == first


def test_without_native_operators(portable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, "0")
    text = refusal(portable, portable.with_name("b.onnx"))
    assert "the native operators aren't built, or are turned off" in text


def test_without_blocks(portable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on processors where ONNX Runtime has none."""
    for size, message in ((None, "has no blocked convolutions on this processor"), (4, "blocks of 4 channels")):
        monkeypatch.setattr("sn_deploy.optimise.run.block_size", lambda size=size: size)
        assert message in refusal(portable, portable.with_name("b.onnx"))


def no_layer(net: Net) -> str:
    return net.conv("x", 16)


def no_convolution(net: Net) -> str:
    return net.norm("x")


@pytest.mark.parametrize(
    ("build", "dtype", "message"),
    [
        (no_layer, TensorProto.FLOAT, "find the layers of other files with: sn-deploy fuse"),
        (no_convolution, TensorProto.FLOAT, "layer_1: ONNX Runtime doesn't keep what it reads on blocks"),
        (no_convolution, TensorProto.FLOAT16, "layer_1: its input is float16, and blocks are float32"),
    ],
)
def test_files_that_have_nothing_to_gain(
    build: Callable[[Net], str], dtype: int, message: str, block: int, tmp_path: Path
) -> None:
    net = Net(3, dtype=dtype)
    source = net.save(tmp_path / "net.onnx", build(net))
    assert message in refusal(source, tmp_path / "here.onnx")


def test_a_file_without_its_functions(portable: Path) -> None:
    model = onnx.load(portable)
    del model.functions[:]
    onnx.save(model, portable)
    text = refusal(portable, portable.with_name("b.onnx"))
    assert "it doesn't run by the functions inside it, so there is nothing to compare the result with" in text


@pytest.mark.parametrize("content", [b"\x08\x0a nothing", b"\x00" * 64], ids=["cut off", "no ONNX"])
def test_files_that_are_none(content: bytes, block: int, tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    source.write_bytes(content)
    refusal(source, tmp_path / "here.onnx")


def test_paths(portable: Path) -> None:
    assert "there is no such file" in refusal(portable.with_name("no.onnx"), portable.with_name("b.onnx"))
    assert "its folder doesn't exist" in refusal(portable, portable.parent / "no" / "b.onnx")


def test_inputs_that_dont_fit(portable: Path) -> None:
    here = portable.with_name("here.onnx")
    x = np.zeros((2, 3, 16, 16), np.float32)
    assert "has no input y (expected x)" in refusal(portable, here, inputs={"y": x})
    assert "doesn't run on the input that it was tried with" in refusal(portable, here, inputs={"x": x[:, :2]})
    assert "is not finite on the input" in refusal(portable, here, inputs={"x": x + np.inf})


def with_output(path: Path, dtype: int, spoilt: int) -> Path:
    """A file of one output of 1000 numbers a sample, ``spoilt`` of them 50 times as large."""
    factors = np.ones((1, 1000), np.float32)
    factors[0, :spoilt] = 50
    nodes = [helper.make_node("Mul", ["x", "factors"], ["z"]), helper.make_node("Cast", ["z"], ["y"], to=dtype)]
    x, y = (helper.make_tensor_value_info(name, kind, [2, 1000]) for name, kind in (("x", 1), ("y", dtype)))
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(factors, "factors")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16])
def test_few_numbers_that_are_far_off_are_found_in_every_type(dtype: int, tmp_path: Path) -> None:
    source, spoilt = with_output(tmp_path / "a.onnx", dtype, 0), with_output(tmp_path / "b.onnx", dtype, 5)
    assert prove(source, source, {}).rel_l2 == 0
    with pytest.raises(CheckFailedError, match=r"the optimised graph differs by 3\.\d.* \(relative L2\)"):
        prove(source, spoilt, {})


def test_integers_that_are_others_are_counted(tmp_path: Path) -> None:
    source, near, far = (with_output(tmp_path / f"{n}.onnx", TensorProto.INT64, n) for n in (0, 5, 100))
    assert prove(source, near, {}).rel_l2 == 0
    with pytest.raises(CheckFailedError, match=r"changes \d\.\d\d% of it \(expected at most 1%\)"):
        prove(source, far, {})


def test_a_file_that_computes_in_half_precision_elsewhere(block: int, tmp_path: Path) -> None:
    """Where a sum comes out otherwise in its last bit, a float16 behind it is the next one now and then."""
    net = Net(3, (32, 32))
    value = "x"
    for channels in (32, 32, 64, 64, 64, 64):
        value = net.norm(net.conv(value, channels), relu=True)
    source = net.save(tmp_path / "net.onnx", value)
    nodes = [node.name for node in onnx.load(source).graph.node]
    convert_precision(source, tmp_path / "half.onnx", precision="fp16", keep=nodes[-4:])
    report = optimise(tmp_path / "half.onnx", tmp_path / "here.onnx")
    assert any(layer.why_not is None for layer in report.layers)
    assert 2e-5 < report.proof.rel_l2 < 2 * 16 * 2**-11


def channel_lost(layer: dict[str, np.ndarray]) -> None:
    for key in layer:
        layer[key] = layer[key][:-1]


def channels_swapped(layer: dict[str, np.ndarray]) -> None:
    layer["scale"] = layer["scale"][::-1].copy()


def epsilon_doubled(layer: dict[str, np.ndarray]) -> None:
    layer["var_offset"] = layer["var_offset"] * np.float32(1.001)


@pytest.mark.parametrize("fault", [channel_lost, channels_swapped, epsilon_doubled])
def test_a_planted_fault_is_found(
    fault: Callable[[dict[str, np.ndarray]], None], block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 20 channels, a layer of 19 fills as many blocks: nothing but the numbers is wrong."""
    source = plain_chain(tmp_path / "net.onnx", channels=(20, 32))
    put_layers = stand_ins.put_layers

    def spoil(model: ir.Model, *rest: Any) -> None:
        put_layers(model, *rest)
        node = next(node for node in model.graph.all_nodes() if node.domain == op.BLOCKED_DOMAIN)
        values = [value for value in node.inputs[1:5] if value is not None and value.const_value is not None]
        layer = {str(value.name).rpartition(".")[2]: value.const_value.numpy() for value in values}
        fault(layer)
        for value, array in zip(values, layer.values(), strict=True):
            value.const_value = ir.tensor(array, name=value.name)
            value.shape = ir.Shape(array.shape)

    monkeypatch.setattr("sn_deploy.optimise.run.put_layers", spoil)
    with pytest.raises(CheckFailedError, match=r"the optimised graph differs by .* \(relative L2\)") as error:
        optimise(source, tmp_path / "here.onnx")
    assert error.value.exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_external_data_on_both_sides(block: int, tmp_path: Path) -> None:
    source = plain_chain(tmp_path / "small.onnx", channels=(64, 64))
    model = onnx.load(source)
    source.unlink()
    onnx.save(model, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=64)
    report = optimise(tmp_path / "net.onnx", tmp_path / "here.onnx", external_data=True)
    assert report.data_path is not None
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(["net.onnx", "net.data", "here.onnx", report.data_path.name])
    assert report.proof.rel_l2 < 1e-6
    whole = optimise(tmp_path / "net.onnx", tmp_path / "here.onnx", external_data=False)
    assert whole.data_path is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here.onnx", "net.data", "net.onnx"]
