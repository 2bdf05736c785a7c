"""Convolutions and SN layers as one node, as the benchmarks' trial has them: found, and right over the host."""

from __future__ import annotations

import ctypes
import importlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

from sn_deploy.runtime.cuda import Addresses, Problem
from sn_deploy.runtime.ort import OrtSession
from tests.gpu.device import library_of
from tests.gpu.expansions import BENCHMARKS, exported, fused_convolutions


@pytest.mark.parametrize("adds", [True, False])
def test_a_fused_node_gives_what_its_two_gave(adds: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    trial = importlib.import_module("trial_convolution")
    path = tmp_path / "block.onnx"
    model, (x, residual) = exported(adds, path)
    half = {
        info.name: tensor.numpy().astype(info.dtype)
        for info, tensor in zip(OrtSession(path, native=True).inputs, (x, residual), strict=True)
    }
    (wanted,) = OrtSession(path, native=True).run(half).values()

    (node,) = fused_convolutions().fused(model).graph.node
    assert node.op_type == ("SwitchNormConvolutionAddRelu" if adds else "SwitchNormConvolution")
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    parameters = [np.ascontiguousarray(values[name]) for name in node.input[1:5]]
    weight = np.ascontiguousarray(values[node.input[5]].reshape(128, 64))
    last = [tensor.half().permute(0, 2, 3, 1).contiguous() for tensor in (x, residual)]
    y = torch.full((2, 3, 4, 128), float("nan"), dtype=torch.float16)
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    assert attributes.pop("plugin_namespace") == b""
    convolution = trial.Convolution(64, attributes.pop("stride"), 6, 7)
    problem = Problem(
        *(2, 128, 12),
        dtype="float16",
        layout="channels last",
        stored_channels=128,
        epilogue="add relu" if adds else "none",
        **attributes,
    )
    addresses = Addresses(
        last[0].data_ptr(),
        *(array.ctypes.data_as(ctypes.c_void_p).value for array in parameters),
        y=y.data_ptr(),
        residual=last[1].data_ptr() if adds else 0,
    )
    kernels = trial.ConvolutionKernels(library.with_name("libsn_deploy_convolution_host.so"))
    tactics = kernels.convolution_tactics(problem, convolution)
    kernels.launch_convolution(problem, addresses, weight.ctypes.data, convolution, tactics[0])
    found = y.permute(0, 3, 1, 2).float().numpy()
    assert np.linalg.norm(found - wanted) <= 2e-3 * np.linalg.norm(wanted)  # of halves, once and twice rounded


def test_what_no_kernel_takes_stays_as_it_is(tmp_path: Path) -> None:
    fused = fused_convolutions().fused
    model, _ = exported(True, tmp_path / "block.onnx")

    def ops_of(changed: onnx.ModelProto) -> list[str]:
        return [node.op_type for node in fused(changed).graph.node]

    def with_attribute(name: str, values: list[int]) -> onnx.ModelProto:
        changed = onnx.ModelProto()
        changed.CopyFrom(model)
        (conv,) = (node for node in changed.graph.node if node.op_type == "Conv")
        kept = [one for one in conv.attribute if one.name != name]
        del conv.attribute[:]
        conv.attribute.extend([*kept, helper.make_attribute(name, values)])
        return changed

    both = ["Conv", "SwitchNormAddRelu"]
    assert ops_of(model) == ["SwitchNormConvolutionAddRelu"]
    assert [node.op_type for node in model.graph.node] == both  # the file that was given is left alone
    assert ops_of(with_attribute("pads", [1, 1, 1, 1])) == both
    assert ops_of(with_attribute("strides", [2, 1])) == both

    read_twice = onnx.ModelProto()
    read_twice.CopyFrom(model)
    (conv,) = (node for node in read_twice.graph.node if node.op_type == "Conv")
    read_twice.graph.output.append(helper.make_tensor_value_info(conv.output[0], onnx.TensorProto.FLOAT16, None))
    assert ops_of(read_twice) == both

    biased = onnx.ModelProto()
    biased.CopyFrom(model)
    (conv,) = (node for node in biased.graph.node if node.op_type == "Conv")
    conv.input.append("bias")
    assert ops_of(biased) == both
