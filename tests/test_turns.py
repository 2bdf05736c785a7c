"""An export waits for models that run in other threads, and they for it; within a thread nothing waits."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

import pytest

from sn_deploy.turns import exporting, running_a_model

Turn = Callable[[], AbstractContextManager[None]]


def begun(pool: ThreadPoolExecutor, turn: Turn) -> tuple[Future[None], threading.Event, threading.Event]:
    """A turn in another thread: what it ends with, whether it has begun, and what lets it end."""
    inside, leave = threading.Event(), threading.Event()

    def take() -> None:
        with turn():
            inside.set()
            assert leave.wait(20)

    return pool.submit(take), inside, leave


@pytest.mark.parametrize(
    ("first", "second"), [(exporting, exporting), (exporting, running_a_model), (running_a_model, exporting)]
)
def test_the_second_waits_for_the_first(first: Turn, second: Turn) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, inside, leave = begun(pool, first)
        assert inside.wait(20)
        other, other_inside, other_leave = begun(pool, second)
        other_leave.set()
        assert not other_inside.wait(0.2)
        leave.set()
        assert other_inside.wait(20)
        one.result(20)
        other.result(20)


def test_models_run_side_by_side() -> None:
    with ThreadPoolExecutor(2) as pool:
        turns = [begun(pool, running_a_model) for _ in range(2)]
        assert all(inside.wait(20) for _, inside, _ in turns)
        for ended, _, leave in turns:
            leave.set()
            ended.result(20)


def test_a_thread_waits_for_nothing_of_its_own() -> None:
    with exporting(), running_a_model(), exporting(), running_a_model():
        pass
    with running_a_model(), exporting(), running_a_model():
        pass


def test_models_that_keep_coming_do_not_keep_an_export() -> None:
    with ThreadPoolExecutor(3) as pool:
        running, inside, leave = begun(pool, running_a_model)
        assert inside.wait(20)
        export, export_inside, export_leave = begun(pool, exporting)
        assert not export_inside.wait(0.2)
        late, late_inside, late_leave = begun(pool, running_a_model)
        assert not late_inside.wait(0.2)
        leave.set()
        assert export_inside.wait(20)
        assert not late_inside.is_set()
        for one in (export_leave, late_leave):
            one.set()
        for ended in (running, export, late):
            ended.result(20)


def test_a_failure_ends_a_turn() -> None:
    for turn in (exporting, running_a_model):
        with pytest.raises(KeyError), turn():
            raise KeyError
    with ThreadPoolExecutor(1) as pool:
        ended, inside, leave = begun(pool, exporting)
        leave.set()
        assert inside.wait(20)
        ended.result(20)
