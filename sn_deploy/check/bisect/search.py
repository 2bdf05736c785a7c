"""The search: from "all of them suffice" to a set of which none can be left out, in a bounded number of runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Found:
    """What was found.

    Attributes:
        kept: items that suffice together, in the order in which they were given.
        minimal: whether it was tried to leave out each one alone, in vain.
        runs: how many sets were tried.
    """

    kept: tuple[str, ...]
    minimal: bool
    runs: int


class _NoRunsLeftError(Exception):
    pass


def smallest_set(items: Sequence[str], passes: Callable[[frozenset[str]], bool], most_runs: int) -> Found:
    """A set that passes and of which none can be left out (delta debugging: Zeller and Hildebrandt, 2002).

    First the set of the first one, two, four … items, until it passes; then halves of it are left out, quarters, and so
    on down to single ones, as long as what is left passes.

    Args:
        items: the likeliest first. All together pass, and none alone doesn't: neither is tried.
        passes: whether a set does.
        most_runs: how often it is asked at most; then the best set so far is given.
    """
    known: dict[frozenset[str], bool] = {frozenset(items): True, frozenset(): False}
    runs = 0

    def asked(chosen: Sequence[str]) -> bool:
        nonlocal runs
        key = frozenset(chosen)
        if key not in known:
            if runs >= most_runs:
                raise _NoRunsLeftError
            runs += 1
            known[key] = passes(key)
        return known[key]

    kept, minimal = list(items), False
    try:
        size = 1
        while size < len(items) and not asked(items[:size]):
            size *= 2
        kept = list(items[:size])
        chunk = max(len(kept) // 2, 1)
        while True:
            before = len(kept)
            start = 0
            while start < len(kept):
                rest = kept[:start] + kept[start + chunk :]
                if asked(rest):
                    kept = rest
                else:
                    start += chunk
            if chunk == 1 and len(kept) == before:
                break
            chunk = max(min(chunk // 2, len(kept) // 2), 1)
        minimal = True
    except _NoRunsLeftError:
        pass
    return Found(tuple(one for one in items if one in kept), minimal, runs)
