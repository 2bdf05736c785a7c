"""A backend that runs once: its outputs are kept on disk, for as many passes over the same data as come."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.runtime.tensors import Array


class RememberedBackend(AdaptedBackend):
    """The first pass runs the backend, the others read what it gave.

    Args:
        backend: whose outputs are kept; it stays the caller's to close.
        folder: where they are written.
    """

    def __init__(self, backend: AdaptedBackend, folder: Path) -> None:
        # Not the base's: nothing here runs or closes the runner.
        self.info, self.runner, self.reopen = backend.info, backend.runner, backend.reopen
        self._backend, self._folder = backend, folder
        self._kinds: list[dict[str, tuple[np.dtype[Any], tuple[int, ...]]]] = []
        self._place = 0

    def rewind(self) -> None:
        """The next call is that of the first batch again."""
        self._place = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the backend gave for this batch."""
        place, self._place = self._place, self._place + 1
        if place == len(self._kinds):
            outputs = self._backend.run(inputs)
            for index, output in enumerate(outputs.values()):
                self._file(place, index).write_bytes(output.tobytes())
            self._kinds.append({name: (output.dtype, output.shape) for name, output in outputs.items()})
            return outputs
        return {
            name: np.frombuffer(self._file(place, index).read_bytes(), dtype).reshape(shape)
            for index, (name, (dtype, shape)) in enumerate(self._kinds[place].items())
        }

    def close(self) -> None:
        """Nothing: the backend is the caller's."""

    def _file(self, batch: int, output: int) -> Path:
        return self._folder / f"{batch}-{output}.bytes"
