"""Engines with the plugin, built and run by TensorRT on a GPU, against float64."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sn_deploy
from sn_deploy.graph.op import OP_TYPES, SWITCH_NORM, SWITCH_NORM_ADD_RELU
from sn_deploy.nn import SwitchNorm2d
from tests.cases import DTYPES, Case, cases
from tests.fused_forms import fused_roundings, inputs_of
from tests.gpu.device import Form, plain_array, stored_array
from tests.gpu.engine_access import TensorRT, array_from_tensor, tensor_from_array
from tests.gpu.test_agreement import chosen_case
from tests.native.models import operator_model
from tests.single_node import single_node_model
from tests.tolerances import TOLERANCES

if TYPE_CHECKING:
    from tests.gpu.engines import Engine

pytestmark = pytest.mark.gpu


def plugins_of(engine: Engine) -> list[dict[str, Any]]:
    return [layer for layer in engine.layers() if "Plugin" in str(layer["LayerType"])]


def expect_right(tensorrt: TensorRT, case: Case, op_type: str = SWITCH_NORM) -> None:
    model = operator_model(op_type, case.folded, case.x.shape, case.dtype)
    engine = tensorrt.engine(model)
    assert len(plugins_of(engine)) == 1, engine.layers()
    assert fused_roundings(op_type, tensorrt.run(engine, inputs_of(op_type, case))["Y"], case) <= 1


@pytest.mark.parametrize("op_type", OP_TYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 64, 28, 28), (1, 13, 7, 9)], ids=str)
def test_one_layer(tensorrt: TensorRT, shape: tuple[int, ...], dtype: str, op_type: str) -> None:
    expect_right(tensorrt, chosen_case(shape, dtype), op_type)


@pytest.mark.parametrize("shape", [(3, 40), (2, 24, 50), (1, 16, 4, 5, 6), (1, 1, 2, 1)], ids=str)
def test_every_rank(tensorrt: TensorRT, shape: tuple[int, ...]) -> None:
    for dtype in ("float32", "float16"):
        expect_right(tensorrt, chosen_case(shape, dtype), SWITCH_NORM_ADD_RELU)


@settings(max_examples=12)
@given(case=cases(min_batch=1), op_type=st.sampled_from(OP_TYPES))
def test_drawn_cases(tensorrt: TensorRT, case: Case, op_type: str) -> None:
    expect_right(tensorrt, case, op_type)


FORMATS = [
    ((2, 24, 9, 8), "float16", "HWC8", 8),
    ((2, 21, 9, 8), "float16", "HWC8", 8),
    ((2, 21, 9, 8), "bfloat16", "HWC8", 8),
    ((2, 21, 9, 8), "float32", "HWC", 1),
    ((1, 21, 3, 4, 5), "float16", "DHWC8", 8),
    ((1, 21, 3, 4, 5), "float32", "DHWC", 1),
]


@pytest.mark.parametrize(("shape", "dtype", "name", "padded_to"), FORMATS)
def test_formats(tensorrt: TensorRT, shape: tuple[int, ...], dtype: str, name: str, padded_to: int) -> None:
    # Inputs and outputs are exactly in the plugin's own format, so no reformat hides what it reads and writes.
    case = chosen_case(shape, dtype)
    form = Form(SWITCH_NORM_ADD_RELU, "channels last", padded_to)
    inputs = inputs_of(SWITCH_NORM_ADD_RELU, case)
    chosen = getattr(tensorrt.trt.TensorFormat, name)
    model = operator_model(SWITCH_NORM_ADD_RELU, case.folded, shape, dtype)
    engine = tensorrt.engine(model, formats=dict.fromkeys((*inputs, "Y"), chosen))
    assert [layer["LayerType"] for layer in engine.layers()] == [plugins_of(engine)[0]["LayerType"]], engine.layers()
    memory = {key: tensor_from_array(stored_array(array, form)).cuda() for key, array in inputs.items()}
    memory["Y"] = torch.full_like(memory["X"], float("nan"))
    engine.bind_raw(dict.fromkeys(inputs, shape), memory)
    torch.cuda.synchronize()
    engine.enqueue()
    torch.cuda.synchronize()
    y = plain_array(array_from_tensor(memory["Y"]), shape, form)
    assert fused_roundings(SWITCH_NORM_ADD_RELU, y, case) <= 1


def test_dynamic_shapes(tensorrt: TensorRT) -> None:
    case = chosen_case((8, 48, 40, 33), "float16")
    model = operator_model(SWITCH_NORM, case.folded, ["batch", 48, "height", "width"], "float16")
    shapes = [{"X": ((1, 48, 1, 2), (4, 48, 20, 20), (8, 48, 40, 33))}]
    engine = tensorrt.engine(model, shapes=shapes)
    for n, h, w in [(4, 20, 20), (1, 1, 2), (8, 40, 33), (3, 7, 11), (1, 40, 1), (2, 20, 20)]:
        own = Case(case.folded, np.ascontiguousarray(case.x[:n, :, :h, :w]))
        assert fused_roundings(SWITCH_NORM, tensorrt.run(engine, {"X": own.x})["Y"], own) <= 1, (n, h, w)


def test_an_empty_batch(tensorrt: TensorRT) -> None:
    case = chosen_case((4, 16, 5, 5), "float32")
    model = operator_model(SWITCH_NORM, case.folded, ["batch", 16, 5, 5], "float32")
    engine = tensorrt.engine(model, shapes=[{"X": ((0, 16, 5, 5), (2, 16, 5, 5), (4, 16, 5, 5))}])
    for n in (0, 4):
        own = Case(case.folded, case.x[:n])
        assert fused_roundings(SWITCH_NORM, tensorrt.run(engine, {"X": own.x})["Y"], own) <= 1


def bound(tensorrt: TensorRT, shape: tuple[int, ...]) -> tuple[Engine, Case]:
    case = chosen_case(shape, "float16")
    engine = tensorrt.engine(operator_model(SWITCH_NORM, case.folded, shape, "float16"))
    engine.bind({"X": torch.from_numpy(case.x).cuda()})
    torch.cuda.synchronize()
    return engine, case


def test_a_cuda_graph(tensorrt: TensorRT) -> None:
    engine, case = bound(tensorrt, (2, 64, 28, 28))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        engine.enqueue()  # TensorRT asks for one run before a capture
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        engine.enqueue()
    y = engine.tensors["Y"]
    expected = y.clone()
    for _ in range(20):
        y.fill_(float("nan"))
        graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(y, expected)
    assert fused_roundings(SWITCH_NORM, array_from_tensor(y), case) <= 1


def test_two_contexts_at_the_same_time(tensorrt: TensorRT) -> None:
    first, case = bound(tensorrt, (4, 128, 28, 28))
    contexts = [first, first.second_context(), first.second_context()]
    streams = [torch.cuda.Stream() for _ in contexts]
    for context in contexts[1:]:
        context.bind({"X": torch.from_numpy(case.x).cuda()})
    torch.cuda.synchronize()
    for _ in range(50):
        for context, stream in zip(contexts, streams, strict=True):
            with torch.cuda.stream(stream):
                context.enqueue()
    torch.cuda.synchronize()
    outputs = [context.tensors["Y"] for context in contexts]
    assert all(torch.equal(y, outputs[0]) for y in outputs)
    assert fused_roundings(SWITCH_NORM, array_from_tensor(outputs[0]), case) <= 1


def test_a_timing_cache(tensorrt: TensorRT) -> None:
    case = chosen_case((2, 64, 28, 28), "float16")
    model = operator_model(SWITCH_NORM, case.folded, case.x.shape, "float16")
    first = tensorrt.api.build(model, tensorrt.api.Recipe())
    second = tensorrt.api.build(model, tensorrt.api.Recipe(cache=first.cache))
    outputs = [tensorrt.run(tensorrt.api.Engine(made.plan), {"X": case.x})["Y"] for made in (first, second)]
    # The same tactic: the same bits.
    assert outputs[0].tobytes() == outputs[1].tobytes()


class Block(torch.nn.Module):
    """Two convolutions with SN, a ReLU inside, and the residual's sum and ReLU behind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.sn1 = SwitchNorm2d(channels)
        self.conv2 = torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.sn2 = SwitchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.sn1(self.conv1(x)))
        return torch.relu(self.sn2(self.conv2(y)) + x)


def small_net(channels: int) -> torch.nn.Sequential:
    """Looks trained: no statistic or weight at what it began with."""
    torch.manual_seed(3)
    stem = torch.nn.Conv2d(3, channels, 3, stride=2, padding=1, bias=False)
    net = torch.nn.Sequential(stem, SwitchNorm2d(channels), torch.nn.ReLU(), Block(channels), Block(channels)).eval()
    for name, tensor in net.state_dict().items():
        if "conv" not in name and not name.startswith("0."):
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    return net


# In half precision each of the net's layers rounds; its relative error is some units of roundoff (tests/tolerances.py).
@pytest.mark.parametrize(("precision", "dtype"), [("fp32", "float32"), ("fp16", "float16"), ("bf16", "bfloat16")])
@pytest.mark.parametrize("channels", [32, 20])
def test_a_net(tensorrt: TensorRT, tmp_path: Path, channels: int, precision: str, dtype: str) -> None:
    net = small_net(channels)
    x = torch.randn(2, 3, 48, 48)
    path = tmp_path / "net.onnx"
    own = {"opset": 22} if precision == "bf16" else {}  # the first opset with a convolution in bfloat16
    sn_deploy.export(net, x, path, precision=precision, keep_io_types=True, **own)
    engine = tensorrt.engine(onnx.load(path))
    assert len(plugins_of(engine)) == 5, [layer["LayerType"] for layer in engine.layers()]
    (y,) = tensorrt.run(engine, {engine.inputs[0]: x.numpy()}).values()
    with torch.no_grad():
        exact = net.double()(x.double()).numpy()
    error = np.linalg.norm(y - exact) / np.linalg.norm(exact)
    allowed = {"float32": TOLERANCES["float32"].rel_l2}.get(dtype, 8 * TOLERANCES[dtype].roundoff)
    assert error <= allowed, f"relative L2 {error:.2e}"


# --- In processes of their own: other ways of loading, and none -----------------------------------------------------


def in_process(folder: Path, case: Case, **request: Any) -> tuple[dict[str, Any], np.ndarray | None]:
    np.savez(folder / "inputs.npz", X=case.x)
    outputs = folder / "outputs.npz"
    outputs.unlink(missing_ok=True)
    request = {"inputs": folder / "inputs.npz", "outputs": outputs, "plan": folder / "engine.plan", **request}
    command = [sys.executable, "-m", "tests.gpu.engine_process", json.dumps(request, default=str)]
    # Without the package's own plugin: what isn't loaded here by its path must not be there.
    own = {**os.environ, "SN_DEPLOY_NATIVE": "0"}
    result = subprocess.run(command, env=own, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    answer = json.loads(result.stdout.splitlines()[-1])
    return answer, np.load(outputs)["Y"] if outputs.exists() else None


@pytest.fixture
def exported(tmp_path: Path) -> tuple[Path, Case]:
    case = chosen_case((2, 32, 14, 14), "float16")
    onnx.save(single_node_model(case.folded, case.x.shape, "float16"), tmp_path / "model.onnx")
    return tmp_path / "model.onnx", case


@pytest.mark.parametrize("by", ["load_library", "dlopen"])
def test_loaded_either_way(tensorrt: TensorRT, exported: tuple[Path, Case], by: str) -> None:
    path, case = exported
    answer, y = in_process(path.parent, case, model=path, plugin=tensorrt.library, by=by)
    assert "refused" not in answer, answer
    assert sum("Plugin" in layer for layer in answer["layers"]) == 1
    assert y is not None
    assert fused_roundings(SWITCH_NORM, y, case) <= 1


def test_without_the_plugin_the_function_runs(tensorrt: TensorRT, exported: tuple[Path, Case]) -> None:
    path, case = exported
    answer, y = in_process(path.parent, case, model=path)
    assert "refused" not in answer, answer
    assert not any("Plugin" in layer for layer in answer["layers"])
    assert y is not None
    assert fused_roundings(SWITCH_NORM, y, case) <= 4  # as many operators, TensorRT's own arithmetic


def test_an_engine_that_carries_the_plugin(tensorrt: TensorRT, exported: tuple[Path, Case]) -> None:
    path, case = exported
    answer, _ = in_process(
        path.parent, case, model=path, plugin=tensorrt.library, embed=tensorrt.library, host_code=True
    )
    if "lean" in answer.get("refused", "").lower():
        pytest.skip(f"version-compatible engines can't be built here: {answer['refused']}")
    assert "refused" not in answer, answer
    answer, y = in_process(path.parent, case, host_code=True)
    assert "refused" not in answer, answer
    assert y is not None
    assert fused_roundings(SWITCH_NORM, y, case) <= 1
