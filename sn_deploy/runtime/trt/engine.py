"""An engine: read from its file, held against this machine, and run.

Engines are executable code: they hold kernels for the GPU, and may hold code for the host. Load those that you built,
or whose maker you trust.
"""

from __future__ import annotations

import os
import threading
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from sn_deploy.errors import SnDeployError, SnDeployWarning
from sn_deploy.input_file import read_head, source_path
from sn_deploy.python_words import in_callers_words, naming_arguments
from sn_deploy.runtime.tensors import Array, TensorInfo
from sn_deploy.runtime.trt.builder import Shapes
from sn_deploy.runtime.trt.contexts import make_context
from sn_deploy.runtime.trt.inspector import is_switch_norm, layers_of
from sn_deploy.runtime.trt.library import MESSAGES, logger, need_gpu, tensorrt
from sn_deploy.runtime.trt.plugin import is_loaded, load_plugin_for
from sn_deploy.runtime.trt.reader import make_runtime, read_plan
from sn_deploy.runtime.trt.session import Session, SessionFacts
from sn_deploy.runtime.trt.sidecar import Here, Sidecar, check_fits, check_hash, read_sidecar
from sn_deploy.runtime.trt.types import dtype_from_tensorrt
from sn_deploy.runtime.trt.weights import check_weights, without_sidecar


class Engine:
    """An engine in the GPU's memory. Sessions of it may run at the same time; `close` frees all of them.

    Args:
        path: of the engine. What lies beside it as ``.json`` is read first: `sn_deploy.runtime.trt.sidecar`.
        plan: its bytes, where they are in memory already; ``path`` then only names it, and no sidecar is read.
        allow_host_code: let code in the engine run on this host: what a version-compatible engine with TensorRT's lean
            runtime or an embedded plugin asks for.
        plugin: the plugin library to load for it; None for the package's own, where the engine needs it.
        lean_runtime: ``libnvinfer_lean.so`` of the TensorRT that built it: what an engine without its lean runtime
            (``exclude_lean_runtime``) needs in a later version. It is loaded into this process, where it is needed.
        weights: the ONNX file whose weights an engine gets that was built without (``strip_weights``: the file that it
            was built of), or that is to have others (``refit``: any file of the same graph). Held against the sidecar,
            without which it isn't known what the engine takes.
        device: index of the GPU, among those that CUDA_VISIBLE_DEVICES leaves.

    Attributes:
        inputs, outputs: what `run` takes and gives, in the engine's order.
        profiles: the shapes that it was built for: name of an input -> `Shapes`.
        data_dependent: the outputs whose size depends on what is in the inputs: boxes, say.
        sidecar: None where there is none.

    Raises:
        SnDeployError: the file can't be read, TensorRT, torch or a GPU is missing, or the engine isn't for them.
    """

    @naming_arguments(plugin_library="plugin")
    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        plan: bytes | None = None,
        allow_host_code: bool = False,
        plugin: str | os.PathLike[str] | None = None,
        lean_runtime: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        device: int = 0,
    ) -> None:
        self._path, self.device = source_path(path, "the engine"), device
        self.name = str(self._path)
        self.sidecar = None
        doubts: list[str] = []
        if plan is None:
            read_head(self._path)
            self.sidecar = read_sidecar(self._path)
        if weights is not None and self.sidecar is None:
            raise without_sidecar(self._path, in_memory=plan is not None)
        trt = tensorrt()
        gpu = need_gpu("running an engine", device)
        if self.sidecar is not None:
            here = Here(str(trt.__version__), gpu, allow_host_code, weights is not None, lean_runtime is not None)
            if weights is not None:
                check_weights(self.sidecar, self._path, Path(weights))
            doubts += check_fits(self.sidecar, here, self._path)
        if plan is None:
            plan = self._path.read_bytes()
            if self.sidecar is not None:
                check_hash(self.sidecar, plan, self._path)
        library, doubt = load_plugin_for(self.sidecar, None if plugin is None else Path(plugin))
        doubts += [] if doubt is None else [doubt]
        torch = need_torch()
        self._lock = threading.Lock()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()
        self._own_session: Session | None = None
        with torch.cuda.device(device):
            self._runtime: Any = make_runtime(
                allow_host_code=allow_host_code, lean_runtime=self._lean(trt, lean_runtime), plugin=library
            )
            self._engine, warned = self._read(trt, plan)
            if weights is not None:
                self._refit(trt, Path(weights))
        for doubt in (*doubts, *(f"TensorRT warns: {warning}" for warning in warned)):
            text = in_callers_words(f"{self.name}: {doubt}")
            warnings.warn(text, SnDeployWarning, stacklevel=3)  # past the decorator
        infos = [self._info(trt, self._engine.get_tensor_name(i)) for i in range(self._engine.num_io_tensors)]
        self.inputs = tuple(info for info in infos if self._is_input(trt, info.name))
        self.outputs = tuple(info for info in infos if not self._is_input(trt, info.name))
        self.profiles = [self._profile(index) for index in range(self._engine.num_optimization_profiles)]
        with torch.cuda.device(device):
            self.data_dependent = self._data_dependent()

    @property
    def handle(self) -> Any:
        """TensorRT's ICudaEngine, for what isn't wrapped here.

        Raises:
            SnDeployError: the engine is closed.
        """
        if self._engine is None:
            raise SnDeployError("the engine is closed", where=self.name, mend="open it again")
        return self._engine

    def session(self, *, cuda_graphs: bool = True, most_shapes: int = 8, profile: int | None = None) -> Session:
        """Another execution context with buffers and a stream of its own.

        Args:
            cuda_graphs: launch what was captured for the inputs' shapes, which saves most of the launches' time. An
                engine with outputs whose size depends on the data runs without.
            most_shapes: for how many shapes buffers and graphs are kept; the longest unused ones go first.
            profile: index into `profiles` of the one to run in; other shapes are refused. None for the one whose opt is
                nearest, of those that the shapes are within: see `choose_profile`.

        Raises:
            SnDeployError: there is no such profile, or the engine is closed.
        """
        facts = SessionFacts(self.name, self.device, self.inputs, self.outputs, self.profiles, self.data_dependent)
        session = Session(self.handle, facts, cuda_graphs=cuda_graphs, most_shapes=most_shapes, profile=profile)
        self._sessions.add(session)
        return session

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs it once, from arrays to arrays, in a session that the engine keeps. Threads wait for each other.

        Raises:
            SnDeployError: wrong names, shapes or dtypes, a failure within TensorRT, or a closed engine.
        """
        return self._session().run(inputs)

    def device_time_ms(self, inputs: Mapping[str, Array]) -> float:
        """`Session.device_time_ms`, in the session of `run`."""
        return self._session().device_time_ms(inputs)

    def layer_times_ms(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """SN layer -> its time in one call, in the engine's order.

        Empty where the plugin isn't in it, or TensorRT doesn't tell the engine's layers.
        """
        try:
            layers = self.layers()
        except SnDeployError:
            return {}
        plugins = [str(layer.get("Name")) for layer in layers if is_switch_norm(layer)]
        times = self.all_layer_times_ms(inputs)
        return {name: times[name] for name in plugins if name in times}

    def all_layer_times_ms(self, inputs: Mapping[str, Array]) -> dict[str, float]:
        """Every layer -> its time in one call. Timed one by one, so their sum is more than a call takes."""
        with self.session(cuda_graphs=False) as session:
            return session.layer_times_ms(inputs)

    def layers(self) -> list[dict[str, Any]]:
        """What TensorRT's inspector knows of each layer, in the order in which they run.

        Raises:
            SnDeployError: the engine is closed, or TensorRT doesn't tell.
        """
        with need_torch().cuda.device(self.device):
            return layers_of(self.handle)

    def serialize(self) -> bytes:
        """The engine as a file holds it, with the weights that it has now.

        Raises:
            SnDeployError: the engine is closed, or TensorRT gives nothing.
        """
        trt = tensorrt()
        handle = self.handle
        MESSAGES.clear()
        config = handle.create_serialization_config()
        config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
        again = self.sidecar is not None and bool(self.sidecar.settings.get("refit"))
        # Older versions keep an engine refittable by themselves.
        if again and "INCLUDE_REFIT" in trt.SerializationFlag.__members__:
            config.set_flag(trt.SerializationFlag.INCLUDE_REFIT)
        with need_torch().cuda.device(self.device):
            plan = handle.serialize_with_config(config)
        if plan is None:
            raise SnDeployError(f"TensorRT can't write it: {MESSAGES.reason()}", where=self.name)
        return bytes(plan)

    def close(self) -> None:
        """Waits for what runs, then frees graphs, contexts, buffers and the engine. A second call does nothing."""
        with self._lock:
            sessions, self._own_session = list(self._sessions), None
        for session in sessions:
            session.close()
        self._engine = None  # before the runtime that it belongs to
        self._runtime = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _session(self) -> Session:
        with self._lock:
            if self._own_session is None:
                self._own_session = self.session()
            return self._own_session

    def _lean(self, trt: Any, named: str | os.PathLike[str] | None) -> Path | None:
        """The lean runtime, where it is needed, or nothing tells whether it is."""
        needed = self.sidecar is None or self.sidecar.needs_lean_runtime(str(trt.__version__))
        if named is None or not needed:
            return None
        read_head(Path(named))
        return Path(named)

    def _read(self, trt: Any, plan: bytes) -> tuple[Any, list[str]]:
        engine, warned = read_plan(self._runtime, plan)
        if engine is None:
            raise SnDeployError(
                f"TensorRT {trt.__version__} can't read it: {MESSAGES.reason()}",
                where=self.name,
                mend=None if is_loaded() else "it may need the plugin, which isn't loaded: --plugin-library FILE.so",
            )
        return engine, warned

    def _refit(self, trt: Any, weights: Path) -> None:
        read_head(weights)
        MESSAGES.clear()
        refitter = trt.Refitter(self._engine, logger())
        parser = trt.OnnxParserRefitter(refitter, logger())
        taken = parser.refit_from_file(str(weights.resolve()))
        missing = refitter.get_missing_weights() if taken else []
        if not taken or missing or not refitter.refit_cuda_engine():
            why = f"it has no {', '.join(missing[:3])}" if missing else MESSAGES.reason()
            raise SnDeployError(f"its weights don't go into {self.name}: {why}", where=str(weights))

    def _is_input(self, trt: Any, name: str) -> bool:
        return bool(self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT)

    def _info(self, trt: Any, name: str) -> TensorInfo:
        if (
            self._engine.is_shape_inference_io(name)
            or self._engine.get_tensor_location(name) == trt.TensorLocation.HOST
        ):
            raise SnDeployError(f"{name} decides about shapes by its values, which isn't supported", where=self.name)
        axes: Sequence[int | str | None] = tuple(self._engine.get_tensor_shape(name))
        known = _shape_in(self.sidecar, name)
        named = known if known is not None and len(known) == len(axes) else [None] * len(axes)
        shape = tuple(
            own if isinstance(own, str) else None if size == -1 else size for size, own in zip(axes, named, strict=True)
        )
        return TensorInfo(name, shape, dtype_from_tensorrt(self._engine.get_tensor_dtype(name), name, self.name))

    def _data_dependent(self) -> tuple[str, ...]:
        """The outputs that have no size even where all inputs have theirs."""
        open_ = [info.name for info in self.outputs if -1 in tuple(self._engine.get_tensor_shape(info.name))]
        if not open_:
            return ()
        context = make_context(self._engine, self.name)
        for name, shapes in self.profiles[0].items():
            context.set_input_shape(name, shapes.opt)
        return tuple(name for name in open_ if -1 in tuple(context.get_tensor_shape(name)))

    def _profile(self, index: int) -> dict[str, Shapes]:
        shapes = {info.name: self._engine.get_tensor_profile_shape(info.name, index) for info in self.inputs}
        return {name: Shapes(*(tuple(shape) for shape in three)) for name, three in shapes.items()}


def need_torch() -> Any:
    """torch, whose memory, streams and graphs engines run with.

    Raises:
        SnDeployError: it isn't installed, or is a build without CUDA, or can't use the GPU.
    """
    try:
        import torch
    except ImportError as error:
        raise SnDeployError(
            "running an engine from Python needs PyTorch, which isn't installed",
            where="TensorRT",
            mend="pip install 'sn-deploy[torch]', in a build for CUDA; or run it with trtexec or Triton",
        ) from error
    if not torch.cuda.is_available():
        raise SnDeployError(
            f"PyTorch {torch.__version__} can't use the GPU",
            where="TensorRT",
            mend="install a PyTorch for the driver's CUDA version (sn-deploy doctor tells the reason)",
        )
    return torch


def _shape_in(sidecar: Sidecar | None, name: str) -> Sequence[Any] | None:
    tensors = [] if sidecar is None else [*sidecar.inputs, *sidecar.outputs]
    return next((tensor.get("shape") for tensor in tensors if tensor.get("name") == name), None)
