"""Decomposed normalisation layers, node by node, as exporters, optimisers and authors have written them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sn_deploy.folded import FoldedSwitchNorm

SHAPE = (2, 6, 5, 4)

_ELEMENT = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}


@dataclass
class Graph:
    """Nodes in the making. Values are names."""

    opset: int = 17
    dtype: Any = np.float32
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    made: int = 0

    def __call__(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; gives the name of its output, or the names of its outputs."""
        self.made += 1
        names = [f"t{self.made}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(op_type, inputs, names, name=f"n{self.made}", **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, value: Any, name: str | None = None) -> str:
        """A weight: of the graph's type if it is a float."""
        array = np.asarray(value)
        array = array.astype(self.dtype) if array.dtype.kind == "f" else array
        self.made += 1
        name = name or f"w{self.made}"
        self.weights[name] = array
        return name

    def reduce(self, op_type: str, x: str, axes: Sequence[int], keepdims: int = 1) -> str:
        """A reduction, with its axes where the opset has them."""
        if self.opset >= 18 or (op_type == "ReduceSum" and self.opset >= 13):
            return self(op_type, x, self.constant(np.array(axes, np.int64)), keepdims=keepdims)
        return self(op_type, x, axes=list(axes), keepdims=keepdims)

    def mean(self, x: str, axes: Sequence[int]) -> str:
        return self.reduce("ReduceMean", x, axes)

    def var(self, x: str, axes: Sequence[int], mean: str | None = None) -> str:
        """The biased variance."""
        d = self("Sub", x, mean or self.mean(x, axes))
        return self.mean(self("Mul", d, d), axes)

    def model(self, y: str, shape: Sequence[Any] = SHAPE, out_shape: Sequence[Any] | None = None) -> onnx.ModelProto:
        """The model from ``x`` to ``y``."""
        element = _ELEMENT[np.dtype(self.dtype)]
        graph = helper.make_graph(
            self.nodes,
            "g",
            [helper.make_tensor_value_info("x", element, shape)],
            [helper.make_tensor_value_info(y, element, shape if out_shape is None else out_shape)],
            [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in self.weights.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        onnx.checker.check_model(model, full_check=True)
        return model


@dataclass(frozen=True)
class Layer:
    """A trained layer: logits of the mix in the order IN, LN, BN, and what is learned and recorded for each channel."""

    channels: int = 6
    eps: float = 1e-5
    ddof: int = 1
    branches: tuple[str, ...] = ("in", "ln", "bn")
    affine: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        object.__setattr__(self, "mean_logits", rng.normal(size=len(self.branches)))
        object.__setattr__(self, "var_logits", rng.normal(size=len(self.branches)))
        object.__setattr__(self, "scale", rng.uniform(0.5, 1.5, self.channels) * rng.choice([-1, 1], self.channels))
        object.__setattr__(self, "bias", rng.normal(size=self.channels))
        object.__setattr__(self, "running_mean", rng.normal(size=self.channels))
        object.__setattr__(self, "running_var", rng.uniform(0.5, 2, self.channels))

    def shares(self, logits: np.ndarray) -> dict[str, float]:
        powers = np.exp(logits)
        shares = dict(zip(self.branches, (powers / powers.sum()).tolist(), strict=True))
        return {branch: shares.get(branch, 0.0) for branch in ("in", "ln", "bn")}

    @property
    def w(self) -> dict[str, float]:
        return self.shares(self.mean_logits)

    @property
    def v(self) -> dict[str, float]:
        return self.shares(self.var_logits)

    @property
    def folded(self) -> FoldedSwitchNorm:
        """What must be found."""
        return FoldedSwitchNorm(
            name="truth",
            scale=self.scale if self.affine else np.ones(self.channels),
            bias=self.bias if self.affine else np.zeros(self.channels),
            mean_offset=self.w["bn"] * self.running_mean,
            var_offset=self.v["bn"] * self.running_var + self.eps,
            mean_in=self.w["in"],
            mean_ln=self.w["ln"],
            mean_bn=self.w["bn"],
            var_in=self.v["in"],
            var_ln=self.v["ln"],
            var_bn=self.v["bn"],
            ddof=self.ddof,
        )


def column(values: np.ndarray, rank: int = 4, last: bool = False) -> np.ndarray:
    """(C,) as (1, C, 1, …), or as (C,) for channels that come last."""
    return values if last else values.reshape(1, -1, *[1] * (rank - 2))


def mix(g: Graph, shares: dict[str, float], parts: dict[str, str], order: Sequence[str] = ("in", "ln", "bn")) -> str:
    """Σ share·part over the parts there are, in ``order``, with the shares as weights."""
    terms = [g("Mul", g.constant(shares[branch]), parts[branch]) for branch in order if branch in parts]
    total = terms[0]
    for term in terms[1:]:
        total = g("Add", total, term)
    return total


def published(g: Graph, x: str, layer: Layer, shape: Sequence[int], *, softmax: bool = False) -> str:
    """The authors' layer as torch writes it: a view (N, C, HW), var_ln by subtraction, the BN branch folded or not."""
    count = float(np.prod(shape[2:]))
    flat = g("Reshape", x, g.constant(np.array([shape[0], shape[1], -1], np.int64)))
    mean_in = g.mean(flat, [-1])
    var_in = g.var(flat, [-1])
    if layer.ddof:
        var_in = g("Div", g("Mul", var_in, g.constant(count)), g.constant(count - 1))
    mean_ln = g.mean(mean_in, [1])
    two = g.constant(2.0)
    var_ln = g("Sub", g.mean(g("Add", var_in, g("Pow", mean_in, two)), [1]), g("Pow", mean_ln, two))
    means, variances = {"in": mean_in, "ln": mean_ln}, {"in": var_in, "ln": var_ln}
    if "bn" in layer.branches:
        means["bn"] = g.constant(column(layer.running_mean, 3), "sn.running_mean")
        variances["bn"] = g.constant(column(layer.running_var, 3), "sn.running_var")
    if softmax:
        mean, var = (
            _softmax_mix(g, logits, parts, name)
            for logits, parts, name in (
                (layer.mean_logits, means, "sn.mean_weight"),
                (layer.var_logits, variances, "sn.var_weight"),
            )
        )
    else:
        mean, var = mix(g, layer.w, means), mix(g, layer.v, variances)
    y = g("Div", g("Sub", flat, mean), g("Sqrt", g("Add", var, g.constant(layer.eps))))
    return affine(g, g("Reshape", y, g.constant(np.array(shape, np.int64))), layer, len(shape))


def _softmax_mix(g: Graph, logits: np.ndarray, parts: dict[str, str], name: str) -> str:
    weights = g("Softmax", g.constant(logits, name), axis=0)
    terms = [
        g("Mul", g("Gather", weights, g.constant(np.array(index, np.int64)), axis=0), part)
        for index, part in enumerate(parts.values())
    ]
    return g("Sum", *terms)


def affine(g: Graph, y: str, layer: Layer, rank: int = 4, last: bool = False) -> str:
    """y·scale + bias."""
    if not layer.affine:
        return y
    scaled = g("Mul", y, g.constant(column(layer.scale, rank, last), "sn.weight"))
    return g("Add", scaled, g.constant(column(layer.bias, rank, last), "sn.bias"))


def statistics(
    g: Graph, x: str, layer: Layer, rank: int = 4, *, last: bool = False, pool: bool = False
) -> tuple[str, str]:
    """The mixed mean and variance (without eps), biased, each statistic of ``x`` itself."""
    spatial = list(range(1, rank - 1)) if last else list(range(2, rank))
    everything = list(range(1, rank))
    means, variances = {}, {}
    if "in" in layer.branches:
        if pool:
            means["in"] = g("GlobalAveragePool", x)
            d = g("Sub", x, means["in"])
            variances["in"] = g("GlobalAveragePool", g("Mul", d, d))
        else:
            means["in"], variances["in"] = g.mean(x, spatial), g.var(x, spatial)
    if "ln" in layer.branches:
        means["ln"] = g.mean(x, everything)
        variances["ln"] = g.var(x, everything, means["ln"])
    if "bn" in layer.branches:
        means["bn"] = g.constant(column(layer.running_mean, rank, last))
        variances["bn"] = g.constant(column(layer.running_var, rank, last))
    order = ("bn", "in", "ln")  # TensorFlow's port
    return mix(g, layer.w, means, order), mix(g, layer.v, variances, order)


def divided(g: Graph, x: str, mean: str, var: str, eps: float) -> str:
    return g("Div", g("Sub", x, mean), g("Sqrt", g("Add", var, g.constant(eps))))


def by_power(g: Graph, x: str, mean: str, var: str, eps: float) -> str:
    return g("Mul", g("Sub", x, mean), g("Pow", g("Add", var, g.constant(eps)), g.constant(-0.5)))


def by_half_power(g: Graph, x: str, mean: str, var: str, eps: float) -> str:
    return g("Div", g("Sub", x, mean), g("Pow", g("Add", var, g.constant(eps)), g.constant([0.5])))


def by_reciprocal(g: Graph, x: str, mean: str, var: str, eps: float) -> str:
    return g("Mul", g("Sub", x, mean), g("Reciprocal", g("Sqrt", g("Add", g.constant(eps), var))))


def by_one_over(g: Graph, x: str, mean: str, var: str, eps: float) -> str:
    return g("Mul", g("Div", g.constant(1.0), g("Sqrt", g("Add", var, g.constant(eps)))), g("Sub", x, mean))


NORMALISERS: tuple[Callable[..., str], ...] = (divided, by_power, by_half_power, by_reciprocal, by_one_over)


def folded_affine(g: Graph, x: str, mean: str, var: str, layer: Layer, rank: int = 4, last: bool = False) -> str:
    """tf.nn.batch_normalization: x·inv + (bias - mean·inv), inv = scale/root."""
    inv = g("Reciprocal", g("Sqrt", g("Add", var, g.constant(layer.eps))))
    inv = g("Mul", inv, g.constant(column(layer.scale, rank, last)))
    shift = g("Sub", g.constant(column(layer.bias, rank, last)), g("Mul", mean, inv))
    return g("Add", g("Mul", x, inv), shift)
