"""Comparing backends: accuracy and latency. Only `backends` knows which runners there are.

`check` is `sn-deploy check` for a model and data in memory; what it takes and gives is here beside it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sn_deploy.lazy import lazy_names, listed

if TYPE_CHECKING:
    from sn_deploy.check.data.open import DataOptions
    from sn_deploy.check.data.transform import ImageOptions
    from sn_deploy.check.job import Bisect, Latency
    from sn_deploy.check.layers.comparison import LayerTolerance
    from sn_deploy.check.limits import Limits
    from sn_deploy.check.result import CheckResult
    from sn_deploy.check.run_from_python import check

__all__ = ["Bisect", "CheckResult", "DataOptions", "ImageOptions", "Latency", "LayerTolerance", "Limits", "check"]

# Parts of this package are used where there is no ONNX Runtime, and in processes whose start is part of every call.
__getattr__ = lazy_names(
    __name__,
    {
        "Bisect": "sn_deploy.check.job",
        "CheckResult": "sn_deploy.check.result",
        "DataOptions": "sn_deploy.check.data.open",
        "ImageOptions": "sn_deploy.check.data.transform",
        "Latency": "sn_deploy.check.job",
        "LayerTolerance": "sn_deploy.check.layers.comparison",
        "Limits": "sn_deploy.check.limits",
        "check": "sn_deploy.check.run_from_python",
    },
)
__dir__ = listed(globals())
