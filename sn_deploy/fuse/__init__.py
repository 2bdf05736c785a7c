"""From decomposed SN layers to SwitchNorm nodes, in ONNX files that any exporter wrote.

Layers are found by structure (`region`), read by behaviour (`read`, `solve`) and proved before they are replaced.
Nothing here needs torch: see docs/decisions/0006-fuse.md.
"""

from __future__ import annotations

from sn_deploy.fuse.report import FusedLayer, FuseReport, NearMiss
from sn_deploy.fuse.run import fuse
from sn_deploy.fuse.whole import WholeFile

__all__ = ["FuseReport", "FusedLayer", "NearMiss", "WholeFile", "fuse"]
