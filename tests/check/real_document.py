"""The document of a real check, for the report's tests: the digits' net in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

import sn_deploy
from sn_deploy.check.digits_data import load_digits_split
from sn_deploy.check.result import LayerError, LayerReport
from sn_deploy.cli import main
from sn_deploy.graph.op import DOMAIN
from sn_deploy.models.digits import load_pretrained
from sn_deploy.runtime.ort import OrtSession

SAMPLES = 128


def real_document() -> dict[str, Any]:
    """What ``sn-deploy check --json`` wrote, with the layers' errors added. A copy of its own each time."""
    return copy.deepcopy(_document())


@cache
def _document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, path = write_net(folder)
        x = load_digits_split().test_images[:SAMPLES]
        # One thread: the net is too small for more.
        arguments = ["check", str(path), "--model", "sn_deploy.models.digits:load_pretrained", "--threads", "1"]
        arguments += ["--data", str(folder / "digits.npz"), "--calls", "20", "--memory"]
        arguments += ["--latency-batch", "1", "--latency-batch", "8", "--min-top1-agreement", "0.99"]
        with contextlib.redirect_stdout(io.StringIO()):
            main([*arguments, "--json", str(folder / "check.json")])
        document: dict[str, Any] = json.loads((folder / "check.json").read_text(encoding="utf-8"))
        document["layers"] = [_layers(model, path, x)]
    return document


def write_net(folder: Path) -> tuple[torch.nn.Module, Path]:
    """The trained net, its ONNX file, and ``digits.npz`` with images and labels."""
    data, model = load_digits_split(), load_pretrained()
    x, labels = data.test_images[:SAMPLES], data.test_labels[:SAMPLES]
    sn_deploy.export(model, torch.from_numpy(x[:1]), folder / "digits.onnx", dynamic="batch", fuse=False)
    (name,) = [value.name for value in onnx.load(folder / "digits.onnx").graph.input]
    np.savez(folder / "digits.npz", **{name: x, "labels": labels})
    return model, folder / "digits.onnx"


def _layers(model: torch.nn.Module, path: Path, x: np.ndarray[Any, Any]) -> dict[str, Any]:
    """A `LayerReport` of ONNX Runtime: X and Y of each SN layer beside those of PyTorch in float64."""
    file = onnx.load(path)
    nodes = [node for node in file.graph.node if node.domain == DOMAIN]
    for tensor in dict.fromkeys(name for node in nodes for name in (node.input[0], node.output[0])):
        file.graph.output.append(onnx.ValueInfoProto(name=tensor))
    session = OrtSession(file.SerializeToString(), threads=1, native=False)
    found = session.run({session.inputs[0].name: x})
    exact_model = copy.deepcopy(model).double()
    exact: dict[str, tuple[Any, Any]] = {}

    def remember(name: str, given: torch.Tensor, y: torch.Tensor) -> None:
        exact[name] = given.numpy(), y.numpy()

    modules = {name: module for name, module in exact_model.named_modules() if name in {node.name for node in nodes}}
    layers = []
    with torch.no_grad():
        hooks = [
            module.register_forward_hook(lambda _, given, y, name=name: remember(name, given[0], y))  # type: ignore[misc]
            for name, module in modules.items()
        ]
        exact_model(torch.from_numpy(x).double())
        for hook in hooks:
            hook.remove()
        for index, node in enumerate(nodes):
            given, y = found[node.input[0]], found[node.output[0]]
            layer = LayerError(
                layer=node.name,
                index=index,
                shape=["N", *y.shape[1:]],
                dtype=str(y.dtype),
                input_rel_l2=_rel_l2(exact[node.name][0], given),
                rel_l2=_rel_l2(exact[node.name][1], y),
                own_rel_l2=_rel_l2(modules[node.name](torch.from_numpy(given).double()).numpy(), y),
                tolerance=1e-5,
                own_tolerance=2e-6,
                passed=True,
            )
            assert layer.rel_l2 < layer.tolerance
            assert layer.own_rel_l2 < layer.own_tolerance
            layers.append(layer)
    return dataclasses.asdict(LayerReport("ort", layers, None, None))


def _rel_l2(exact: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> float:
    return float(np.linalg.norm(exact - y) / np.linalg.norm(exact))
