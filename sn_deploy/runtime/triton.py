"""A model on an NVIDIA Triton server: `run(dict) -> dict` by HTTP or gRPC. The only importer of tritonclient."""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any, Final

import ml_dtypes
import numpy as np

from sn_deploy.errors import SnDeployError, first_line
from sn_deploy.imports import imported
from sn_deploy.runtime.tensors import Array, TensorInfo, check_inputs

# Triton's names of tensor types; in config.pbtxt they have TYPE_ in front.
DATATYPES: Final = {
    "FP32": np.dtype(np.float32),
    "FP16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP64": np.dtype(np.float64),
    "INT8": np.dtype(np.int8),
    "INT16": np.dtype(np.int16),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
    "UINT32": np.dtype(np.uint32),
    "UINT64": np.dtype(np.uint64),
    "BOOL": np.dtype(np.bool_),
}
_BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
_FORM: Final = "grpc://HOST:PORT/MODEL, http://HOST:PORT/MODEL, grpcs:// or https://, and /VERSION behind it for one"
# Longer than any answer takes; a server that hangs must not hang its caller. What it says of itself comes at once.
_TIMEOUT_S: Final = 120.0
_METADATA_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True)
class Address:
    """Where a served model is.

    Attributes:
        protocol: ``grpc`` or ``http``; secure: whether by TLS.
        server: HOST:PORT.
        version: None for the newest that is served.
    """

    protocol: str
    secure: bool
    server: str
    model: str
    version: int | None = None

    def __str__(self) -> str:
        version = "" if self.version is None else f"/{self.version}"
        return f"{self.protocol}{'s' if self.secure else ''}://{self.server}/{self.model}{version}"


def parse_address(text: str) -> Address:
    """``grpc://HOST:PORT/MODEL[/VERSION]`` or the same with ``http``.

    Raises:
        SnDeployError: it isn't of that form.
    """
    match = re.fullmatch(
        r"(?P<protocol>grpc|http)(?P<secure>s?)://(?P<server>[^/\s]+:[0-9]+)/(?P<model>[^/\s]+)(/(?P<version>[1-9][0-9]*))?/?",
        text,
    )
    if match is None:
        raise SnDeployError("is no address of a served model", where=text, expected=_FORM)
    version = int(match["version"]) if match["version"] else None
    return Address(match["protocol"], bool(match["secure"]), match["server"], match["model"], version)


class TritonModel:
    """A model behind a server. `run` may be called from several threads: each gets a connection of its own.

    Args:
        address: ``grpc://HOST:PORT/MODEL[/VERSION]`` or the same with ``http``.

    Raises:
        SnDeployError: tritonclient is missing, the address can't be read, nobody answers there, or it doesn't serve
            the model.

    Attributes:
        inputs, outputs: with the batch axis, ``N`` where the server batches.
        max_batch: samples in one request; None where the server doesn't batch.
        server_version: Triton's; version: the model's, as asked for or the newest.
        parameters: of its config.pbtxt.
    """

    def __init__(self, address: str) -> None:
        self.address = parse_address(address)
        self.name = str(self.address)
        self._module = _client_module(self.address.protocol)
        self._own, self._all, self._lock = threading.local(), list[Any](), threading.Lock()
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        model, asked = self.address.model, str(self.address.version or "")
        self.server_version = str(self._ask("get_server_metadata")["version"])
        try:
            metadata = self._ask("get_model_metadata", model, asked)
        except SnDeployError as error:
            raise SnDeployError(
                error.what, where=self.name, mend="see which models it serves, and why not this one, in Triton's log"
            ) from error
        config = self._ask("get_model_config", model, asked)
        config = config.get("config", config)
        self.max_batch = int(config.get("max_batch_size", 0)) or None
        self.parameters = {
            str(key): str(value.get("string_value", "")) for key, value in config.get("parameters", {}).items()
        }
        self.version = int(asked or max(int(version) for version in metadata["versions"]))
        # (N,) is (N, 1) outside: the server wants an axis beside the batch, and reshapes it to none.
        self._reshaped = {
            str(one["name"])
            for one in (*config.get("input", ()), *config.get("output", ()))
            if "reshape" in one and not one["reshape"].get("shape") and [int(size) for size in one["dims"]] == [1]
        }
        self.inputs = tuple(self._info(one) for one in metadata["inputs"])
        self.outputs = tuple(self._info(one) for one in metadata["outputs"])

    def _ask(self, method: str, *arguments: str) -> dict[str, Any]:
        """What the server says of itself or of the model."""
        more = {"as_json": True, "client_timeout": _METADATA_TIMEOUT_S} if self.address.protocol == "grpc" else {}
        answer = self._call(lambda client: getattr(client, method)(*arguments, **more))
        if not isinstance(answer, dict):
            raise SnDeployError(f"answers {method} with a {type(answer).__name__}", where=self.name)
        return answer

    def _info(self, value: Mapping[str, Any]) -> TensorInfo:
        if value["datatype"] not in DATATYPES:
            raise SnDeployError(
                f"{value['name']} is of type {value['datatype']}", where=self.name, expected=", ".join(DATATYPES)
            )
        sizes = [int(size) for size in value["shape"]]
        shape: tuple[int | str | None, ...] = tuple(size if size >= 0 else None for size in sizes)
        if self.max_batch is not None:
            shape = ("N",) if value["name"] in self._reshaped else ("N", *shape[1:])
        return TensorInfo(value["name"], shape, DATATYPES[value["datatype"]])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Sends one request and waits for the answer.

        Raises:
            SnDeployError: wrong names, shapes or dtypes, more samples than the server takes at once, or whatever the
                server or the connection says.
        """
        check_inputs(self.inputs, inputs, where=self.name)
        batch = len(inputs[self.inputs[0].name]) if self.max_batch is not None else None
        if batch is not None and self.max_batch is not None and batch > self.max_batch:
            raise SnDeployError(
                f"a batch of {batch}",
                where=self.name,
                expected=f"at most {self.max_batch}, its max_batch_size",
                mend=f"--batch-size {self.max_batch}",
            )
        tensors = [self._tensor(info, inputs[info.name]) for info in self.inputs]
        wanted = [self._module.InferRequestedOutput(info.name) for info in self.outputs]
        more = {"client_timeout": _TIMEOUT_S} if self.address.protocol == "grpc" else {}
        version = str(self.address.version or "")
        answer = self._call(
            lambda client: client.infer(self.address.model, tensors, model_version=version, outputs=wanted, **more)
        )
        return {info.name: self._result(info, answer.as_numpy(info.name), batch) for info in self.outputs}

    def _tensor(self, info: TensorInfo, value: Array) -> Any:
        datatype = next(name for name, dtype in DATATYPES.items() if dtype == info.dtype)
        if info.name in self._reshaped:
            value = value.reshape(-1, 1)
        tensor = self._module.InferInput(info.name, list(value.shape), datatype)
        # NumPy knows no bfloat16: the client makes it of float32.
        tensor.set_data_from_numpy(
            value.astype(np.float32) if value.dtype == _BFLOAT16 else np.ascontiguousarray(value)
        )
        return tensor

    def _result(self, info: TensorInfo, value: Array | None, batch: int | None) -> Array:
        if value is not None and info.dtype == _BFLOAT16:
            value = value.astype(_BFLOAT16)
        if value is not None and info.name in self._reshaped and value.ndim == 2:
            value = value.reshape(-1)
        # A server whose own parts don't fit each other has been seen to answer with empty tensors, and no error.
        if value is None or not info.accepts_shape(value.shape) or (batch is not None and len(value) != batch):
            shape = "nothing" if value is None else str(value.shape)
            raise SnDeployError(f"answers with {shape} for {info.name}", where=self.name, expected=str(info))
        return value

    def _call(self, ask: Any) -> Any:
        errors = importlib.import_module("tritonclient.utils").InferenceServerException
        try:
            return ask(self._client())
        except errors as error:
            raise SnDeployError(f"Triton says: {error.message() or first_line(error)}", where=self.name) from error
        except (OSError, HTTPException) as error:  # the HTTP client passes these on
            raise SnDeployError(
                f"no answer: {getattr(error, 'strerror', None) or first_line(error)}",
                where=self.name,
                mend=f"start the server, or see that {self.address.server} is its {self.address.protocol} port",
            ) from error

    def _client(self) -> Any:
        if not hasattr(self._own, "client"):
            self._own.client = self._module.InferenceServerClient(self.address.server, **self._connection())
            with self._lock:
                self._all.append(self._own.client)
        return self._own.client

    def _connection(self) -> dict[str, Any]:
        if self.address.protocol == "grpc":
            return {"ssl": self.address.secure}
        return {"ssl": self.address.secure, "network_timeout": _TIMEOUT_S, "connection_timeout": 10.0}

    def close(self) -> None:
        """Closes all connections. A second call does nothing."""
        with self._lock:
            clients, self._all = self._all, []
        for client in clients:
            client.close()


def client_version() -> str:
    """The version of the installed tritonclient."""
    from importlib import metadata

    return metadata.version("tritonclient")


def model_config_schema() -> Any:
    """The protobuf module with Triton's own ``ModelConfig``, what a config.pbtxt is the text of.

    Raises:
        SnDeployError: tritonclient is missing.
    """
    return _import("tritonclient.grpc.model_config_pb2")


def _client_module(protocol: str) -> Any:
    return _import(f"tritonclient.{protocol}")


def _import(module: str) -> Any:
    return imported(module, called=module, where="Triton", extra="triton")
