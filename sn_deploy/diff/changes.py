"""What `diff` found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sn_deploy.printed import Printed

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True)
class Change:
    """A property that differs; None where a file doesn't have it."""

    before: str | None
    after: str | None


@dataclass(frozen=True)
class WeightChange:
    """A weight that both files have under one name, with other values.

    Attributes:
        what: ``values``, or the shapes and types where these differ.
        max_abs, rel_l2: of the difference; None where the shapes differ, and of text.
    """

    what: str
    max_abs: float | None
    rel_l2: float | None


@dataclass(frozen=True)
class WeightsDiff:
    """Initializers and Constant nodes, by name.

    Attributes:
        same: how many have the same name, shape, type and values.
        renamed: name before -> name after, of weights whose shape, type and values are the same.
        changed: name -> how.
        removed, added: name -> bytes.
    """

    same: int
    renamed: Mapping[str, str]
    changed: Mapping[str, WeightChange]
    removed: Mapping[str, int]
    added: Mapping[str, int]


@dataclass(frozen=True)
class OutputDiff:
    """What an output does on the same random input.

    Attributes:
        before, after: its name in each file.
        shape: of the values compared.
        max_abs, rel_l2, cosine: of the second file's against the first's.
        nonfinite: elements that are NaN or infinite in one and not the same in the other.
        tolerance: the largest rel_l2 that passes for the same.
    """

    before: str
    after: str
    shape: tuple[int, ...]
    max_abs: float
    rel_l2: float
    cosine: float
    nonfinite: int
    tolerance: float

    @property
    def same(self) -> bool:
        """Within the tolerance."""
        return self.nonfinite == 0 and self.rel_l2 <= self.tolerance


@dataclass(frozen=True, repr=False)
class FileDiff(Printed):
    """The differences of two files.

    Attributes:
        properties: size, nodes, opset, producer and so on -> before and after, of those that differ.
        ops: operator -> nodes before and after, of those whose number differs; subgraphs included.
        inputs, outputs: name -> before and after, as text, of those that differ.
        weights: initializers and constants.
        numerics: each output on random input, None where nothing was run; ``inputs_run`` says on what, and
            ``why_larger`` why open axes of it aren't as small as they are at first, None where they are.
        drawn: outputs of the first file that weren't compared, as one of the files draws them anew in each run.
        different: why the files aren't the same to whoever runs them; empty where they are.
    """

    properties: Mapping[str, Change]
    ops: Mapping[str, tuple[int, int]]
    inputs: Mapping[str, Change]
    outputs: Mapping[str, Change]
    weights: WeightsDiff
    numerics: tuple[OutputDiff, ...] | None
    inputs_run: Mapping[str, str]
    different: tuple[str, ...]
    why_larger: str | None = None
    drawn: tuple[str, ...] = ()

    def _line(self) -> str:
        return "; ".join(self.different) or "the same, as far as can be seen"

    def _print(self, console: Console) -> None:
        from sn_deploy.diff.show import print_diff

        print_diff(console, self)
