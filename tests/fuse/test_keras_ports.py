"""What tf2onnx writes of ports to Keras and TensorFlow: biased variances, eps 1e-3, channels last, any order.

The graphs are made by hand after its files of such nets (`tools/keras_ports.py` makes those where TensorFlow is):
images stay (N, H, W, C) in them, and convolutions stand between transposes.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.runtime.ort import OrtSession
from tests.fuse.graphs import Graph, Layer, divided, mix
from tests.fuse.unseen import fuse
from tests.tolerances import TOLERANCES

C, CLASSES = 6, 4
ORDERS = {"published": ("in", "ln", "bn"), "batch first": ("bn", "in", "ln")}


def port(seed: int) -> Layer:
    return Layer(channels=C, eps=1e-3, ddof=0, seed=seed)


def statistics(g: Graph, x: str, layer: Layer, order: tuple[str, ...], way: str) -> tuple[str, str]:
    """Mean and variance of (N, H, W, C): by tf.nn.moments of each branch, or from the instance's as Keras ports do."""
    mean_in, var_in = g.mean(x, [1, 2]), g.var(x, [1, 2])
    if way == "moments":
        mean_ln, var_ln = g.mean(x, [1, 2, 3]), g.var(x, [1, 2, 3])
    else:
        mean_ln = g.mean(mean_in, [3])
        square = g("Add", var_in, g("Mul", mean_in, mean_in))
        var_ln = g("Sub", g.mean(square, [3]), g("Mul", mean_ln, mean_ln))
    parts = [
        {"in": first, "ln": second, "bn": g.constant(recorded.reshape(1, 1, 1, -1))}
        for first, second, recorded in ((mean_in, mean_ln, layer.running_mean), (var_in, var_ln, layer.running_var))
    ]
    return mix(g, layer.w, parts[0], order), mix(g, layer.v, parts[1], order)


def conv(g: Graph, x: str, weight: np.ndarray, **attributes) -> str:
    """A convolution of Keras, between tf2onnx's transposes."""
    first = g("Transpose", x, perm=[0, 3, 1, 2])
    return g("Transpose", g("Conv", first, g.constant(weight), **attributes), perm=[0, 2, 3, 1])


def net(layers: list[Layer], order: tuple[str, ...], way: str, shape: tuple) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    g = Graph(opset=13)
    x = "x"
    for index, layer in enumerate(layers):
        x = conv(
            g, x, rng.normal(size=(C, 3 if not index else C, 3, 3)) / 5, pads=[1, 1, 1, 1], strides=[2 - index] * 2
        )
        mean, var = statistics(g, x, layer, order, way)
        scaled = g("Mul", divided(g, x, mean, var, layer.eps), g.constant(layer.scale))
        x = g("Add", scaled, g.constant(layer.bias))
        if not index:
            x = g("Relu", x)
    pooled = g.reduce("ReduceMean", x, [1, 2], keepdims=0)
    y = g("MatMul", pooled, g.constant(rng.normal(size=(C, CLASSES))))
    return g.model(y, shape, (shape[0], CLASSES))


def keras(x: np.ndarray, layers: list[Layer]) -> np.ndarray:
    """The same net in float64 NumPy, on (N, H, W, C)."""
    rng = np.random.default_rng(0)
    x = x.astype(np.float64)
    for index, layer in enumerate(layers):
        weight = (rng.normal(size=(C, 3 if not index else C, 3, 3)) / 5).astype(np.float32).astype(np.float64)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, :: 2 - index, :: 2 - index]
        x = np.einsum("nhwcij,ocij->nhwo", windows, weight)
        moments = {axes: (x.mean(axes, keepdims=True), x.var(axes, keepdims=True)) for axes in ((1, 2), (1, 2, 3))}
        parts = {"in": moments[1, 2], "ln": moments[1, 2, 3], "bn": (layer.running_mean, layer.running_var)}
        mean = sum(layer.w[branch] * parts[branch][0] for branch in parts)
        var = sum(layer.v[branch] * parts[branch][1] for branch in parts)
        x = (x - mean) / np.sqrt(var + 1e-3) * layer.scale + layer.bias
        x = np.maximum(x, 0) if not index else x
    return x.mean((1, 2)) @ rng.normal(size=(C, CLASSES)).astype(np.float32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("way", ["moments", "instance"])
@pytest.mark.parametrize("shape", [("n", 12, 10, 3), ("n", "h", "w", 3)])
def test_both_orders_are_found_and_compute_what_keras_does(order, way, shape, tmp_path: Path):
    layers = [port(1), port(2)]
    onnx.save(net(layers, ORDERS[order], way, shape), tmp_path / "keras.onnx")
    report = fuse(tmp_path / "keras.onnx", tmp_path / "fused.onnx", strict=True)
    assert [found.channels_last for found in report.layers] == [True, True]
    assert report.forms == {"SwitchNormRelu": 1, "SwitchNorm": 1}
    for found, layer in zip(report.layers, layers, strict=True):
        truth = layer.folded.as_float32()
        assert found.folded.ddof == 0
        for name in ("mean_in", "mean_ln", "var_in", "var_ln"):
            assert getattr(found.folded, name) == pytest.approx(getattr(truth, name), rel=1e-5), name
        np.testing.assert_allclose(found.folded.var_offset, truth.var_offset, rtol=1e-5)
    x = np.random.default_rng(3).normal(0.5, 1.5, (3, 12, 10, 3)).astype(np.float32)
    expected = keras(x, layers)
    for native in (False, True):
        with OrtSession(tmp_path / "fused.onnx", native=native) as session:
            (y,) = session.run({"x": x}).values()
        assert np.linalg.norm(y - expected) < TOLERANCES["float32"].rel_l2 * np.linalg.norm(expected)


@pytest.mark.parametrize("fault", [{"eps": 1e-5}, {"ddof": 1}])
def test_another_eps_or_divisor_is_told_from_the_ports(fault, tmp_path: Path):
    """The planted fault: what is found of a port isn't what a layer with the published eps or divisor would be."""
    layers = [port(1), port(2)]
    onnx.save(net(layers, ORDERS["published"], "moments", ("n", 12, 10, 3)), tmp_path / "keras.onnx")
    report = fuse(tmp_path / "keras.onnx", tmp_path / "fused.onnx", strict=True)
    x = np.random.default_rng(4).normal(0.5, 0.1, (2, C, 3, 3))
    for found, layer in zip(report.layers, layers, strict=True):
        expected, other = layer.folded.evaluate(x), replace(layer, **fault).folded.evaluate(x)
        np.testing.assert_allclose(found.folded.evaluate(x), expected, rtol=1e-4, atol=1e-4)
        assert np.abs(other - expected).max() > 1e-3
