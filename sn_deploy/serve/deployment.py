"""What brings a version into containers: a Dockerfile, manifests for Kubernetes and KServe, the server's command."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sn_deploy.errors import SnDeployError
from sn_deploy.python_words import naming_arguments
from sn_deploy.serve.options import LARGEST, ServeOptions

# NVIDIA publishes one a month, YEAR.MONTH.
TRITON_IMAGE: Final = "nvcr.io/nvidia/tritonserver:26.06-py3"
_IMAGE: Final = re.compile(r"[a-z0-9][a-z0-9._/:-]*[a-z0-9]((:[A-Za-z0-9_][A-Za-z0-9_.-]*)|(@sha256:[0-9a-f]{64}))?")


# For `naming_arguments`.
OPTIONS_IN_PYTHON: Final = {
    "queue_target": "DeployOptions.queue_target_us",
    **{name: f"DeployOptions.{name}" for name in ("image", "triton_image", "replicas", "max_replicas")},
}


@dataclass(frozen=True)
class DeployOptions:
    """How it is deployed.

    Attributes:
        image: that the manifests name, and the Dockerfile makes; None for NAME:VERSION.
        triton_image: that it is made from.
        replicas: that there are at least; max_replicas: at most.
        queue_target_us: mean time in the queue above which another one is started.
    """

    image: str | None = None
    triton_image: str = TRITON_IMAGE
    replicas: int = 2
    max_replicas: int = 8
    queue_target_us: int = 5_000

    @naming_arguments(OPTIONS_IN_PYTHON)
    def __post_init__(self) -> None:
        for option, image in (("--image", self.image), ("--triton-image", self.triton_image)):
            if image is not None and not _IMAGE.fullmatch(image):
                raise SnDeployError(f"{image!r} is no image", where=option, expected="[REGISTRY/]NAME:TAG")
        if not 1 <= self.replicas <= self.max_replicas <= LARGEST:
            raise SnDeployError(
                f"{self.replicas} to {self.max_replicas}",
                where="--replicas and --max-replicas",
                expected="1 or more, and no more than at most",
            )
        if self.queue_target_us < 1:
            raise SnDeployError(f"{self.queue_target_us}us", where="--queue-target", expected="1us or more")


def server_command(options: ServeOptions, backend_libraries: Sequence[str], *, host_code: bool = False) -> list[str]:
    """The program and its arguments.

    Args:
        backend_libraries: names of TensorRT plugin libraries in the model's folder.
        host_code: whether engines carry plugins or a runtime, which TensorRT has to be allowed to load.
    """
    command = ["tritonserver", f"--model-repository={options.server_path}"]
    if backend_libraries:
        plugins = ";".join(f"{options.server_path}/{options.name}/{name}" for name in backend_libraries)
        command.append(f"--backend-config=tensorrt,plugins={plugins}")
    if host_code:
        command.append("--backend-config=tensorrt,version-compatible=true")
    return command


def deployment_files(
    version: int,
    options: ServeOptions,
    deploy: DeployOptions,
    *,
    command: Sequence[str],
    shared: Sequence[str],
    tensorrt: bool,
    max_batch: int,
) -> dict[str, str]:
    """File name -> text, one set a version: none is ever overwritten, and the older ones roll back.

    Args:
        command: see `server_command`.
        shared: names of files in the model's folder.
        tensorrt: whether engines are served.
        max_batch: see `ServeOptions`.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    # No HTML: strings are written as JSON, which YAML and Docker read.
    environment = Environment(
        loader=PackageLoader(__package__),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["tojson"] = json.dumps
    prefix, app = f"{options.name}-{version}", dns_name(options.name)
    names = {
        "Dockerfile.jinja": f"{prefix}.Dockerfile",
        "kubernetes.yaml.jinja": f"{prefix}.kubernetes.yaml",
        "kserve.yaml.jinja": f"{prefix}.kserve.yaml",
        "prometheus-adapter.yaml.jinja": f"{prefix}.prometheus-adapter.yaml",
    }
    values = {
        "model": options.name,
        "version": version,
        "app": app,
        "image": deploy.image or f"{app}:{version}",
        "triton_image": deploy.triton_image,
        "server_path": options.server_path,
        "command": list(command),
        "shared": list(shared),
        "tensorrt": tensorrt,
        "gpu": tensorrt or options.device == "gpu",
        "replicas": deploy.replicas,
        "max_replicas": deploy.max_replicas,
        "queue_target_us": deploy.queue_target_us,
        "concurrency": max(max_batch, 1),
        "dockerfile": names["Dockerfile.jinja"],
        "manifest": names["kubernetes.yaml.jinja"],
        "adapter": names["prometheus-adapter.yaml.jinja"],
    }
    return {name: environment.get_template(template).render(values) for template, name in names.items()}


def dns_name(name: str) -> str:
    """A model's name as Kubernetes takes names: lower case, digits and '-', a letter first."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return (plain if plain[:1].isalpha() else f"model-{plain}")[:63].rstrip("-")


def shell_command(command: Sequence[str]) -> str:
    """For people to copy."""
    return shlex.join(command)
