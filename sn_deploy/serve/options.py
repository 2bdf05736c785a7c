"""What a user says about how a model is served, checked as far as that goes without the model."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sn_deploy.arguments import of_kind, whole_number
from sn_deploy.errors import SnDeployError
from sn_deploy.python_words import naming_arguments

DEVICES: Final = ("auto", "cpu", "gpu")
# Where tritonserver sees the repository: in a container /models is what everybody uses.
SERVER_PATH: Final = "/models"
DEFAULT_MAX_BATCH: Final = 8
LARGEST: Final = 2**31 - 1  # of Triton's and Kubernetes' counts
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_DELAY: Final = re.compile(r"(?P<number>\d+(\.\d+)?)(?P<unit>us|µs|ms|s)?")
_UNITS_US: Final = {"us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000}
_LONGEST_DELAY_US: Final = 60_000_000


# For `naming_arguments`; but for these, fields have the names of the options.
OPTIONS_IN_PYTHON: Final = {
    "input": "ServeOptions.sizes",
    "max_queue_delay": "ServeOptions.max_queue_delay_us",
    **{
        name: f"ServeOptions.{name}"
        for name in (
            *("name", "max_batch", "preferred_batch", "instances", "device", "threads", "labels", "serve_versions"),
            *("warmup", "native", "tensorrt", "server_path"),
        )
    },
}


@dataclass(frozen=True)
class ServeOptions:
    """How a model is served.

    Attributes:
        name: of the model in Triton.
        max_batch: samples that the server puts together at most, 0 for none; None for the default.
        preferred_batch: sizes that are run without waiting for more.
        max_queue_delay_us: how long a request may wait for others.
        instances: copies of the model on a processor or GPU.
        device: ``auto`` for GPUs where there are any, else the CPU.
        threads: within an operator, on the CPU; None for ONNX Runtime's choice.
        labels: file with a line for each class, by output ("" for the only one with classes).
        serve_versions: how many of the newest versions are served.
        sizes: input -> shape, for axes that the model leaves open, in warm-up requests.
        warmup: whether each instance runs requests before it is ready.
        native: whether to use the project's own operators where they are built.
        tensorrt: major version of TensorRT whose plugin is used; None for that of what is found.
        server_path: where the server sees the repository.
    """

    name: str
    max_batch: int | None = None
    preferred_batch: tuple[int, ...] = ()
    max_queue_delay_us: int = 0
    instances: int = 1
    device: Literal["auto", "cpu", "gpu"] = "auto"
    threads: int | None = None
    labels: Mapping[str, str | os.PathLike[str]] = field(default_factory=dict)
    serve_versions: int = 1
    sizes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    warmup: bool = True
    native: bool = True
    tensorrt: int | None = None
    server_path: str = SERVER_PATH

    @naming_arguments(OPTIONS_IN_PYTHON)
    def __post_init__(self) -> None:
        of_kind(self.name, str, "--name")
        if not _NAME.fullmatch(self.name):
            raise SnDeployError(
                f"{self.name!r} is no name for a model",
                where="--name",
                expected="letters, digits, '_', '-' and '.', a letter or digit first, at most 63",
            )
        if self.device not in DEVICES:
            raise SnDeployError(f"{self.device!r}", where="--device", expected=", ".join(DEVICES))
        if not re.fullmatch(r"(/[A-Za-z0-9_.@:-]+)+", self.server_path):
            raise SnDeployError(
                f"{self.server_path!r} is no folder of a server", where="--server-path", expected="an absolute path"
            )
        for option, by_name in (("--labels", self.labels), ("--input", self.sizes)):
            if not isinstance(by_name, Mapping):
                raise SnDeployError(f"is a {type(by_name).__name__}", where=option, expected='a dict, such as {"": …}')
        for option, value, smallest in (
            ("--instances", self.instances, 1),
            ("--serve-versions", self.serve_versions, 1),
            ("--max-batch", self.max_batch, 0),
            ("--threads", self.threads, 1),
        ):
            if value is not None:
                whole_number(value, option, least=smallest, most=LARGEST)


def parse_delay(text: str, option: str = "--max-queue-delay") -> int:
    """``500us``, ``2ms``, ``1s`` or a number of µs, in µs.

    Raises:
        SnDeployError: it isn't of that form, or longer than a minute.
    """
    match = _DELAY.fullmatch(text.strip())
    delay_us = None if match is None else round(float(match["number"]) * _UNITS_US[match["unit"] or "us"])
    if delay_us is None or delay_us > _LONGEST_DELAY_US:
        raise SnDeployError("can't be read", where=f"{option} {text}", expected="a time such as 500us, 2ms or 0")
    return delay_us
