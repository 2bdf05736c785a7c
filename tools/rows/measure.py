"""One model through everything: export, ONNX Runtime by the function and by the native operator, fuse, check."""

from __future__ import annotations

import copy
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch.utils import _pytree as pytree

from sn_deploy import cli
from sn_deploy.capture.capture import capture
from sn_deploy.capture.inputs import DynamicAxes, bind_inputs, resolve_dynamic, widen_dynamic
from sn_deploy.fuse import FuseReport, fuse
from sn_deploy.graph.op import DOMAIN
from sn_deploy.graph.save import save
from sn_deploy.onnx_export import export
from sn_deploy.recognise import lift_cuda_checks_
from sn_deploy.runtime.ort import OrtSession
from tools.rows.row import Figures, Place

Array = np.ndarray[Any, Any]
Sample = Mapping[str, Array]

# What `sn-deploy check` is to take for the model: it names one by where it is found.
UNDER_CHECK: torch.nn.Module | None = None


def fused_figures(report: FuseReport, samples: Sequence[Sample]) -> Figures:
    """Of a net that only other exporters take: what `fuse` made of their file, and the batches that it is run on."""
    return {
        "shapes": _shapes(samples),
        "switch_norm": sum(report.forms.values()),
        "forms": dict(report.forms),
        "nodes": report.nodes,
        "nodes_standard": report.nodes_before,
        **_found(report),
    }


def _shapes(samples: Sequence[Sample]) -> list[list[str]]:
    return [["×".join(map(str, value.shape)) for value in sample.values()] for sample in samples]


def _found(report: FuseReport) -> Figures:
    return {
        "fuse_found": len(report.layers),
        "fuse_near_misses": [f"{miss.node}: {miss.reason}" for miss in report.near_misses],
    }


def measure(
    model: torch.nn.Module,
    samples: Sequence[Sample],
    place: Place,
    *,
    dynamic: DynamicAxes,
    agreement: str = "top1",
    own: torch.nn.Module | None = None,
    layers: int | None = None,
    check: Sequence[str] = (),
    exporter: Literal["dynamo", "torchscript"] = "torchscript",
    fuse_dynamic: DynamicAxes | None = None,
) -> Figures:
    """The figures of one model, which isn't changed.

    Args:
        model: in evaluation mode, float32.
        samples: batches, each input name -> array; the first is what the model is exported with, the others have
            other sizes along the dynamic axes.
        dynamic: as in `sn_deploy.export`.
        agreement: of what the outputs are for: ``top1`` (the class along axis 1: of an image, of a pixel), ``cosine``
            (the smallest between two embeddings), or ``none``.
        own: the project's own model of this kind; the first one's state is loaded into it, strictly.
        layers: how many SwitchNorm nodes there must be.
        check: more options for ``sn-deploy check``.
        exporter: which of torch's two exporters writes what `fuse` gets (the older one is by far the faster).
        fuse_dynamic: the axes along which that exporter is right, where they are fewer; then the fused file runs on the
            batches that have the first one's sizes along the others.

    Returns:
        ``shapes`` of the batches; ``switch_norm`` nodes and ``forms``; ``nodes`` and ``nodes_standard``; relative L2
        to PyTorch in float64 over all batches, of the worst output: ``ort``, ``native``, ``fused``, ``torch`` (PyTorch
        in float32), ``own``; ``fuse_found`` layers; ``agreement`` and its ``agreement_kind``; ``check``.
    """
    exported, naive, fused = (place.scratch / f"{name}.onnx" for name in ("exported", "naive", "fused"))
    example = {name: torch.from_numpy(value[:1]) for name, value in samples[0].items()}
    report = export(model, {"": tuple(example.values())}, exported, dynamic=dynamic, trust_statistics=True)
    forms = Counter(node.op_type for node in onnx.load(exported).graph.node if node.domain == DOMAIN)
    count = sum(forms.values())
    if layers is not None and count != layers:
        raise SystemExit(f"{count} SwitchNorm nodes, expected {layers}")

    private = copy.deepcopy(model)
    lift_cuda_checks_(private)
    expected = torch_outputs(copy.deepcopy(private).double(), samples)
    figures: Figures = {
        "shapes": _shapes(samples),
        "switch_norm": count,
        "forms": dict(forms),
        "nodes": report.nodes,
        "nodes_standard": report.nodes_standard,
        "torch": relative_l2(expected, torch_outputs(private, samples)),
    }
    found = onnxruntime_outputs(exported, samples, native=False)
    figures["ort"] = relative_l2(expected, found)
    figures["agreement_kind"], figures["agreement"] = agreement, agree(expected, found, agreement)
    figures["native"] = relative_l2(expected, onnxruntime_outputs(exported, samples, native=True))
    if own is not None:
        own.load_state_dict(model.state_dict())
        figures["own"] = relative_l2(expected, torch_outputs(own.double().eval(), samples))
    axes = dynamic if fuse_dynamic is None else fuse_dynamic
    export_by_torch(private, example, naive, axes, exporter)
    fusion = fuse(naive, fused)
    figures.update(_found(fusion))
    if len(fusion.layers) < count:
        raise SystemExit(f"fuse found {len(fusion.layers)} of {count} layers: {figures['fuse_near_misses']}")
    # torch's newer exporter doesn't take every model.
    figures["nodes_standard"] = figures["nodes_standard"] or fusion.nodes_before
    alike = [i for i, sample in enumerate(samples) if fuse_dynamic is None or _sizes(sample) == _sizes(samples[0])]
    found = onnxruntime_outputs(fused, [samples[i] for i in alike], native=False)
    figures["fused"] = relative_l2([expected[i] for i in alike], found)
    figures["check"] = run_check(model, exported, samples[0], place, check)
    return figures


def _sizes(sample: Sample) -> list[tuple[int, ...]]:
    """All but the batch's."""
    return [value.shape[1:] for value in sample.values()]


def export_by_torch(
    model: torch.nn.Module, example: Mapping[str, torch.Tensor], path: Path, dynamic: DynamicAxes, exporter: str
) -> None:
    """What torch's own exporter, ``dynamo`` or ``torchscript``, writes of the model."""
    inputs = bind_inputs(model, {"": tuple(example.values())})
    axes = resolve_dynamic(inputs, dynamic)
    if exporter == "dynamo":
        save(capture(model, widen_dynamic(inputs, axes), axes, opset=20), path)
        return
    names = list(inputs.names)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model, tuple(example.values()), path, dynamo=False, opset_version=18, input_names=names, dynamic_axes=axes
        )


def torch_outputs(model: torch.nn.Module, samples: Sequence[Sample]) -> list[list[Array]]:
    """The tensors that the model gives for each batch, in the order in which torch flattens them."""
    dtype = next(model.parameters()).dtype

    def tensor(value: Array) -> torch.Tensor:
        made = torch.from_numpy(value)
        return made.to(dtype) if made.is_floating_point() else made

    outputs = []
    with torch.inference_mode():
        for sample in samples:
            result = model(*map(tensor, sample.values()))
            leaves = [leaf for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            outputs.append([leaf.double().numpy() if leaf.is_floating_point() else leaf.numpy() for leaf in leaves])
    return outputs


def onnxruntime_outputs(path: Path, samples: Sequence[Sample], *, native: bool) -> list[list[Array]]:
    """What ONNX Runtime gives for each batch."""
    with OrtSession(path, native=native) as session:
        names = [info.name for info in session.inputs]
        return [list(session.run(dict(zip(names, sample.values(), strict=True))).values()) for sample in samples]


def relative_l2(expected: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]]) -> float:
    """‖found - expected‖ / ‖expected‖ over all batches, of the output where it is largest."""
    worst = 0.0
    for outputs, others in zip(zip(*expected, strict=True), zip(*found, strict=True), strict=True):
        difference = sum(float(np.square(b - a).sum()) for a, b in zip(outputs, others, strict=True))
        size = sum(float(np.square(a, dtype=np.float64).sum()) for a in outputs)
        worst = max(worst, (difference / size) ** 0.5 if size else difference**0.5)
        if not np.isfinite(difference):
            return float("nan")
    return worst


def agree(expected: Sequence[Sequence[Array]], found: Sequence[Sequence[Array]], kind: str) -> float | None:
    """The share of equal classes along axis 1, or the smallest cosine between the rows, of the first output.

    A deep net with random weights gives all images nearly the same scores, hence one class, and agreement would prove
    nothing. So each class's mean over all that was run is taken from the scores first, as another last bias would.
    """
    if kind == "none":
        return None
    pairs = [(a[0], b[0]) for a, b in zip(expected, found, strict=True)]
    if kind == "top1":
        scores = np.concatenate([a.swapaxes(0, 1).reshape(a.shape[1], -1) for a, _ in pairs], axis=1)
        mean = scores.mean(1).reshape(1, -1, *[1] * (pairs[0][0].ndim - 2))
        same = [((a - mean).argmax(1) == (b - mean).argmax(1)).ravel() for a, b in pairs]
        return float(np.concatenate(same).mean())
    cosines = [
        (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b.astype(np.float64), axis=1)) for a, b in pairs
    ]
    return float(np.concatenate(cosines).min())


def run_check(model: torch.nn.Module, exported: Path, sample: Sample, place: Place, more: Sequence[str]) -> str:
    """``sn-deploy check`` of the file against the model, on one batch: ``passed`` or ``failed``."""
    global UNDER_CHECK
    data = place.scratch / "samples.npz"
    np.savez(data, **sample)  # type: ignore[arg-type]
    UNDER_CHECK = copy.deepcopy(model)
    options = ["--model", f"{__name__}:UNDER_CHECK", "--data", str(data), "--no-latency"]
    try:
        cli.main(["check", str(exported), *options, "--json", str(place.scratch / "check.json"), *more])
    except SystemExit as error:
        return "failed" if error.code else "passed"
    finally:
        UNDER_CHECK = None
    return "passed"
