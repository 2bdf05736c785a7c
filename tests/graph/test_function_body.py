"""The function bodies as a piece of ONNX: valid, its shapes known, exact where it must be, and its faults caught."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
import pytest
from onnx import helper

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.function_body import MAX_OPSET, MIN_OPSET, MOST_POSITIONS_OF_ONE_SUM, function_body
from sn_deploy.graph.layers import complete
from sn_deploy.graph.op import DOMAIN, FLOAT_ATTRIBUTES, OP_TYPES, PARAMETERS, SWITCH_NORM_ADD_RELU
from sn_deploy.runtime.ort import OrtSession
from tests.cases import DTYPES, Case, make_case
from tests.fused_forms import FUSED, fused_roundings, inputs_of
from tests.single_node import single_node_model
from tests.tolerances import roundings, switch_norm_bound

# One of each way a body is built.
RANKS: list[tuple[int, set[int]]] = [
    (2, {2}),
    (3, {3}),
    (4, {4}),
    (5, {5}),
    (2, {2, 4}),
    (4, {2, 4}),
    (2, {2, 3}),
    (3, {3, 4}),
    (5, {4, 5}),
]
SHAPES = {2: (3, 7), 3: (3, 7, 10), 4: (3, 7, 5, 4), 5: (3, 7, 2, 5, 3)}


def case(shape: tuple[int, ...], dtype: str = "float32", **kwargs: float) -> Case:
    flat = len(shape) == 2
    return make_case(
        shape,
        dtype,
        mean_weights=(0.0, 0.7, 0.3) if flat else (0.2, 0.5, 0.3),
        var_weights=(0.0, 0.6, 0.4) if flat else (0.5, 0.1, 0.4),
        **{"ddof": 1, "seed": 0, **kwargs},  # type: ignore[arg-type]
    )


def run(model: onnx.ModelProto, x: np.ndarray, threads: int = 1) -> np.ndarray:
    with OrtSession(model.SerializeToString(), threads=threads, spinning=False, native=False) as session:
        return session.run({"X": x})["Y"]


def fused_error(model: onnx.ModelProto, op_type: str, one: Case) -> float:
    """The error of a fused form in units of its bound, in ONNX Runtime by its function."""
    with OrtSession(model.SerializeToString(), threads=1, spinning=False, native=False) as session:
        return fused_roundings(op_type, session.run(inputs_of(op_type, one))["Y"], one)


def output_axes(model: onnx.ModelProto, *, data_prop: bool = False) -> list[int | str]:
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=data_prop)
    return [axis.dim_param or axis.dim_value for axis in inferred.graph.output[0].type.tensor_type.shape.dim]


@pytest.mark.parametrize("opset", range(MIN_OPSET, MAX_OPSET + 1))
@pytest.mark.parametrize(("rank", "ranks"), RANKS)
@pytest.mark.parametrize("most_positions", [None, 1000])
def test_every_opset_and_rank_is_valid_and_right(
    opset: int, rank: int, ranks: set[int], most_positions: int | None
) -> None:
    one = case(SHAPES[rank])
    axes = ["N", 7, *"DHW"[: rank - 2]]
    model = single_node_model(one.folded, axes, "float32", opset=opset, ranks=ranks, most_positions=most_positions)
    onnx.checker.check_model(model, full_check=True)
    assert roundings(run(model, one.x), one.folded, one.x) <= 1


@pytest.mark.parametrize("opset", [MIN_OPSET, 17, 18, MAX_OPSET])
@pytest.mark.parametrize(("rank", "ranks"), RANKS)
@pytest.mark.parametrize("op_type", FUSED)
def test_the_fused_forms_are_valid_and_right(opset: int, rank: int, ranks: set[int], op_type: str) -> None:
    one = case(SHAPES[rank])
    axes = ["N", 7, *"DHW"[: rank - 2]]
    model = single_node_model(one.folded, axes, "float32", op_type=op_type, opset=opset, ranks=ranks)
    onnx.checker.check_model(model, full_check=True)
    assert fused_error(model, op_type, one) <= 1


@pytest.mark.parametrize("op_type", OP_TYPES)
def test_the_interface_is_the_operators(op_type: str) -> None:
    function = function_body(20, {4}, op_type=op_type)
    assert (function.domain, function.name) == (DOMAIN, op_type)
    assert list(function.input) == ["X", *PARAMETERS, *(["residual"] if op_type == SWITCH_NORM_ADD_RELU else [])]
    assert list(function.output) == ["Y"]
    assert set(function.attribute) == {*FLOAT_ATTRIBUTES, "ddof", "plugin_namespace"}
    assert {node.domain for node in function.node} == {""}
    assert [(opset.domain, opset.version) for opset in function.opset_import] == [("", 20)]


@pytest.mark.parametrize("op_type", OP_TYPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_y_has_the_inferred_shape_of_x(rank: int, dtype: str, op_type: str) -> None:
    folded = case(SHAPES[rank]).folded
    dynamic = ["N", 7, *"DHW"[: rank - 2]]
    for axes in (dynamic, list(SHAPES[rank])):
        assert output_axes(single_node_model(folded, axes, dtype, op_type=op_type, output_shape=False)) == axes


def test_y_has_the_inferred_shape_of_x_where_ranks_are_mixed() -> None:
    # Through a Reshape, so only with the values of shapes propagated; the exporter states the shapes anyway.
    for axes in (["N", 7, "H", "W"], list(SHAPES[4])):
        model = single_node_model(case(SHAPES[4]).folded, axes, "float32", ranks={2, 4}, output_shape=False)
        assert output_axes(model, data_prop=True) == axes


@pytest.mark.parametrize(("rank", "ranks"), RANKS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_axis_but_the_channels_may_be_dynamic_and_the_batch_empty(rank: int, ranks: set[int], dtype: str) -> None:
    axes = [None, 7, *[None] * (rank - 2)]
    folded = case(SHAPES[rank]).folded
    model = single_node_model(folded, axes, dtype, ranks=ranks)
    with OrtSession(model.SerializeToString(), threads=1, native=False) as session:
        for batch, grow in ((0, 0), (1, 3), (4, 1)):
            shape = (batch, 7, *(extent + grow for extent in SHAPES[rank][2:]))
            x = case(shape, dtype, seed=batch).x
            assert roundings(session.run({"X": x})["Y"], folded, x) <= 1


@pytest.mark.parametrize(("rank", "ranks"), RANKS)
@pytest.mark.parametrize("op_type", FUSED)
def test_the_fused_forms_take_any_shape_and_dtype(rank: int, ranks: set[int], op_type: str) -> None:
    axes = [None, 7, *[None] * (rank - 2)]
    for dtype in DTYPES:
        folded = case(SHAPES[rank]).folded
        model = single_node_model(folded, axes, dtype, op_type=op_type, ranks=ranks)
        with OrtSession(model.SerializeToString(), threads=1, native=False) as session:
            for batch, grow in ((0, 0), (1, 3), (4, 1)):
                shape = (batch, 7, *(extent + grow for extent in SHAPES[rank][2:]))
                one = Case(folded, case(shape, dtype, seed=batch).x)
                assert fused_roundings(op_type, session.run(inputs_of(op_type, one))["Y"], one) <= 1


def test_no_other_operator_has_a_body() -> None:
    with pytest.raises(SnDeployError, match="sn_deploy: no operator of ours: 'SwitchNormGelu'"):
        function_body(20, {4}, op_type="SwitchNormGelu")


@pytest.mark.parametrize(
    ("opset", "ranks", "message"),
    [
        (14, {4}, "opset: opset 14 has no function body of SwitchNorm (expected 15 to 24); export with"),
        (25, {4}, "opset: opset 25 has no function body of SwitchNorm (expected 15 to 24); export with"),
        (20, set(), "SwitchNorm: no function body for X of rank [] (expected at least one rank, each 2 or more"),
        (20, {1, 4}, "SwitchNorm: no function body for X of rank [1, 4] (expected at least one rank, each 2 or more"),
    ],
)
def test_what_has_no_body_is_refused(opset: int, ranks: Collection[int], message: str) -> None:
    with pytest.raises(SnDeployError) as error:
        function_body(opset, ranks)
    assert str(error.value).startswith(message)


BATCHES = [(5, 7), (5, 33, 10), (5, 33, 14, 14), (5, 8, 3, 5, 4), (5, 64, 14, 14), (5, 2048, 7, 7)]


@pytest.mark.parametrize("shape", BATCHES)
def test_the_threads_change_no_bit(shape: tuple[int, ...]) -> None:
    one = case(shape, mean=3.0)
    model = single_node_model(one.folded, [None, *shape[1:]], "float32")
    for x in (one.x, one.x[:1]):
        assert np.array_equal(run(model, x), run(model, x, threads=2))


@pytest.mark.parametrize("shape", BATCHES)
def test_a_sample_depends_on_its_batch_only_by_rounding(shape: tuple[int, ...]) -> None:
    # ONNX Runtime sums a reduction to one value per file in another order than one to several, so LN's moments at
    # batch 1 differ in the last bits; and the order depends on a row's alignment, which is the same for all samples
    # only where C·HW is a multiple of 16.
    one = case(shape, mean=3.0)
    model = single_node_model(one.folded, [None, *shape[1:]], "float32")
    together, bound = run(model, one.x), switch_norm_bound(one.folded, one.x)
    aligned = np.prod(shape[1:]) % 16 == 0
    for size in (1, 2, 4):
        for start in range(shape[0] - size + 1):
            some = slice(start, start + size)
            difference = np.abs(run(model, one.x[some]).astype(np.float64) - together[some])
            assert (difference <= (0 if aligned and size > 1 else 2 * bound[some])).all()


def test_other_samples_of_the_batch_have_no_part_in_a_sample() -> None:
    one = case((3, 8, 14, 14))
    model = single_node_model(one.folded, one.x.shape, "float32")
    changed = one.x.copy()
    changed[1] = 1e30
    changed[2] = np.nan
    assert np.array_equal(run(model, one.x)[0], run(model, changed)[0])


@pytest.mark.parametrize("shape", [(1, 2, 512, 512), (1, 2, 64, 64, 64)])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_large_maps(shape: tuple[int, ...], mean: float) -> None:
    one = case(shape, mean=mean)
    assert roundings(run(single_node_model(one.folded, shape, "float32"), one.x), one.folded, one.x) <= 1


# Behind a ReLU half the squares are one number, whose rounding goes one way each time that it is added.
@pytest.mark.parametrize(
    ("shape", "ranks"),
    [((1, 2, 1 << 18), {3}), ((1, 2, 512, 512), {4}), ((1, 2, 512, 512), {3, 4}), ((1, 2, 128, 64, 64), {5})],
)
def test_large_maps_behind_a_relu(shape: tuple[int, ...], ranks: set[int]) -> None:
    one = case(shape)
    x = np.maximum(one.x, 0)
    assert roundings(run(single_node_model(one.folded, shape, "float32", ranks=ranks), x), one.folded, x) <= 1


def test_squares_added_in_one_go_are_caught_on_large_maps_behind_a_relu() -> None:
    one = case((1, 2, 512, 512))
    x = np.maximum(one.x, 0)
    model = single_node_model(one.folded, x.shape, "float32", most_positions=1)
    assert roundings(run(model, x), one.folded, x) > 8


@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_the_largest_maps_whose_mean_is_taken_in_one_go(mean: float) -> None:
    one = case((1, 2, 128, 128), mean=mean)
    assert one.x[0, 0].size == MOST_POSITIONS_OF_ONE_SUM
    model = single_node_model(one.folded, one.x.shape, "float32", most_positions=MOST_POSITIONS_OF_ONE_SUM)
    assert "m_in_over_2" not in {output for node in model.functions[0].node for output in node.output}
    assert roundings(run(model, one.x), one.folded, one.x) <= 1


@pytest.mark.parametrize(
    ("shape", "in_steps"),
    [((1, 7, 128, 128), False), (("N", 7, 8, 8), False), ((1, 7, 128, 129), True), ((1, 7, "H", 8), True)],
)
def test_a_file_gets_the_body_for_its_largest_map(shape: tuple[int | str, ...], in_steps: bool) -> None:
    model = single_node_model(case((1, 7, 8, 8)).folded, shape, "float32")
    del model.functions[:]
    captured = ir.serde.deserialize_model(model)
    complete(captured)
    (function,) = captured.functions.values()
    assert ("m_in_over_2" in {value.name for node in function for value in node.outputs}) == in_steps


def test_one_long_axis() -> None:
    one = case((1, 2, 1 << 18), mean=1000.0)
    assert roundings(run(single_node_model(one.folded, one.x.shape, "float32"), one.x), one.folded, one.x) <= 1


def test_one_position_with_an_unbiased_variance_is_nan_as_in_pytorch() -> None:
    folded = case((2, 7, 2, 2)).folded
    assert np.isnan(run(single_node_model(folded, (2, 7, 1, 1), "float32"), np.ones((2, 7, 1, 1), np.float32))).all()


# Planted faults: each changes one thing in a correct body of rank 4.

Fault = Callable[[onnx.FunctionProto], None]


def _node(function: onnx.FunctionProto, output: str) -> onnx.NodeProto:
    return next(node for node in function.node if output in node.output)


def _replace(function: onnx.FunctionProto, output: str, *nodes: onnx.NodeProto) -> None:
    """Puts nodes in the place of the one that makes ``output``."""
    kept = [node for node in function.node if output not in node.output]
    index = list(function.node).index(_node(function, output))
    kept[index:index] = nodes
    del function.node[:]
    function.node.extend(kept)


def _make(op: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(op, inputs.split(), [output], **attributes)


def _swap(one: str, other: str) -> Fault:
    def plant(function: onnx.FunctionProto) -> None:
        for node in function.node:
            for attribute in node.attribute:
                if attribute.ref_attr_name in (one, other):
                    attribute.ref_attr_name = other if attribute.ref_attr_name == one else one

    return plant


def _rewire(output: str, op: str, inputs: str) -> Fault:
    return lambda function: _replace(function, output, _make(op, inputs, output))


def _ln_over_the_batch(function: onnx.FunctionProto) -> None:
    _replace(function, "m_ln_axes", _make("Constant", "", "m_ln_axes", value_ints=[0, 1]))


def _stale_count(function: onnx.FunctionProto) -> None:
    _replace(function, "count", _make("Constant", "", "count", value_int=24))


def _ddof_lost(function: onnx.FunctionProto) -> None:
    _replace(function, "ddof_i", _make("Constant", "", "ddof_i", value_int=0))


def _one_pass_variance(function: onnx.FunctionProto) -> None:
    _replace(function, "d_squared", _make("Mul", "x x", "d_squared"))
    _replace(
        function,
        "s_in",
        _make("Cast", "count", "count_f", to=1),
        _make("Mul", "m_in m_in", "m_in_squared"),
        _make("Mul", "m_in_squared count_f", "squares_of_means"),
        _make("Sub", "squares squares_of_means", "squares_left"),
        _make("Div", "squares_left divisor", "s_in"),
    )


def _eps_outside_the_root(function: onnx.FunctionProto) -> None:
    _replace(function, "var", _make("Identity", "var_from_input", "var"))
    _replace(function, "deviation", _make("Sqrt", "var", "root"), _make("Add", "root var_offset_c", "deviation"))


def _half_precision(output: str) -> Fault:
    def plant(function: onnx.FunctionProto) -> None:
        node = onnx.NodeProto()
        node.CopyFrom(_node(function, output))
        node.output[0] = "precise"
        to_half = _make("Cast", "precise", "half_precise", to=10)
        _replace(function, output, node, to_half, _make("Cast", "half_precise", output, to=1))

    return plant


FAULTS: dict[str, Fault] = {
    "IN's and LN's weight of the mean swapped": _swap("mean_in", "mean_ln"),
    "IN's and LN's weight of the variance swapped": _swap("var_in", "var_ln"),
    "the mean's weights used for the variance": _swap("mean_in", "var_in"),
    "the biased variance": _ddof_lost,
    "the HW of another shape": _stale_count,
    "BN's mean lost": _rewire("shift", "Add", "own own_apart"),
    "BN's mean added with the wrong sign": _rewire("offset_below", "Identity", "mean_offset_c"),
    "BN's variance and eps lost": _rewire("var", "Identity", "var_from_input"),
    "eps outside the root": _eps_outside_the_root,
    "bias lost": _rewire("t", "Identity", "shift_scaled"),
    "scale lost": _rewire("s", "Reciprocal", "deviation"),
    "LN's variance without the spread of the means": _rewire("spread", "Identity", "s_in"),
    "LN over the batch": _ln_over_the_batch,
    "the variance as mean of squares less square of mean": _one_pass_variance,
    "the mean kept in half precision": _half_precision("m_in"),
    "the sum of squares kept in half precision": _half_precision("squares"),
}


def _cases_that_tell() -> list[Case]:
    return [
        case((3, 7, 5, 4), mean=0.5),
        case((3, 7, 5, 4), mean=1000.0),
        case((2, 5, 3, 3), mean=-2.0, deviation=0.01),
        case((2, 5, 3, 3), ddof=0),
    ]


def _worst(plant: Fault | None) -> float:
    errors = []
    for one in _cases_that_tell():
        model = single_node_model(one.folded, one.x.shape, "float32")
        if plant is not None:
            plant(model.functions[0])
            onnx.checker.check_model(model, full_check=True)
        errors.append(roundings(run(model, one.x), one.folded, one.x))
    return max(errors)


def test_the_cases_for_faults_pass_without_one() -> None:
    assert _worst(None) <= 1


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str) -> None:
    assert _worst(FAULTS[name]) > 10


def test_a_mean_taken_in_one_go_is_caught_on_large_maps() -> None:
    one = case((1, 2, 512, 512), mean=1000.0)
    model = single_node_model(one.folded, one.x.shape, "float32", most_positions=1)
    assert roundings(run(model, one.x), one.folded, one.x) > 8


FUSED_FAULTS: dict[str, Fault] = {
    "the ReLU lost": _rewire("positive", "Identity", "total"),
    "the residual lost": _rewire("total", "Identity", "y"),
    "the ReLU before the sum": lambda function: _replace(
        function, "total", _make("Relu", "y", "y_positive"), _make("Add", "y_positive residual_f", "total")
    ),
    "the layer's output rounded before the sum": _half_precision("y"),
    "the sum rounded towards another type": _half_precision("total"),
}


def _worst_fused(plant: Fault | None) -> float:
    errors = []
    for dtype in DTYPES:
        one = case((3, 7, 5, 4), dtype, mean=0.5)
        model = single_node_model(one.folded, one.x.shape, dtype, op_type=SWITCH_NORM_ADD_RELU)
        if plant is not None:
            plant(model.functions[0])
            onnx.checker.check_model(model, full_check=True)
        errors.append(fused_error(model, SWITCH_NORM_ADD_RELU, one))
    return max(errors)


def test_the_cases_for_faults_of_the_fused_forms_pass_without_one() -> None:
    assert _worst_fused(None) <= 1


@pytest.mark.parametrize("name", FUSED_FAULTS)
def test_a_planted_fault_of_the_fused_forms_is_caught(name: str) -> None:
    assert _worst_fused(FUSED_FAULTS[name]) > 10


@pytest.mark.parametrize("opset", [MIN_OPSET, MAX_OPSET])
@pytest.mark.parametrize("op_type", OP_TYPES)
@pytest.mark.parametrize(("rank", "ranks"), RANKS)
def test_the_body_is_written_as_importers_take_it(rank: int, ranks: set[int], op_type: str, opset: int) -> None:
    """What each rule is for: docs/guides/interoperability.md."""
    body = function_body(opset, ranks, op_type=op_type)
    nodes = {node.output[0]: node for node in body.node}
    # MNN and onnx2tf don't broadcast in it.
    assert "Sum" not in {node.op_type for node in body.node}
    # onnx-graphsurgeon makes doubles of plain numbers.
    plain = [one for node in body.node for one in node.attribute if one.name == "value_float"]
    assert all(one.ref_attr_name for one in plain)
    if ranks == {2}:
        return
    # pnnx loses an axis that is given alone, OpenCV takes three for others.
    for reduced in ("m_ln", "s_ln"):
        given = nodes[reduced]
        (attribute,) = (
            nodes[given.input[1]].attribute
            if len(given.input) > 1
            else [one for one in given.attribute if one.name == "axes"]
        )
        assert list(attribute.ints) == [1, 2]


@pytest.mark.parametrize("rank", [3, 4, 5])
def test_parameters_have_the_rank_of_x(rank: int) -> None:
    """onnx2tf, which moves channels last, takes the axes of lower ranks for others where the batch is open."""
    body = function_body(20, [rank])
    model = single_node_model(case(SHAPES[rank]).folded, SHAPES[rank], "float32", opset=20, ranks=[rank])
    inlined = onnx.inliner.inline_local_functions(model)
    shapes = {
        value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(inlined, data_prop=True).graph.value_info
    }
    assert {node.op_type for node in body.node} >= {"Unsqueeze"}
    made = [node.output[0] for node in inlined.graph.node if node.op_type == "Unsqueeze"]
    assert len(made) == len(PARAMETERS)
    assert all(shapes[name] == [1, 7, *[1] * (rank - 2)] for name in made)
