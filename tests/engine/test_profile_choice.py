"""Which profile of an engine a run gets, by hand-made profiles: no TensorRT is needed."""

from __future__ import annotations

import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.builder import Profile, Shapes
from sn_deploy.runtime.trt.profile_choice import check_profile, choose_profile


def batches(*three: int) -> Shapes:
    return Shapes(*((size, 3) for size in three))


def chosen(profiles: list[Profile], wanted: int | None = None, **shapes: tuple[int, ...]) -> int:
    return choose_profile(profiles, shapes, wanted, "net.engine")


@pytest.mark.parametrize(
    ("batch", "index"),
    # 8 and 64 are equally far from their geometric mean, 22.6.
    [(1, 0), (22, 0), (23, 1), (32, 1), (64, 1), (128, 1)],
)
def test_the_nearest_by_ratio(batch: int, index: int) -> None:
    profiles: list[Profile] = [{"x": batches(1, 8, 32)}, {"x": batches(16, 64, 128)}]
    assert chosen(profiles, x=(batch, 3)) == index


def test_of_equally_near_ones_the_first() -> None:
    profiles: list[Profile] = [{"x": batches(1, 16, 64)}, {"x": batches(1, 64, 64)}, {"x": batches(1, 16, 32)}]
    assert chosen(profiles, x=(32, 3)) == 0


def test_all_axes_of_all_inputs_count() -> None:
    profiles: list[Profile] = [
        {"x": Shapes((1, 1), (8, 8), (64, 64)), "y": batches(1, 8, 64)},
        {"x": Shapes((1, 1), (8, 64), (64, 64)), "y": batches(1, 32, 64)},
    ]
    assert chosen(profiles, x=(8, 8), y=(16, 3)) == 0
    assert chosen(profiles, x=(8, 32), y=(16, 3)) == 1
    assert chosen(profiles, x=(8, 16), y=(32, 3)) == 1
    assert chosen(profiles, x=(8, 16), y=(9, 3)) == 0


def test_an_empty_batch_counts_as_one() -> None:
    profiles: list[Profile] = [{"x": batches(0, 8, 8)}, {"x": batches(0, 0, 8)}]
    assert chosen(profiles, x=(0, 3)) == 1
    assert chosen(profiles, x=(8, 3)) == 0


def test_one_that_is_wanted_is_taken_where_it_fits() -> None:
    profiles: list[Profile] = [{"x": batches(1, 8, 32)}, {"x": batches(16, 64, 128)}]
    assert chosen(profiles, 1, x=(16, 3)) == 1
    assert chosen(profiles, 0, x=(32, 3)) == 0
    with pytest.raises(SnDeployError, match=r"net.engine: x 8x3 isn't in profile 1.*expected x 16x3 to 128x3\); open"):
        chosen(profiles, 1, x=(8, 3))
    with pytest.raises(SnDeployError, match=r"x 129x3 is in no profile .expected x 1x3 to 32x3 or x 16x3 to 128x3"):
        chosen(profiles, x=(129, 3))


def test_one_that_is_not_there() -> None:
    for wanted in (1, -1):
        with pytest.raises(SnDeployError, match=rf"there is no profile {wanted} .expected 0, the only one"):
            check_profile([{"x": batches(1, 8, 32)}], wanted, "net.engine")
