"""Graphs within graphs: two deep, and several in one attribute."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx import GraphProto, helper

from sn_deploy.onnx_nodes import proto_nodes, proto_subgraphs, subgraphs


def graph(name: str, *nodes: onnx.NodeProto) -> GraphProto:
    return helper.make_graph(list(nodes), name, [], [])


def relu(name: str) -> onnx.NodeProto:
    return helper.make_node("Relu", ["x"], [f"of {name}"], name=name)


def model() -> onnx.ModelProto:
    inner = helper.make_node("If", ["c"], ["of inner"], name="inner", then_branch=graph("deep", relu("deepest")))
    outer = helper.make_node("If", ["c"], ["of outer"], name="outer", then_branch=graph("then", relu("a"), inner))
    outer.attribute.append(helper.make_attribute("several", [graph("one", relu("b")), graph("two")]))
    return helper.make_model(graph("main", relu("first"), outer, relu("last")))


def test_of_protobuf() -> None:
    nodes = model().graph.node
    assert [one.name for one in proto_nodes(nodes)] == ["first", "outer", "a", "inner", "deepest", "b", "last"]
    assert [one.name for one in proto_subgraphs(nodes)] == ["then", "one", "two"]


def test_of_onnx_ir() -> None:
    main = ir.from_proto(model()).graph
    assert [[one.name for one in subgraphs(node)] for node in main] == [[], ["then", "one", "two"], []]


def test_a_graph_that_a_function_is_called_with_is_none() -> None:
    node = ir.Node("", "Mine", [], [ir.RefAttr("body", "given", ir.AttributeType.GRAPH)])
    assert subgraphs(node) == []
