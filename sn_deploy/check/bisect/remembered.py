"""A runner that runs once: its outputs are kept on disk, for as many passes over the same data as come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sn_deploy.check.backends.adapted import Runner
from sn_deploy.runtime.tensors import Array, TensorInfo


class RememberedRunner:
    """The first pass runs the runner, the others read what it gave.

    Args:
        runner: whose outputs are kept; it stays the caller's to close.
        folder: where they are written.
    """

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.inputs: Sequence[TensorInfo] = runner.inputs
        self._runner, self._folder = runner, folder
        self._kinds: list[dict[str, tuple[np.dtype[Any], tuple[int, ...]]]] = []
        self._place = 0

    def rewind(self) -> None:
        """The next call is that of the first batch again."""
        self._place = 0

    def run(self, inputs: Mapping[str, Array], /) -> Mapping[str, Array]:
        """What the runner gave for this batch."""
        place, self._place = self._place, self._place + 1
        if place == len(self._kinds):
            outputs = self._runner.run(inputs)
            for index, output in enumerate(outputs.values()):
                self._file(place, index).write_bytes(output.tobytes())
            self._kinds.append({name: (output.dtype, output.shape) for name, output in outputs.items()})
            return outputs
        return {
            name: np.frombuffer(self._file(place, index).read_bytes(), dtype).reshape(shape)
            for index, (name, (dtype, shape)) in enumerate(self._kinds[place].items())
        }

    def close(self) -> None:
        """Nothing: the runner is the caller's."""

    def _file(self, batch: int, output: int) -> Path:
        return self._folder / f"{batch}-{output}.bytes"
