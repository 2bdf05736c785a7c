"""Whole nets by the native operator and by the function in the file: the same after every layer and at the end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from sn_deploy.check.digits_data import load_digits_split
from sn_deploy.compare.parity import compare
from sn_deploy.graph.op import DOMAIN
from sn_deploy.models import resnetv1sn18
from sn_deploy.models.digits import load_pretrained
from sn_deploy.onnx_export import export
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.torch import array_from_tensor
from tests.randomise import randomise_
from tests.tolerances import TOLERANCES

PRECISIONS = {"fp32": "float32", "fp16": "float16"}
FORMS = {
    # The stem and the first layer of each of 8 blocks; the second, or the shortcut's where there is one; the rest.
    "resnet": {"SwitchNormRelu": 9, "SwitchNormAddRelu": 8, "SwitchNorm": 3},
    "digits": {"SwitchNormRelu": 3, "SwitchNormAddRelu": 1},
}


def resnet() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    return randomise_(resnetv1sn18(num_classes=10), seed=0).eval(), images


def digits() -> tuple[nn.Module, torch.Tensor]:
    return load_pretrained(), torch.from_numpy(load_digits_split().test_images[:32])


@dataclass(frozen=True)
class Exported:
    """A file of `export` that gives out the tensor of each of its layers too.

    Attributes:
        layers: output -> name of the layer that makes it, in the order in which they run.
        reference: the model's own output in float64.
    """

    model: onnx.ModelProto
    layers: dict[str, str]
    image: np.ndarray[Any, Any]
    dtype: str
    reference: np.ndarray[Any, Any]

    def run(self, library: str | None, model: onnx.ModelProto | None = None) -> dict[str, np.ndarray[Any, Any]]:
        """All outputs: by the functions in the file, or by the library."""
        source = (model or self.model).SerializeToString()
        native = library is not None
        with OrtSession(source, threads=2, spinning=False, native=native, custom_op_library=library) as session:
            return session.run({session.inputs[0].name: self.image})


@pytest.fixture(scope="module", params=[(net, precision) for net in (resnet, digits) for precision in PRECISIONS])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    build: Callable[[], tuple[nn.Module, torch.Tensor]]
    build, precision = request.param
    net, image = build()
    path: Path = tmp_path_factory.mktemp(build.__name__) / "net.onnx"
    report = export(net, image, path, dynamic="batch", precision=precision)
    assert report.forms == FORMS[build.__name__]
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.domain == DOMAIN]
    known = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(known.get(node.output[0]) or helper.make_empty_tensor_value_info("") for node in nodes)
    dtype = PRECISIONS[precision]
    given = array_from_tensor(image).astype(dtype)
    with torch.no_grad():
        reference = array_from_tensor(net.double()(torch.from_numpy(given.astype(np.float64))))
    return Exported(model, {node.output[0]: node.name for node in nodes}, given, dtype, reference)


def first_difference(net: Exported, one: dict[str, Any], other: dict[str, Any]) -> str | None:
    """The first layer after which two runs differ by more than the table allows; None where none does."""
    for output, layer in net.layers.items():
        assert np.isfinite(one[output]).all()
        if not compare(one[output], other[output]).rel_l2 < TOLERANCES[net.dtype].rel_l2:
            return layer
    return None


def test_the_same_after_every_layer_and_at_the_end(exported: Exported, library: str) -> None:
    functions, native = exported.run(None), exported.run(library)
    assert first_difference(exported, functions, native) is None
    (last,) = set(functions) - set(exported.layers)
    tolerance = TOLERANCES[exported.dtype].rel_l2
    assert compare(functions[last], native[last]).rel_l2 < tolerance
    for run in (functions, native):
        assert compare(exported.reference, run[last]).rel_l2 < tolerance


@pytest.mark.parametrize("position", [0, 2, -1])
def test_a_fault_is_found_in_its_layer(exported: Exported, library: str, position: int) -> None:
    spoiled = onnx.ModelProto()
    spoiled.CopyFrom(exported.model)
    node = [node for node in spoiled.graph.node if node.domain == DOMAIN][position]
    node.input[1], node.input[2] = node.input[2], node.input[1]  # scale and bias
    assert first_difference(exported, exported.run(None), exported.run(library, spoiled)) == node.name
