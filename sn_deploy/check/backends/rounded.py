"""Files in half precision on the CPU, with every rounding that a GPU does.

By itself ONNX Runtime's CPU provider goes on in float32 between operators of float16, so that what overflows on a GPU
passes there, and it has no convolution of bfloat16.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import onnx
import onnx_ir as ir

from sn_deploy.errors import SnDeployError
from sn_deploy.graph.emulate_half import emulate_half
from sn_deploy.graph.inference import infer_shapes
from sn_deploy.onnx_file import model_of, read_proto
from sn_deploy.runtime.ort import OrtSession

# Protobuf writes no more than 2 GiB; the graph gets what is left above this.
_MOST_BYTES: Final = (2 << 30) - (64 << 20)


class RoundedSession(OrtSession):
    """An ONNX Runtime session of a file as `emulate_half` changes it, by the functions inside it.

    Args:
        model: an ONNX file, or one in memory whose weights may lie in ``folder``.
        threads: within an operator.

    Raises:
        SnDeployError: it can't be loaded, or is larger than 2 GB.
    """

    def __init__(
        self, model: str | os.PathLike[str] | bytes, *, threads: int | None = None, folder: Path | None = None
    ) -> None:
        self._threads = threads
        self._folder = folder if folder is not None or isinstance(model, bytes) else Path(model).parent
        super().__init__(_rounded(model, self._folder), threads=threads, native=False, spinning=False)
        if not isinstance(model, bytes):
            self.name = str(model)

    def with_model(self, model: str | os.PathLike[str] | bytes) -> OrtSession:
        """Another model, rounded as this one is."""
        return RoundedSession(model, threads=self._threads, folder=self._folder if isinstance(model, bytes) else None)


def _rounded(source: str | os.PathLike[str] | bytes, folder: Path | None) -> bytes:
    if isinstance(source, bytes):
        path = (folder or Path()) / "the model in memory"
        model = model_of(onnx.ModelProto.FromString(source), path)
    else:
        path = Path(source)
        model = model_of(read_proto(path), path)
    infer_shapes(model, str(path))
    emulate_half(model)
    weights = (value.const_value for value in model.graph.initializers.values())
    if sum(weight.nbytes for weight in weights if weight is not None) > _MOST_BYTES:
        raise SnDeployError("is larger than 2 GB", where=str(path), mend="leave the backend ort-rounded out")
    ir.external_data.load_to_model(model)
    content: bytes = ir.to_proto(model).SerializeToString()
    return content
