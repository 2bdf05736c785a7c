"""TensorRT engines by kind of GPU, and what the sidecars beside them say: opening them would take a GPU each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ml_dtypes
import numpy as np

from sn_deploy.check.backends.spec import is_engine
from sn_deploy.engine_file import SUFFIXES_TEXT
from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file
from sn_deploy.input_file import read_head
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.triton import DATATYPES
from sn_deploy.runtime.trt.sidecar import LOADED, Sidecar, read_sidecar
from sn_deploy.serve.interface import Interface, interface_of

ANY_GPU: Final = ""
_GPU: Final = re.compile(r"sm_?(?P<major>\d{1,2})(?P<minor>\d)")
ANY_FILE: Final = "model.plan"
_AMPERE: Final = 8


@dataclass(frozen=True)
class ServedEngine:
    """An engine to be served.

    Attributes:
        path: of it.
        capability: the compute capability of its GPUs as Triton writes it ("9.0"); `ANY_GPU` for all others.
        sidecar: what lies beside it; None where nothing does.
    """

    path: Path
    capability: str
    sidecar: Sidecar | None

    @property
    def file(self) -> str:
        """Its name in the version's folder."""
        return f"model_sm{self.capability.replace('.', '')}.plan" if self.capability else ANY_FILE

    @property
    def major(self) -> int | None:
        """TensorRT's major version, where it is known."""
        return int(self.sidecar.tensorrt.partition(".")[0]) if self.sidecar is not None else None

    @property
    def wants_plugin(self) -> bool:
        """Whether a plugin library has to be loaded before it."""
        return self.sidecar is None or self.sidecar.plugin["use"] == LOADED

    @property
    def holds_code(self) -> bool:
        """Whether the server has to allow the code in it: a plugin, or the runtime of a version-compatible engine."""
        return self.sidecar is not None and self.sidecar.holds_host_code

    @property
    def profiles(self) -> int:
        """How many it has; one where nothing says it."""
        return max(len(self.sidecar.profiles), 1) if self.sidecar is not None else 1

    def largest_batch(self, profiles: int) -> int | None:
        """The batch up to which the first profiles take every one; None where that isn't known.

        Triton makes batches of any size up to its largest, so a gap between two profiles is the end.
        """
        if self.sidecar is None:
            return None
        ranges = [
            (max(int(one["min"][0]) for one in shapes), min(int(one["max"][0]) for one in shapes))
            for profile in self.sidecar.profiles[:profiles]
            if (shapes := [one for one in profile.values() if one.get("min") and one.get("max")])
        ]
        if not ranges:
            return None
        largest = 0
        for low, high in sorted(ranges):
            largest = max(largest, high) if low <= largest + 1 else largest
        return largest


def read_engines(texts: Sequence[str], model: Path | None) -> list[ServedEngine]:
    """``[smXY=]FILE`` each. Without smXY the kind of GPU is what the sidecar says, else any.

    Args:
        model: the ONNX file that they should have been built from; None where there is none.

    Raises:
        SnDeployError: one that can't be read, isn't of that kind of GPU or of that file, or two for the same GPU.
    """
    found: dict[str, ServedEngine] = {}
    for text in texts:
        engine = _read(text)
        if engine.capability in found:
            raise SnDeployError("there are two engines for one kind of GPU", where=f"--engine {text}")
        if (
            model is not None
            and engine.sidecar is not None
            and engine.sidecar.onnx.get("sha256") != sha256_of_file(model)
        ):
            raise SnDeployError(
                f"was built from {engine.sidecar.onnx['file']} with other content",
                where=str(engine.path),
                expected=f"built from {model}",
                mend="build it anew, or name the file that it was built from",
            )
        found[engine.capability] = engine
    sidecars = [engine.sidecar for engine in found.values() if engine.sidecar is not None]
    majors = {sidecar.tensorrt.partition(".")[0] for sidecar in sidecars}
    exact = {sidecar.tensorrt for sidecar in sidecars if not sidecar.settings.get("version_compatible")}
    if len(majors) > 1 or len(exact) > 1:
        versions = sorted(majors if len(majors) > 1 else exact)
        raise SnDeployError(
            f"the engines are of TensorRT {' and '.join(versions)}",
            where="--engine",
            mend="a server has one version: build them with it",
        )
    return list(found.values())


def interface_from_engine(engine: ServedEngine) -> Interface:
    """The inputs and outputs that its sidecar states.

    Raises:
        SnDeployError: there is none.
    """
    if engine.sidecar is None:
        raise SnDeployError(
            "doesn't say what it takes: there is no sidecar beside it",
            where=str(engine.path),
            mend=f"name the ONNX file that it was built from, and --engine {engine.path}",
        )
    inputs, outputs = engine.sidecar.inputs, engine.sidecar.outputs
    if not inputs or not outputs:
        raise SnDeployError("has no inputs or no outputs", where=f"{engine.path}.json", expected="those of its model")
    return interface_of([_info(one, engine) for one in inputs], [_info(one, engine) for one in outputs])


def _read(text: str) -> ServedEngine:
    gpu, equals, file = text.partition("=") if re.match(r"sm_?\d+=", text) else ("", "", text)
    match = _GPU.fullmatch(gpu)
    if (equals and match is None) or not file:
        raise SnDeployError(
            "can't be read", where=f"--engine {text}", expected="FILE, or smXY=FILE such as sm90=h100.engine"
        )
    path = Path(file)
    read_head(path)
    if not is_engine(path):
        raise SnDeployError("is no engine", where=f"--engine {text}", expected=f"a file named {SUFFIXES_TEXT}")
    sidecar = read_sidecar(path)
    asked = f"{match['major']}.{match['minor']}" if match else None
    if sidecar is None:
        return ServedEngine(path, asked or ANY_GPU, None)
    if sidecar.engine["sha256"] != sha256_of_file(path):
        raise SnDeployError("isn't what its sidecar describes", where=str(path), mend="copy both anew, together")
    if sidecar.needs_weights:
        raise SnDeployError(
            "is without its weights, and Triton puts none in", where=str(path), mend="build it without --strip-weights"
        )
    anywhere = sidecar.settings.get("hardware_compatibility") == "ampere-plus"
    own = str(sidecar.gpu["compute_capability"])
    older = match is not None and int(match["major"]) < _AMPERE
    if asked is not None and asked != own and (older or not anywhere):
        raise SnDeployError(
            f"was built on {sidecar.gpu['name']} (compute capability {own})", where=f"--engine {text}", expected=asked
        )
    return ServedEngine(path, asked or (ANY_GPU if anywhere else own), sidecar)


def _info(value: Any, engine: ServedEngine) -> TensorInfo:
    try:
        dtype = np.dtype(ml_dtypes.bfloat16) if value["dtype"] == "bfloat16" else np.dtype(value["dtype"])
        shape: Any = value["shape"]
        info = TensorInfo(str(value["name"]), tuple(shape), dtype)
    except (KeyError, TypeError) as error:
        where = f"{engine.path}.json"
        raise SnDeployError(
            "an input or output is wrong", where=where, expected="what sn-deploy build writes"
        ) from error
    if dtype not in DATATYPES.values():
        raise SnDeployError(
            f"{info.name} is of a type that Triton has no name for",
            where=str(engine.path),
            expected=", ".join(DATATYPES),
        )
    return info


def files_by_gpu(engines: Sequence[ServedEngine]) -> Mapping[str, str]:
    """Compute capability -> file in the version's folder."""
    return {engine.capability: engine.file for engine in engines}
