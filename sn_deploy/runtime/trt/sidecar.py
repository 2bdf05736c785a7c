"""What lies beside an engine as ``model.engine.json``: what it was built of, for what, and how.

An engine is bound to a version of TensorRT and a kind of GPU. TensorRT's own errors about that name neither, so it is
looked up here first. Nothing in a sidecar is proof of where an engine came from: engines are executable code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from sn_deploy.atomic import atomic_outputs
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.gpu import Gpu

SCHEMA: Final = 1
EMBEDDED: Final = "embedded"
LOADED: Final = "loaded"
NO_PLUGIN: Final = "none"
_OLDEST_AMPERE: Final = (8, 0)
# What `--hardware-compatibility` may be where another model of GPU is meant to run the engine.
_ANY_MODEL: Final = ("ampere-plus", "same-compute-capability")


@dataclass(frozen=True)
class Sidecar:
    """See the top of the file.

    Attributes:
        sn_deploy, tensorrt: versions that built it.
        created: when, in UTC, as ISO 8601 has it.
        seconds: that the build took.
        engine: its ``sha256`` and ``bytes``.
        onnx: ``file`` (its name), ``sha256``, ``data_sha256`` of its external data, ``structure_sha256`` of it without
            its weights, ``switch_norm_nodes``.
        gpu: `Gpu` that it was built on.
        precision: the coarsest that the file computes in; tf32: whether float32 may be computed in TF32.
        plugin: ``use`` (loaded, embedded or none), ``library`` (its name) and ``sha256``.
        settings: what else was asked for, by the names of `BuildSettings`.
        profiles: name of an input -> ``min``, ``opt``, ``max``.
        inputs, outputs: ``name``, ``dtype``, ``shape`` with names of symbolic axes.
        layers: as TensorRT's inspector gives them; None where it couldn't be asked.
    """

    sn_deploy: str
    tensorrt: str
    created: str
    seconds: float
    engine: Mapping[str, Any]
    onnx: Mapping[str, Any]
    gpu: Mapping[str, Any]
    precision: str
    tf32: bool
    plugin: Mapping[str, Any]
    settings: Mapping[str, Any]
    profiles: Sequence[Mapping[str, Any]]
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    layers: Sequence[Mapping[str, Any]] | None

    @property
    def holds_host_code(self) -> bool:
        """Whether a reader has to allow code of the engine to run on the host."""
        lean = self.settings.get("version_compatible") and not self.settings.get("exclude_lean_runtime")
        return bool(lean) or self.plugin["use"] == EMBEDDED

    def needs_lean_runtime(self, installed: str) -> bool:
        """Whether this version of TensorRT reads it by the lean runtime of its own, which isn't in it."""
        return self.tensorrt != installed and bool(self.settings.get("exclude_lean_runtime"))

    @property
    def needs_weights(self) -> bool:
        """Whether the engine is without its weights."""
        return bool(self.settings.get("strip_weights"))

    def as_json(self) -> dict[str, Any]:
        """The document."""
        return {"schema": SCHEMA, **asdict(self)}

    def text(self) -> str:
        """The document as a file holds it."""
        return json.dumps(self.as_json(), indent=1, ensure_ascii=False) + "\n"


def sidecar_path(engine: str | os.PathLike[str]) -> Path:
    """``model.engine`` -> ``model.engine.json``."""
    path = Path(engine)
    return path.with_name(path.name + ".json")


def write_engine(plan: bytes, sidecar: Sidecar, engine: Path) -> Path:
    """Writes both or neither, and gives the sidecar's path.

    The sidecar comes first. What is killed in between leaves one that tells of another engine, which whoever reads them
    finds by its hash; an engine that lay there without its sidecar would be loaded as one of somebody else's.

    Raises:
        SnDeployError: one of them can't be written.
    """
    path = sidecar_path(engine)
    with atomic_outputs(path, engine) as (description, content):
        description.write_text(sidecar.text(), encoding="utf-8")
        content.write_bytes(plan)
    return path


def read_sidecar(engine: Path) -> Sidecar | None:
    """What lies beside the engine; None where nothing does.

    Raises:
        SnDeployError: it can't be read, or is of another schema.
    """
    path = sidecar_path(engine)
    mend = "delete it to load the engine without it, or build the engine anew"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SnDeployError(f"can't be read: {error.strerror}", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise SnDeployError(f"is no JSON: {error}", where=str(path), mend=mend) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise SnDeployError(f"has schema {found!r}", where=str(path), expected=f"schema {SCHEMA}", mend=mend)
    names = [field.name for field in fields(Sidecar)]
    missing = [name for name in names if name not in document]
    if missing:
        raise SnDeployError(f"has no {', '.join(missing)}", where=str(path), expected="what build writes", mend=mend)
    _check_types(document, path, mend)
    return Sidecar(**{name: document[name] for name in names})


@dataclass(frozen=True)
class Here:
    """What an engine is to run with: TensorRT's version, the GPU, and what the user allows and gives."""

    tensorrt: str
    gpu: Gpu
    allow_host_code: bool = False
    has_weights: bool = False
    has_lean_runtime: bool = False


def check_fits(sidecar: Sidecar, here: Here, engine: Path) -> list[str]:
    """Holds the sidecar against this machine.

    Returns:
        What TensorRT doesn't support and doesn't refuse either, one sentence each.

    Raises:
        SnDeployError: the engine can't run here, in words.
    """
    again = f"build it here: {shlex.join(['sn-deploy', 'build', sidecar.onnx['file'], '-o', engine.name])}"
    version = _version_problem(sidecar, here)
    if version:
        mend = f"{again}; or install TensorRT {sidecar.tensorrt}"
        raise SnDeployError(version, where=str(engine), mend=mend)
    if sidecar.needs_lean_runtime(here.tensorrt) and not here.has_lean_runtime:
        raise SnDeployError(
            f"was built by TensorRT {sidecar.tensorrt} without its lean runtime, and {here.tensorrt} is installed",
            where=str(engine),
            mend=f"give that version's: --lean-runtime libnvinfer_lean.so.{sidecar.tensorrt.partition('.')[0]} (pip "
            f"install tensorrt-lean=={sidecar.tensorrt} has it); or {again}",
        )
    gpu = _gpu_problem(sidecar, here.gpu)
    if gpu:
        raise SnDeployError(gpu, where=str(engine), mend=again)
    if sidecar.holds_host_code and not here.allow_host_code:
        raise SnDeployError(
            "holds code that would run on this host (TensorRT's lean runtime, or an embedded plugin)",
            where=str(engine),
            mend="if you built it, or trust who did: --allow-host-code",
        )
    if sidecar.needs_weights and not here.has_weights:
        put_in = ["sn-deploy", "refit", engine.name, sidecar.onnx["file"], "-o", "NEW.engine"]
        raise SnDeployError(
            "was built without its weights",
            where=str(engine),
            mend=f"put them in: {shlex.join(put_in)}, or in Python weights={str(sidecar.onnx['file'])!r}",
        )
    return list(_doubts(sidecar, here.gpu))


def check_hash(sidecar: Sidecar, plan: bytes, engine: Path) -> None:
    """Whether the sidecar is this engine's.

    Raises:
        SnDeployError: it isn't.
    """
    if hashlib.sha256(plan).hexdigest() != sidecar.engine["sha256"]:
        raise SnDeployError(
            f"isn't the engine that {sidecar_path(engine).name} describes: one of them was replaced or damaged",
            where=str(engine),
            mend="copy both again, or build the engine anew",
        )


def _version_problem(sidecar: Sidecar, here: Here) -> str | None:
    if sidecar.tensorrt == here.tensorrt:
        return None
    own, installed = _numbers(sidecar.tensorrt), _numbers(here.tensorrt)
    built = f"was built by TensorRT {sidecar.tensorrt}"
    if not (sidecar.settings.get("version_compatible") or sidecar.plugin["use"] == EMBEDDED):
        return f"{built}, and {here.tensorrt} is installed: an engine runs in its own version"
    if installed < own:
        return f"{built}, which is newer than {here.tensorrt}, which is installed"
    # TensorRT 11 runs what 10 has built. An embedded plugin is called by the lean runtime of its own version; one that
    # is loaded beside the engine comes from this process, which has a library for one major version alone.
    if own[:1] != installed[:1] and sidecar.plugin["use"] == LOADED:
        return (
            f"{built} with its plugin in a library beside it, which is for one major version, and {here.tensorrt} is "
            "installed: only engines with an embedded plugin (--plugin embed), or without one, run in the next"
        )
    return None


def _gpu_problem(sidecar: Sidecar, gpu: Gpu) -> str | None:
    own, here = str(sidecar.gpu["compute_capability"]), gpu.compute_capability
    if own == here:
        return None
    built = f"was built for {sidecar.gpu['name']} (compute capability {own})"
    if sidecar.settings.get("hardware_compatibility") != "ampere-plus":
        return f"{built}, and this is {gpu}: an engine runs on GPUs of its own compute capability"
    if _numbers(here) < _OLDEST_AMPERE:
        return f"{built} and for what came with Ampere (8.0) or later, and this is {gpu}"
    return None


def _doubts(sidecar: Sidecar, gpu: Gpu) -> Iterator[str]:
    same = sidecar.gpu["compute_capability"] == gpu.compute_capability
    meant = sidecar.settings.get("hardware_compatibility") in _ANY_MODEL
    if same and sidecar.gpu["name"] != gpu.name and not meant:
        yield (
            f"was built on {sidecar.gpu['name']}, and this is {gpu.name}: TensorRT supports no other model of GPU than "
            "that; it is likely to be slower, and may fail or hang. Build it here, or for both: "
            "--hardware-compatibility same-compute-capability"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _check_types(document: Mapping[str, Any], path: Path, mend: str) -> None:
    """What is looked into by name has to be there: an edited sidecar must not end in a traceback."""
    wrong = next(_wrong(document), None)
    if wrong is not None:
        raise SnDeployError(f"{wrong} is wrong", where=str(path), expected="what build writes", mend=mend)


_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "sn_deploy": str, "tensorrt": str, "created": str, "precision": str, "seconds": (int, float),
    "engine": dict, "onnx": dict, "gpu": dict, "plugin": dict, "settings": dict,
    "profiles": list, "inputs": list, "outputs": list, "layers": (list, type(None)),
}  # fmt: skip
_INSIDE: Final = {
    "engine": {"sha256": str},
    "onnx": {"file": str},
    "gpu": {"name": str, "compute_capability": str},
    "plugin": {"use": str},
}


def _wrong(document: Mapping[str, Any]) -> Iterator[str]:
    """The names of what isn't as build writes it; those behind the first are told on the way."""
    for name, kind in _KINDS.items():
        if not isinstance(document[name], kind):
            yield name
            return
    if not document["tensorrt"].partition(".")[0].isdecimal():
        yield "tensorrt"
    if not 0 <= document["seconds"] < 1e9:  # NaN is neither
        yield "seconds"
    for name, keys in _INSIDE.items():
        yield from (f"{name}.{key}" for key, kind in keys.items() if not isinstance(document[name].get(key), kind))
    for name in ("profiles", "inputs", "outputs", "layers"):
        for index, row in enumerate(document[name] or ()):
            if not isinstance(row, dict) or not _ROWS[name](row):
                yield f"{name}[{index}]"


def _is_profile(row: Mapping[str, Any]) -> bool:
    return all(isinstance(three, dict) and all(_is_shape(shape) for shape in three.values()) for three in row.values())


def _is_shape(shape: Any) -> bool:
    return isinstance(shape, list) and all(isinstance(size, int) and 0 <= size < 2**63 for size in shape)


def _is_tensor(row: Mapping[str, Any]) -> bool:
    shape = row.get("shape")
    if not isinstance(row.get("name"), str) or not isinstance(row.get("dtype"), str):
        return False
    axes = shape if isinstance(shape, list) else [] if shape is None else [0.0]
    return all(axis is None or isinstance(axis, str) or (isinstance(axis, int) and -1 <= axis < 2**63) for axis in axes)


def _is_layer(row: Mapping[str, Any]) -> bool:
    return all(isinstance(row.get(key, []), list) for key in ("Inputs", "Outputs"))


_ROWS: Final = {"profiles": _is_profile, "inputs": _is_tensor, "outputs": _is_tensor, "layers": _is_layer}
