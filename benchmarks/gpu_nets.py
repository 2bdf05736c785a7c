"""The nets whose engines are measured, as ONNX files in every precision: with SN, and with batch norms in SN's place.

Files are made once and kept in a folder, so that they can be made where no GPU is, and carried.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
import torch
from function_body import look_trained_
from onnx import helper, numpy_helper

import sn_deploy
from sn_deploy.check.data.open import DataOptions
from sn_deploy.graph.epilogue import fuse_epilogues
from sn_deploy.graph.op import DOMAIN, METADATA_LAYER, SWITCH_NORM
from sn_deploy.graph.precision import convert_precision as convert_graph
from sn_deploy.models import resnetv1sn50, resnetv2sn50
from sn_deploy.models.digits import load_pretrained
from sn_deploy.nn.base import SwitchNorm
from sn_deploy.precision import quantize
from sn_deploy.precision.samples import SampleOptions

PLUGIN, FLOOR = "plugin", "floor"
FORMS: Final = (PLUGIN, FLOOR)
PRECISIONS: Final = ("fp16", "int8", "fp32", "bf16")
# What a precision computes in where it isn't quantized: int8 leaves SN in fp16.
FLOAT_OF: Final = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "fp16"}
DTYPES: Final = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}

_CALIBRATION_SAMPLES: Final = 8
_STATISTICS_SAMPLES: Final = 8


@dataclass(frozen=True)
class Net:
    """A net and what it takes.

    Attributes:
        make: gives it, in evaluation mode.
        image: shape of a sample.
        samples: so many of them (N, *image), float32.
    """

    name: str
    make: Callable[[], torch.nn.Module]
    image: tuple[int, ...]
    samples: Callable[[int], np.ndarray[Any, Any]]


def _random_images(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((count, 3, 224, 224), dtype=np.float32)


def _digits(count: int) -> np.ndarray[Any, Any]:
    """Of the demo's set, held-out ones first, from the start again where there are too few."""
    from sn_deploy.check.digits_data import load_digits_split

    split = load_digits_split()
    images = np.concatenate([split.test_images, split.train_images])
    return images[np.arange(count) % len(images)]


def _looks_trained(make: Callable[[], torch.nn.Module]) -> torch.nn.Module:
    torch.manual_seed(0)
    return look_trained_(make()).eval()


NETS: Final = {
    net.name: net
    for net in (
        Net("resnet50 v1", lambda: _looks_trained(resnetv1sn50), (3, 224, 224), _random_images),
        Net("resnet50 v2", lambda: _looks_trained(resnetv2sn50), (3, 224, 224), _random_images),
        Net("digits", load_pretrained, (1, 8, 8), _digits),
    )
}


def file_of(net: Net, form: str, precision: str, folder: Path) -> Path:
    """The file of one form in one precision, for any batch; made if it isn't there yet."""
    path = folder / f"{net.name.replace(' ', '-')}.{form}.{precision}.onnx"
    if path.exists():
        return path
    if precision == "fp32":
        _write_float_files(net, folder)
    else:
        source = file_of(net, form, "fp32", folder)
        draft = path.with_name(f".{path.name}")
        if precision == "int8":
            _write_quantized(net, source, draft)
        else:
            model = ir.load(source)
            convert_graph(model, precision, keep_io_types=False)
            ir.save(model, draft)
        draft.replace(path)
    return path


def _write_quantized(net: Net, source: Path, path: Path) -> None:
    data = path.with_name(f".{path.stem}.npy")
    np.save(data, net.samples(_CALIBRATION_SAMPLES))
    try:
        samples = SampleOptions(DataOptions(str(data)), batch_size=4)
        quantize(source, path, precision="int8", float_type="fp16", samples=samples, keep_io_types=False)
    finally:
        data.unlink()


def _write_float_files(net: Net, folder: Path) -> None:
    """Both forms in float32, from one export."""
    folder.mkdir(parents=True, exist_ok=True)
    module = net.make()
    stem = net.name.replace(" ", "-")
    draft = folder / f".{stem}.onnx"
    x = torch.from_numpy(net.samples(_STATISTICS_SAMPLES))
    sn_deploy.export(module, x[:2], draft, dynamic="batch", fuse=False)
    floor = with_batch_norms(onnx.load(draft), statistics_of(module, x))
    onnx.save(floor, folder / f".{stem}.floor.onnx")
    (folder / f".{stem}.floor.onnx").replace(folder / f"{stem}.{FLOOR}.fp32.onnx")
    model = ir.load(draft)
    fuse_epilogues(model)
    ir.save(model, draft)
    draft.replace(folder / f"{stem}.{PLUGIN}.fp32.onnx")


def statistics_of(module: torch.nn.Module, x: torch.Tensor) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """SN layer -> mean and variance of each channel of what a batch norm in its place reads.

    Of the net with batch norms, not of the one with SN: else what differs between them would grow from layer to layer.
    """
    copied = copy.deepcopy(module)
    norms: dict[str, torch.nn.BatchNorm2d] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, SwitchNorm):
            norm = torch.nn.BatchNorm2d(layer.weight.numel(), momentum=1.0)
            norm.weight.data.copy_(layer.weight.detach().flatten())
            norm.bias.data.copy_(layer.bias.detach().flatten())
            parent, _, child = name.rpartition(".")
            setattr(copied.get_submodule(parent), child, norm)
            norms[name] = norm
    with torch.no_grad():
        copied.train()(x)
    return {name: (norm.running_mean.numpy(), norm.running_var.numpy()) for name, norm in norms.items()}


def with_batch_norms(
    model: onnx.ModelProto, statistics: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> onnx.ModelProto:
    """Each SwitchNorm a BatchNormalization with the same scale and bias: what a runtime folds into convolutions."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    values = {tensor.name: tensor for tensor in graph.initializer}
    norms = [node for node in graph.node if node.domain == DOMAIN]
    unused = {name for node in norms for name in node.input[1:5]}
    kept = [tensor for tensor in graph.initializer if tensor.name not in unused]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    for node in norms:
        assert node.op_type == SWITCH_NORM
        layer = next(entry.value for entry in node.metadata_props if entry.key == METADATA_LAYER)
        scale, bias = (numpy_helper.to_array(values[name]) for name in node.input[1:3])
        arrays = (scale, bias, *statistics[layer])
        names = [f"{node.output[0]}.batch_norm.{part}" for part in ("scale", "bias", "mean", "var")]
        for name, array in zip(names, arrays, strict=True):
            graph.initializer.append(numpy_helper.from_array(array.astype(np.float32), name))
        x, y = node.input[0], node.output[0]
        node.CopyFrom(helper.make_node("BatchNormalization", [x, *names], [y], name=node.name, epsilon=1e-5))
    del made.functions[:]
    return made


def at_batch(model: Path, batch: int, path: Path) -> Path:
    """The file with a batch that is known, so that TensorRT plans for nothing else."""
    proto = onnx.load(model)
    del proto.graph.value_info[:]
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(proto, path)
    return path
