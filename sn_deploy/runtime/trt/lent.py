"""Tensors of other libraries, taken by DLPack and held until the GPU has read them."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.runtime.tensors import TensorInfo


def from_dlpack(value: Any, info: TensorInfo, where: str) -> Any:
    """What has DLPack's methods as a torch tensor of the same memory, for work on torch's current stream.

    Raises:
        SnDeployError: it has no such methods, or its library or torch refuses.
    """
    import torch

    if not hasattr(value, "__dlpack__"):
        raise SnDeployError(
            f"input {info.name} is a {type(value).__name__}",
            where=where,
            expected=f"a torch tensor or DLPack's, {info}",
        )
    try:
        return torch.from_dlpack(value)  # type: ignore[attr-defined]
    except Exception as error:  # another library's: BufferError, as DLPack asks, and all else
        raise SnDeployError(
            f"input {info.name}, a {type(value).__name__}, can't be taken by DLPack: {first_line(error)}",
            where=where,
            expected=str(info),
        ) from error


class Lent:
    """What the runs of one stream read and another library owns.

    Its library may use the memory for something else as soon as it's let go, on a stream that torch doesn't know: so it
    isn't before the run is over. While the caller captures the stream in a graph of its own, events can't be asked, and
    what that graph reads is for the caller to keep.
    """

    def __init__(self) -> None:
        self._held: collections.deque[tuple[Any, Sequence[Any]]] = collections.deque()

    def hold(self, tensors: Sequence[Any], stream: Any) -> None:
        """Holds them until what was enqueued on ``stream``, the current one, until now is over."""
        import torch

        if tensors and not torch.cuda.is_current_stream_capturing():
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(stream)
            self._held.append((event, tensors))

    def release(self) -> None:
        """Lets go what has been read; waits for nothing."""
        import torch

        if self._held and torch.cuda.is_current_stream_capturing():
            return
        while self._held and self._held[0][0].query():
            self._held.popleft()

    def clear(self) -> None:
        """Lets go everything, behind a wait for the stream."""
        self._held.clear()
