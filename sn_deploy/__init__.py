"""Takes trained PyTorch models with Switchable Normalization to ONNX Runtime and TensorRT, and proves the result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sn_deploy.errors import SnDeployError
from sn_deploy.lazy import lazy_names, listed

if TYPE_CHECKING:
    from sn_deploy.engine.build import BuildReport, build
    from sn_deploy.folded import FoldedSwitchNorm
    from sn_deploy.onnx_export import ExportReport, export

__version__ = "0.1.0"
__all__ = ["BuildReport", "ExportReport", "FoldedSwitchNorm", "SnDeployError", "__version__", "build", "export"]

# They need torch, or NumPy, and `sn-deploy doctor` works without either.
_NEEDS_TORCH = {"export": "sn_deploy.onnx_export", "ExportReport": "sn_deploy.onnx_export"}
_get = lazy_names(
    __name__,
    {
        "FoldedSwitchNorm": "sn_deploy.folded",
        "build": "sn_deploy.engine.build",
        "BuildReport": "sn_deploy.engine.build",
        **_NEEDS_TORCH,
    },
)
__dir__ = listed(globals())


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        from sn_deploy.runtime.torch import require_torch

        require_torch(f"sn_deploy.{name}")
    return _get(name)
