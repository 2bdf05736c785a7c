"""How far the result may be from the file as it was: ``rel_l2=1e-3``, ``top1=0.1%``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sn_deploy.arguments import limit_between
from sn_deploy.errors import SnDeployError
from sn_deploy.python_words import naming_arguments

REL_L2: Final = "rel_l2"
TOP1: Final = "top1"

_MEANING: Final = {
    REL_L2: "the relative L2 error of an output",
    TOP1: "how far the accuracy falls; without labels, the share of samples whose top class changes",
}


@dataclass(frozen=True)
class Budget:
    """The most that may change over the whole network; None for what isn't limited.

    Attributes:
        rel_l2: relative L2 error of each output.
        top1: how far the top-1 accuracy falls, 0 to 1; without labels the share of samples for which another class is
            on top, than which it can't fall further.
    """

    rel_l2: float | None = None
    top1: float | None = None

    @naming_arguments()
    def __post_init__(self) -> None:
        if self.rel_l2 is None and self.top1 is None:
            raise SnDeployError("limits nothing", where="--budget", expected="rel_l2=1e-3 or top1=0.1%")
        for name in (REL_L2, TOP1):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, limit_between(given, f"Budget.{name}", 0, 1))

    def __str__(self) -> str:
        parts = [] if self.rel_l2 is None else [f"{REL_L2} {self.rel_l2:.3g}"]
        return " and ".join([*parts, *([] if self.top1 is None else [f"{TOP1} {self.top1:.3g}"])])


def parse_budget(texts: Sequence[str]) -> Budget:
    """The budget that ``--budget``, given once or more, says.

    Raises:
        SnDeployError: one that can't be read.
    """
    limits: dict[str, float] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        where = f"--budget {text}"
        if not equals or name not in _MEANING:
            known = ", ".join(f"{key} ({meaning})" for key, meaning in _MEANING.items())
            raise SnDeployError("can't be read", where=where, expected=f"NAME=LIMIT, NAME being {known}")
        if name in limits:
            raise SnDeployError("is given twice", where=where)
        limits[name] = _number(value, where)
    return Budget(**limits)


def _number(text: str, where: str) -> float:
    percent = text.endswith("%")
    try:
        value = float(text.removesuffix("%")) / (100 if percent else 1)
    except ValueError:
        raise SnDeployError(f"{text!r} is no number", where=where, expected="such as 1e-3 or 0.1%") from None
    if not 0 <= value < 1 or math.isnan(value):
        raise SnDeployError(f"{text} is no limit", where=where, expected="0 to 1, or 0% to 100%")
    return value
