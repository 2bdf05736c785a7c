"""benchmarks/gpu_engines.py over the product's own builder and engines, with stand-ins for TensorRT's builder, runtime
and the GPU; run by `test_build.py`, in a process for each version of TensorRT.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorrt as trt

from sn_deploy.runtime.gpu import Gpu
from sn_deploy.runtime.trt import library
from tests.tensorrt.stand_in import engine as fakes
from tests.tensorrt.stand_in import onnx_engine
from tests.tensorrt.stand_in.device import use_host_as_gpu

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import gpu_engines
import gpu_machines
import gpu_timing
from gpu_engines import DYNAMIC, SLOW, STATIC, Bench, Cell, Group
from gpu_nets import Files

MAJOR = int(trt.__version__.split(".")[0])
PLUGIN = Path(os.environ["SN_PLUGIN_BUILD"]) / "tensorrt" / f"libsn_deploy_trt{MAJOR}.so"
GPU = Gpu("Stand-in", "9.0", 141_000, "13.0")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Made with the real torch, before the host is a GPU."""
    made = Files(tmp_path_factory.mktemp("nets"), tmp_path_factory.mktemp("scratch"))
    for form in gpu_engines.FORMS:
        made.model(gpu_engines.NETS["digits"], form, "fp16")
    return made


@pytest.fixture(autouse=True)
def device(files: Files, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(trt, "Builder", onnx_engine.Builder)
    monkeypatch.setattr(trt, "OnnxParser", fakes_parser())
    monkeypatch.setattr(trt, "Runtime", onnx_engine.Runtime)
    monkeypatch.setattr(library, "find_gpu", lambda index=0: GPU)
    monkeypatch.setattr("sn_deploy.engine.build.on_gpu", contextlib.nullcontext)
    host = use_host_as_gpu(monkeypatch)
    for module in (gpu_machines, gpu_timing):
        monkeypatch.setattr(module, "torch", host)
    onnx_engine.Builder.built.clear()
    yield
    gc.collect()
    assert not [name for name in fakes.alive if "engine" in name]  # each measurement frees its engines


def fakes_parser() -> Any:
    from tests.tensorrt.stand_in.builder import Parser

    return Parser


def bench(files: Files, tmp_path: Path, deadline: float = 1e9, budget: float = 1e9) -> Bench:
    machine = gpu_machines.TensorRtMachine(
        PLUGIN, compiled=True, folder=tmp_path, timings=tmp_path / "timings", deadline=deadline
    )
    return Bench(machine, files, 2, time.monotonic() + budget, {"nets": {}}, tmp_path / "figures.json")


def test_static_engines_and_what_stands_beside_them(files: Files, tmp_path: Path) -> None:
    own = bench(files, tmp_path)
    groups = [Group("digits", "fp16", STATIC, (32,)), Group("digits", "fp16", SLOW, (32,))]
    assert gpu_engines.measure(own, groups)
    row = own.row(Cell("digits", "fp16", STATIC, 32))
    assert set(row["us"]) == {"plugin", "floor"}
    # torch has no GPU here, and that costs its own rows alone.
    assert set(row["left_out"]) == {"torch eager", "torch eager, launched", "ONNX Runtime CUDA, launched"}
    plugin = row["engines"]["plugin"]
    assert 0 < plugin["relative_l2"] < 2e-3
    assert plugin["top1_agreement"] == 1
    assert plugin["reformats_beside_plugins"] == ["copy"]
    assert plugin["plan_bytes"] > 0
    assert row["ratio_to_floor"]["floor"] == 1
    slow = row["slow"]
    assert set(slow["us"]) == {"plugin", "floor", "function body"}
    assert slow["engines"]["function body"]["relative_l2"] < 2e-3
    assert "torch.compile" in slow["left_out"]
    builds = onnx_engine.Builder.built
    assert [any("SwitchNorm" in name for name in one["operators"]) for one in builds] == [
        True,
        False,
        True,
        False,
        False,
    ]
    assert all(one["strongly_typed"] and "TF32" not in one["flags"] for one in builds)
    assert {tuple(one["inputs"][0][2]) for one in builds} == {(32, 1, 8, 8)}
    assert builds[-1]["timings"]  # of the builds before
    assert gpu_engines.measure(own, groups)  # nothing is left to do
    assert len(builds) == 5


def test_the_trial_is_loaded_beside_the_plugin(files: Files, tmp_path: Path) -> None:
    trial = PLUGIN.with_name(f"libsn_deploy_convolution_trt{MAJOR}.so")
    gpu_machines.TensorRtMachine(
        PLUGIN, compiled=True, folder=tmp_path, timings=tmp_path / "timings", deadline=1e9, trial=trial
    )
    names = {creator.name for creator in trt.get_plugin_registry().all_creators}
    assert {"SwitchNormConvolution", "SwitchNormConvolutionAddRelu"} <= names


def test_dynamic_engines_are_built_once_for_all_batches(files: Files, tmp_path: Path) -> None:
    own = bench(files, tmp_path)
    group = Group("digits", "fp16", DYNAMIC, (32, 1, 128))
    assert gpu_engines.measure(own, [group])
    assert len(onnx_engine.Builder.built) == 2
    (profile,) = onnx_engine.Builder.built[0]["profiles"]
    assert [shape[0] for shape in next(iter(profile.values()))] == [1, 32, 128]
    for batch in group.batches:
        row = own.row(Cell("digits", "fp16", DYNAMIC, batch))
        assert set(row["us"]) == {"plugin", "floor"}
        assert row["engines"]["plugin"]["relative_l2"] < 2e-3
    assert row["engines"]["plugin"]["images"] == 1000
    assert row["engines"]["plugin"]["top1_agreement"] >= 0.995


def test_an_engine_that_cannot_be_built_costs_its_own_row(files: Files, tmp_path: Path) -> None:
    own = bench(files, tmp_path)
    own.machine._plugin = tmp_path / "nowhere.so"  # type: ignore[attr-defined]
    assert gpu_engines.measure(own, [Group("digits", "fp16", STATIC, (1,))])
    row = own.row(Cell("digits", "fp16", STATIC, 1))
    assert set(row["us"]) == {"floor"}
    assert "nowhere.so: can't be read" in row["left_out"]["plugin"]
    assert own.state(Group("digits", "fp16", STATIC, (1,))) == "tried"


def test_a_build_is_ended_when_the_time_is_up(files: Files, tmp_path: Path) -> None:
    own = bench(files, tmp_path, deadline=time.monotonic())
    assert not gpu_engines.measure(own, [Group("digits", "fp16", STATIC, (1,))])
    assert own.results["nets"] == {}
    assert not (tmp_path / "net.engine").exists()


def test_what_will_not_end_in_time_is_not_begun(files: Files, tmp_path: Path) -> None:
    own = bench(files, tmp_path, budget=30)
    groups = [Group("digits", "fp16", STATIC, (batch,)) for batch in (1, 8)]
    own.results["seconds"] = {"digits/fp16/static": 28}
    assert not gpu_engines.measure(own, groups)  # the first is always begun
    assert own.state(groups[0]) == "measured"
    assert own.state(groups[1]) == "open"
