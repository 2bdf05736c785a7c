"""Settings of the whole suite."""

from __future__ import annotations

import gc
import os
import re
import sys
from collections.abc import Generator
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis.strategies import none

from tests.torchlib import keep_torchlib

# Set by `make test-lowest`.
OLD_LIBRARIES: Final = bool(os.environ.get("SN_TEST_OLD_LIBRARIES"))

# The same cases in every run: a run that fails can be repeated, and nobody's unrelated change fails by a new draw. To
# look for new cases: HYPOTHESIS_PROFILE=explore.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

# What older libraries say of what they lack. The suite also runs with the oldest that are allowed (`make test-lowest`):
# what they lack is no failure of ours, and is skipped in their own words.
_LACKS = re.compile(
    r"Opset \d+ is under development"
    r"|binding of ONNX Runtime \S+ passes no bfloat16"
    r"|Unknown model file format version|Unsupported model IR version"
    r"|No ONNX function found for <OpOverload\(op='(prims\.sum|aten\.adaptive_max_pool2d)'"
)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What is imported and collected stays; torch's exporter would have all of it gone through for garbage."""
    if "torch" in sys.modules:
        keep_torchlib()
    # Hypothesis warns where nobody holds its generator, and nobody is found among what is frozen: it begins before.
    given(none())(lambda _: None)()
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """What ends, ends in the usual way."""
    gc.unfreeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Skips a test that ends with the word of an old library that it lacks something."""
    try:
        return (yield)
    except Exception as error:
        lacks = _LACKS.search(str(error))
        if lacks is None or not OLD_LIBRARIES:
            raise
        pytest.skip(f"too old a library: {lacks.group()}")
