"""Where TensorRT's timings are kept from one build to the next."""

from __future__ import annotations

import os
import re
from pathlib import Path

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.gpu import Gpu


def timing_cache_file(tensorrt: str, gpu: Gpu) -> Path:
    """The user's own cache for a version of TensorRT and a GPU; its folder is made.

    Timings hold for one version and one kind of GPU, so each pair has a file: TensorRT refuses another's.

    Raises:
        SnDeployError: the folder can't be made.
    """
    base = os.environ.get("XDG_CACHE_HOME") or ""
    folder = None
    try:
        # The specification has relative ones ignored.
        root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
        folder = root / "sn-deploy" / "tensorrt"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # the latter of a user without a home
        raise SnDeployError(
            f"the timing cache's folder can't be made: {getattr(error, 'strerror', None) or error}",
            where=None if folder is None else str(folder),
            mend="set XDG_CACHE_HOME, name a file with --timing-cache, or do without: --no-timing-cache",
        ) from error
    parts = (tensorrt, gpu.name, gpu.compute_capability)
    return folder / ("-".join(re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in parts) + ".timings")
