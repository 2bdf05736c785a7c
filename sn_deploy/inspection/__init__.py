"""What the SN layers of a file chose: read from ONNX files and checkpoints, shown as a table, a picture and JSON."""

from __future__ import annotations

from sn_deploy.inspection.layer import LayerWeights
from sn_deploy.inspection.read import layers_from_file

__all__ = ["LayerWeights", "layers_from_file"]
