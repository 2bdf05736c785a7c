from __future__ import annotations

import pytest

from tests.native.library import library_path, why_no_library


@pytest.fixture(scope="session")
def library() -> str:
    """Path of the custom-op library; the test is skipped where there is none."""
    path = library_path()
    if path is None:
        pytest.skip(why_no_library())
    return path
