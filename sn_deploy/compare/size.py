"""How much memory random values would take, before they are drawn: a file may say that its input is of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from sn_deploy.errors import SnDeployError
from sn_deploy.free_memory import free_memory

_BYTES: Final = 8  # float32, and a copy of it
_GIB: Final = 1 << 30


def check_size(shape: Sequence[int], name: str) -> None:
    """Refuses values of that shape if there is no memory for them: the system would promise it, and end the process.

    Args:
        name: of the input.

    Raises:
        SnDeployError: there is none.
    """
    needed, free = _BYTES * math.prod(shape), free_memory()
    if needed > free or math.prod(filter(None, shape)) >= 1 << 60:
        raise SnDeployError(
            f"random values of {'×'.join(map(str, shape))} take {needed / _GIB:.3g} GiB",
            where=f"input {name!r}",
            expected=f"at most the {free / _GIB:.1f} GiB of memory that are free",
            mend="give a smaller one, if the file takes it: --input NAME=1x3x224x224, or smaller batches",
        )
