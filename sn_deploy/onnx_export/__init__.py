"""From a trained torch model with SN layers to one ONNX file that is proved against it."""

from __future__ import annotations

from sn_deploy.onnx_export.proof import Proof
from sn_deploy.onnx_export.report import ExportedLayer, ExportReport
from sn_deploy.onnx_export.run import export

__all__ = ["ExportReport", "ExportedLayer", "Proof", "export"]
