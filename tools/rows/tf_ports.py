"""Row 8, ports to Keras and TensorFlow: nets of TensorFlow, converted by tf2onnx, fused, and held against ours.

TensorFlow is in an environment of its own, ``FOLDER/tensorflow``; `tools/keras_ports.py` runs there.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.nn import ChannelsLast, SwitchNorm2d
from tools import keras_ports
from tools.rows.measure import agree, fused_figures, onnxruntime_outputs, relative_l2, run_check, torch_outputs
from tools.rows.row import Figures, Place, Row

ENVIRONMENT = "tensorflow/bin/python"
KERAS, TENSORFLOW = "keras-switchnorm", "Switchable_Normalization-Tensorflow"
LAYERS = len(keras_ports.CONVOLUTIONS)
ORDERS = {"keras": ("in", "ln", "bn"), "moments": ("bn", "in", "ln")}


class Ours(nn.Module):
    """The net of `tools.keras_ports` in layers of `sn_deploy.nn`, on images (N, H, W, 3).

    Args:
        given: the weights under Keras' names.
        order: of the mix weights.
    """

    def __init__(self, given: Mapping[str, np.ndarray], order: tuple[str, ...]) -> None:
        super().__init__()
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for index, (size, inputs, outputs) in enumerate(keras_ports.CONVOLUTIONS):
            convolution = nn.Conv2d(inputs, outputs, size, stride=1 if index else 2, bias=False)
            norm = SwitchNorm2d(outputs, eps=keras_ports.EPS, momentum=0.99, ddof=0, order=order)
            pairs = (
                (convolution.weight, given[f"filter{index}"].transpose(3, 2, 0, 1)),
                (norm.weight, given[f"gamma{index}"]),
                (norm.bias, given[f"beta{index}"]),
                (norm.mean_weight, given[f"mean_weights{index}"]),
                (norm.var_weight, given[f"variance_weights{index}"]),
                (norm.running_mean, given[f"moving_mean{index}"]),
                (norm.running_var, given[f"moving_variance{index}"]),
            )
            with torch.no_grad():
                for tensor, array in pairs:
                    tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(tensor.shape))
            self.convolutions.append(convolution)
            self.norms.append(ChannelsLast(norm))
        self.dense = nn.Parameter(torch.from_numpy(given["dense"]))

    def forward(self, x: Tensor) -> Tensor:
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            before = x
            x = norm(convolution(_pad_same(x, convolution)).movedim(1, -1))
            if index == 2:
                x = x + before
            x = x.relu() if index < 3 else x
        return x.mean((1, 2)) @ self.dense


def _pad_same(x: Tensor, convolution: nn.Module) -> Tensor:
    """(N, H, W, C) to (N, C, H, W) with the zeros of TensorFlow's SAME: the odd one behind."""
    assert isinstance(convolution, nn.Conv2d)
    pads: list[int] = []
    # The last axis first, as F.pad has it.
    for extent, size, stride in zip(x.shape[2:0:-1], convolution.kernel_size, convolution.stride, strict=True):
        total = max((-(-extent // stride) - 1) * stride + size - extent, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x.movedim(-1, 1), pads)


def convert(place: Place, *options: str) -> dict[str, str]:
    """Makes the files of `tools.keras_ports` in the scratch folder; the versions of what made them."""
    command = [str(place.repositories / ENVIRONMENT), keras_ports.__file__, str(place.scratch), *options]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "TF_USE_LEGACY_KERAS": "1"}
    done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}: {done.stderr[-2000:]}")
    versions: dict[str, str] = json.loads((place.scratch / "versions.json").read_text())
    return versions


def _port(port: str, options: Mapping[str, str], place: Place) -> Figures:
    versions = convert(
        place, *(part for name, path in options.items() for part in (name, str(place.repositories / path)))
    )
    net = Ours(np.load(place.scratch / "arrays.npz"), ORDERS[port]).eval()
    distances = {file.stem: _distances(file, net) for file in sorted(place.scratch.glob(f"{port}_*_*.onnx"))}
    shown = place.scratch / f"{port}_any_{max(keras_ports.OPSETS)}.onnx"
    fused = _fused(shown)
    report = fuse(shown, fused)
    samples, theirs = _batches(shown)
    expected = torch_outputs(Ours(np.load(place.scratch / "arrays.npz"), ORDERS[port]).double().eval(), samples)
    found = onnxruntime_outputs(fused, samples, native=False)
    own = relative_l2(expected, theirs)
    worst = max(max(each) for each in distances.values())
    return {
        "versions": versions,
        **fused_figures(report, samples),
        "ort": distances[shown.stem][0],
        "fused": distances[shown.stem][0],
        "native": distances[shown.stem][1],
        "torch": relative_l2(expected, torch_outputs(net, samples)),
        "agreement_kind": "top1",
        "agreement": agree(expected, found, "top1"),
        "check": run_check(net, fused, samples[0], place, ()),
        "own": own,
        "files": distances,
        "note": f"PyTorch is our own model with the port's weights, and TensorFlow's float32 is {own:.1e} from it in "
        f"float64; files of opset {' and '.join(map(str, keras_ports.OPSETS))}, for one size and for any: {LAYERS} "
        f"layers found in each of {len(distances)}, at most {worst:.1e}",
    }


def _distances(file: Path, net: nn.Module) -> tuple[float, float]:
    """Relative L2 of the fused file, by the function and by the native operator, to our own net in float64."""
    report = fuse(file, _fused(file))
    if len(report.layers) != LAYERS:
        reasons = "; ".join(f"{miss.node}: {miss.reason}" for miss in report.near_misses)
        raise SystemExit(f"{file.name}: {len(report.layers)} layers of {LAYERS} found: {reasons}")
    samples, _ = _batches(file)
    expected = torch_outputs(net.double(), samples)
    net.float()
    function, native = (onnxruntime_outputs(_fused(file), samples, native=native) for native in (False, True))
    return relative_l2(expected, function), relative_l2(expected, native)


def _fused(file: Path) -> Path:
    return file.with_suffix(".fused.onnx")


def _batches(file: Path) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """Images, and what TensorFlow made of them."""
    data = np.load(file.with_name(f"{file.stem.rpartition('_')[0]}.npz"))
    return [{"x": data[f"x{index}"]} for index in (0, 1)], [[data[f"y{index}"]] for index in (0, 1)]


def _published(place: Place) -> Figures:
    """The TensorFlow port that takes the batch's own statistics in evaluation: no SN at inference."""
    versions = convert(place, "--tensorflow", str(place.repositories / TENSORFLOW / "switch_norm.py"))
    source = place.scratch / "tensorflow.onnx"
    try:
        fuse(source, place.scratch / "never.onnx")
    except SnDeployError as error:
        refusal = error.what
    else:
        raise SystemExit("statistics of the batch were taken for recorded ones")
    return {
        "versions": versions,
        "nodes_standard": len(onnx.load(source).graph.node),
        "check": "refused",
        "note": f"it takes the statistics of the batch that it is given, which is no SN at inference; refused by "
        f"`sn-deploy fuse`: {refusal}",
    }


def _row(name: str, run: Any, *needs: str) -> Row:
    return Row(8, "Ports to Keras and TensorFlow", name, (ENVIRONMENT, *needs), run)


ROWS = (
    _row("public Keras port, by tf2onnx", partial(_port, "keras", {"--keras": f"{KERAS}/switchnorm.py"}), KERAS),
    _row("tf.nn.moments, order BN, IN, LN, by tf2onnx", partial(_port, "moments", {})),
    _row("public TensorFlow port, by tf2onnx", _published, TENSORFLOW),
)
