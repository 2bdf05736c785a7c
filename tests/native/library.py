"""Where the custom-op library that the tests of this folder run is."""

from __future__ import annotations

import os

VARIABLE = "SN_DEPLOY_ORT_LIBRARY"


def library_path() -> str | None:
    """The library to test, or None."""
    return os.environ.get(VARIABLE) or None


def why_no_library() -> str:
    """The reason that a skipped test gives."""
    return f"no custom-op library: {VARIABLE} isn't set (build it: cmake -S plugins -B build, then give its path)"
