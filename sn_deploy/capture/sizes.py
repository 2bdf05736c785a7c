"""Finds files that would be right for some sizes alone.

`torch.export` proves what a model's own code asks of its dynamic axes. Then `torch.onnx.export` decomposes operators,
and some decompositions choose by the example's size (adaptive pooling: a plain one where the sides divide). torch notes
each such choice as a guard, and doesn't look at it again. Here the guards that came with the decomposition are tried at
other sizes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch

from sn_deploy.errors import SnDeployError

Symbols = Mapping[sympy.Symbol, int]


class SizeWatch:
    """The guards on dynamic sizes of an exported program, before and after it becomes ONNX."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self._program = program
        values = [node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"]
        modes = (getattr(value, "fake_mode", None) for value in values)
        self._environment: Any = next((mode.shape_env for mode in modes if mode is not None), None)
        self._before = self._guards()

    def verify(self, axes: Mapping[str, Mapping[int, str]]) -> None:
        """Refuses what was decomposed since in a way that holds for some sizes alone.

        Args:
            axes: input name -> {axis: name}, for the message.

        Raises:
            SnDeployError: with the axes and, where it is known, the operator.
        """
        known = set(self._before)
        added = [guard for guard in dict.fromkeys(self._guards()) if guard not in known]
        if not added:
            return
        example: Symbols = {symbol: int(value) for symbol, value in self._environment.backed_var_to_val.items()}
        for sizes in _other_sizes(example):
            if any(_fails(guard, sizes) for guard in self._before):
                continue  # the model's own code doesn't take these
            for guard in added:
                if _fails(guard, sizes):
                    raise self._refusal(guard, axes)

    def _guards(self) -> list[sympy.Basic]:
        return [guard.expr for guard in self._environment.guards] if self._environment is not None else []

    def _refusal(self, guard: sympy.Basic, axes: Mapping[str, Mapping[int, str]]) -> SnDeployError:
        symbols = {str(symbol) for symbol in guard.free_symbols}
        names: dict[str, None] = {}
        for node in self._program.graph.nodes:
            value = node.meta.get("val") if node.op == "placeholder" else None
            for axis, name in axes.get(node.name, {}).items():
                if isinstance(value, torch.Tensor) and str(value.shape[axis]) in symbols:
                    names[name] = None
        operators = dict.fromkeys(
            str(node.target).removeprefix("aten.").partition(".")[0]
            for node in self._program.graph.nodes
            if node.op == "call_function" and "adaptive" in str(node.target)
        )
        subject = " and ".join(operators) or "an operator"
        return SnDeployError(
            f"torch exports {subject} for the example's size alone, so the file would be wrong at others",
            where=f"dynamic axis {' and '.join(names)}" if names else "--dynamic",
            mend="make these axes static, or compute it by operators that take any size",
        )


def _other_sizes(example: Symbols) -> Iterator[Symbols]:
    """Larger sizes than the example's (what asks for a smallest size holds for them): all axes, then each alone."""
    for factor, more in ((1, 1), (2, 0), (1, 7), (3, 0), (1, 32)):
        larger = {symbol: size * factor + more for symbol, size in example.items()}
        yield larger
        for symbol in example:
            yield {**example, symbol: larger[symbol]}


def _fails(guard: sympy.Basic, sizes: Symbols) -> bool:
    value = guard.xreplace({symbol: sympy.Integer(size) for symbol, size in sizes.items()})
    return bool(value == sympy.false)
