"""TensorRT: engines built and run. The only importer of tensorrt and polygraphy.

Nothing here imports either before it is used. No Builder and no Runtime is made where the driver offers no GPU.
"""

from __future__ import annotations

from sn_deploy.runtime.trt.engine import Engine
from sn_deploy.runtime.trt.session import Session

__all__ = ["Engine", "Session"]
