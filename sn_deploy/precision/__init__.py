"""Half precision for ONNX files that are already there, proved against the file they were made of."""

from __future__ import annotations

from sn_deploy.precision.run import PrecisionReport, convert_precision

__all__ = ["PrecisionReport", "convert_precision"]
