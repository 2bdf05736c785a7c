"""What an ONNX file's outputs are made of, and so in which precision it computes."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from sn_deploy.check.backends.onnx_file import read_facts
from sn_deploy.check.backends.read_values import read_values
from tests.check.small_net import small_net
from tests.cli.command import run

_CALLS = """
<ir_version: 10, opset_import: ["": 20, "own": 1]>
g (float[n] x, float[n] spare) => (float[n] y)
<float[1] used = {1.0}, float[1] ignored = {2.0}, float[1] dead = {3.0}, float[1] inner = {4.0}>
{
  a = own.outer (x, used, ignored)
  b = Add (x, dead)
  flag = Constant <value = bool {1}> ()
  y = If (flag) <
    then_branch = then_graph () => (float[n] t) { unread = Add (a, dead)  t = Mul (a, inner) },
    else_branch = else_graph () => (float[n] e) { e = Identity (x) }
  >
}
<domain: "own", opset_import: ["": 20, "own": 1]>
outer (p, q, r) => (s) { s = inner (p, r, q)  lost = Add (s, r) }
<domain: "own", opset_import: ["": 20]>
inner (p, q, r) => (s) { lost = Add (p, q)  s = Add (p, r) }
"""


def test_calls_and_subgraphs_are_followed() -> None:
    text = _CALLS.replace("s = inner (", "s = own.inner (")
    read = read_values(onnx.parser.parse_model(text))
    assert read >= {"x", "y", "a", "used", "inner", "flag"}
    assert not read & {"ignored", "dead", "b", "spare", "lost"}


def test_functions_that_call_themselves_or_go_deep_read_everything() -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["": 20, "own": 1]>
        g (float[n] x, float[n] z) => (float[n] y) { y = own.f0 (x, z) }
        <domain: "own", opset_import: ["": 20, "own": 1]> f0 (p, q) => (s) { s = own.f0 (p, q) }
    """)
    assert read_values(model) == {"x", "y", "z"}
    for number in range(2000):
        function = model.functions[0]
        other = model.functions.add()
        other.CopyFrom(function)
        other.name = f"f{number + 1}"
        other.node[0].op_type = f"f{number + 2}"
    model.functions[0].node[0].op_type = "f1"
    assert read_values(model) == {"x", "y", "z"}


@pytest.mark.parametrize("place", ["initializer", "constant", "input"])
def test_what_nothing_reads_loosens_no_tolerance(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    onnx.save(small_net(), "net.onnx")

    def spoil(tensors: dict[str, object]) -> None:
        tensors["conv2.weight"] = tensors["conv2.weight"] * 1.01  # type: ignore[operator]

    other = small_net(spoil=spoil)  # type: ignore[arg-type]
    wide = onnx.helper.make_tensor("wide", onnx.TensorProto.BFLOAT16, [100_000], bytes(200_000), raw=True)
    if place == "initializer":
        other.graph.initializer.append(wide)
    elif place == "constant":
        other.graph.node.insert(0, onnx.helper.make_node("Constant", [], ["wide"], value=wide))
    else:
        other.graph.input.append(onnx.helper.make_tensor_value_info("wide", onnx.TensorProto.BFLOAT16, [100_000]))
    onnx.save(other, "other.onnx")
    assert read_facts(Path("other.onnx")).precision == "float32"
    if place != "input":
        code, _, err = run(
            capsys, "check", "net.onnx", "other.onnx", "--data", "random", "--limit", "4", "--no-latency"
        )
        assert code == 1
        assert "<= 1e-05" in err
