"""tritonclient for tools that take it along where it is: installed, or where `make triton` put it."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path


def triton_client() -> bool:
    """Whether tritonclient can be imported, now that the folder of TRITON_TEST_ROOT is searched, too.

    Behind the others: it brings older versions of libraries that are here.
    """
    if root := os.environ.get("TRITON_TEST_ROOT"):
        folder = str(Path(root, "client").resolve())
        if folder not in sys.path:
            sys.path.append(folder)
    return importlib.util.find_spec("tritonclient") is not None
