"""An engine with the weights of an ONNX file in it: what `sn-deploy refit` does."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import sn_deploy
from sn_deploy.atomic import check_writable
from sn_deploy.engine.model_file import read_model_file
from sn_deploy.engine_file import check_engine_name
from sn_deploy.errors import SnDeployError
from sn_deploy.input_file import check_is_path, read_head, refuse_checkpoint, source_path
from sn_deploy.printed import Printed
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.trt.library import MESSAGES, OnLog
from sn_deploy.runtime.trt.sidecar import Sidecar, read_sidecar, sidecar_path, write_engine
from sn_deploy.runtime.trt.weights import check_weights, structure_sha256, without_sidecar

if TYPE_CHECKING:
    from sn_deploy.console import Console


@dataclass(frozen=True, repr=False)
class RefitReport(Printed):
    """What was written.

    Attributes:
        path: of the engine; sidecar_path: of what describes it.
    """

    path: Path
    sidecar_path: Path
    sidecar: Sidecar

    def _line(self) -> str:
        return f"{self.path}"

    def _print(self, console: Console) -> None:
        from sn_deploy.engine.show import print_refit

        print_refit(console, self)


@naming_arguments()
def refit(
    engine: str | os.PathLike[str],
    model: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    allow_host_code: bool = False,
    plugin_library: str | os.PathLike[str] | None = None,
    lean_runtime: str | os.PathLike[str] | None = None,
    device: int = 0,
    on_log: OnLog | None = None,
) -> RefitReport:
    """Writes an engine with the weights of an ONNX file: one that was built without any, or with others.

    What comes of it is whole: it loads anywhere without the file. One that was built with ``refit`` can be refitted
    again.

    Args:
        engine: built with ``strip_weights`` or ``refit``, its sidecar beside it.
        model: the file that it was built of; with ``refit`` any file of the same graph.
        output: path of the new engine: .engine, .plan or .trt.
        allow_host_code: let code in the engine run on this host.
        plugin_library, lean_runtime: what it needs beside it; see `Engine`, where the first is ``plugin``.
        device: index of the GPU, among those that CUDA_VISIBLE_DEVICES leaves.
        on_log: told of what TensorRT logs, as of `sn_deploy.build`.

    Raises:
        SnDeployError: a file can't be read or written, the weights don't belong into the engine, TensorRT, torch or a
            GPU is missing, or TensorRT refuses.
    """
    source, weights = source_path(engine, "the engine"), source_path(model)
    check_is_path(output, "the engine to write")
    target = Path(output)
    check_engine_name(target)
    for path in (target, sidecar_path(target)):
        check_writable(path)
    refuse_checkpoint(source, read_head(source), expected="an engine")
    sidecar = read_sidecar(source)
    if sidecar is None:
        raise without_sidecar(source)
    if target.exists() and target.samefile(source):
        raise SnDeployError("is the engine that is read", where=str(target), mend="write to another file")
    file = read_model_file(weights)
    check_weights(sidecar, source, weights)
    from sn_deploy.runtime.trt import Engine

    start = time.monotonic()
    with (
        MESSAGES.told_to(on_log),
        Engine(
            source,
            weights=weights,
            allow_host_code=allow_host_code,
            plugin=plugin_library,
            lean_runtime=lean_runtime,
            device=device,
        ) as opened,
    ):
        plan = opened.serialize()
    made = replace(
        sidecar,
        sn_deploy=sn_deploy.__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - start, 1),
        engine={"sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)},
        onnx={
            **sidecar.onnx,
            "file": weights.name,
            "sha256": file.facts.sha256,
            "data_sha256": file.facts.data_sha256,
            "structure_sha256": structure_sha256(weights),
        },
        settings={**sidecar.settings, "strip_weights": False},
    )
    return RefitReport(target, write_engine(plan, made, target), made)
