"""The times of layers, from ONNX Runtime's own profile."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.ort_profile import _with_named_bodies
from tests.check.small_net import small_net

native_only = pytest.mark.skipif(ort_library() is None, reason="the native operators were not built")
MODES = [False, pytest.param(True, marks=native_only)]


def inputs_of(session: OrtSession, size: int) -> dict[str, np.ndarray]:
    return {session.inputs[0].name: np.ones((2, 3, size, size), np.float32)}


@pytest.mark.parametrize("native", MODES)
def test_each_layer_has_its_time_in_the_order_in_which_they_run(native: bool, tmp_path: Path) -> None:
    onnx.save(small_net(), tmp_path / "net.onnx")
    with OrtSession(tmp_path / "net.onnx", threads=1, native=native) as session:
        times = session.layer_times_ms(inputs_of(session, 8))
        assert list(times) == ["sn1", "sn2"]
        assert all(value > 0 for value in times.values())
        # It was another session that was profiled: this one goes on, and nothing is left on the disk.
        session.run(inputs_of(session, 8))
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_where_it_cannot_be_told_it_is_empty(tmp_path: Path) -> None:
    net = small_net()
    with OrtSession(net.SerializeToString(), threads=1) as session:
        assert session.layer_times_ms(inputs_of(session, 8)) == {}
    onnx.save(net, tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=100)
    with OrtSession(tmp_path / "net.onnx", threads=1, native=False) as session:
        assert session.layer_times_ms(inputs_of(session, 8)) == {}
    plain = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {y = Relu(x)}'
    )
    onnx.save(plain, tmp_path / "plain.onnx")
    with OrtSession(tmp_path / "plain.onnx", threads=1) as session:
        assert session.layer_times_ms({"x": np.ones(3, np.float32)}) == {}


def test_a_body_is_named_by_its_call_and_nothing_else_is() -> None:
    net = small_net()
    named = _with_named_bodies(net)
    assert named is not None
    (body,) = [len(function.node) for function in net.functions]
    names = [node.name for node in named.graph.node if node.name.startswith("layer-")]
    assert names == [f"layer-{place}/{part}" for place in range(2) for part in range(body)]
    others = [node.op_type for node in named.graph.node if not node.name.startswith("layer-")]
    assert others == [node.op_type for node in net.graph.node if node.domain != "sn_deploy"]
    assert _with_named_bodies(named) is not None
