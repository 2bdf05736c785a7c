"""Names that ONNX Runtime gives to what it inlines, in files that it optimised."""

from __future__ import annotations

from typing import Final

import onnx_ir as ir

from sn_deploy.graph.names import taken_names, unused

_INLINED: Final = "_inlfunc_"


def rename_inlined(model: ir.Model) -> None:
    """Gives other names to values that bear those which ONNX Runtime gives when it inlines a function.

    It wrote them into a file that it optimised. Such a file with functions again can't be loaded: names would be there
    twice.
    """
    taken, outputs = taken_names(model), set(model.graph.outputs)
    for node in model.graph.all_nodes():
        for value in node.outputs:
            if value not in outputs and value.name and value.name.startswith(_INLINED):
                value.name = unused(value.name.removeprefix(_INLINED), taken)
