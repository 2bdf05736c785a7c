"""The files that a version consists of, and those that all versions of a model share."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from sn_deploy.check.backends.onnx_file import read_facts
from sn_deploy.check.backends.spec import is_engine
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse.count import unfused_layers
from sn_deploy.hashing import sha256_of_file
from sn_deploy.runtime.native import find_library
from sn_deploy.serve.engines import ServedEngine, files_by_gpu, interface_from_engine, read_engines
from sn_deploy.serve.interface import Interface, interface_from_onnx
from sn_deploy.serve.model_config import ONNX_RUNTIME, TENSORRT
from sn_deploy.serve.options import ServeOptions

MODEL_FILE: Final = "model.onnx"


@dataclass(frozen=True)
class Payload:
    """What is to be served.

    Attributes:
        backend: Triton's name of what runs it.
        interface: of the model.
        precision: what it computes in.
        files: name in the version's folder -> the file.
        onnx: the ONNX file, where there is one.
        engines: compute capability -> file in the version's folder.
        profiles: that the engines have in common.
        largest_batch: that the engines take, where it is known.
        host_code: whether the server has to allow code in the engines.
        libraries: plugin libraries, to lie in the model's folder.
        notes: for people, about what was found or left out.
    """

    backend: str
    interface: Interface
    precision: str
    files: Mapping[str, Path]
    onnx: Path | None
    libraries: Sequence[Path]
    notes: Sequence[str]
    engines: Mapping[str, str]
    profiles: int = 1
    largest_batch: int | None = None
    host_code: bool = False

    def sha256(self) -> dict[str, str]:
        """Name in the version's folder -> SHA-256."""
        return {name: sha256_of_file(path) for name, path in self.files.items()}


def read_payload(model: Path, engines: Sequence[str], options: ServeOptions) -> Payload:
    """What the user's files stand for.

    Args:
        model: an ONNX file, or an engine with its sidecar.
        engines: ``[smXY=]FILE``, built from the ONNX file.

    Raises:
        SnDeployError: a file that can't be served, or that doesn't say what it takes.
    """
    if is_engine(model):
        if engines:
            raise SnDeployError(
                "is an engine", where=str(model), expected="the ONNX file that the engines were built from"
            )
        (engine,) = read_engines([str(model)], None)
        interface = interface_from_engine(engine)
        assert engine.sidecar is not None
        return _of_engines([engine], interface, engine.sidecar.precision, None, options)
    facts = read_facts(model)
    if not facts.portable:
        raise SnDeployError(
            "was made by sn-deploy optimise for one machine", where=str(model), expected="the portable file"
        )
    interface = interface_from_onnx(model)
    if engines:
        return _of_engines(read_engines(engines, model), interface, facts.precision, model, options)
    files = {MODEL_FILE: model}
    for name in facts.data_sha256:
        own = PurePosixPath(name)
        if own.parts[0] == MODEL_FILE:  # it would lie where the model has to, and be served in its place
            raise SnDeployError(
                f"its external data is called {MODEL_FILE}, as the model itself is in a repository",
                where=str(model),
                mend="write it anew, with its weights inside: sn-deploy fuse, or onnx.save",
            )
        files[str(own)] = model.parent / name
    libraries, notes = _onnx_runtime_libraries(facts.switch_norm_nodes, options)
    notes = [*(_unfused(model) if options.native else []), *notes]
    return Payload(ONNX_RUNTIME, interface, facts.precision, files, model, libraries, notes, {})


def _unfused(model: Path) -> list[str]:
    count = unfused_layers(model)
    if not count:
        return []
    layers = "an SN layer is" if count == 1 else f"{count} SN layers are"
    return [
        f"{layers} in standard operators, some 30 nodes each, which no native operator runs: make SwitchNorm nodes of "
        f"them first, with: sn-deploy fuse {shlex.quote(str(model))} -o FILE.onnx"
    ]


def _of_engines(
    engines: Sequence[ServedEngine], interface: Interface, precision: str, onnx: Path | None, options: ServeOptions
) -> Payload:
    for option, given in (("--device cpu", options.device == "cpu"), ("--threads", options.threads is not None)):
        if given:
            raise SnDeployError("engines run on GPUs alone", where=option, mend="leave the option out")
    libraries, notes = _plugins(engines, options)
    # The config names them by their numbers, for all engines.
    profiles = min(engine.profiles for engine in engines)
    notes += [
        f"profiles of {engine.path} from number {profiles} on aren't served: another engine has no more"
        for engine in engines
        if engine.profiles > profiles
    ]
    batches = [batch for batch in (engine.largest_batch(profiles) for engine in engines) if batch is not None]
    if not any(engine.sidecar for engine in engines):
        notes.append("there are no sidecars: whether the engines take the batches up to --max-batch isn't known")
    return Payload(
        TENSORRT,
        interface,
        precision,
        {engine.file: engine.path for engine in engines},
        onnx,
        libraries,
        notes,
        files_by_gpu(engines),
        profiles,
        min(batches, default=None),
        any(engine.holds_code for engine in engines),
    )


def _onnx_runtime_libraries(nodes: int, options: ServeOptions) -> tuple[list[Path], list[str]]:
    if not nodes or not options.native:
        return [], []
    # The CPU's operators alone would send every SN layer of a GPU's session to the CPU and back.
    cpu = options.device == "cpu"
    library = find_library("libsn_deploy_ort.so" if cpu else "libsn_deploy_ort_cuda.so")
    if library is not None:
        return [library], []
    if cpu:
        return [], ["the native operators aren't built here (sn-deploy doctor): the functions inside the file run"]
    return [], [
        "the native operators for CUDA aren't built here: the functions inside the file run; "
        "--device cpu takes those for the CPU"
    ]


def _plugins(engines: Sequence[ServedEngine], options: ServeOptions) -> tuple[list[Path], list[str]]:
    if not options.native or not any(engine.wants_plugin for engine in engines):
        return [], []
    known = next((engine.major for engine in engines if engine.major is not None), None)
    if known is not None and options.tensorrt not in (None, known):
        raise SnDeployError(f"the engines are of TensorRT {known}", where=f"--tensorrt {options.tensorrt}")
    asked = options.tensorrt or known
    found = {major: find_library(f"libsn_deploy_trt{major}.so") for major in ([asked] if asked else [10, 11])}
    there = {major: path for major, path in found.items() if path is not None}
    if len(there) > 1:
        raise SnDeployError(
            "there are plugins for TensorRT 10 and 11",
            where="--tensorrt",
            mend="name the major version that built the engines: --tensorrt 10",
        )
    if asked and not there:
        raise SnDeployError(
            f"the plugin for TensorRT {asked} isn't built here, and the engines need it",
            where="--tensorrt",
            mend="see sn-deploy doctor; engines of sn-deploy build --plugin embed or none need no library",
        )
    if not there:
        return [], ["no TensorRT plugin is built here: engines that need it won't load (sn-deploy doctor)"]
    return list(there.values()), []
