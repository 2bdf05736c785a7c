"""Shapes as people read them."""

from __future__ import annotations

import pytest

from sn_deploy.shape_text import shape_text


@pytest.mark.parametrize(
    ("dims", "text"),
    [
        (["batch", 3, 224, 224], "batch×3×224×224"),
        ([1, None, "height//2"], "1×?×height//2"),
        (["N", 8, "floor((floor((H-1)/2)+1-1)/2)+1"], "N×8×?"),
        ([], "scalar"),
    ],
)
def test_shapes(dims: list[int | str | None], text: str) -> None:
    assert shape_text(dims) == text
