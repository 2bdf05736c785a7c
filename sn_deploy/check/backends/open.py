"""All backends of a check, opened and brought under one set of names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from sn_deploy.check.backends.adapted import AdaptedBackend, FileRunner
from sn_deploy.check.backends.interface import Example, Interface, output_names, with_examples
from sn_deploy.check.backends.onnx_file import OnnxFacts, read_facts
from sn_deploy.check.backends.served import open_served, served_backends
from sn_deploy.check.backends.spec import (
    TORCH,
    TORCH64,
    FileBackend,
    backends_from_files,
    check_names,
    is_engine,
    parse_backend,
)
from sn_deploy.check.backends.torch_model import HeldModel, ModelOptions
from sn_deploy.check.batch import fixed_batch
from sn_deploy.check.result import BackendInfo
from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt.access import Access


@dataclass(frozen=True)
class BackendOptions:
    """What the user says about backends.

    Attributes:
        files: ONNX files and engines; named: ``NAME=KIND:FILE``.
        model: the PyTorch model, if any.
        reference: the name of the backend that the others are compared with; None for PyTorch, else the first.
        reference_dtype: ``float64`` for a reference of PyTorch in float64.
        threads: within an operator; None for each runtime's own choice.
        examples: of inputs, for axes that the files leave open.
        access: what engines may be loaded with.
        served: addresses of served models.
    """

    files: Sequence[Path] = ()
    named: Sequence[str] = ()
    model: ModelOptions | HeldModel | None = None
    reference: str | None = None
    reference_dtype: str | None = None
    threads: int | None = None
    examples: Sequence[Example] = ()
    access: Access = field(default_factory=Access)
    served: Sequence[str] = ()


@dataclass(frozen=True)
class Backends:
    """What was opened.

    Attributes:
        all: in the order of the tables, the reference among them.
        reference: its name.
        inputs: names, types and shapes in the check, the first axis an int only where a file fixes the batch.
        notes: lines for people about what was opened; doubts: what of it makes the result worth less.
    """

    all: Sequence[AdaptedBackend]
    reference: str
    inputs: tuple[TensorInfo, ...]
    notes: Sequence[str] = ()
    doubts: Sequence[str] = ()

    @property
    def fixed_batch(self) -> int | None:
        """The batch size that a file fixes, if one does."""
        return fixed_batch(self.inputs)

    def close(self) -> None:
        """Frees all."""
        for backend in self.all:
            backend.close()


def open_backends(options: BackendOptions) -> Backends:
    """Opens all files and the model.

    Raises:
        SnDeployError: a file, the model or an option is wrong, their inputs don't match, or there is nothing to
            compare.
    """
    facts = _Facts(options.access)
    specs = _specs(options, facts)
    opened = [_OPENERS[spec.kind](spec, options.threads, facts) for spec in specs]
    opened += [_Opened(*open_served(spec)) for spec in served_backends(options.served)]
    interface = Interface([(one.info.name, one.runner.inputs) for one in opened]) if opened else None
    torch = _TorchModels(options) if options.model is not None else None
    if interface is None:
        assert torch is not None
        interface = Interface([(TORCH, torch.inputs())])
    outputs = output_names([(one.info.name, one.runner.outputs) for one in opened])
    own_names = [info.name for info in opened[0].runner.outputs] if opened else None
    inputs = with_examples(interface.inputs, options.examples)
    made = torch.backends(inputs, own_names) if torch is not None else []
    for one in opened:
        name = one.info.name
        made.append(AdaptedBackend(one.info, one.runner, one.reopen, interface.names[name], outputs[name]))
    reference = _reference(options, [backend.info.name for backend in made])
    notes = torch.notes if torch is not None else ()
    return Backends(made, reference, inputs, notes, _half_on_cpu(specs, facts))


def _half_on_cpu(specs: Sequence[FileBackend], facts: _Facts) -> list[str]:
    """What is to be said of files in float16 that run on the CPU alone."""
    kinds: dict[Path, set[str]] = {}
    for spec in specs:
        kinds.setdefault(spec.file, set()).add(spec.kind)
    return [
        f"{file}: on a CPU ONNX Runtime computes much of float16 in float32, so what overflows on a GPU passes there; "
        f"add --backend rounded=ort-rounded:{file}, which rounds as a GPU does"
        for file, run in kinds.items()
        if run <= {"ort", "ort-native"} and facts[file].precision == "float16"
    ]


def _specs(options: BackendOptions, facts: _Facts) -> list[FileBackend]:
    """The backends that are files, checked as far as they can be before anything heavy is opened."""
    native = ort_library() is not None
    twice = next((file for file in options.files if options.files.count(file) > 1), None)
    if twice is not None:
        raise SnDeployError("is given twice", where=str(twice), mend="name both, with --backend NAME=KIND:FILE")
    specs = backends_from_files({file: _kinds(file, facts, native) for file in options.files})
    specs += [parse_backend(text) for text in options.named]
    torch = [] if options.model is None else [TORCH64, TORCH] if options.reference_dtype == "float64" else [TORCH]
    if options.reference_dtype is not None and not torch:
        raise SnDeployError("is for a PyTorch model", where="--reference-dtype", mend="name it with --model")
    names = [*torch, *(spec.name for spec in specs), *(spec.name for spec in served_backends(options.served))]
    check_names(names)
    if len(names) < 2:
        raise SnDeployError(
            f"there is nothing to compare {names[0]} with" if names else "there is nothing to compare",
            mend="name the PyTorch model with --model, or several files"
            + (
                "" if native else "; the native operator would be a second backend, but it isn't here: sn-deploy doctor"
            ),
        )
    _reference(options, names)
    return specs


def _kinds(file: Path, facts: _Facts, native: bool) -> list[str]:
    """How a file is run when nothing more is said."""
    if is_engine(file):
        return ["trt", "trt-no-graph"]
    known = facts[file]
    if not known.portable:
        return ["ort-native"]
    return ["ort", "ort-native"] if native and known.switch_norm_nodes else ["ort"]


def _reference(options: BackendOptions, names: Sequence[str]) -> str:
    if options.reference is None:
        return names[0]
    if options.reference not in names:
        raise SnDeployError(
            f"there is no backend {options.reference!r}", where="--reference", expected=", ".join(names)
        )
    return options.reference


class _Facts(dict[Path, OnnxFacts]):
    """What is known of each ONNX file, read once, and what the user allows engines."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self.access = access

    def __missing__(self, path: Path) -> OnnxFacts:
        self[path] = read_facts(path)
        return self[path]


@dataclass(frozen=True)
class _Opened:
    """A file's runner, what it is, and how to open it once more."""

    runner: FileRunner
    info: BackendInfo
    reopen: Callable[[], FileRunner]


def _open_ort(spec: FileBackend, threads: int | None, facts: _Facts) -> _Opened:
    from sn_deploy.runtime.ort import OrtSession

    native, cuda, known = spec.kind.endswith("native"), "cuda" in spec.kind, facts[spec.file]
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else None
    settings: dict[str, Any] = {"precision": known.precision, "threads": threads, "provider": "CUDA" if cuda else "CPU"}
    if native:
        settings["library_sha256"] = sha256_of_file(_native_library(spec, providers or [], known))
    # Idle threads that spin would take the processor from the backend whose turn it is.
    reopen = partial(OrtSession, spec.file, threads=threads, providers=providers, native=native, spinning=False)
    session = reopen()
    if session.instead is not None:
        raise SnDeployError(
            f"isn't for this machine, and {session.instead.name} would run in its place", where=str(spec.file)
        )
    return _Opened(session, _ort_info(spec, known, settings), reopen)


def _open_rounded(spec: FileBackend, threads: int | None, facts: _Facts) -> _Opened:
    from sn_deploy.check.backends.rounded import RoundedSession

    known = facts[spec.file]
    if known.precision in ("float32", "float64") or not known.portable:
        raise SnDeployError(
            f"{spec.file} is in {known.precision}: there is nothing to round",
            where=f"--backend {spec.name}=ort-rounded",
            expected="a file in float16 or bfloat16",
        )
    settings = {"precision": known.precision, "threads": threads, "provider": "CPU"}
    reopen = partial(RoundedSession, spec.file, threads=threads)
    return _Opened(reopen(), _ort_info(spec, known, settings), reopen)


def _ort_info(spec: FileBackend, known: OnnxFacts, settings: Mapping[str, Any]) -> BackendInfo:
    from sn_deploy.runtime.ort import version

    data = {"data_sha256": known.data_sha256} if known.data_sha256 else {}
    versions = {"onnxruntime": version()}
    return BackendInfo(spec.name, spec.kind, str(spec.file), known.sha256, versions, {**settings, **data})


def _native_library(spec: FileBackend, providers: Sequence[str], known: OnnxFacts) -> Path:
    library = ort_library(providers)
    if library is None or (providers and "cuda" not in library.name):
        raise SnDeployError(
            "the native operator wasn't built, or is turned off", where=spec.name, mend="see: sn-deploy doctor"
        )
    if known.portable and not known.switch_norm_nodes:
        raise SnDeployError("has no SwitchNorm node that the native operator could run", where=str(spec.file))
    return library


def _open_trt(spec: FileBackend, threads: int | None, facts: _Facts) -> _Opened:
    from sn_deploy.check.backends.engine_file import EngineRunner, tensorrt_version

    graphs = spec.kind == "trt"
    reopen = partial(EngineRunner, spec.file, cuda_graphs=graphs, access=facts.access)
    runner = reopen()
    versions = {"tensorrt": tensorrt_version()}
    info = BackendInfo(spec.name, spec.kind, str(spec.file), sha256_of_file(spec.file), versions, runner.settings)
    return _Opened(runner, info, reopen)


_Opener = Callable[[FileBackend, int | None, _Facts], _Opened]
_OPENERS: Final[dict[str, _Opener]] = {
    "ort": _open_ort,
    "ort-native": _open_ort,
    "ort-rounded": _open_rounded,
    "ort-cuda": _open_ort,
    "ort-cuda-native": _open_ort,
    "trt": _open_trt,
    "trt-no-graph": _open_trt,
}


class _TorchModels:
    """The user's model, as it is and, where it is asked for, in float64.

    Attributes:
        notes: what is to be said about its weights.
    """

    def __init__(self, options: BackendOptions) -> None:
        from sn_deploy.check.backends.torch_model import load_model
        from sn_deploy.runtime.torch import require_torch, use_threads

        require_torch("--model")
        assert options.model is not None
        self._options, self._threads = options.model, options.threads
        if options.threads is not None:
            use_threads(options.threads)
        self._model, loaded = load_model(options.model)
        path = options.model.checkpoint
        self.notes = [] if loaded is None or path is None else loaded.lines(path)
        self._with_float64 = options.reference_dtype == "float64"

    def inputs(self) -> list[TensorInfo]:
        """The parameters of ``forward`` that have to be given, with unknown shapes."""
        from sn_deploy.check.backends.torch_model import required_inputs

        return required_inputs(self._model)

    def backends(self, inputs: Sequence[TensorInfo], outputs: Sequence[str] | None) -> list[AdaptedBackend]:
        """The model behind the names of the check."""
        from sn_deploy.check.backends.torch_model import in_float64

        made = [self._backend(TORCH64, in_float64(self._model), inputs, outputs)] if self._with_float64 else []
        return [*made, self._backend(TORCH, self._model, inputs, outputs)]

    def _backend(
        self, name: str, model: Any, inputs: Sequence[TensorInfo], outputs: Sequence[str] | None
    ) -> AdaptedBackend:
        from sn_deploy.check.backends.torch_model import TorchRunner, checkpoint_sha256, open_runner, weights_sha256

        runner, options = TorchRunner(model, inputs), self._options
        settings = {
            "precision": runner.precision,
            "threads": self._threads,
            "model": options.reference,
            "weights_sha256": weights_sha256(model),
        }
        file = None if options.checkpoint is None else str(options.checkpoint)
        versions = {"torch": metadata.version("torch")}
        info = BackendInfo(name, TORCH, file, checkpoint_sha256(options), versions, settings)
        reopen = partial(open_runner, options, tuple(inputs), self._threads)
        return AdaptedBackend(info, runner, reopen, {one.name: one.name for one in inputs}, outputs)
