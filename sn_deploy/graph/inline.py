"""A file of standard operators alone, for runtimes that expand no local functions (OpenVINO among them)."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from onnxscript.optimizer import fold_constants

from sn_deploy.errors import SnDeployError
from sn_deploy.graph import op
from sn_deploy.graph.inference import quiet_passes
from sn_deploy.graph.inference_hidden import hidden_nodes
from sn_deploy.graph.random_nodes import draws
from sn_deploy.graph.shape_parts import write_plain_shapes
from sn_deploy.onnx_nodes import is_standard

# What is folded may leave more to fold.
_FOLDINGS: Final = 2

# What onnxscript makes of these where it knows the parts is of another rank, or of a newer opset. Theirs stay.
_SEQUENCES: Final = frozenset({"ConcatFromSequence", "SequenceAt", "SequenceConstruct", "SplitToSequence"})

_KIND: Final = ir.AttributeType
# Kinds of attributes by which two nodes can be told apart.
_COMPARED: Final = (_KIND.FLOAT, _KIND.FLOATS, _KIND.INT, _KIND.INTS, _KIND.STRING, _KIND.STRINGS, _KIND.TENSOR)
_MARK: Final = "sn_deploy.apart"


def inline(model: ir.Model) -> None:
    """Puts the body of SwitchNorm in the place of each call. Changes ``model``; no operator of ours is left.

    What each call's attributes and static shapes make constant is folded, half of the body's nodes: the runtimes that
    inlined files are for don't all do it themselves.

    Raises:
        SnDeployError: an operator of our domain has no function in the file.
    """
    common_passes.InlinePass()(model)
    left = [node for node in model.graph.all_nodes() if node.domain == op.DOMAIN]
    if left:
        raise SnDeployError(
            f"{left[0].op_type} has no function body in the file, so it can't be inlined", where=f"node {left[0].name}"
        )
    model.opset_imports.pop(op.DOMAIN, None)
    outputs = list(model.graph.outputs)
    _fold(model)
    # Of an output that is there twice, folding takes an Identity away before the one and not before the other.
    for place, value in enumerate(outputs):
        model.graph.outputs[place] = model.graph.outputs[outputs.index(value)]
    _drop_needless(model)
    write_plain_shapes(model)


def _fold(model: ir.Model) -> None:
    """As onnxscript's optimizer, without its rewriting: that finds nothing in our bodies, changes what else is in the
    graph, and tries each of its rules at each node by way of all nodes."""
    sequences = [node for node in model.graph.all_nodes() if is_standard(node) and node.op_type in _SEQUENCES]
    for _ in range(_FOLDINGS):
        with hidden_nodes(model, sequences):
            fold_constants(model, onnx_shape_inference=True, should_fold=lambda node: False if _stays(node) else None)
        common_passes.RemoveUnusedNodesPass()(model)
    with quiet_passes():  # of weights that are inputs, too, it is told that they stay
        for tidy in (
            common_passes.RemoveUnusedOpsetsPass(),
            common_passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            common_passes.LiftSubgraphInitializersToMainGraphPass(),
            common_passes.DeduplicateInitializersPass(),
            _merge_equal_nodes,
            common_passes.NameFixPass(),
        ):
            tidy(model)


def _stays(node: ir.Node) -> bool:
    """Whether a node is to be computed in each run: of text onnxscript makes constants that can't be written."""
    values = (value for value in (*node.inputs, *node.outputs) if value is not None)
    return draws(node) or any(value.dtype == ir.DataType.STRING for value in values)


def _merge_equal_nodes(model: ir.Model) -> None:
    """Makes one node of those that compute the same. For the time a mark each is on those that onnx_ir would take for
    such wrongly, as they draw numbers or may do so, and on those that hold what it can't compare."""
    apart = [node for node in model.graph if not _may_be_one(node)]
    own = [dict(node.attributes) for node in apart]
    for place, node in enumerate(apart):
        for name in own[place]:
            del node.attributes[name]
        node.attributes[_MARK] = ir.AttrInt64(_MARK, place)
    common_passes.CommonSubexpressionEliminationPass()(model)
    for node, attributes in zip(apart, own, strict=True):
        del node.attributes[_MARK]
        node.attributes.update(attributes)


def _may_be_one(node: ir.Node) -> bool:
    return not node.domain and not draws(node) and all(one.type in _COMPARED for one in node.attributes.values())


def _drop_needless(model: ir.Model) -> None:
    """Drops attributes that change nothing where they stand: others refuse them, as onnx2torch does ``allowzero``, and
    onnx's converter leaves ``noop_with_empty_axes`` on reductions of opsets that have no such attribute.
    """
    for node in model.graph.all_nodes():
        second = node.inputs[1] if len(node.inputs) > 1 else None
        given = ir.convenience.get_const_tensor(second) if second is not None and second.is_initializer() else None
        if given is None or second in model.graph.inputs or node.domain:
            continue
        if node.op_type == "Reshape" and 0 not in given.numpy():
            node.attributes.pop("allowzero", None)
        elif node.op_type.startswith("Reduce") and given.size:
            node.attributes.pop("noop_with_empty_axes", None)
