"""An engine of an ONNX file, and its sidecar: the function that users call as `sn_deploy.build`."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import sn_deploy
from sn_deploy.arguments import whole_number
from sn_deploy.atomic import check_writable
from sn_deploy.engine.given import ShapeRange, given_profiles
from sn_deploy.engine.heard import Heard
from sn_deploy.engine.model_file import ModelFile, inlined, read_model_file, without_functions
from sn_deploy.engine.profiles import KINDS, Resolved, resolve_profiles
from sn_deploy.engine.timing_cache import timing_cache_file
from sn_deploy.engine_file import check_engine_name
from sn_deploy.errors import SnDeployError
from sn_deploy.hashing import sha256_of_file
from sn_deploy.input_file import check_is_path, source_path
from sn_deploy.printed import Printed
from sn_deploy.python_words import in_callers_words, naming_arguments
from sn_deploy.runtime.gpu import Gpu, on_gpu
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt.builder import HARDWARE_COMPATIBILITY, BuildSettings, Source, build_plan
from sn_deploy.runtime.trt.inspector import layers_from_plan
from sn_deploy.runtime.trt.library import MESSAGES, OnLog, need_gpu, tensorrt, version_of
from sn_deploy.runtime.trt.plugin import find_plugin, load_plugin
from sn_deploy.runtime.trt.progress import OnProgress
from sn_deploy.runtime.trt.sidecar import EMBEDDED, LOADED, NO_PLUGIN, Sidecar, sidecar_path, write_engine
from sn_deploy.runtime.trt.weights import structure_sha256

if TYPE_CHECKING:
    from sn_deploy.console import Console

PluginUse = Literal["auto", "embed", "none"]
_MOST_MIB: Final = 1 << 32  # more than any GPU has; TensorRT takes bytes in 64 bits
PLUGIN_USES: Final[tuple[PluginUse, ...]] = ("auto", "embed", "none")


@dataclass(frozen=True, repr=False)
class BuildReport(Printed):
    """What was built.

    Attributes:
        path: of the engine; sidecar_path: of what describes it.
        notes: what was assumed or costs something, a line each.
    """

    path: Path
    sidecar_path: Path
    sidecar: Sidecar
    notes: tuple[str, ...]

    def _line(self) -> str:
        return f"{self.path}"

    def _print(self, console: Console) -> None:
        from sn_deploy.engine.show import print_build

        print_build(console, self)


@naming_arguments(opt=("profiles", "profiles=[{{{!r}: {}}}]"), workspace="workspace_mib", verbose="on_log")
def build(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    profiles: Sequence[Mapping[str, ShapeRange]] = (),
    plugin: PluginUse = "auto",
    plugin_library: str | os.PathLike[str] | None = None,
    tf32: bool = False,
    workspace_mib: int | None = None,
    optimization_level: int | None = None,
    hardware_compatibility: Literal["none", "ampere-plus", "same-compute-capability"] = "none",
    version_compatible: bool = False,
    exclude_lean_runtime: bool = False,
    refit: bool = False,
    strip_weights: bool = False,
    timing_cache: bool | str | os.PathLike[str] = True,
    device: int = 0,
    on_note: Callable[[str], None] | None = None,
    on_progress: OnProgress | None = None,
    on_log: OnLog | None = None,
) -> BuildReport:
    """Builds a TensorRT engine for a GPU of this machine, in the precisions that the file is in.

    The engine is written whole or not at all. Beside it comes ``OUTPUT.json``, which `Engine` and ``sn-deploy inspect``
    read. The network is strongly typed, in both major versions of TensorRT.

    Args:
        model: path of an ONNX file.
        output: path of the engine: .engine, .plan or .trt.
        profiles: the shapes to build for, input by input: one shape, or (min, opt, max), or a dict of some of these.
            What isn't given comes from the file, and is noted.
        plugin: ``auto`` runs SN layers by the project's plugin, which a reader loads too; ``embed`` also puts it into
            the engine, which is then version-compatible; ``none`` takes the function inside the file.
        plugin_library: the plugin, in place of the package's own.
        tf32: let float32 convolutions round what they read to TF32.
        workspace_mib: limit of a layer's working memory.
        optimization_level: 0 to 5; None for TensorRT's default.
        hardware_compatibility: ``none``, ``ampere-plus`` or ``same-compute-capability``.
        version_compatible: later versions of TensorRT can run it, also 11 what 10 has built, unless it needs a plugin
            that isn't embedded.
        exclude_lean_runtime: without the runtime for that in the engine: the reader then needs this version's.
        refit: its weights can be replaced later; strip_weights: it is written without them.
        timing_cache: keep timings in the user's cache, or in a file of this name; False for none.
        device: index of the GPU, among those that CUDA_VISIBLE_DEVICES leaves.
        on_note: told of each note: before the build begins, and after it what TensorRT warned of.
        on_progress: told of the build's phases.
        on_log: told of what TensorRT logs, from infos up (``"INFO"``, ``"WARNING"`` …), in any thread.

    Raises:
        SnDeployError: a file or an option is wrong, TensorRT, the plugin or a GPU is missing, or TensorRT refuses.
        KeyboardInterrupt: Ctrl-C ended the build.
    """
    source = source_path(model)
    check_is_path(output, "the engine to write")
    target = Path(output)
    check_engine_name(target)
    _check_options(plugin, plugin_library, hardware_compatibility)
    if optimization_level is not None:
        optimization_level = whole_number(optimization_level, "optimization_level", least=0, most=5)
    if workspace_mib is not None:
        workspace_mib = whole_number(workspace_mib, "workspace_mib", most=_MOST_MIB)
    given = given_profiles(profiles)
    if exclude_lean_runtime and not (version_compatible or plugin == "embed"):
        raise SnDeployError(
            "is for version-compatible engines",
            where="--exclude-lean-runtime",
            mend="ask for --version-compatible, too",
        )
    for path in (target, sidecar_path(target), *([] if isinstance(timing_cache, bool) else [timing_cache])):
        check_writable(path)
    if target.exists() and source.exists() and target.samefile(source):
        raise SnDeployError("is the ONNX file itself", where=str(target), mend="write to another: FILE.engine")
    file = read_model_file(source)
    if plugin == "none" and (strip_weights or refit) and file.facts.switch_norm_nodes:
        # The refitter would look for the weights of the file's functions, which are folded into others.
        raise SnDeployError(
            "can't be done for a file with SwitchNorm nodes without the plugin",
            where="--strip-weights" if strip_weights else "--refit",
            mend="take the plugin, or a file without functions: sn-deploy export --inline",
        )
    resolved = resolve_profiles(file.inputs, given)
    trt = tensorrt()
    library = _loaded_plugin(file, plugin, version_of(trt)[0], plugin_library)
    gpu = need_gpu("building an engine", device)
    notes: list[str] = []

    def tell(note: str) -> None:
        note = in_callers_words(note)
        notes.append(note)
        if on_note is not None:
            on_note(note)

    for note in (*resolved.notes, *_notes(file, plugin, library)):
        tell(note)
    settings = BuildSettings(
        profiles=resolved.profiles,
        tf32=tf32,
        workspace_mib=workspace_mib,
        optimization_level=optimization_level,
        hardware_compatibility=hardware_compatibility,
        version_compatible=version_compatible or (plugin == "embed" and library is not None),
        exclude_lean_runtime=exclude_lean_runtime,
        refit=refit,
        strip_weights=strip_weights,
        embed=library if plugin == "embed" else None,
        timing_cache=_timing_cache(timing_cache, str(trt.__version__), gpu),
    )
    content = None
    if file.facts.switch_norm_nodes:
        content = inlined(source) if library is None else without_functions(source)
    start, heard = time.monotonic(), Heard()
    with on_gpu(device):
        with MESSAGES.told_to(heard, on_log):
            plan = build_plan(Source(source, content), settings, on_progress=on_progress, on_note=tell)
        seconds = time.monotonic() - start
        for note in heard.notes():
            tell(note)
        sidecar = _sidecar(file, resolved, settings, library, gpu, plan, seconds)
        try:
            sidecar = replace(sidecar, layers=layers_from_plan(plan, allow_host_code=sidecar.holds_host_code))
        except SnDeployError as error:
            tell(f"its layers can't be listed: {error}")
    return BuildReport(target, write_engine(plan, sidecar, target), sidecar, tuple(notes))


def _check_options(plugin: str, library: object, hardware: str) -> None:
    if plugin not in PLUGIN_USES:
        raise SnDeployError(f"there is no {plugin!r}", where="plugin", expected=", ".join(PLUGIN_USES))
    if plugin == "none" and library is not None:
        raise SnDeployError("is given, and --plugin none takes none", where="--plugin-library")
    if hardware not in HARDWARE_COMPATIBILITY:
        raise SnDeployError(
            f"there is no {hardware!r}", where="hardware_compatibility", expected=", ".join(HARDWARE_COMPATIBILITY)
        )


def _loaded_plugin(file: ModelFile, use: PluginUse, major: int, named: str | os.PathLike[str] | None) -> Path | None:
    """The plugin library, loaded; None where none is wanted, or the file has no use for one.

    Raises:
        SnDeployError: it isn't there or isn't fit, with what going without costs.
    """
    if use == "none" or not file.facts.switch_norm_nodes:
        return None
    try:
        library = find_plugin(major, None if named is None else Path(named))
    except SnDeployError as error:
        if named is not None:
            raise
        raise error.but(mend=f"{error.mend}; or build without it, --plugin none: {_cost(file)}") from error
    load_plugin(library)
    return library


def _notes(file: ModelFile, use: PluginUse, library: Path | None) -> list[str]:
    if not file.facts.switch_norm_nodes:
        return [] if use == "none" else [_NO_NODES]
    if library is None:
        return [f"without the plugin {_cost(file)}"]
    return []


_NO_NODES: Final = (
    "the file has no SwitchNorm nodes, so the plugin isn't used; sn-deploy fuse makes them of SN layers in standard "
    "operators"
)


def _cost(file: ModelFile) -> str:
    count = file.facts.switch_norm_nodes
    layers = "the SN layer" if count == 1 else f"each of the {count} SN layers"
    nodes = f" ({file.body_nodes}, less what is constant)" if file.body_nodes else ""
    return (
        f"{layers} becomes the standard operators of its function{nodes}, which TensorRT runs as several kernels with "
        "passes over memory between them; the result is the same, the speed lower (by how much hasn't been measured)"
    )


def _timing_cache(asked: bool | str | os.PathLike[str], version: str, gpu: Gpu) -> Path | None:
    if isinstance(asked, bool):
        return timing_cache_file(version, gpu) if asked else None
    return Path(asked)


def _sidecar(
    file: ModelFile,
    resolved: Resolved,
    settings: BuildSettings,
    library: Path | None,
    gpu: Gpu,
    plan: bytes,
    seconds: float,
) -> Sidecar:
    use = NO_PLUGIN if library is None else EMBEDDED if settings.embed is not None else LOADED
    hashed = None if library is None else sha256_of_file(library)
    names = ("workspace_mib", "optimization_level", "hardware_compatibility", "version_compatible",
             "exclude_lean_runtime", "refit", "strip_weights")  # fmt: skip
    return Sidecar(
        sn_deploy=sn_deploy.__version__,
        tensorrt=str(tensorrt().__version__),
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(seconds, 1),
        engine={"sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)},
        onnx={
            "file": file.path.name,
            "sha256": file.facts.sha256,
            "data_sha256": file.facts.data_sha256,
            "structure_sha256": structure_sha256(file.path),
            "switch_norm_nodes": file.facts.switch_norm_nodes,
        },
        gpu=gpu.as_json(),
        precision=file.facts.precision,
        tf32=settings.tf32,
        plugin={"use": use, "library": None if library is None else library.name, "sha256": hashed},
        settings={name: getattr(settings, name) for name in names},
        profiles=[
            {name: {kind: list(getattr(three, kind)) for kind in KINDS} for name, three in profile.items()}
            for profile in resolved.profiles
        ],
        inputs=[_tensor(info) for info in file.inputs],
        outputs=[_tensor(info) for info in file.outputs],
        layers=None,
    )


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "dtype": str(info.dtype), "shape": None if info.shape is None else list(info.shape)}
