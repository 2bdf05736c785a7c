"""Layers as TensorRT's inspector gives them: reformats next to a plugin, precisions and shares."""

from __future__ import annotations

from typing import Any

import pytest

from sn_deploy.engine.layers import layer_counts, layer_rows
from sn_deploy.engine.show import layers_summary


def layer(name: str, kind: str, inputs: str, outputs: str, form: str = "Half NHWC8", **more: Any) -> dict[str, Any]:
    def tensors(names: str) -> list[dict[str, str]]:
        return [{"Name": one, "Location": "Device", "Format/Datatype": form} for one in names.split()]

    return {"Name": name, "LayerType": kind, "Inputs": tensors(inputs), "Outputs": tensors(outputs), **more}


LAYERS = [
    layer("copy in", "Reformat", "x", "x'"),
    layer("conv1", "CaskConvolution", "x'", "a", TacticName="sm90_xmma_fprop", TacticValue="0x1"),
    layer("copy before", "Reformat", "a", "a'"),
    layer("sn1", "PluginV3", "a' r", "b", TacticValue="0x0000000000000802"),
    layer("copy behind", "Reformat", "b", "b'"),
    layer("conv2", "CaskConvolution", "b'", "y"),
    "a name alone",
]


def test_a_reformat_counts_where_it_touches_a_plugin() -> None:
    rows = layer_rows([one if isinstance(one, dict) else {"Name": one} for one in LAYERS])
    assert [row.name for row in rows if row.beside_plugin] == ["copy before", "copy behind"]
    assert layer_counts(rows) == {"layers": 7, "plugins": 1, "reformats": 3, "reformats_beside_plugins": 2}
    assert [row.tactic for row in rows] == ["", "sm90_xmma_fprop", "", "cluster of 8, 0x802", "", "", ""]
    # The planted fault: wired past the plugin, none of them is next to it.
    apart = [{**one, "Inputs": [], "Outputs": []} for one in LAYERS if isinstance(one, dict)]
    assert layer_counts(layer_rows(apart))["reformats_beside_plugins"] == 0


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("0x0000000000000001", "one block, 0x1"),
        ("0x0000000000000405", "queue, 4 ahead, 0x405"),
        ("0x0000000000001003", "cooperative, 16 blocks, 0x1003"),
        ("0x0000000000000000", "0x0000000000000000"),  # none was timed
        ("0x00000000000000ff", "tactic 255, 0xff"),
        ("N/A", "N/A"),
        (None, ""),
    ],
)
def test_a_plugin_s_tactic_is_named(told: str | None, shown: str) -> None:
    (row,) = layer_rows([layer("sn1", "PluginV3", "x", "y", TacticName=None, TacticValue=told)])
    assert row.tactic == shown
    (row,) = layer_rows([layer("conv1", "CaskConvolution", "x", "y", TacticValue=told)])
    assert row.tactic == (told or "")


def test_plugins_of_others_are_not_sn_layers() -> None:
    rows = layer_rows(
        [
            {"Name": "nms", "LayerType": "PluginV2", "PluginType": "EfficientNMS_TRT"},
            {"Name": "sn1", "LayerType": "PluginV3", "PluginType": "SwitchNormAddRelu"},
            {"Name": "sn2", "LayerType": "PluginV3"},  # not named: taken for one
        ]
    )
    assert [row.is_plugin for row in rows] == [False, True, True]


@pytest.mark.parametrize(
    ("form", "precision"),
    [
        ("Row major linear FP32", "float32"),
        ("Float", "float32"),
        ("Channel major FP16 format where channel % 8 == 0", "float16"),
        ("Half NHWC8", "float16"),
        ("BFloat16", "bfloat16"),
        ("Row major linear BF16 format", "bfloat16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("FP8", "float8"),
        ("Int64", "int64"),
        ("something new", ""),
    ],
)
def test_precisions_of_every_wording(form: str, precision: str) -> None:
    (row,) = layer_rows([layer("one", "x", "a", "b", form)])
    assert row.precision == precision
    assert row.inputs == row.outputs == (form,)


@pytest.mark.parametrize("key", ["Datatype", "DataType"])
def test_types_and_formats_that_stand_apart(key: str) -> None:
    # TensorRT 11.
    tensor = {"Name": "a", key: "Half", "Format": "Channel major FP16 format where channel % 8 == 0"}
    (row,) = layer_rows([{"Name": "one", "LayerType": "x", "Inputs": [tensor], "Outputs": [tensor, {key: "Int64"}]}])
    both = "Half Channel major FP16 format where channel % 8 == 0"
    assert (row.inputs, row.outputs, row.precision) == ((both,), (both, "Int64"), "float16")


def test_formats_that_are_not_told() -> None:
    unknown = layer("one", "x", "a", "b", "N/A due to dynamic shapes")
    apart = {"Name": "two", "Outputs": [{"Datatype": "Half", "Format": "N/A due to dynamic shapes"}]}
    rows = layer_rows([unknown, apart, layer("three", "x", "b", "c")])
    assert [(row.inputs, row.outputs, row.precision) for row in rows[:2]] == [
        (("",), ("",), ""),
        ((), ("Half",), "float16"),
    ]
    assert layers_summary(rows).endswith("; TensorRT doesn't tell all formats of 1 layers")
    assert "formats of" not in layers_summary(rows[1:])


def test_shares_are_of_all_layers_that_were_timed() -> None:
    rows = layer_rows([LAYERS[1], LAYERS[3], LAYERS[5]], {"conv1": 3.0, "sn1": 1.0})  # type: ignore[list-item]
    assert [(row.ms, row.share) for row in rows] == [(3.0, 0.75), (1.0, 0.25), (None, None)]
