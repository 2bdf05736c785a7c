"""Names that users give a graph's inputs and outputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.names import taken_names


def given_names(argument: str, names: object) -> tuple[str, ...] | None:
    """What users give as names: one, or several in order; None stays None.

    Args:
        argument: its name, for messages.

    Raises:
        SnDeployError: something among them is no name, or two are the same.
    """
    if names is None or isinstance(names, str):
        listed: tuple[object, ...] | None = None if names is None else (names,)
    elif isinstance(names, Iterable):
        listed = tuple(names)
    else:
        raise SnDeployError(f"is a {type(names).__name__}", where=argument, expected="a list of names")
    if listed is None:
        return None
    found = [name for name in listed if isinstance(name, str) and name]
    if len(found) != len(listed) or len(set(found)) != len(found):
        raise SnDeployError(f"is {list(listed)!r:.200}", where=argument, expected="names, none of them twice")
    return tuple(found)


def refuse_names_twice(inputs: Collection[str], outputs: Iterable[str]) -> None:
    """Refuses an output that is called as an input is.

    Raises:
        SnDeployError: with the name.
    """
    for name in outputs:
        if name in inputs:
            raise SnDeployError(f"{name!r} is an input's name", where="output_names", expected="another")


def name_outputs(model: ir.Model, names: Sequence[str | None]) -> None:
    """Names outputs as the user's model does. Changes ``model``.

    What the model has no name for, or one that something else in the graph has, keeps the exporter's.

    Args:
        names: in order.
    """
    outputs = list(model.graph.outputs)
    if len(outputs) != len(names):
        return
    taken = taken_names(model)
    for value, name in zip(outputs, names, strict=True):
        if name is None or name in taken or value.is_graph_input() or value.is_initializer():
            continue
        taken.add(name)
        value.name = name


def check_count(names: Sequence[str] | None, model: ir.Model) -> None:
    """Refuses names that are more or fewer than the graph's outputs.

    Raises:
        SnDeployError: with both numbers.
    """
    outputs = len(model.graph.outputs)
    if names is not None and len(names) != outputs:
        raise SnDeployError(f"has {len(names)} names", where="output_names", expected=f"{outputs}, one for each output")
