"""What changed between two ONNX files: operators, weights, sizes, inputs and outputs, and what they compute."""

from __future__ import annotations

from sn_deploy.diff.changes import Change, FileDiff, OutputDiff, WeightChange
from sn_deploy.diff.compare import diff

__all__ = ["Change", "FileDiff", "OutputDiff", "WeightChange", "diff"]
