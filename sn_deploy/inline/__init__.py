"""Files of standard operators alone, of an older opset if that is wanted, for tools that expand no local functions."""

from __future__ import annotations

from sn_deploy.inline.opset import MAX_OPSET, MIN_OPSET
from sn_deploy.inline.run import InlineReport, inline

__all__ = ["MAX_OPSET", "MIN_OPSET", "InlineReport", "inline"]
