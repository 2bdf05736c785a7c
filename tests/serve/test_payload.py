"""The files of a version: what is proved is what is served."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.serve.interface import Interface
from sn_deploy.serve.labels import read_labels
from sn_deploy.serve.options import ServeOptions
from sn_deploy.serve.payload import read_payload
from tests.check.small_net import small_net
from tests.engine.made_sidecar import made_sidecar, write_sidecar
from tests.test_external_data import external, model_with

_RELU = '<ir_version: 10, opset_import: ["": 20]> g (float[n, 4] x) => (float[n, 4] y) { y = Relu(x) }'


def net(location: str) -> bytes:
    made = model_with(external(location))
    output = made.graph.output[0].type.tensor_type
    for size in (1, 4, 16, 16):
        output.shape.dim.add(dim_value=size)
    content: bytes = made.SerializeToString()
    return content


@pytest.mark.parametrize("location", ["model.onnx", "./model.onnx"])
def test_data_that_would_lie_where_the_model_has_to(location: str, tmp_path: Path) -> None:
    # Another network, which would be served in the place of the one that is looked at and tried.
    (tmp_path / "model.onnx").write_bytes(bytes(4096))
    (tmp_path / "net.onnx").write_bytes(net(location))
    with pytest.raises(SnDeployError, match="as the model itself is in a repository"):
        read_payload(tmp_path / "net.onnx", [], ServeOptions("net"))


def test_other_data_is_served_with_it(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(4096))
    (tmp_path / "net.onnx").write_bytes(net("weights.bin"))
    files = read_payload(tmp_path / "net.onnx", [], ServeOptions("net")).files
    assert files == {"model.onnx": tmp_path / "net.onnx", "weights.bin": tmp_path / "weights.bin"}


def test_layers_in_standard_operators_are_noted_once(tmp_path: Path) -> None:
    model = onnx.inliner.inline_local_functions(small_net())
    onnx.save(model, tmp_path / "my net.onnx")
    told = read_payload(tmp_path / "my net.onnx", [], ServeOptions("net")).notes
    assert len(told) == 1
    assert told[0].startswith("2 SN layers are in standard operators")
    assert f"sn-deploy fuse '{tmp_path / 'my net.onnx'}' -o FILE.onnx" in told[0]
    assert read_payload(tmp_path / "my net.onnx", [], ServeOptions("net", native=False)).notes == []
    # What the note says to do ends it.
    fuse(tmp_path / "my net.onnx", tmp_path / "fused.onnx")
    told = read_payload(tmp_path / "fused.onnx", [], ServeOptions("net")).notes
    assert not any("standard operators" in note for note in told)


def test_a_model_without_sn_has_no_note_about_it(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(_RELU), tmp_path / "net.onnx")
    assert read_payload(tmp_path / "net.onnx", [], ServeOptions("net")).notes == []


def test_labels_of_two_outputs_are_two_files(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(f"{name} cat\n{name} dog\n")
    outputs = tuple(TensorInfo(name, ("N", 2), np.dtype(np.float32)) for name in ("a/b", "a_b", "c"))
    interface = Interface(outputs[:1], outputs, None)
    given = {"a/b": tmp_path / "first", "c": tmp_path / "second"}
    assert read_labels(given, interface) == {"a/b": ["first cat", "first dog"], "c": ["second cat", "second dog"]}
    with pytest.raises(SnDeployError, match="would have one file"):
        read_labels({"a/b": tmp_path / "first", "a_b": tmp_path / "second"}, interface)


def test_an_engine_whose_sidecar_does_not_say_what_it_was_built_of(tmp_path: Path) -> None:
    onnx.save(onnx.parser.parse_model(_RELU), tmp_path / "net.onnx")
    engine = tmp_path / "net.engine"
    engine.write_bytes(b"an engine")
    own = {"sha256": hashlib.sha256(b"an engine").hexdigest()}
    write_sidecar(made_sidecar(engine=own, onnx={"file": "net.onnx"}), engine)
    with pytest.raises(SnDeployError, match=r"was built from net\.onnx with other content"):
        read_payload(tmp_path / "net.onnx", [str(engine)], ServeOptions("net"))
