"""What is no path in the place of one, in every function that takes a file: one line that says so, and the mend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

import sn_deploy
from sn_deploy.check import check
from sn_deploy.check.document import read_document
from sn_deploy.check.merge import read_parts
from sn_deploy.checkpoint import read_checkpoint, read_whole_checkpoint
from sn_deploy.checkpoint.save import save_state_dict
from sn_deploy.diff import diff
from sn_deploy.engine.inspect import inspect_sidecar
from sn_deploy.engine.refit import refit
from sn_deploy.errors import SnDeployError
from sn_deploy.fuse import fuse
from sn_deploy.inline import inline
from sn_deploy.inspection import layers_from_file
from sn_deploy.inspection.checkpoint_file import layers_from_checkpoint
from sn_deploy.inspection.onnx_file import layers_from_onnx
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.optimise import optimise
from sn_deploy.precision import convert_precision, quantize
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.trt import Engine
from sn_deploy.serve import ServeOptions, serve_triton
from sn_deploy.specialise import specialise

OTHER = Path("other.onnx")


def serve(model: Any, repository: Any) -> object:
    return serve_triton(model, repository, ServeOptions("name"))


READERS: dict[str, Callable[[Any], object]] = {
    "fuse": lambda given: fuse(given, OTHER),
    "inline": lambda given: inline(given, OTHER),
    "optimise": lambda given: optimise(given, OTHER),
    "convert_precision": lambda given: convert_precision(given, OTHER, precision="fp16"),
    "quantize": lambda given: quantize(given, OTHER, precision="int8"),
    "specialise": lambda given: specialise(given, OTHER),
    "diff": lambda given: diff(given, OTHER),
    "check": lambda given: check(given, OTHER),
    "build": lambda given: sn_deploy.build(given, "other.engine"),
    "refit": lambda given: refit(given, OTHER, "other.engine"),
    "Engine": lambda given: Engine(given),
    "serve_triton": lambda given: serve(given, Path("repository")),
    "OrtSession": lambda given: OrtSession(given),
    "layers_from_file": lambda given: layers_from_file(given),
    "layers_from_onnx": lambda given: layers_from_onnx(given),
    "inspect_sidecar": lambda given: inspect_sidecar(given),
    "read_document": lambda given: read_document(given),
    "read_parts": lambda given: read_parts([given]),
    "layers_from_checkpoint": lambda given: layers_from_checkpoint(given),
    "read_checkpoint": lambda given: read_checkpoint(given),
    "read_whole_checkpoint": lambda given: read_whole_checkpoint(given, match=()),
}
# What writes gets a file that is there to read.
WRITERS: dict[str, Callable[[Path, Any], object]] = {
    "fuse": lambda file, given: fuse(file, given),
    "inline": lambda file, given: inline(file, given),
    "optimise": lambda file, given: optimise(file, given),
    "convert_precision": lambda file, given: convert_precision(file, given, precision="fp16"),
    "quantize": lambda file, given: quantize(file, given, precision="int8"),
    "specialise": lambda file, given: specialise(file, given),
    "diff": lambda file, given: diff(file, given),
    "build": lambda file, given: sn_deploy.build(file, given),
    "refit": lambda file, given: refit(file, file, given),
    "serve_triton": lambda file, given: serve(file, given),
    "save_state_dict": lambda file, given: save_state_dict({}, given),
    "export": lambda file, given: sn_deploy.export(SwitchNorm2d(2), torch.zeros(1, 2, 3, 3), given),
}
GRAPH = onnx.helper.make_graph([], "empty", [], [])
GIVEN: dict[str, tuple[object, str]] = {
    "module": (SwitchNorm2d(2), "is a SwitchNorm2d"),
    "proto": (onnx.helper.make_model(GRAPH), "is a ModelProto"),
    "graph": (ir.from_proto(onnx.helper.make_model(GRAPH)), "is a Model "),
    "bytes": (b"model.onnx", "is a bytes"),
    "none": (None, "is a NoneType"),
    "list": (["model.onnx"], "is a list"),
    "number": (3, "is a int"),
    "array": (np.zeros(3), "is a ndarray"),
    "null byte": ("model\0.onnx", "no path has a null byte"),
}
MENDS = {
    "module": "make an ONNX file of it: sn_deploy.export(",
    "proto": "onnx.save(model, 'model.onnx')",
    "graph": "onnx_ir.save(model, 'model.onnx')",
    "bytes": "write them to a file",
}


READ = [(function, kind) for function in READERS for kind in GIVEN if (function, kind) != ("OrtSession", "bytes")]


@pytest.mark.parametrize(("function", "kind"), READ)
def test_a_function_that_reads_a_file_names_what_it_was_given(function, kind):
    given, what = GIVEN[kind]
    with pytest.raises(SnDeployError) as caught:
        READERS[function](given)
    assert what in str(caught.value)
    if "checkpoint" not in function:
        assert MENDS.get(kind, "") in str(caught.value)


@pytest.mark.parametrize("kind", GIVEN)
@pytest.mark.parametrize("function", WRITERS)
def test_a_function_that_writes_a_file_names_what_it_was_given(tmp_path: Path, function, kind):
    file = tmp_path / "model.onnx"
    onnx.save(GIVEN["proto"][0], file)
    given, what = GIVEN[kind]
    with pytest.raises(SnDeployError) as caught:
        WRITERS[function](file, given)
    assert what in str(caught.value)
    assert list(tmp_path.iterdir()) == [file]
