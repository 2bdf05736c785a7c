"""Half precision and quantization for ONNX files that are already there, proved against the file they were made of."""

from __future__ import annotations

from sn_deploy.precision.quantization import QuantizeReport, quantize
from sn_deploy.precision.run import PrecisionReport, convert_precision

__all__ = ["PrecisionReport", "QuantizeReport", "convert_precision", "quantize"]
