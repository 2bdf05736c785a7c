"""Finds files that would be right for some sizes alone.

torch proves what is asked of dynamic axes, notes it as guards, and then loses them in two places. What a model's own
code asks may leave an axis one size (``int(height / 8)`` takes the example's), and it stays a symbol all the same. And
`torch.onnx.export` decomposes operators, some by the example's size (adaptive pooling: a plain one where the sides
divide). Here the guards are tried at other sizes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sympy  # type: ignore[import-untyped]
import torch

from sn_deploy.errors import SnDeployError

Symbols = Mapping[sympy.Symbol, int]
Changes = tuple[Callable[[int], int], ...]

# Sizes to try, of the example's. What strides by up to 64 takes for another size is far from it; the last keeps the
# remainder for every stride, window and patch there is. No net is run at them.
NEAR: Final[Changes] = (lambda size: size + 1, lambda size: size + 7)
FAR: Final[Changes] = (
    lambda size: size * 2,
    lambda size: size * 3,
    lambda size: size + 64,
    lambda size: size + 224,
    lambda size: size + 2**9 * 3**2 * 5 * 7,
)
# For what has a largest size, such as a table of positions.
SMALLER: Final[Changes] = (lambda size: size // 2, lambda size: size // 4, lambda size: size - 64)

# Sizes from 1, and about the example's, among which one is looked for that a guard doesn't hold of.
_SMALL: Final = 65


@dataclass(frozen=True)
class SizeLimit:
    """What the model's code asked of its dynamic sizes, with a yes or a no that the file holds for all of them.

    Attributes:
        text: in the names of the axes: ``batch <= 4``.
        beyond: axis -> size, of the axes that it is about: nearest to the example's where it isn't so.
        is_of_one: it was whether a size is 1, which torch asks of every convolution, too.
    """

    text: str
    beyond: Mapping[str, int]
    is_of_one: bool


class SizeWatch:
    """The guards on dynamic sizes of an exported program, before and after it becomes ONNX.

    Args:
        program: as `torch.export` made it.
        names: of its inputs, in order.
        axes: input name -> {axis: name} of the dynamic axes.
    """

    def __init__(
        self, program: torch.export.ExportedProgram, names: Sequence[str], axes: Mapping[str, Mapping[int, str]]
    ) -> None:
        self._program = program
        values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        modes = (getattr(value, "fake_mode", None) for value in values.values())
        self._environment: Any = next((mode.shape_env for mode in modes if mode is not None), None)
        self._before = [guard for guard in self._guards() if not _fails(guard, self._example())]
        tensors = [values[name] for name in program.graph_signature.user_inputs if name in values]
        tensors = [tensor for tensor in tensors if isinstance(tensor, torch.Tensor)]
        self._symbols: dict[str, tuple[str, int, str]] = {}
        if len(tensors) == len(names):
            for name, tensor in zip(names, tensors, strict=True):
                for axis, called in axes.get(name, {}).items():
                    self._symbols.setdefault(str(tensor.shape[axis]), (name, axis, called))

    def verify_model(self) -> None:
        """Refuses a model whose code leaves a dynamic axis no size but the example's.

        Raises:
            SnDeployError: with the input and the axis.
        """
        if not self._before:
            return
        free = [
            sizes for sizes in self._others((*FAR, *SMALLER)) if not any(_fails(guard, sizes) for guard in self._before)
        ]
        for symbol, size in self._example().items():
            if str(symbol) in self._symbols and all(sizes[symbol] == size for sizes in free):
                name, axis, called = self._symbols[str(symbol)]
                raise SnDeployError(
                    f"the model fixes axis {axis} ({called}) to {size}",
                    where=f"input {name!r}",
                    expected="code that works for any size",
                    mend="give an example so large that no size in the model is 1, which torch takes for fixed; make "
                    "the axis static; or mend the model (int() of a quotient takes the example's)",
                )

    def limits(self) -> list[SizeLimit]:
        """What the model's code asked of sizes of dynamic axes: the most telling first."""
        example = {symbol: size for symbol, size in self._example().items() if str(symbol) in self._symbols}
        found = []
        for guard in dict.fromkeys(self._before):
            symbols = [symbol for symbol in guard.free_symbols if symbol in example]
            if not symbols or len(symbols) < len(guard.free_symbols):
                continue
            beyond = next(
                (
                    sizes
                    for sizes in _nearest(guard, {symbol: example[symbol] for symbol in symbols})
                    if _fails(guard, sizes)
                ),
                None,
            )
            if beyond is not None:
                distance = max(abs(size - example[symbol]) / example[symbol] for symbol, size in beyond.items())
                named = {self._symbols[str(symbol)][2]: size for symbol, size in beyond.items()}
                is_of_one = isinstance(guard, sympy.Unequality) and guard.rhs == 1
                found.append((distance, SizeLimit(self._in_names_of_axes(guard), named, is_of_one)))
        return [limit for _, limit in sorted(found, key=lambda one: (one[1].is_of_one, one[0]))]

    def _in_names_of_axes(self, guard: sympy.Basic) -> str:
        is_relation = isinstance(guard, sympy.core.relational.Relational)
        text = f"{guard.lhs} {guard.rel_op} {guard.rhs}" if is_relation else str(guard)
        for symbol, (_, _, called) in self._symbols.items():
            text = re.sub(rf"\b{re.escape(symbol)}\b", called, text)
        return text

    def verify_decomposition(self) -> None:
        """Refuses what was decomposed since in a way that holds for some sizes alone.

        Raises:
            SnDeployError: with the axes and, where it is known, the operator.
        """
        known = set(self._before)
        environment = self._environment
        sources = {} if environment is None else {guard.expr: guard for guard in reversed(environment.guards)}
        added = [guard for guard in dict.fromkeys(self._guards()) if guard not in known]
        added = [guard for guard in added if not _chooses_a_kernel(sources[guard])]
        if not added:
            return
        # Larger ones alone: an operator may ask for a smallest size.
        for sizes in self._others((*NEAR, *FAR)):
            if any(_fails(guard, sizes) for guard in self._before):
                continue  # the model's own code doesn't take these
            for guard in added:
                if _fails(guard, sizes):
                    raise self._refusal(guard, _operator(sources[guard]))

    def _example(self) -> Symbols:
        environment = self._environment
        # Torch's own, under the name that older ones gave it, too.
        values = getattr(environment, "backed_var_to_val", None) or getattr(environment, "var_to_val", {})
        return {symbol: int(value) for symbol, value in values.items()}

    def _others(self, how: Changes) -> Iterator[Symbols]:
        """Other sizes than the example's: of all axes, then of each alone and of those that go together."""
        example = self._example()
        groups = [*({symbol} for symbol in example), *self._tied()]
        for change in how:
            changed = {symbol: max(change(size), 2) for symbol, size in example.items()}
            yield changed
            for group in groups:
                yield {**example, **{symbol: changed[symbol] for symbol in group}}

    def _tied(self) -> list[set[sympy.Symbol]]:
        """Axes that the model's own code sets equal, as the batch of two inputs: neither has another size alone."""
        groups: list[set[sympy.Symbol]] = []
        for guard in self._before:
            if isinstance(guard, sympy.Equality) and len(guard.free_symbols) > 1:
                joined = [group for group in groups if group & guard.free_symbols]
                groups = [group for group in groups if group not in joined]
                groups.append(guard.free_symbols.intersection(self._example()).union(*joined))
        return groups

    def _guards(self) -> list[sympy.Basic]:
        return [guard.expr for guard in self._environment.guards] if self._environment is not None else []

    def _refusal(self, guard: sympy.Basic, operator: str) -> SnDeployError:
        symbols = map(str, guard.free_symbols)
        names = sorted({self._symbols[symbol][2] for symbol in symbols if symbol in self._symbols})
        operators = dict.fromkeys(
            str(node.target).removeprefix("aten.").partition(".")[0]
            for node in self._program.graph.nodes
            if node.op == "call_function" and "adaptive" in str(node.target)
        )
        subject = " and ".join(operators) or operator
        return SnDeployError(
            f"torch exports {subject} for the example's size alone, so the file would be wrong at others",
            where=f"dynamic axis {' and '.join(names)}" if names else "--dynamic",
            mend="make these axes static, or compute it by operators that take any size",
        )


def _nearest(guard: sympy.Basic, example: Symbols) -> Iterator[Symbols]:
    """Other sizes of one axis of the guard after the other, from the example's outwards."""
    constants = [int(number) for number in guard.atoms(sympy.Integer)]
    for symbol, size in example.items():
        near = {*range(1, _SMALL), *range(max(size - _SMALL, 1), size + _SMALL), 2 * size}
        near |= {constant + step for constant in constants for step in (-1, 0, 1) if constant + step > 0}
        for other in sorted(near - {size}, key=lambda one: abs(one - size)):
            yield {**example, symbol: other}


def _chooses_a_kernel(guard: Any) -> bool:
    """Whether a convolution asked this to choose one of torch's own kernels, as for a batch from 16 on one thread.

    The file is the same with each of them. What a convolution can't take is asked of the model before, too.
    """
    return "_select_conv_backend" in (getattr(_place(guard), "line", None) or "")


def _operator(guard: Any) -> str:
    """The operator that asked, by the function of torch that stands for it; a guard's text where there is none."""
    place = _place(guard)
    return getattr(place, "name", None) or f"an operator that needs {guard.expr}"


def _place(guard: Any) -> Any:
    """Where in torch's code a guard was made: a `traceback.FrameSummary`, or None where torch doesn't say."""
    return getattr(getattr(guard, "sloc", None), "framework_loc", None)


def _fails(guard: sympy.Basic, sizes: Symbols) -> bool:
    try:
        value = guard.xreplace({symbol: sympy.Integer(size) for symbol, size in sizes.items()})
    except ZeroDivisionError:  # too small
        return True
    return bool(value == sympy.false)
