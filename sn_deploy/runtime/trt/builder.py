"""From an ONNX file to an engine's bytes. Polygraphy sets TensorRT's builder up."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from sn_deploy.errors import SnDeployError
from sn_deploy.imports import imported
from sn_deploy.runtime.trt.library import MESSAGES, logger, need_gpu, tensorrt
from sn_deploy.runtime.trt.progress import OnProgress, Watch, interrupts, monitor
from sn_deploy.runtime.trt.timings import load_timings, save_timings

HARDWARE_COMPATIBILITY: Final = {
    "none": "NONE",
    "ampere-plus": "AMPERE_PLUS",
    "same-compute-capability": "SAME_COMPUTE_CAPABILITY",
}
_MIB: Final = 1 << 20
_SILENT: Final = 1000  # above all of Polygraphy's severities


class Shapes(NamedTuple):
    """The sizes of one input in a profile: the smallest, those it is made fastest for, the largest."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


Profile = Mapping[str, Shapes]


@dataclass(frozen=True)
class BuildSettings:
    """How an engine is built; precisions are those of the file.

    Attributes:
        profiles: shapes of all inputs, at least one.
        tf32: whether float32 convolutions and products may round their inputs to TF32's 10 bits.
        workspace_mib: limit of the memory that a layer may work in; None for all of the GPU's.
        optimization_level: 0 to 5, how long TensorRT looks for something faster; None for its default.
        hardware_compatibility: a key of `HARDWARE_COMPATIBILITY`.
        version_compatible: whether later versions of TensorRT can run it.
        exclude_lean_runtime: leave the runtime out of a version-compatible engine.
        refit: whether its weights can be replaced by others later.
        strip_weights: leave the weights out of the file; the ONNX file has to be there when it is loaded.
        embed: a plugin library to be put into the engine, which is then version-compatible.
        timing_cache: a file that timings are read from and added to; None to time everything.
    """

    profiles: Sequence[Profile]
    tf32: bool = False
    workspace_mib: int | None = None
    optimization_level: int | None = None
    hardware_compatibility: str = "none"
    version_compatible: bool = False
    exclude_lean_runtime: bool = False
    refit: bool = False
    strip_weights: bool = False
    embed: Path | None = None
    timing_cache: Path | None = None


@dataclass(frozen=True)
class Source:
    """An ONNX file, or in its place what was made of it.

    Attributes:
        path: of the file; external data lies beside it.
        content: the model that is parsed instead.
    """

    path: Path
    content: bytes | None = None


Adjust = Callable[[Any, Any], None]  # given the network and the config, before the build


def build_plan(
    source: Source,
    settings: BuildSettings,
    *,
    on_progress: OnProgress | None = None,
    on_note: Callable[[str], None] = lambda note: None,
    adjust: Adjust | None = None,
) -> bytes:
    """Builds an engine on this machine's GPU: the one that CUDA has as the thread's current device.

    Ctrl-C ends the build at its next step, and is raised when TensorRT has come back.

    Args:
        on_note: told what became of the timings, where that isn't as it should be.

    Raises:
        SnDeployError: TensorRT or a GPU is missing, or the parser or the builder refuses.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    trt = tensorrt()
    polygraphy = _polygraphy()
    need_gpu("building an engine")
    trt.init_libnvinfer_plugins(logger(), "")
    MESSAGES.clear()
    try:
        builder = trt.Builder(logger())
    except TypeError as error:  # a null pointer, which the binding takes for a wrong argument
        raise SnDeployError(f"can make no builder: {MESSAGES.reason()}", where=f"TensorRT {trt.__version__}") from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger())
    _parse(parser, source)
    _refuse_shape_inputs(network, source)
    with interrupts() as stopped:
        watch = Watch(on_progress, stopped)
        seen = monitor(watch)  # must outlive the build
        plan = _build(polygraphy, builder, network, settings, _Calls(seen, on_note, adjust))
        watch.check()
    if plan is None:
        raise SnDeployError(
            f"the builder gives no engine: {MESSAGES.reason()}",
            where=f"{source.path}, TensorRT {trt.__version__}",
            mend=_mend(settings),
        )
    return bytes(plan)


def config_options(settings: BuildSettings, progress_monitor: Any) -> dict[str, Any]:
    """The arguments of Polygraphy's CreateConfig.

    Raises:
        SnDeployError: the installed TensorRT doesn't know what is asked for.
    """
    trt = tensorrt()
    level = HARDWARE_COMPATIBILITY[settings.hardware_compatibility]
    known = trt.HardwareCompatibilityLevel.__members__
    if level not in known:
        raise SnDeployError(
            f"TensorRT {trt.__version__} has no such level",
            where=f"hardware compatibility {settings.hardware_compatibility}",
            expected=", ".join(name for name, own in HARDWARE_COMPATIBILITY.items() if own in known),
        )
    options: dict[str, Any] = {
        "tf32": settings.tf32,
        "profiling_verbosity": trt.ProfilingVerbosity.DETAILED,
        "version_compatible": settings.version_compatible or settings.embed is not None,
        "exclude_lean_runtime": settings.exclude_lean_runtime,
        "refittable": settings.refit,
        "strip_plan": settings.strip_weights,
        "progress_monitor": progress_monitor,
        "builder_optimization_level": settings.optimization_level,
    }
    if settings.hardware_compatibility != "none":
        options["hardware_compatibility_level"] = known[level]
    if settings.workspace_mib is not None:
        options["memory_pool_limits"] = {trt.MemoryPoolType.WORKSPACE: settings.workspace_mib * _MIB}
    return options


class _Calls(NamedTuple):
    """What is called in a build; see `build_plan`."""

    monitor: Any
    on_note: Callable[[str], None]
    adjust: Adjust | None


def _build(polygraphy: Any, builder: Any, network: Any, settings: BuildSettings, calls: _Calls) -> Any:
    """The serialized engine; None where the builder gives none."""
    trt = tensorrt()
    backend, log = polygraphy.backend.trt, polygraphy.logger.G_LOGGER
    profiles = [backend.Profile() for _ in settings.profiles]
    for made, profile in zip(profiles, settings.profiles, strict=True):
        for name, shapes in profile.items():
            made.add(name, shapes.min, shapes.opt, shapes.max)

    timings = settings.timing_cache
    # What Polygraphy would print is in our errors; what TensorRT logs is in MESSAGES.
    with log.verbosity(_SILENT):
        try:
            config = backend.create_config(
                builder, network, profiles=profiles, **config_options(settings, calls.monitor)
            )
            if settings.embed is not None:
                config.plugins_to_serialize = [str(settings.embed.resolve())]
            if settings.strip_weights and not settings.refit:
                # The weights come back from the same file: TensorRT may build as if they never changed.
                config.set_flag(trt.BuilderFlag.REFIT_IDENTICAL)
            if timings is not None and not load_timings(config, timings):
                calls.on_note(
                    f"{timings} holds no timings that TensorRT takes here (damaged, or of another version or kind of "
                    "GPU): every kernel is timed, and nothing is kept; delete it to begin anew"
                )
                timings = None
            if calls.adjust is not None:
                calls.adjust(network, config)
            plan = backend.engine_bytes_from_network((builder, network), config)
        except polygraphy.exception.PolygraphyException as error:
            if str(error).startswith("Invalid Engine"):
                return None
            raise SnDeployError(f"{error}; {MESSAGES.reason()}", where=f"TensorRT {trt.__version__}") from error
    lost = None if timings is None else save_timings(config, timings)
    if lost is not None:
        calls.on_note(lost)
    return plan


def _parse(parser: Any, source: Source) -> None:
    path = os.fspath(source.path.resolve())
    parsed = parser.parse_from_file(path) if source.content is None else parser.parse(source.content, path)
    if parsed and not parser.num_errors:
        return
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    said = [text_of_parser_error(error.node_operator(), error.node_name(), error.desc()) for error in errors[:3]]
    raise SnDeployError(
        "TensorRT's parser refuses it: " + ("; ".join(said) or MESSAGES.reason()),
        where=str(source.path),
        mend="see what the operators that it names need, or export the model anew",
    )


def text_of_parser_error(operator: str, node: str, description: str) -> str:
    """One of the parser's errors in a line."""
    place = " ".join(part for part in (operator, f"({node})" if node else "") if part)
    return f"{place}: {description}" if place else description


def _refuse_shape_inputs(network: Any, source: Source) -> None:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    shapes = [tensor.name for tensor in inputs if tensor.is_shape_tensor]
    if shapes:
        raise SnDeployError(
            f"input {shapes[0]} decides about shapes by its values, which isn't supported",
            where=str(source.path),
            expected="inputs whose values are only computed with",
        )


def _mend(settings: BuildSettings) -> str | None:
    reason = MESSAGES.reason().lower()
    if "memory" in reason or "workspace" in reason:
        return "give the largest shape a smaller batch, or a larger --workspace"
    if settings.embed is not None and "lean" in reason:
        return "TensorRT's lean runtime (libnvinfer_lean, pip install tensorrt-lean) is needed for --plugin embed"
    return None


def _polygraphy() -> Any:
    parts = [f"polygraphy.{part}" for part in ("backend.trt", "logger", "exception")]
    return imported(*parts, "polygraphy", called="Polygraphy", where="TensorRT", extra="tensorrt")
