"""A sidecar that no build has written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sn_deploy.runtime.trt.sidecar import Sidecar, sidecar_path


def made_sidecar(**changes: Any) -> Sidecar:
    """Of an engine for TensorRT 10.15.1.29 and an H200, with the plugin loaded beside it."""
    made = Sidecar(
        sn_deploy="0.1.0",
        tensorrt="10.15.1.29",
        created="2026-01-01T00:00:00+00:00",
        seconds=12.5,
        engine={"sha256": "0" * 64, "bytes": 51_000_000},
        onnx={"file": "net.onnx", "sha256": "1" * 64, "data_sha256": {}, "switch_norm_nodes": 1},
        gpu={"name": "NVIDIA H200", "compute_capability": "9.0", "memory_mib": 143_771, "driver_cuda": "13.0"},
        precision="float16",
        tf32=False,
        plugin={"use": "loaded", "library": "libsn_deploy_trt10.so", "sha256": "2" * 64},
        settings={"workspace_mib": 512, "hardware_compatibility": "none", "version_compatible": False},
        profiles=[{"image": {"min": [1, 3, 8, 8], "opt": [8, 3, 8, 8], "max": [32, 3, 8, 8]}}],
        inputs=[{"name": "image", "dtype": "float16", "shape": ["batch", 3, 8, 8]}],
        outputs=[{"name": "logits", "dtype": "float16", "shape": ["batch", 10]}],
        layers=[
            {"Name": "conv1", "LayerType": "CaskConvolution", "TacticName": "sm90_xmma", "Outputs": [half("a")]},
            {"Name": "copy", "LayerType": "Reformat", "Inputs": [half("a")], "Outputs": [half("b")]},
            {"Name": "sn1", "LayerType": "PluginV3", "Inputs": [half("b")], "Outputs": [half("y")]},
        ],
    )
    return replace(made, **changes)


def half(name: str) -> dict[str, str]:
    """A tensor, as the inspector tells it."""
    return {"Name": name, "Format/Datatype": "Half"}


def write_sidecar(sidecar: Sidecar, engine: Path) -> None:
    """Writes it beside an engine that is there, or that nothing asks for."""
    sidecar_path(engine).write_text(sidecar.text(), encoding="utf-8")
