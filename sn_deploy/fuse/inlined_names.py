"""Names that ONNX Runtime gives to what it inlines, in files that it optimised."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import onnx_ir as ir

_INLINED: Final = "_inlfunc_"


def rename_inlined(model: ir.Model) -> None:
    """Gives other names to values that bear those which ONNX Runtime gives when it inlines a function.

    It wrote them into a file that it optimised. Such a file with functions again can't be loaded: names would be there
    twice.
    """
    values = [value for node in model.graph.all_nodes() for value in node.outputs if value.name]
    taken = {value.name for value in [*values, *model.graph.inputs, *model.graph.initializers.values()]}
    outputs = set(model.graph.outputs)
    for value in values:
        if value in outputs or not (value.name or "").startswith(_INLINED):
            continue
        wanted = (value.name or "").removeprefix(_INLINED)
        name = next(text for text in _numbered(wanted) if text not in taken)
        taken.add(name)
        value.name = name


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{count}" for count in itertools.count(2))
