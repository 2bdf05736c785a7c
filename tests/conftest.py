"""Settings of the whole suite."""

from __future__ import annotations

import os

from hypothesis import settings

# The same cases in every run: a run that fails can be repeated, and nobody's unrelated change fails by a new draw. To
# look for new cases: HYPOTHESIS_PROFILE=explore.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))
