"""The nets whose engines are measured, as ONNX files in every precision: with SN, and with batch norms in SN's place.

Files are made once and kept in a folder, so that they can be made where no GPU is, and carried: without their weights,
which are drawn by a rule (net_recipes.py).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnx_ir as ir
import torch
from fused_convolutions import fused
from net_recipes import draw_weights_, is_packed, packed, unpacked, weights_of
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
FUSED: Final = ", fused convolutions"  # behind a net's name
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
        draw: so many of them (N, *image), float32.
        drawn_weights: whether its weights come of a rule, so that its files can do without them.
        fused: whether its convolutions and SN layers are one node where the trial has a kernel for both. Its files are
            those of the net without, of the same stem.
    """

    name: str
    make: Callable[[], torch.nn.Module]
    image: tuple[int, ...]
    draw: Callable[[int], np.ndarray[Any, Any]]
    drawn_weights: bool = True
    fused: bool = False

    @property
    def stem(self) -> str:
        """For files."""
        return self.name.removesuffix(FUSED).replace(" ", "-")


def _random_images(count: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((count, 3, 224, 224), dtype=np.float32)


def _digits(count: int) -> np.ndarray[Any, Any]:
    """Of the demo's set, held-out ones first, from the start again where there are too few."""
    from sn_deploy.check.digits_data import load_digits_split

    split = load_digits_split()
    images = np.concatenate([split.test_images, split.train_images])
    return images[np.arange(count) % len(images)]


NETS: Final = {
    net.name: net
    for net in (
        Net("resnet50 v1", lambda: draw_weights_(resnetv1sn50()), (3, 224, 224), _random_images),
        Net("resnet50 v2", lambda: draw_weights_(resnetv2sn50()), (3, 224, 224), _random_images),
        Net("digits", load_pretrained, (1, 8, 8), _digits, drawn_weights=False),
        Net(f"resnet50 v1{FUSED}", lambda: draw_weights_(resnetv1sn50()), (3, 224, 224), _random_images, fused=True),
    )
}
# What is measured if no nets are named: what the product has.
USUAL: Final = tuple(name for name, net in NETS.items() if not net.fused)


@dataclass(frozen=True)
class Files:
    """The nets' files and samples in a folder; what isn't there is made.

    Attributes:
        folder: where they are kept.
        scratch: for whole files that are made of packed ones.
    """

    folder: Path
    scratch: Path

    def model(self, net: Net, form: str, precision: str) -> Path:
        """The whole file of one form in one precision, for any batch."""
        if net.fused and form == PLUGIN:
            path = self.scratch / f"fused.{_name_of(net, form, precision)}"
            if not path.exists():
                onnx.save(fused(onnx.load(self.model(replace(net, fused=False), form, precision))), path)
            return path
        kept = self.folder / _name_of(net, form, precision)
        if not kept.exists():
            return self._made(net, form, precision)
        proto = onnx.load(kept)
        if not is_packed(proto):
            return kept
        whole = self.scratch / kept.name
        if not whole.exists():
            onnx.save(unpacked(proto, weights_of(net.make())), whole)
        return whole

    def samples(self, net: Net, count: int) -> np.ndarray[Any, Any]:
        """So many of the net's samples: those that were kept, else drawn."""
        kept = _samples_in(self.folder, net)
        known = np.load(kept) if kept.exists() else None
        return net.draw(count) if known is None or len(known) < count else known[:count]

    def _made(self, net: Net, form: str, precision: str) -> Path:
        path = self.folder / _name_of(net, form, precision)
        if precision == "fp32":
            _write_float_files(net, self.folder)
            return path
        source = self.model(net, form, "fp32")
        draft = path.with_name(f".{path.name}")
        if precision == "int8":
            _write_quantized(net, source, draft)
        else:
            model = ir.load(source)
            convert_graph(model, precision, keep_io_types=False)
            ir.save(model, draft)
        draft.replace(path)
        return path


def pack(net: Net, precisions: Sequence[str], folder: Path, scratch: Path, samples: int) -> None:
    """All files of a net in a folder, as small as they get; those that are there are left alone.

    Of a net with fused convolutions, those that its own are made of.
    """
    net = replace(net, fused=False)
    folder.mkdir(parents=True, exist_ok=True)
    made = Files(scratch, scratch)
    weights = weights_of(net.make())
    for form in FORMS:
        for precision in precisions:
            target = folder / _name_of(net, form, precision)
            if target.exists():
                continue
            model = onnx.load(made.model(net, form, precision))
            draft = target.with_name(f".{target.name}")
            onnx.save(packed(model, weights) if net.drawn_weights else model, draft)
            draft.replace(target)
    if not net.drawn_weights:
        np.save(_samples_in(folder, net), net.draw(samples))


def _name_of(net: Net, form: str, precision: str) -> str:
    return f"{net.stem}.{form}.{precision}.onnx"


def _samples_in(folder: Path, net: Net) -> Path:
    return folder / f"{net.stem}.samples.npy"


def _write_quantized(net: Net, source: Path, path: Path) -> None:
    data = path.with_name(f".{path.stem}.npy")
    np.save(data, net.draw(_CALIBRATION_SAMPLES))
    try:
        samples = SampleOptions(DataOptions(str(data), batch_size=4))
        quantize(source, path, precision="int8", float_type="fp16", samples=samples, keep_io_types=False)
    finally:
        data.unlink()


def _write_float_files(net: Net, folder: Path) -> None:
    """Both forms in float32, from one export."""
    folder.mkdir(parents=True, exist_ok=True)
    module = net.make()
    draft = folder / f".{net.stem}.onnx"
    x = torch.from_numpy(net.draw(_STATISTICS_SAMPLES))
    sn_deploy.export(module, x[:2], draft, dynamic="batch", fuse=False)
    floor, floor_draft = folder / _name_of(net, FLOOR, "fp32"), folder / f".{net.stem}.floor.onnx"
    onnx.save(with_batch_norms(onnx.load(draft), statistics_of(module, x)), floor_draft)
    floor_draft.replace(floor)
    model = ir.load(draft)
    fuse_epilogues(model)
    ir.save(model, draft)
    draft.replace(folder / _name_of(net, PLUGIN, "fp32"))


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
