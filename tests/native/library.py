"""Where the custom-op library that the tests of this folder run is."""

from __future__ import annotations

import os

from sn_deploy.runtime.native import SWITCH, ort_library

VARIABLE = "SN_DEPLOY_ORT_LIBRARY"


def library_path() -> str | None:
    """The library to test, or None."""
    own = ort_library()
    return os.environ.get(VARIABLE) or (None if own is None else str(own))


def why_no_library() -> str:
    """The reason that a skipped test gives."""
    return f"no custom-op library: it wasn't built or {SWITCH} is 0, and {VARIABLE} isn't set"
