"""Execution contexts: made, captured and freed one at a time in a process.

Each of these may wait for the whole device, which breaks the capture of a CUDA graph that another thread is in.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.trt.library import MESSAGES, tensorrt

# Whoever holds it takes no other lock. A session that the collector frees takes it, too: hence not a plain Lock.
MAKING: Final = threading.RLock()


def make_context(handle: Any, where: str) -> Any:
    """A context of the ICudaEngine ``handle``, without memory for what is between the layers.

    Raises:
        SnDeployError: TensorRT gives none.
    """
    trt = tensorrt()
    with MAKING:
        MESSAGES.clear()
        context = handle.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
    if context is None:
        raise SnDeployError(f"TensorRT gives no execution context: {MESSAGES.reason()}", where=where)
    return context
