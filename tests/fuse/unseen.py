"""`fuse` without its last step, for tests that run the file by themselves or ask nothing of what it computes: the other
process takes 0.3 s each time. tests/fuse/test_whole.py has that step."""

from __future__ import annotations

import functools

from sn_deploy import fuse as package

fuse = functools.partial(package.fuse, run=False)
