"""The search for a small set, against what is known of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from sn_deploy.check.bisect.search import Found, smallest_set

ITEMS = [f"sn{index}" for index in range(53)]


@given(st.sets(st.sampled_from(ITEMS), min_size=1, max_size=6), st.permutations(ITEMS))
def test_exactly_what_is_needed_is_kept(needed: set[str], order: list[str]) -> None:
    asked: list[frozenset[str]] = []

    def passes(kept: frozenset[str]) -> bool:
        asked.append(kept)
        return needed <= kept

    found = smallest_set(order, passes, 1000)
    assert set(found.kept) == needed
    assert found.kept == tuple(one for one in order if one in needed)
    assert found.minimal
    assert found.runs == len(asked) == len(set(asked))  # nothing is tried twice


def test_what_is_likeliest_is_found_in_few_runs() -> None:
    found = smallest_set(ITEMS, lambda kept: {"sn0"} <= kept, 1000)
    assert found == Found(("sn0",), True, 1)
    found = smallest_set(ITEMS, lambda kept: {"sn0", "sn1"} <= kept, 1000)
    assert found == Found(("sn0", "sn1"), True, 3)
    assert smallest_set(ITEMS, lambda kept: {"sn0", "sn2", "sn40"} <= kept, 1000).runs < 40


def test_where_any_few_suffice_no_one_can_be_left_out() -> None:
    """No set is the smallest: any three do."""
    found = smallest_set(ITEMS, lambda kept: len(kept) >= 3, 1000)
    assert (len(found.kept), found.minimal) == (3, True)
    assert not any(len(rest) >= 3 for rest in without_one(found.kept))


def test_what_is_not_monotone_ends_all_the_same() -> None:
    def passes(kept: frozenset[str]) -> bool:
        return "sn7" in kept and len(kept) != 2

    found = smallest_set(ITEMS, passes, 1000)
    assert passes(frozenset(found.kept))
    assert found.minimal
    assert not any(passes(frozenset(rest)) for rest in without_one(found.kept) if rest)


def test_runs_are_bounded_and_what_passed_last_is_given() -> None:
    runs = 0

    def passes(kept: frozenset[str]) -> bool:
        nonlocal runs
        runs += 1
        return {"sn3", "sn50"} <= kept

    found = smallest_set(ITEMS, passes, 8)
    assert runs == found.runs == 8
    assert not found.minimal
    assert {"sn3", "sn50"} <= set(found.kept)
    assert smallest_set(ITEMS, passes, 0) == Found(tuple(ITEMS), False, 0)
    assert smallest_set(["one"], lambda kept: False, 5) == Found(("one",), True, 0)


def without_one(kept: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    return itertools.combinations(kept, len(kept) - 1)
