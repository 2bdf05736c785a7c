"""Calls of functions, made ready for libraries that put a function's nodes in the place of its calls.

onnx's inliner forgets the defaults of a function's attributes and the domains that only a function imports. Neither it
nor onnx_ir's takes a function of another opset, though its operators are the same there: the standard allows no other.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx

from sn_deploy.graph.inference_rules import schema_of
from sn_deploy.onnx_nodes import proto_nodes


def settle_calls(proto: onnx.ModelProto, names: Collection[tuple[str, str]] | None = None) -> None:
    """Writes the attributes that a call leaves to its function into the call, and gives functions the model's opsets
    where each of their operators is the same in both, and the model those that functions alone have. Changes ``proto``,
    and nothing that it computes.

    Args:
        names: domain and name of the functions; None for all.
    """
    chosen = [one for one in proto.functions if names is None or (one.domain, one.name) in names]
    functions = {(each.domain, each.name, each.overload): each for each in chosen}
    if not functions:
        return
    for nodes in (proto.graph.node, *(function.node for function in proto.functions)):
        for node in proto_nodes(nodes):
            function = functions.get((node.domain, node.op_type, node.overload))
            if function is not None:
                given = {attribute.name for attribute in node.attribute}
                node.attribute.extend(one for one in function.attribute_proto if one.name not in given)
    versions = {entry.domain: entry.version for entry in proto.opset_import}
    for function in chosen:
        for entry in function.opset_import:
            if entry.domain not in versions:
                versions[entry.domain] = entry.version
                proto.opset_import.append(entry)
            version = versions[entry.domain]
            operators = {node.op_type for node in proto_nodes(function.node) if node.domain == entry.domain}
            if version != entry.version and all(_since(name, entry) == _since(name, entry, version) != 0
                                                for name in operators):  # fmt: skip
                entry.version = version


def _since(op_type: str, entry: onnx.OperatorSetIdProto, version: int | None = None) -> int:
    """The version that brought what the operator is in the one that is imported; 0 where it isn't known."""
    schema = schema_of(entry.domain, op_type, entry.version if version is None else version)
    return 0 if schema is None else int(schema.since_version)
