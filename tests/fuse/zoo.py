"""Graphs for `fuse`: layers that must be found, and others that must be left alone. Names tell what each one is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx

from tests.fuse.graphs import (
    NORMALISERS,
    SHAPE,
    Graph,
    Layer,
    affine,
    by_power,
    column,
    divided,
    folded_affine,
    mix,
    published,
    statistics,
)

Make = Callable[[], tuple[onnx.ModelProto, Layer]]

TRUE: dict[str, Make] = {}
DECOYS: dict[str, Callable[[], onnx.ModelProto]] = {}


def true(make: Make) -> Make:
    TRUE[make.__name__] = make
    return make


def decoy(make: Callable[[], onnx.ModelProto]) -> Callable[[], onnx.ModelProto]:
    DECOYS[make.__name__] = make
    return make


BIASED = Layer(ddof=0, eps=1e-3, seed=1)


@true
def published_folded():
    g, layer = Graph(), Layer()
    return g.model(published(g, "x", layer, SHAPE)), layer


@true
def published_with_softmax_opset_11():
    g, layer = Graph(opset=11), Layer(seed=2)
    return g.model(published(g, "x", layer, SHAPE, softmax=True)), layer


@true
def published_without_bn():
    g, layer = Graph(opset=18), Layer(branches=("in", "ln"), seed=3)
    return g.model(published(g, "x", layer, SHAPE)), layer


@true
def published_without_affine():
    g, layer = Graph(opset=20), Layer(affine=False, seed=4)
    return g.model(published(g, "x", layer, SHAPE)), layer


@true
def published_fp16():
    g, layer = Graph(dtype=np.float16), Layer(seed=5)
    return g.model(published(g, "x", layer, SHAPE)), layer


@true
def published_3d():
    shape = (2, 4, 3, 4, 2)
    g, layer = Graph(), Layer(channels=4, seed=6)
    return g.model(published(g, "x", layer, shape), shape), layer


@true
def published_rank_3():
    shape = (2, 6, 9)
    g, layer = Graph(), Layer(seed=7)
    return g.model(published(g, "x", layer, shape), shape), layer


@true
def published_one_sample_of_one_row():
    shape = (1, 6, 1, 3)
    g, layer = Graph(), Layer(seed=7)
    return g.model(published(g, "x", layer, shape), shape), layer


def _normalised_by(normaliser: Callable[..., str]) -> Make:
    def make() -> tuple[onnx.ModelProto, Layer]:
        g = Graph()
        mean, var = statistics(g, "x", BIASED)
        return g.model(affine(g, normaliser(g, "x", mean, var, BIASED.eps), BIASED)), BIASED

    return make


TRUE.update({f"normalised_{each.__name__}": _normalised_by(each) for each in NORMALISERS})


@true
def affine_folded_into_the_root():
    g = Graph()
    mean, var = statistics(g, "x", BIASED)
    return g.model(folded_affine(g, "x", mean, var, BIASED)), BIASED


@true
def pooled_and_dynamic():
    g, shape = Graph(opset=13), ("n", 6, "h", "w")
    mean, var = statistics(g, "x", BIASED, pool=True)
    return g.model(affine(g, divided(g, "x", mean, var, BIASED.eps), BIASED), shape), BIASED


@true
def channels_last():
    g, shape = Graph(), (2, 5, 4, 6)
    mean, var = statistics(g, "x", BIASED, last=True)
    return g.model(affine(g, by_power(g, "x", mean, var, BIASED.eps), BIASED, last=True), shape), BIASED


@true
def channels_last_between_transposes():
    g = Graph()
    x = g("Transpose", g("Abs", "x"), perm=[0, 2, 3, 1])
    mean, var = statistics(g, x, BIASED, last=True)
    y = folded_affine(g, x, mean, var, BIASED, last=True)
    return g.model(g("Transpose", y, perm=[0, 3, 1, 2])), BIASED


@true
def channels_last_behind_a_transpose_of_another_kind():
    g = Graph()
    x = g("Transpose", "x", perm=[0, 3, 2, 1])  # (N, W, H, C)
    mean, var = statistics(g, x, BIASED, last=True)
    y = folded_affine(g, x, mean, var, BIASED, last=True)
    return g.model(y, out_shape=[SHAPE[axis] for axis in (0, 3, 2, 1)]), BIASED


@true
def channels_last_in_the_result_alone():
    g = Graph()
    mean, var = statistics(g, "x", BIASED)
    d = g("Transpose", g("Sub", "x", mean), perm=[0, 2, 3, 1])
    root = g("Transpose", g("Sqrt", g("Add", var, g.constant(BIASED.eps))), perm=[0, 2, 3, 1])
    y = g("Relu", affine(g, g("Div", d, root), BIASED, last=True))
    return g.model(g("Transpose", y, perm=[0, 3, 1, 2])), BIASED


@true
def mean_of_squares():
    g = Graph()
    w, v = BIASED.w, BIASED.v
    squares = g("Mul", "x", "x")
    parts: list[dict[str, str]] = [{}, {}]
    for branch, axes in (("in", [2, 3]), ("ln", [1, 2, 3])):
        mean = g.mean("x", axes)
        parts[0][branch] = mean
        parts[1][branch] = g("Sub", g.mean(squares, axes), g("Mul", mean, mean))
    parts[0]["bn"] = g.constant(column(BIASED.running_mean))
    parts[1]["bn"] = g.constant(column(BIASED.running_var))
    y = divided(g, "x", mix(g, w, parts[0]), mix(g, v, parts[1]), BIASED.eps)
    return g.model(affine(g, y, BIASED)), BIASED


@true
def sums_over_count_less_one():
    g, layer = Graph(), Layer(seed=8)
    count = float(np.prod(SHAPE[2:]))
    mean_in = g("Div", g.reduce("ReduceSum", "x", [2, 3]), g.constant(count))
    d = g("Sub", "x", mean_in)
    var_in = g("Div", g.reduce("ReduceSum", g("Mul", d, d), [2, 3]), g.constant(count - 1))
    mean_ln = g.mean(mean_in, [1])
    apart = g("Sub", mean_in, mean_ln)
    var_ln = g("Add", g.mean(var_in, [1]), g.mean(g("Mul", apart, apart), [1]))
    mean = mix(g, layer.w, {"in": mean_in, "ln": mean_ln, "bn": g.constant(column(layer.running_mean))})
    var = mix(g, layer.v, {"in": var_in, "ln": var_ln, "bn": g.constant(column(layer.running_var))})
    return g.model(affine(g, divided(g, "x", mean, var, layer.eps), layer)), layer


@true
def statistics_stacked():
    """The branches stacked along a new axis, times the shares, summed: torch.stack and einsum write this."""
    g = Graph()
    mean_in, var_in = g.mean("x", [2, 3]), g.var("x", [2, 3])
    mean_ln, var_ln = g.mean("x", [1, 2, 3]), g.var("x", [1, 2, 3])
    full = g.constant(np.array([SHAPE[0], SHAPE[1], 1, 1], np.int64))
    axis = g.constant(np.array([0], np.int64))
    mixed = []
    for parts, shares, recorded in (
        ((mean_in, mean_ln), BIASED.w, BIASED.running_mean),
        ((var_in, var_ln), BIASED.v, BIASED.running_var),
    ):
        expanded = [g("Expand", part, full) for part in (*parts, g.constant(column(recorded)))]
        stack = g("Concat", *[g("Unsqueeze", part, axis) for part in expanded], axis=0)
        weights = g.constant(np.array(list(shares.values())).reshape(3, 1, 1, 1, 1))
        mixed.append(g.reduce("ReduceSum", g("Mul", stack, weights), [0], keepdims=0))
    return g.model(affine(g, divided(g, "x", *mixed, BIASED.eps), BIASED)), BIASED


@true
def statistics_expanded():
    """The recorded statistics, or all that are mixed, in the shape of x: expand_as of torch."""
    g, layer = Graph(), replace(BIASED, seed=16)
    full = g("Shape", "x")
    parts: list[dict[str, str]] = [{}, {}]
    for branch, axes in (("in", [2, 3]), ("ln", [1, 2, 3])):
        parts[0][branch], parts[1][branch] = g.mean("x", axes), g.var("x", axes)
    parts[0]["bn"] = g("Expand", g.constant(column(layer.running_mean)), full)
    parts[1]["bn"] = g("Expand", g.constant(column(layer.running_var)), full)
    y = divided(g, "x", mix(g, layer.w, parts[0]), mix(g, layer.v, parts[1]), layer.eps)
    return g.model(affine(g, y, layer), ("n", 6, "h", "w")), layer


@true
def statistics_expanded_with_channels_last():
    g, shape = Graph(), (2, 5, 4, 6)
    mean, var = statistics(g, "x", BIASED, last=True)
    mean, var = (g("Expand", part, g.constant(np.array(shape, np.int64))) for part in (mean, var))
    return g.model(affine(g, divided(g, "x", mean, var, BIASED.eps), BIASED, last=True), shape), BIASED


@true
def variance_kept_from_below_zero():
    g = Graph()
    mean, var = statistics(g, "x", BIASED)
    return g.model(affine(g, divided(g, "x", mean, g("Relu", var), BIASED.eps), BIASED)), BIASED


@true
def variance_kept_positive():
    g, layer = Graph(), Layer(branches=("in", "ln"), ddof=0, seed=15)
    mean, var = statistics(g, "x", layer)
    return g.model(affine(g, divided(g, "x", mean, g("Max", var, g.constant(1e-12)), layer.eps), layer)), layer


@true
def half_precision_with_statistics_in_float32():
    g, layer = Graph(), replace(BIASED, seed=9)
    wide = g("Cast", "x", to=1)
    mean, var = statistics(g, wide, layer)
    y = affine(g, divided(g, wide, mean, var, layer.eps), layer)
    g.dtype = np.float16
    return g.model(g("Cast", y, to=10)), layer


@true
def vectors():
    g, layer, shape = Graph(), Layer(branches=("ln", "bn"), ddof=0, seed=10), (3, 6)
    mean, var = statistics(g, "x", layer, rank=2)
    return g.model(affine(g, divided(g, "x", mean, var, layer.eps), layer, 2), shape), layer


@true
def vectors_of_one_sample_unbiased():
    g, layer, shape = Graph(opset=18), Layer(branches=("ln", "bn"), seed=11), (1, 6)
    mean_ln = g.mean("x", [1])
    var_ln = g("Mul", g.var("x", [1], mean_ln), g.constant(6 / 5))
    mean = mix(g, layer.w, {"ln": mean_ln, "bn": g.constant(column(layer.running_mean, 2))})
    var = mix(g, layer.v, {"ln": var_ln, "bn": g.constant(column(layer.running_var, 2))})
    return g.model(affine(g, divided(g, "x", mean, var, layer.eps), layer, 2), shape), layer


@true
def instance_and_batch_alone():
    g, layer = Graph(), Layer(branches=("in", "bn"), ddof=0, seed=12)
    mean, var = statistics(g, "x", layer)
    return g.model(affine(g, divided(g, "x", mean, var, layer.eps), layer)), layer


@true
def layer_and_batch_alone():
    g, layer = Graph(), Layer(branches=("ln", "bn"), ddof=0, seed=13)
    mean, var = statistics(g, "x", layer)
    return g.model(affine(g, divided(g, "x", mean, var, layer.eps), layer)), layer


def _of_batch_norm(branches: tuple[str, ...], ddof: int) -> Layer:
    """As `sn_deploy.nn.convert` leaves a layer that was BatchNorm, of a large variance: others have nearly no share."""
    layer = Layer(branches=branches, ddof=ddof, seed=20)
    shares = np.log([5e-8] * (len(branches) - 1) + [1.0])
    larger = {"mean_logits": shares, "var_logits": shares, "running_var": 1e3 * layer.running_var}
    for name, value in larger.items():
        object.__setattr__(layer, name, value)
    return layer


@true
def small_shares():
    g, layer = Graph(), _of_batch_norm(("in", "ln", "bn"), 1)
    return g.model(published(g, "x", layer, SHAPE)), layer


@true
def vectors_with_a_small_share():
    g, layer, shape = Graph(), _of_batch_norm(("ln", "bn"), 0), (3, 6)
    mean, var = statistics(g, "x", layer, rank=2)
    return g.model(affine(g, divided(g, "x", mean, var, layer.eps), layer, 2), shape), layer


@true
def sizes_of_another_tensor():
    """Dynamic axes as torch's dynamo exporter writes them: sizes of the graph's input, for a tensor further on."""
    g, layer, shape = Graph(opset=18), BIASED, ("n", 6, "h", "w")
    n, h, w = (g("Shape", "x", start=axis, end=axis + 1) for axis in (0, 2, 3))
    c, rest = g.constant(np.array([6], np.int64)), g.constant(np.array([-1], np.int64))
    inner = g("Sigmoid", "x")
    flat = g("Reshape", inner, g("Concat", n, c, rest, axis=0))
    mean, var = statistics(g, flat, layer, rank=3)
    y = g("Reshape", divided(g, flat, mean, var, layer.eps), g("Concat", n, c, h, w, axis=0))
    return g.model(affine(g, y, layer), shape), layer


def _one_hot(mean: str, var: str, branches: tuple[str, ...]) -> Make:
    """A sparse layer that has made its choices: all branches are computed, and all but one multiplied by zero."""

    def make() -> tuple[onnx.ModelProto, Layer]:
        g, layer = Graph(), Layer(branches=branches, seed=14)
        for logits, chosen in (("mean_logits", mean), ("var_logits", var)):
            values = np.where(np.array(branches) == chosen, 0.0, -1000.0)
            object.__setattr__(layer, logits, values)
        return g.model(published(g, "x", layer, SHAPE)), layer

    return make


for _mean, _var in (("in", "ln"), ("ln", "bn"), ("bn", "in"), ("in", "in"), ("ln", "ln")):
    TRUE[f"one_hot_{_mean}_{_var}"] = _one_hot(_mean, _var, ("in", "ln", "bn"))
TRUE["one_hot_in_in_without_bn"] = _one_hot("in", "in", ("in", "ln"))
TRUE["one_hot_ln_ln_without_bn"] = _one_hot("ln", "ln", ("in", "ln"))


def _plain(
    build: Callable[[Graph], str], shape: tuple[Any, ...] = SHAPE, name: str = ""
) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        g = Graph()
        return g.model(build(g), shape)

    return make


def _norm(axes: list[int], rank: int = 4, last: bool = False) -> Callable[[Graph], str]:
    def build(g: Graph) -> str:
        mean = g.mean("x", axes)
        return affine(g, divided(g, "x", mean, g.var("x", axes, mean), 1e-5), Layer(), rank, last)

    return build


DECOYS["instance_norm"] = _plain(_norm([2, 3]))
DECOYS["layer_norm_of_the_sample"] = _plain(_norm([1, 2, 3]))
DECOYS["layer_norm_of_the_channels"] = _plain(_norm([1]))
DECOYS["layer_norm_of_the_last_axis"] = _plain(_norm([3]))
DECOYS["batch_norm_of_the_batch"] = _plain(_norm([0, 2, 3]))


DECOYS["instance_norm_of_volumes"] = _plain(_norm([2, 3, 4], 5), (2, 6, 3, 4, 2))
DECOYS["instance_norm_of_rows"] = _plain(_norm([2], 3), (2, 6, 30))
DECOYS["instance_norm_with_channels_last"] = _plain(_norm([1, 2], last=True), (2, 5, 4, 6))


@decoy
def unit_length_behind_a_bias():
    """The embedding of a face or a voice: a dense layer, its bias and the vector's length."""
    g = Graph()
    y = g("Add", "x", g.constant(Layer().bias))
    length = g("Sqrt", g("Max", g.reduce("ReduceSum", g("Mul", y, y), [-1]), g.constant(1e-12)))
    return g.model(g("Mul", y, g("Reciprocal", length)), ("n", 6))


@decoy
def instance_norm_by_rows_and_columns():
    g = Graph()
    mean = g.mean(g.mean("x", [3]), [2])
    d = g("Sub", "x", mean)
    var = g.mean(g.mean(g("Mul", d, d), [3]), [2])
    return g.model(affine(g, divided(g, "x", mean, var, 1e-5), Layer()))


@decoy
def layer_norm_from_instance_moments():
    g = Graph()
    mean_in, var_in = g.mean("x", [2, 3]), g.var("x", [2, 3])
    mean = g.mean(mean_in, [1])
    apart = g("Sub", mean_in, mean)
    var = g.mean(g("Add", var_in, g("Mul", apart, apart)), [1])
    return g.model(affine(g, divided(g, "x", mean, var, 1e-5), Layer()))


@decoy
def layer_norm_from_instance_moments_of_one_sample_without_bias():
    g, shape = Graph(), (1, 6, 5, 4)
    mean_in, var_in = g.mean("x", [2, 3]), g.var("x", [2, 3])
    mean = g.mean(mean_in, [1])
    apart = g("Sub", mean_in, mean)
    var = g.mean(g("Add", var_in, g("Mul", apart, apart)), [1])
    y = divided(g, "x", mean, var, 1e-5)
    return g.model(g("Add", y, g.constant(np.zeros((1, 6, 1, 1)))), shape)


@decoy
def group_norm():
    g = Graph()
    groups = g("Reshape", "x", g.constant(np.array([SHAPE[0], 3, -1], np.int64)))
    mean = g.mean(groups, [2])
    y = divided(g, groups, mean, g.var(groups, [2], mean), 1e-5)
    return g.model(affine(g, g("Reshape", y, g.constant(np.array(SHAPE, np.int64))), Layer()))


@decoy
def batch_instance_norm():
    g, layer = Graph(), Layer()
    mean = g.mean("x", [2, 3])
    instance = divided(g, "x", mean, g.var("x", [2, 3], mean), 1e-5)
    root = g.constant(column(np.sqrt(layer.running_var + 1e-5)))
    batch = g("Div", g("Sub", "x", g.constant(column(layer.running_mean))), root)
    rho = np.linspace(0.1, 0.9, 6)
    mixed = g("Add", g("Mul", batch, g.constant(column(rho))), g("Mul", instance, g.constant(column(1 - rho))))
    return g.model(affine(g, mixed, layer))


@decoy
def root_mean_square_norm():
    g = Graph()
    root = g("Sqrt", g("Add", g.mean(g("Mul", "x", "x"), [1]), g.constant(1e-5)))
    return g.model(g("Mul", g("Div", "x", root), g.constant(column(Layer().scale))))


def _deviant(build: Callable[[Graph, Layer, dict[str, str], dict[str, str]], str]) -> Callable[[], onnx.ModelProto]:
    """SN with the biased statistics, up to where ``build`` takes over; dynamic, so that no size hides a divisor."""

    def make() -> onnx.ModelProto:
        g, layer = Graph(), BIASED
        means = {"in": g.mean("x", [2, 3]), "ln": g.mean("x", [1, 2, 3])}
        variances = {"in": g.var("x", [2, 3], means["in"]), "ln": g.var("x", [1, 2, 3], means["ln"])}
        means["bn"] = g.constant(column(layer.running_mean))
        variances["bn"] = g.constant(column(layer.running_var))
        return g.model(affine(g, build(g, layer, means, variances), layer), ("n", 6, "h", "w"))

    return make


def _eps_outside(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    root = g("Add", g("Sqrt", mix(g, layer.v, variances)), g.constant(layer.eps))
    return g("Div", g("Sub", "x", mix(g, layer.w, means)), root)


def _no_spread(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    variances["ln"] = g.mean(variances["in"], [1])
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _squared_spread(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    variances["ln"] = g("Add", variances["ln"], g("Mul", means["ln"], means["ln"]))
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _mixed_outputs(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    outputs = {branch: divided(g, "x", means[branch], variances[branch], layer.eps) for branch in ("in", "ln")}
    return mix(g, layer.w, outputs)


def _mixed_deviations(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    roots = {branch: g("Sqrt", g("Add", var, g.constant(layer.eps))) for branch, var in variances.items()}
    return g("Div", g("Sub", "x", mix(g, layer.w, means)), mix(g, layer.v, roots))


def _clamped_mean(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    mean = g("Clip", mix(g, layer.w, means), g.constant(-0.5), g.constant(0.5))
    return divided(g, "x", mean, mix(g, layer.v, variances), layer.eps)


def _mean_below_a_limit(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    # A limit that no input reaches which layers are solved from.
    mean = g("Min", mix(g, layer.w, means), g.constant(3e4))
    return divided(g, "x", mean, mix(g, layer.v, variances), layer.eps)


def _mean_above_a_limit(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    mean = g("Max", mix(g, layer.w, means), g.constant(-3e4))
    return divided(g, "x", mean, mix(g, layer.v, variances), layer.eps)


def _variance_below_a_limit(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    variance = g("Clip", mix(g, layer.v, variances), g.constant(0.0), g.constant(1e9))
    return divided(g, "x", mix(g, layer.w, means), variance, layer.eps)


def _variance_above_a_limit(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    # The BN branch would keep it above by itself.
    layer = replace(layer, branches=("in", "ln"))
    variance = g("Max", mix(g, layer.v, variances), g.constant(1e-6))
    return divided(g, "x", mix(g, layer.w, means), variance, layer.eps)


def _other_mean(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    means["in"] = g.mean("x", [3])
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _squared_x(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    d = g("Sub", "x", mix(g, layer.w, means))
    root = g("Sqrt", g("Add", mix(g, layer.v, variances), g.constant(layer.eps)))
    return g("Div", g("Mul", d, g("Abs", d)), root)


def _batch_statistics(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    means["bn"], variances["bn"] = g.mean("x", [0, 2, 3]), g.var("x", [0, 2, 3])
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _group_branch(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    shape = g.constant(np.array([0, 3, -1], np.int64))
    repeat = g.constant(np.repeat(np.arange(3), 2))
    groups = g("Reshape", "x", shape)
    axis = g.constant(np.array([3], np.int64))
    for parts, value in ((means, g.mean(groups, [2])), (variances, g.var(groups, [2]))):
        parts["ln"] = g("Unsqueeze", g("Gather", value, repeat, axis=1), axis)
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _weights_of_the_input(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    grown = g("Exp", means["ln"])
    gate = g("Div", grown, g("Add", grown, g.constant(1.0)))
    rest = g("Sub", g.constant(1.0), gate)
    mean = g("Add", g("Mul", gate, means["in"]), g("Mul", rest, means["bn"]))
    return divided(g, "x", mean, mix(g, layer.v, variances), layer.eps)


def _absolute_deviations(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    variances["in"] = g.mean(g("Abs", g("Sub", "x", means["in"])), [2, 3])
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _largest_for_mean(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    means["in"] = g.reduce("ReduceMax", "x", [2, 3])
    return divided(g, "x", mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _rectified_before(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    return divided(g, g("Relu", "x"), mix(g, layer.w, means), mix(g, layer.v, variances), layer.eps)


def _capped_variance(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    var = g("Min", mix(g, layer.v, variances), g.constant(0.5))
    return divided(g, "x", mix(g, layer.w, means), var, layer.eps)


def _weights_by_row(g: Graph, layer: Layer, means: dict[str, str], variances: dict[str, str]) -> str:
    # The mean's share grows with the rows: the same layer nowhere.
    rows = g("Relu", g("Slice", "x", *(g.constant(np.array([value], np.int64)) for value in (0, 1, 1))))
    mean = g("Mul", mix(g, layer.w, means), g("Add", rows, g.constant(1.0)))
    return divided(g, "x", mean, mix(g, layer.v, variances), layer.eps)


# What a layer with one deviation must be refused with.
DEVIANTS = {
    "eps_outside_the_root": (_eps_outside, "eps is added outside the square root"),
    "layer_variance_without_spread": (_no_spread, "leaves out the spread of the channels' means"),
    "layer_variance_with_squared_mean": (_squared_spread, "isn't a mix of instance and layer variance"),
    "mixed_deviations": (_mixed_deviations, "what it divides by isn't the root of one mixed variance"),
    "clamped_mean": (_clamped_mean, "the mean that it subtracts isn't a mix"),
    "mean_below_a_limit": (_mean_below_a_limit, "it differs from Switchable Normalization"),
    "mean_above_a_limit": (_mean_above_a_limit, "it differs from Switchable Normalization"),
    "variance_below_a_limit": (_variance_below_a_limit, "it differs from Switchable Normalization"),
    "variance_above_a_limit": (_variance_above_a_limit, "it differs from Switchable Normalization"),
    "mean_over_another_axis": (_other_mean, "its output isn't linear in x"),
    "squared_difference": (_squared_x, "its output isn't linear in x"),
    "batch_statistics": (_batch_statistics, "depends on the rest of its batch"),
    "group_branch": (_group_branch, "the statistics of 3 groups"),
    "weights_of_the_input": (_weights_of_the_input, "the mean that it subtracts isn't a mix"),
    "absolute_deviations": (_absolute_deviations, "isn't a mix of instance and layer variance"),
    "largest_for_the_mean": (_largest_for_mean, "the mean that it subtracts isn't a mix"),
    "rectified_before": (_rectified_before, "its output isn't linear in x"),
    "capped_variance": (_capped_variance, "isn't a mix of instance and layer variance"),
    "weights_by_row": (_weights_by_row, "its output isn't linear in x"),
}
DECOYS.update({name: _deviant(build) for name, (build, _) in DEVIANTS.items()})
DECOYS["mixed_outputs"] = _deviant(_mixed_outputs)
