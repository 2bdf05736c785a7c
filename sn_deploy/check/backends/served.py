"""Models that a server serves, as backends of a check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from sn_deploy.check.result import BackendInfo
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import TensorInfo

if TYPE_CHECKING:
    from sn_deploy.runtime.triton import TritonModel

TRITON: Final = "triton"


@dataclass(frozen=True)
class ServedBackend:
    """A served model and what it is called."""

    name: str
    address: str


def served_backends(addresses: Sequence[str]) -> list[ServedBackend]:
    """``--triton grpc://HOST:PORT/MODEL`` each: ``triton``, with protocol, model and version behind it for several.

    Raises:
        SnDeployError: an address that can't be read.
    """
    from sn_deploy.runtime.triton import parse_address

    found = []
    for text in addresses:
        address = parse_address(text)
        version = "" if address.version is None else f"-{address.version}"
        suffix = f"-{address.protocol}-{address.model}{version}" if len(addresses) > 1 else ""
        found.append(ServedBackend(TRITON + suffix, text))
    return found


def open_served(spec: ServedBackend) -> tuple[TritonModel, BackendInfo, Callable[[], TritonModel]]:
    """The runner, what it is, and how to open it once more.

    Raises:
        SnDeployError: see `TritonModel`.
    """
    from sn_deploy.runtime.triton import TritonModel, client_version

    reopen = partial(TritonModel, spec.address)
    model = reopen()
    if model.max_batch is None and any(not info.shape for info in model.inputs):
        raise SnDeployError("takes a scalar, which is no batch of samples", where=spec.address)
    noted = f"sn_deploy.{model.version}."
    settings: dict[str, Any] = {
        "precision": model.parameters.get(f"{noted}precision") or _precision(model.inputs, model.outputs),
        "address": spec.address,
        "model_version": model.version,
        "max_batch_size": model.max_batch,
    }
    prefix = f"{noted}sha256."
    files = {key.removeprefix(prefix): value for key, value in model.parameters.items() if key.startswith(prefix)}
    if files:
        settings["files_sha256"] = files
    versions = {"tritonserver": model.server_version, "tritonclient": client_version()}
    return model, BackendInfo(spec.name, TRITON, None, None, versions, settings), reopen


def _precision(inputs: Sequence[TensorInfo], outputs: Sequence[TensorInfo]) -> str:
    """By its borders, where `sn-deploy serve` has noted nothing: a server doesn't say what it computes in."""
    floats = [info.dtype.name for info in (*inputs, *outputs) if info.dtype.name in TOLERANCES]
    return max(floats, key=lambda name: TOLERANCES[name].roundoff) if floats else "float32"
