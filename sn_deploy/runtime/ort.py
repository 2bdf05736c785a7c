"""ONNX Runtime: a model file in, `run(dict) -> dict` out. The only importer of onnxruntime."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import shlex
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal

import ml_dtypes
import numpy as np
import onnx

from sn_deploy.errors import SnDeployError, SnDeployWarning
from sn_deploy.imports import imported
from sn_deploy.input_file import source_path, utf8_path
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.native import SWITCH, ort_library
from sn_deploy.runtime.ort_errors import load_error, ort_errors, reason_of
from sn_deploy.runtime.stamp import Here, misfit, portable_source, read_stamp
from sn_deploy.runtime.tensors import Array, TensorInfo, check_inputs

GraphOptimization = Literal["all", "extended", "basic", "disabled"]

_OPTIMIZATION_LEVELS: Final = {
    "all": "ORT_ENABLE_ALL",
    "extended": "ORT_ENABLE_EXTENDED",
    "basic": "ORT_ENABLE_BASIC",
    "disabled": "ORT_DISABLE_ALL",
}

# ONNX Runtime's names of tensor types. The dtypes of ml_dtypes are unknown to its Python binding: see `_run_values`.
_DTYPES: Final = {
    "tensor(float)": np.dtype(np.float32),
    "tensor(float16)": np.dtype(np.float16),
    "tensor(bfloat16)": np.dtype(ml_dtypes.bfloat16),
    "tensor(double)": np.dtype(np.float64),
    "tensor(int8)": np.dtype(np.int8),
    "tensor(int16)": np.dtype(np.int16),
    "tensor(int32)": np.dtype(np.int32),
    "tensor(int64)": np.dtype(np.int64),
    "tensor(uint8)": np.dtype(np.uint8),
    "tensor(uint16)": np.dtype(np.uint16),
    "tensor(uint32)": np.dtype(np.uint32),
    "tensor(uint64)": np.dtype(np.uint64),
    "tensor(bool)": np.dtype(np.bool_),
}
_EXTERNAL_DATA: Final = "session.model_external_initializers_file_folder_path"
_CPU: Final = "CPUExecutionProvider"
# Without TF32, which the provider would compute float32 in by itself: its tolerance in a check is float32's.
_PROVIDER_OPTIONS: Final[dict[str, dict[str, str]]] = {"CUDAExecutionProvider": {"use_tf32": "0"}}
NCHWC_DOMAIN: Final = "com.microsoft.nchwc"
_BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)
_BFLOAT16_ELEMENT_TYPE: Final = 16  # onnx.TensorProto.BFLOAT16


class OrtSession:
    """A model loaded into ONNX Runtime.

    Args:
        model: path of an ONNX file, or its bytes.
        threads: threads within an operator; None for ONNX Runtime's choice, one a physical core.
        providers: execution providers in order of preference; None for the CPU alone.
        graph_optimization: how far the graph is rewritten at load.
        custom_op_library: path of a shared library with custom operators, in place of the project's own.
        native: use the project's own custom operators where they were built and SN_DEPLOY_NATIVE isn't 0; otherwise the
            function inside the file runs.
        spinning: whether idle threads spin for a moment and so wake up faster. Off where several sessions take turns
            on the same cores, as in a benchmark.
        external_data: folder in which the files that hold the weights of a model in memory are looked for.
        profile: folder that ONNX Runtime's profile is written into by `end_profiling`; None for no profile.

    A file of `sn-deploy optimise` that doesn't belong here (another version of ONNX Runtime, another processor, no
    native operators) isn't run: the portable file beside it runs instead, with an `SnDeployWarning` that says why.

    Attributes:
        inputs, outputs: what `run` takes and gives, in the model's order.
        instead: the portable file that runs in place of an optimised one; None as a rule.

    Raises:
        SnDeployError: onnxruntime is missing, the model can't be read, a provider isn't there, the library can't be
            loaded, or an optimised file doesn't belong here and its source isn't beside it.
    """

    @naming_arguments()
    def __init__(
        self,
        model: str | os.PathLike[str] | bytes,
        *,
        threads: int | None = None,
        providers: Sequence[str] | None = None,
        graph_optimization: GraphOptimization = "all",
        custom_op_library: str | os.PathLike[str] | None = None,
        native: bool = True,
        spinning: bool = True,
        external_data: Path | None = None,
        profile: Path | None = None,
    ) -> None:
        ort = _onnxruntime()
        self._reopen: Callable[..., OrtSession] = functools.partial(
            OrtSession,
            threads=threads,
            providers=providers,
            graph_optimization=graph_optimization,
            custom_op_library=custom_op_library,
            native=native,
            spinning=spinning,
        )
        self.name = "the model in memory" if isinstance(model, bytes) else str(source_path(model))
        chosen = _checked_providers(ort, providers)
        options = _session_options(ort, threads, graph_optimization, spinning)
        if external_data is not None:
            options.add_session_config_entry(_EXTERNAL_DATA, utf8_path(external_data.resolve()))
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = utf8_path(profile / "profile")
        library = custom_op_library or (ort_library(chosen) if native else None)
        if library is not None:
            _register_library(ort, options, Path(library))
        if not isinstance(model, bytes) and not Path(model).is_file():
            raise SnDeployError("no such file", where=self.name, expected="an ONNX file")
        self.instead = _instead(ort, model, chosen, library)
        source = model if isinstance(model, bytes) else utf8_path(self.instead or model)
        try:
            with_options = [(name, _PROVIDER_OPTIONS.get(name, {})) for name in chosen]
            self._session = ort.InferenceSession(source, options, providers=with_options)
        except ort_errors(ort) as error:
            raise load_error(error, self.name) from error
        # It falls back to the CPU by itself where a provider's libraries are missing, and only logs it.
        if chosen[0] not in self._session.get_providers():
            raise SnDeployError(
                f"{chosen[0]} could not be started", where="providers", mend="install its libraries, or ask for the CPU"
            )
        self._ort = ort
        self._path = None if isinstance(model, bytes) else self.instead or Path(model)
        self._on_cpu = chosen == [_CPU]
        self.inputs = _with_scalars([_tensor_info(value, self.name) for value in self._session.get_inputs()], source)
        self.outputs = tuple(_tensor_info(value, self.name) for value in self._session.get_outputs())
        self._with_values = any(info.dtype == _BFLOAT16 for info in (*self.inputs, *self.outputs))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs the model once.

        Args:
            inputs: an array for each of `inputs`, by name.

        Returns:
            an array for each of `outputs`, by name.

        Raises:
            SnDeployError: wrong names, shapes or dtypes, a failure within ONNX Runtime, or a closed session.
        """
        if self._session is None:
            raise SnDeployError("the session is closed", where=self.name, mend="open it again")
        check_inputs(self.inputs, inputs, where=self.name)
        try:
            results = self._run_values(inputs) if self._with_values else self._session.run(None, dict(inputs))
        except ort_errors(self._ort) as error:
            raise SnDeployError(f"ONNX Runtime failed: {reason_of(error)}", where=self.name) from error
        return {info.name: result for info, result in zip(self.outputs, results, strict=True)}

    @naming_arguments()
    def _run_values(self, inputs: Mapping[str, Array]) -> list[Array]:
        # The session's own run refuses NumPy arrays of bfloat16, and OrtValue.numpy() gives none.
        # Not ascontiguousarray, which makes a vector of a scalar.
        values = {name: self._value_from_array(np.asarray(array, order="C")) for name, array in inputs.items()}
        return [_array_from_value(value) for value in self._session.run_with_ort_values(None, values)]

    def _value_from_array(self, array: Array) -> Any:
        if array.dtype == _BFLOAT16:
            value_from_array = getattr(self._ort.OrtValue, "ortvalue_from_numpy_with_onnx_type", None)
            if value_from_array is None:
                raise SnDeployError(
                    f"the Python binding of ONNX Runtime {self._ort.__version__} passes no bfloat16",
                    where=self.name,
                    mend="install a newer onnxruntime, or export with --keep-io-types",
                )
            return value_from_array(array.view(np.uint16), _BFLOAT16_ELEMENT_TYPE)
        return self._ort.OrtValue.ortvalue_from_numpy(array)

    def layer_times_ms(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """SN layer -> its time in one call, from a profile of another session with the same settings.

        Empty where ONNX Runtime can't tell: a model in memory, a provider whose kernels run on while the clock has
        stopped, and what `sn_deploy.runtime.ort_profile.layer_times` leaves out.
        """
        from sn_deploy.runtime.ort_profile import layer_times

        if self._path is None or not self._on_cpu:
            return {}
        return layer_times(self._path, lambda model, folder: self._reopen(model, profile=folder), inputs)

    def with_model(self, model: str | os.PathLike[str] | bytes) -> OrtSession:
        """A session of the same settings for another model; the weights of bytes may lie in the files of this one's.

        Raises:
            SnDeployError: ONNX Runtime can't load it.
        """
        in_memory = isinstance(model, bytes) and self._path is not None
        return self._reopen(model, external_data=self._path.parent if in_memory and self._path else None)

    def end_profiling(self) -> Path:
        """Writes the profile of a session that was opened with one; gives its file."""
        return Path(self._session.end_profiling())

    def close(self) -> None:
        """Frees the model's memory and threads. A second call does nothing."""
        self._session = None

    def __enter__(self) -> OrtSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def version() -> str:
    """The version of the installed onnxruntime.

    Raises:
        SnDeployError: onnxruntime is missing.
    """
    return str(_onnxruntime().__version__)


def write_optimised_graph(
    model: str | os.PathLike[str], folder: Path, *, native: bool = True, disabled_optimizers: Sequence[str] = ()
) -> Path:
    """Writes the graph that ONNX Runtime makes of a model for this machine's CPU, its blocked layout included.

    Args:
        model: path of an ONNX file.
        folder: gets the graph and the file of its weights.
        native: use the project's own custom operators.
        disabled_optimizers: names of ONNX Runtime's graph transformers to leave out.

    Returns:
        The path of the graph.

    Raises:
        SnDeployError: onnxruntime is missing, or can't load the model.
    """
    ort = _onnxruntime()
    options = _session_options(ort, 1, "all", False)
    library = ort_library() if native else None
    if library is not None:
        _register_library(ort, options, library)
    written = folder / "optimised.onnx"
    options.optimized_model_filepath = utf8_path(written)
    # A graph of more than 2 GiB isn't written in one piece.
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "optimised.data")
    options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
    try:
        ort.InferenceSession(utf8_path(model), options, providers=[_CPU], disabled_optimizers=list(disabled_optimizers))
    except ort_errors(ort) as error:
        raise load_error(error, str(model)) from error
    return written


@functools.cache
def block_size() -> int | None:
    """Channels in a block of this ONNX Runtime's convolutions on this processor; None where it has no blocked ones.

    Raises:
        SnDeployError: onnxruntime is missing.
    """
    # It says so nowhere, but pads four channels to one block.
    text = """<ir_version: 8, opset_import: ["": 13]>
        probe (float[1,1,8,8] x) => (float[1,4,8,8] y) <float[4,1,1,1] w = {1, 1, 1, 1}> { y = Conv(x, w) }"""
    with tempfile.TemporaryDirectory() as name:
        probe = Path(name) / "probe.onnx"
        onnx.save(onnx.parser.parse_model(text), probe)
        graph = onnx.load(write_optimised_graph(probe, Path(name), native=False)).graph
    weights = {tensor.name: tensor.dims[0] for tensor in graph.initializer}
    blocked = [node for node in graph.node if (node.domain, node.op_type) == (NCHWC_DOMAIN, "Conv")]
    return int(weights[blocked[0].input[1]]) if blocked else None


def _instead(
    ort: Any, model: str | os.PathLike[str] | bytes, providers: Sequence[str], library: str | os.PathLike[str] | None
) -> Path | None:
    """The file to run in the place of an optimised one that doesn't belong here."""
    stamp = read_stamp(model)
    if stamp is None:
        return None
    operators = None if library is not None else f"the native operators aren't built, or are turned off by {SWITCH}=0"
    why = misfit(stamp, Here(str(ort.__version__), block_size(), operators, tuple(providers)))
    if why is None:
        return None
    path = None if isinstance(model, bytes) else Path(model)
    source = portable_source(path, stamp, why)
    warnings.warn(
        f"{path}: made for {stamp.made_for()}, but {why}: {source.name} runs instead; make it anew with: "
        f"{shlex.join(['sn-deploy', 'optimise', source.name, '--for', stamp.target])}",
        SnDeployWarning,
        stacklevel=4,  # past the decorator of its caller
    )
    return source


def _onnxruntime() -> Any:
    return imported("onnxruntime", called="onnxruntime", where="ONNX Runtime", extra="ort")


def _checked_providers(ort: Any, providers: Sequence[str] | None) -> list[str]:
    chosen = [_CPU] if providers is None else list(providers)
    available = ort.get_available_providers()
    absent = [name for name in chosen if name not in available]
    if absent or not chosen:
        raise SnDeployError(
            f"{', '.join(absent)} is not in this onnxruntime" if absent else "no execution provider was named",
            where="providers",
            expected=f"some of {', '.join(available)}",
            mend="for an NVIDIA GPU: pip uninstall onnxruntime, then pip install onnxruntime-gpu"
            if any("CUDA" in name or "Tensorrt" in name for name in absent)
            else None,
        )
    return chosen


def _session_options(ort: Any, threads: int | None, optimization: str, spinning: bool) -> Any:
    if threads is not None and threads < 1:
        raise SnDeployError(f"{threads} threads", where="threads", expected="1 or more")
    if optimization not in _OPTIMIZATION_LEVELS:
        raise SnDeployError(
            f"unknown level {optimization!r}", where="graph_optimization", expected=", ".join(_OPTIMIZATION_LEVELS)
        )
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _OPTIMIZATION_LEVELS[optimization])
    options.log_severity_level = 4  # fatal only: errors come as exceptions
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _register_library(ort: Any, options: Any, library: Path) -> None:
    if not library.is_file():
        raise SnDeployError("no such file", where=str(library), expected="a custom-op library")
    try:
        # Absolute: a bare file name would be looked up on the loader's search path.
        options.register_custom_ops_library(utf8_path(library.resolve()))
    except ort_errors(ort) as error:
        raise SnDeployError(
            f"ONNX Runtime can't load it: {reason_of(error)}",
            where=str(library),
            expected="a custom-op library that exports RegisterCustomOps, built for this machine",
            mend=f"to run without the project's own, set {SWITCH}=0",
        ) from error


def _tensor_info(value: Any, model: str) -> TensorInfo:
    if value.type not in _DTYPES:
        raise SnDeployError(
            f"{value.name} is a {value.type}", where=model, expected="inputs and outputs that are tensors of numbers"
        )
    # Axes without a name come as None. A scalar and a tensor without any shape both come as [].
    return TensorInfo(value.name, tuple(value.shape) or None, _DTYPES[value.type])


def _with_scalars(infos: Sequence[TensorInfo], model: str | bytes) -> tuple[TensorInfo, ...]:
    """The inputs, with the shape () of those that the file says have no axes."""
    if all(info.shape is not None for info in infos):
        return tuple(infos)
    proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model, load_external_data=False)
    types = {value.name: value.type.tensor_type for value in proto.graph.input}
    scalars = {name for name, type_ in types.items() if type_.HasField("shape") and not type_.shape.dim}
    return tuple(dataclasses.replace(info, shape=()) if info.name in scalars else info for info in infos)


def _array_from_value(value: Any) -> Array:
    if value.data_type() != "tensor(bfloat16)":
        return np.asarray(value.numpy())
    shape = tuple(value.shape())
    size = int(np.prod(shape))
    if size == 0:
        return np.empty(shape, _BFLOAT16)
    memory = ctypes.cast(value.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    # Copied: the memory belongs to the value.
    array: Array = np.ctypeslib.as_array(memory, (size,)).copy().view(_BFLOAT16).reshape(shape)
    return array
