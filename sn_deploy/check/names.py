"""Which of one side's tensors is which of the other's: by name, else by position where that is unambiguous."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Final

from sn_deploy.errors import SnDeployError

_MOST_TO_PERMUTE: Final = 6  # 720 orders


def match_names(
    wanted: Sequence[str],
    found: Sequence[str],
    where: str,
    *,
    what: str = "input",
    fits: Callable[[str, str], bool] | None = None,
    ordered: bool = False,
) -> dict[str, str]:
    """Each wanted name with the one of ``found`` that it stands for.

    Names that are the same belong together, and so do ``batch_image`` and ``image``, where all that is left can be told
    apart like that: one parameter of a model holds several inputs. Else what is left goes by position if it is one on
    each side, if the order is known to be the same (``ordered``), or if there is only one order in which all ``fits``.

    Args:
        where: what ``found`` comes from, for errors.
        fits: whether a wanted name can stand for a found one.

    Raises:
        SnDeployError: too few, too many, or several possible orders.
    """
    matched = {name: name for name in wanted if name in found}
    rest_wanted = [name for name in wanted if name not in matched]
    rest_found = [name for name in found if name not in matched]
    if len(rest_wanted) != len(rest_found):
        raise SnDeployError(
            f"{what}s are {_listed(found)}",
            where=where,
            expected=_listed(wanted),
            mend=f"give each {what} under its name",
        )
    if not rest_wanted:
        return matched
    by_end = _by_end(rest_wanted, rest_found)
    orders = [by_end] if by_end is not None else _orders(rest_wanted, rest_found, fits, ordered)
    if len(orders) != 1:
        reason = "can be matched in several ways" if orders else "don't fit in any order"
        raise SnDeployError(
            f"{what}s {_listed(rest_found)} {reason}",
            where=where,
            expected=_listed(rest_wanted),
            mend=f"give the {what}s the same names",
        )
    both = {**matched, **dict(zip(rest_wanted, orders[0], strict=True))}
    return {name: both[name] for name in wanted}


def _by_end(wanted: list[str], found: list[str]) -> tuple[str, ...] | None:
    """For each wanted name the longest that it ends with; None where these aren't all."""
    if len(wanted) == 1:
        return None
    ends = tuple(max((one for one in found if name.endswith(f"_{one}")), key=len, default="") for name in wanted)
    return ends if "" not in ends and len(set(ends)) == len(found) else None


def _orders(
    wanted: list[str], found: list[str], fits: Callable[[str, str], bool] | None, ordered: bool
) -> list[tuple[str, ...]]:
    if ordered or len(wanted) == 1:
        return [tuple(found)]  # whether they fit is for the caller to say, who knows more about it
    if len(wanted) > _MOST_TO_PERMUTE or fits is None:
        return [tuple(found)] * 2  # more than one, for all that is known
    candidates = itertools.permutations(found)
    return [order for order in candidates if all(fits(*pair) for pair in zip(wanted, order, strict=True))]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
