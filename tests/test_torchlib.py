"""What the suite keeps of torch's exporter is what torch would make anew."""

from __future__ import annotations

from typing import Any

import onnxscript
import pytest
import torch
from torch import nn

registration = pytest.importorskip("torch.onnx._internal.exporter._registration")


def contents(registry: Any) -> dict[object, list[tuple[object, ...]]]:
    return {
        target: [(meta.onnx_function, meta.is_custom, meta.is_complex, str(meta.signature)) for meta in metas]
        for target, metas in registry.functions.items()
    }


def test_the_table_is_torchs_own() -> None:
    make = registration.ONNXRegistry.from_torchlib
    for _ in range(2):
        made, again = make.make(), make()
        assert made.opset_version == again.opset_version
        assert contents(made) == contents(again)


def test_what_one_export_adds_is_in_no_other() -> None:
    opset = onnxscript.opset18

    def tripled(x: onnxscript.FLOAT) -> onnxscript.FLOAT:
        return opset.Add(opset.Add(x, x), x)

    def operators(table: dict[Any, Any] | None) -> set[str]:
        made = torch.onnx.export(
            nn.ReLU().eval(), (torch.ones(2),), dynamo=True, verbose=False, custom_translation_table=table
        )
        return {node.op_type for node in made.model.graph}

    assert operators(None) == {"Relu"}
    assert operators({torch.ops.aten.relu.default: tripled}) == {"Add"}
    assert operators(None) == {"Relu"}
