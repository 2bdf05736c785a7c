"""The document of a real check, for the report's tests: the digits' net in PyTorch and in ONNX Runtime."""

from __future__ import annotations

import contextlib
import copy
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
from sn_deploy.cli import main
from sn_deploy.models.digits import load_pretrained

SAMPLES = 128


def real_document() -> dict[str, Any]:
    """What ``sn-deploy check --json`` wrote. A copy of its own each time."""
    return copy.deepcopy(_document())


@cache
def _document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _, path = write_net(folder)
        # One thread: the net is too small for more.
        arguments = ["check", str(path), "--model", "sn_deploy.models.digits:load_pretrained", "--threads", "1"]
        arguments += ["--data", str(folder / "digits.npz"), "--calls", "20", "--memory", "--layers"]
        arguments += ["--latency-batch", "1", "--latency-batch", "8", "--min-top1-agreement", "0.99"]
        with contextlib.redirect_stdout(io.StringIO()):
            main([*arguments, "--json", str(folder / "check.json")])
        document: dict[str, Any] = json.loads((folder / "check.json").read_text(encoding="utf-8"))
    return document


def write_net(folder: Path) -> tuple[torch.nn.Module, Path]:
    """The trained net, its ONNX file, and ``digits.npz`` with images and labels."""
    data, model = load_digits_split(), load_pretrained()
    x, labels = data.test_images[:SAMPLES], data.test_labels[:SAMPLES]
    sn_deploy.export(model, torch.from_numpy(x[:1]), folder / "digits.onnx", dynamic="batch", fuse=False)
    (name,) = [value.name for value in onnx.load(folder / "digits.onnx").graph.input]
    np.savez(folder / "digits.npz", **{name: x, "labels": labels})
    return model, folder / "digits.onnx"
