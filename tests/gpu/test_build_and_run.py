"""`sn_deploy.build`, `Engine` and the commands over them, as a user has them, on a GPU."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

import sn_deploy
from sn_deploy.engine.inspect import random_inputs
from sn_deploy.engine.layers import layer_counts, layer_rows
from sn_deploy.errors import SnDeployError
from sn_deploy.models import resnetv1sn50
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.trt.inspector import is_switch_norm
from sn_deploy.runtime.trt.sidecar import read_sidecar, sidecar_path
from tests.engine.made_sidecar import write_sidecar
from tests.gpu.engine_access import TensorRT
from tests.gpu.test_tensorrt import small_net

pytestmark = pytest.mark.gpu

ROOT = Path(__file__).parents[2]
SIZE = 48
SHAPES = {"min": (1, 3, SIZE, SIZE), "opt": (4, 3, SIZE, SIZE), "max": (8, 3, SIZE, SIZE)}
# Relative L2 to float64 for a net of five SN layers.
ALLOWED = {"fp32": 1e-5, "fp16": 8 * 2.0**-11, "bf16": 8 * 2.0**-8}


@dataclass(frozen=True)
class Net:
    """A small net with SN, as PyTorch has it in float64 and as files."""

    folder: Path
    library: Path

    def file(self, precision: str = "fp32", name: str = "net") -> Path:
        """Its ONNX file, any batch."""
        path = self.folder / f"{name}-{precision}.onnx"
        if not path.exists():
            own = {"opset": 22} if precision == "bf16" else {}
            sn_deploy.export(
                small_net(32), torch.zeros(2, 3, SIZE, SIZE), path, precision=precision, keep_io_types=True,
                dynamic="batch", **own,
            )  # fmt: skip
        return path

    def engine(self, precision: str = "fp32", name: str = "net", **options: Any) -> Path:
        """An engine of it, built once for each name."""
        path = self.folder / f"{name}-{precision}.engine"
        if not path.exists():
            # Few tactics are enough where the way is what is tested.
            quick = {} if name == "net" else {"optimization_level": 1}
            given = {"profiles": [{self.input: SHAPES}], **quick, **options}
            if given.get("plugin") != "none":
                given["plugin_library"] = self.library
            sn_deploy.build(self.file(precision), path, **given)
        return path

    @property
    def input(self) -> str:
        """The name of its input."""
        return "input"

    def exact(self, x: np.ndarray) -> np.ndarray:
        """Its output in float64."""
        with torch.no_grad():
            return np.asarray(small_net(32).double()(torch.from_numpy(x).double()).numpy())


@pytest.fixture(scope="module")
def net(tensorrt: TensorRT, tmp_path_factory: pytest.TempPathFactory) -> Net:
    folder = tmp_path_factory.mktemp("engines")
    os.environ.setdefault("XDG_CACHE_HOME", str(folder / "cache"))
    return Net(folder, tensorrt.library)


def opened(path: Path, **options: Any) -> Any:
    from sn_deploy.runtime.trt import Engine

    return Engine(path, **options)


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, 3, SIZE, SIZE), dtype=np.float32)


def error_of(y: Any, exact: np.ndarray) -> float:
    found = y.cpu().numpy() if isinstance(y, torch.Tensor) else y
    return float(np.linalg.norm(found.astype(np.float64) - exact) / np.linalg.norm(exact))


class OfAnotherLibrary:
    """A tensor that has DLPack's methods alone."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


def only(outputs: dict[str, Any]) -> Any:
    (value,) = outputs.values()
    return value


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_engine_of_every_precision_is_right_at_every_batch(net: Net, precision: str) -> None:
    with opened(net.engine(precision)) as engine:
        assert engine.inputs[0].name == net.input
        for count in (1, 4, 8, 3):
            x = images(count, count)
            assert error_of(only(engine.run({net.input: x})), net.exact(x)) <= ALLOWED[precision], count


def test_the_sidecar_describes_it(net: Net, tensorrt: TensorRT) -> None:
    path = net.engine("fp16")
    sidecar = read_sidecar(path)
    assert sidecar is not None
    assert sidecar.tensorrt == tensorrt.trt.__version__
    assert sidecar.gpu["name"] == torch.cuda.get_device_name(0)
    assert sidecar.gpu["compute_capability"] == "{}.{}".format(*torch.cuda.get_device_capability(0))
    assert sidecar.precision == "float16"
    assert sidecar.plugin["use"] == "loaded"
    assert sidecar.layers is not None
    counts = layer_counts(layer_rows(sidecar.layers))
    assert counts["plugins"] == 5, sidecar.layers
    assert all(row.kind for row in layer_rows(sidecar.layers))


def test_the_formats_of_a_dynamic_engine_are_told(net: Net) -> None:
    sidecar = read_sidecar(net.engine("fp16"))
    assert sidecar is not None
    assert sidecar.layers is not None
    with opened(net.engine("fp16")) as engine:
        for layers in (sidecar.layers, engine.layers()):
            rows = [row for row in layer_rows(layers) if row.is_plugin or "conv" in row.kind.lower()]
            assert {row.precision for row in rows if row.is_plugin} == {"float16"}, rows
            assert all(row.precision for row in rows), rows
            assert all(form for row in rows for form in (*row.inputs, *row.outputs)), rows
            outputs = [tensor for layer in layers if is_switch_norm(layer) for tensor in layer["Outputs"]]
            assert all(min(tensor["Dimensions"]) > 0 for tensor in outputs), outputs


def test_graphs_and_plain_launches_give_the_same_bits(net: Net) -> None:
    with opened(net.engine("fp16")) as engine:
        graphs, plain = engine.session(), engine.session(cuda_graphs=False)
        for turn, count in enumerate([4, 1, 8, 4, 1]):
            x = {net.input: images(count, turn)}
            assert only(graphs.run(x)).tobytes() == only(plain.run(x)).tobytes()


def test_the_oldest_graph_goes_and_comes_back(net: Net) -> None:
    with opened(net.engine("fp16")) as engine, engine.session(most_shapes=2) as session:
        expected = {count: only(session.run({net.input: images(count)})).tobytes() for count in (1, 2, 3, 4)}
        for count in (1, 2, 3, 4, 4, 1):
            assert only(session.run({net.input: images(count)})).tobytes() == expected[count]


def test_tensors_without_a_copy(net: Net) -> None:
    with opened(net.engine("fp32")) as engine, engine.session(cuda_graphs=False) as session:
        x = torch.from_numpy(images(4)).cuda()
        y = only(session.run_tensors({net.input: x}))
        assert y.is_cuda
        again = only(session.run_tensors({net.input: x * 2}))
        torch.cuda.synchronize()
        assert error_of(y, net.exact(images(4))) <= ALLOWED["fp32"]
        assert error_of(again, net.exact(images(4) * 2)) <= ALLOWED["fp32"]
        assert torch.equal(torch.from_dlpack(y), y)  # any library's DLPack
        assert torch.equal(only(session.run_tensors({net.input: OfAnotherLibrary(x)})), y)


def test_what_another_library_lends_is_held_while_the_gpu_reads_it(net: Net) -> None:
    for graphs in (True, False):
        with opened(net.engine("fp32")) as engine, engine.session(cuda_graphs=graphs) as session:
            caller = torch.cuda.Stream()
            own = torch.from_numpy(images(8)).cuda()
            session.run_tensors({net.input: own})
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            lent = torch.from_numpy(images(8)).cuda()
            size = lent.nbytes
            torch.cuda.synchronize()
            with torch.cuda.stream(caller):
                torch.cuda._sleep(200_000_000)
                session.run_tensors({net.input: OfAnotherLibrary(lent)})
                del lent
                assert torch.cuda.memory_allocated() >= before + size, graphs
            caller.synchronize()
            session.run_tensors({net.input: own})
            torch.cuda.synchronize()
            assert torch.cuda.memory_allocated() < before + size, graphs


def test_buffers_that_are_filled_in_place(net: Net) -> None:
    with opened(net.engine("fp32")) as engine, engine.session() as session:
        buffers = session.buffers({net.input: (4, 3, SIZE, SIZE)})
        buffers.inputs[net.input].copy_(torch.from_numpy(images(4, 5)))
        y = only(session.run_tensors(buffers.inputs))
        assert y.data_ptr() == only(buffers.outputs).data_ptr()
        assert error_of(y, net.exact(images(4, 5))) <= ALLOWED["fp32"]


def test_what_the_callers_stream_was_given_comes_first(net: Net) -> None:
    # X is written behind a long wait on the caller's stream; a session that didn't wait would read what was there.
    for graphs in (True, False):
        with opened(net.engine("fp32")) as engine, engine.session(cuda_graphs=graphs) as session:
            caller = torch.cuda.Stream()
            right = torch.from_numpy(images(4, 9)).cuda()
            x = torch.zeros_like(right)
            session.run_tensors({net.input: x})
            torch.cuda.synchronize()
            with torch.cuda.stream(caller):
                torch.cuda._sleep(200_000_000)
                x.copy_(right)
                y = only(session.run_tensors({net.input: x})) + 0  # and what comes behind waits for Y
            caller.synchronize()
            assert error_of(y, net.exact(images(4, 9))) <= ALLOWED["fp32"], graphs


def test_outputs_hold_while_the_callers_stream_reads_them(net: Net) -> None:
    for graphs in (True, False):
        with opened(net.engine("fp32")) as engine, engine.session(cuda_graphs=graphs) as session:
            caller = torch.cuda.Stream()
            x = torch.from_numpy(images(4, 2)).cuda()
            torch.cuda.synchronize()
            with torch.cuda.stream(caller):
                y = only(session.run_tensors({net.input: x}))
                torch.cuda._sleep(200_000_000)
                read = y + 0
                del y
                for seed in range(3):
                    session.run({net.input: images(4, seed + 10)})
            caller.synchronize()
            assert error_of(read, net.exact(images(4, 2))) <= ALLOWED["fp32"], graphs


def test_outputs_whose_size_depends_on_the_data(net: Net, tmp_path: Path) -> None:
    model = onnx.load(net.file("fp32"))
    (output,) = model.graph.output
    helper, types = onnx.helper, onnx.TensorProto
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "nothing"))
    model.graph.node.extend(
        [
            helper.make_node("Greater", [output.name, "nothing"], ["above"]),
            helper.make_node("NonZero", ["above"], ["places"]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("places", types.INT64, [4, "count"]))
    onnx.save(model, tmp_path / "places.onnx")
    path = tmp_path / "places.engine"
    sn_deploy.build(tmp_path / "places.onnx", path, profiles=[{net.input: SHAPES}], plugin_library=net.library)
    with opened(path) as engine:
        assert engine.data_dependent == ("places",)
        for session in (engine.session(), engine.session(cuda_graphs=False)):
            assert not session.cuda_graphs
            for count in (4, 1, 8):
                outputs = session.run({net.input: images(count, count)})
                np.testing.assert_array_equal(outputs["places"], np.nonzero(outputs[output.name] > 0))
                assert error_of(outputs[output.name], net.exact(images(count, count))) <= ALLOWED["fp32"]
            kept = session.run_tensors({net.input: torch.from_numpy(images(4)).cuda()})
            session.run_tensors({net.input: torch.from_numpy(images(8)).cuda()})
            torch.cuda.synchronize()
            assert torch.equal(kept["places"], torch.stack(torch.where(kept[output.name] > 0)))


def test_a_slice_that_begins_anywhere(net: Net) -> None:
    with opened(net.engine("fp32")) as engine:
        room = torch.empty(4 * 3 * SIZE * SIZE + 1, device="cuda")
        x = room[1:].view(4, 3, SIZE, SIZE).copy_(torch.from_numpy(images(4)))
        assert x.data_ptr() % 256
        for session in (engine.session(), engine.session(cuda_graphs=False)):
            y = only(session.run_tensors({net.input: x}))
            torch.cuda.synchronize()
            assert error_of(y, net.exact(images(4))) <= ALLOWED["fp32"]


def test_sessions_of_several_threads_at_the_same_time(net: Net) -> None:
    with opened(net.engine("fp16")) as engine:
        expected = {count: only(engine.run({net.input: images(count)})).tobytes() for count in (1, 4, 8)}
        wrong: list[Any] = []

        def work(count: int) -> None:
            with engine.session() as session:
                for _ in range(30):
                    if only(session.run({net.input: images(count)})).tobytes() != expected[count]:
                        wrong.append(count)

        threads = [threading.Thread(target=work, args=(count,)) for count in (1, 4, 8, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_several_profiles(net: Net) -> None:
    narrow = dict.fromkeys(SHAPES, (2, 3, SIZE, SIZE))
    path = net.engine("fp16", "profiles", profiles=[{net.input: narrow}, {net.input: SHAPES}])
    with opened(path) as engine:
        assert len(engine.profiles) == 2
        for count in (2, 8, 2, 1, 2):
            x = images(count)
            for session in (engine.session(), engine.session(cuda_graphs=False), engine.session(profile=1)):
                assert error_of(only(session.run({net.input: x})), net.exact(x)) <= ALLOWED["fp16"]
        with pytest.raises(SnDeployError, match="isn't in profile 0"):
            engine.session(profile=0).run({net.input: images(8)})
        with pytest.raises(SnDeployError, match="is in no profile"):
            engine.run({net.input: images(9)})


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "dropped"])
def test_an_engine_gives_its_memory_back(net: Net, closed: bool) -> None:
    path = net.engine("fp32")

    def once() -> None:
        engine = opened(path)
        engine.run({net.input: images(8)})
        engine.session(cuda_graphs=False).run({net.input: images(8)})
        if closed:
            engine.close()

    once()  # what libraries keep for good
    free = []
    gc.collect()
    gc.disable()  # it goes by its last reference
    try:
        for _ in range(4):
            for _ in range(5):
                once()
            torch.cuda.empty_cache()
            free.append(torch.cuda.mem_get_info()[0])
    finally:
        gc.enable()
    assert free[0] - free[-1] < 4 << 20, free


def test_times_of_the_device_and_of_each_layer(net: Net) -> None:
    with opened(net.engine("fp16")) as engine:
        x = {net.input: images(8)}
        assert 0 < engine.device_time_ms(x) < 1000
        layers = engine.layer_times_ms(x)
        assert len(layers) == 5, engine.layers()
        everything = engine.all_layer_times_ms(x)
        assert set(layers) <= set(everything)
        assert all(ms >= 0 for ms in everything.values())
        assert sum(everything.values()) > 0


def test_without_the_plugin(net: Net) -> None:
    path = net.engine("fp16", "body", plugin="none")
    with opened(path) as engine:
        assert layer_counts(layer_rows(engine.layers()))["plugins"] == 0
        x = images(4)
        assert error_of(only(engine.run({net.input: x})), net.exact(x)) <= ALLOWED["fp16"]
        assert engine.layer_times_ms({net.input: x}) == {}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("version", {"version_compatible": True, "exclude_lean_runtime": True}),
        ("ampere", {"hardware_compatibility": "ampere-plus"}),
        ("capability", {"hardware_compatibility": "same-compute-capability"}),
        ("small", {"workspace_mib": 64, "optimization_level": 1}),
        ("tf32", {"tf32": True}),
        ("refit", {"refit": True}),
    ],
)
def test_options_build_engines_that_run(net: Net, tensorrt: TensorRT, name: str, options: dict[str, Any]) -> None:
    if name == "ampere" and torch.cuda.get_device_capability(0) < (8, 0):
        pytest.skip("this GPU is older than Ampere")
    if name == "capability" and "SAME_COMPUTE_CAPABILITY" not in tensorrt.trt.HardwareCompatibilityLevel.__members__:
        pytest.skip(f"TensorRT {tensorrt.trt.__version__} has no such level")
    with opened(net.engine("fp32", name, **options)) as engine:
        x = images(4)
        allowed = 8 * 2.0**-11 if name == "tf32" else ALLOWED["fp32"]
        assert error_of(only(engine.run({net.input: x})), net.exact(x)) <= allowed


def test_an_engine_without_its_weights_gets_them_from_the_file(net: Net) -> None:
    path = net.engine("fp32", "stripped", strip_weights=True)
    with pytest.raises(SnDeployError, match="was built without its weights"):
        opened(path)
    with opened(path, weights=net.file("fp32")) as engine:
        x = images(4)
        assert error_of(only(engine.run({net.input: x})), net.exact(x)) <= ALLOWED["fp32"]


def test_refitted_engines_need_no_file(net: Net, tmp_path: Path) -> None:
    from sn_deploy.engine.refit import refit

    x = images(4)
    whole = refit(net.engine("fp32", "stripped", strip_weights=True), net.file("fp32"), tmp_path / "whole.engine")
    with opened(whole.path) as engine:
        assert error_of(only(engine.run({net.input: x})), net.exact(x)) <= ALLOWED["fp32"]
    # Another checkpoint of the same graph, and what the function inside its file makes of X.
    model = onnx.load(net.file("fp32"))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("weight") or ".scale" in tensor.name:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.5, tensor.name))
    onnx.save(model, tmp_path / "later.onnx")
    with OrtSession(tmp_path / "later.onnx", native=False) as session:
        expected = only(session.run({net.input: x})).astype(np.float64)
    later = refit(net.engine("fp32", "refit", refit=True), tmp_path / "later.onnx", tmp_path / "later.engine")
    with opened(later.path) as engine:
        assert error_of(only(engine.run({net.input: x})), expected) <= ALLOWED["fp32"]
    with opened(net.engine("fp32", "refit", refit=True)) as engine:
        assert error_of(only(engine.run({net.input: x})), expected) > 1e-3


@pytest.mark.parametrize("content", [b"no timings at all" * 100, b"x"])
def test_a_file_that_holds_no_timings_is_told_and_left_alone(net: Net, tmp_path: Path, content: bytes) -> None:
    cache = tmp_path / "own.timings"
    cache.write_bytes(content)
    report = sn_deploy.build(
        net.file(), tmp_path / "net.engine", profiles=[{net.input: SHAPES}], plugin_library=net.library,
        timing_cache=cache, optimization_level=1,
    )  # fmt: skip
    assert any("own.timings holds no timings that TensorRT takes here" in note for note in report.notes), report.notes
    assert cache.read_bytes() == content
    with opened(report.path) as engine:
        assert error_of(only(engine.run({net.input: images(4)})), net.exact(images(4))) <= ALLOWED["fp32"]


def test_the_log_of_a_build(net: Net, tmp_path: Path) -> None:
    said: list[tuple[str, str]] = []
    sn_deploy.build(
        net.file(), tmp_path / "net.engine", profiles=[{net.input: SHAPES}], plugin_library=net.library,
        optimization_level=1, on_log=lambda *message: said.append(message),
    )  # fmt: skip
    assert any(severity == "INFO" for severity, _ in said)
    assert all(message == " ".join(message.split()) for _, message in said)


def test_another_gpu_than_the_first(net: Net, tmp_path: Path) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one GPU")
    path = tmp_path / "net.engine"
    for current, device in ((0, 1), (1, 0)):
        with torch.cuda.device(current):
            report = sn_deploy.build(
                net.file(), path, profiles=[{net.input: SHAPES}], plugin_library=net.library, device=device,
                timing_cache=False, optimization_level=1,
            )  # fmt: skip
            assert torch.cuda.current_device() == current
        assert report.sidecar.gpu["name"] == torch.cuda.get_device_name(device)
        with opened(path, device=device) as engine:
            assert error_of(only(engine.run({net.input: images(4)})), net.exact(images(4))) <= ALLOWED["fp32"]


def test_the_timing_cache_is_kept_and_taken(net: Net) -> None:
    cache = net.folder / "own.timings"
    first = net.engine("fp16", "first", timing_cache=cache)
    size = cache.stat().st_size
    assert size > 0
    second = net.engine("fp16", "second", timing_cache=cache)
    # The same timings: the same tactics.
    tactics = []
    for path in (first, second):
        with opened(path) as engine:
            tactics.append([(row.name, row.tactic) for row in layer_rows(engine.layers())])
    assert tactics[0] == tactics[1]


def test_what_does_not_fit_is_said_before_tensorrt_is_asked(net: Net) -> None:
    path = net.folder / "foreign.engine"
    path.write_bytes(net.engine("fp32").read_bytes())
    own = read_sidecar(net.engine("fp32"))
    assert own is not None
    for change, words in (
        ({"tensorrt": "10.0.0.6"}, "an engine runs in its own version"),
        ({"gpu": {**own.gpu, "compute_capability": "3.5"}}, "an engine runs on GPUs of its own compute capability"),
        ({"engine": {"sha256": "0" * 64}}, "isn't the engine that"),
    ):
        write_sidecar(replace(own, **change), path)
        with pytest.raises(SnDeployError, match=words):
            opened(path)
    sidecar_path(path).unlink()
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SnDeployError, match=r"TensorRT .* can't read it: "):
        opened(path)


def command(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own, without the package's own plugin."""
    environment = {**os.environ, "SN_DEPLOY_NATIVE": "0", **more}
    line = [sys.executable, "-m", "sn_deploy", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=500, check=False)


def test_an_engine_that_carries_the_plugin_runs_where_none_is(net: Net) -> None:
    try:
        path = net.engine("fp16", "embedded", plugin="embed")
    except SnDeployError as error:
        if "lean" in str(error).lower():
            pytest.skip(f"version-compatible engines can't be built here: {error}")
        raise
    refused = command("inspect", path)
    assert refused.returncode == 0, refused.stderr
    assert "layers are the sidecar's, without times: " in refused.stdout
    assert "holds code that would run on this host" in refused.stdout
    done = command("inspect", path, "--allow-host-code")
    assert done.returncode == 0, done.stderr  # it ran; whether its layers can be looked into is TensorRT's to say
    assert " layers, " in done.stdout


def test_build_and_inspect_on_the_command_line(net: Net) -> None:
    path = net.folder / "typed.engine"
    shapes = ["--min", f"1x3x{SIZE}x{SIZE}", "--opt", f"8x3x{SIZE}x{SIZE}", "--max", f"8x3x{SIZE}x{SIZE}"]
    done = command("build", net.file("fp16"), "-o", path, "--plugin-library", net.library, *shapes)
    assert done.returncode == 0, done.stderr
    assert "5 of them SN plugins" in done.stdout
    # The embedded way aside, a reader needs the plugin; it says so.
    lacking = json.loads(command("inspect", path, "--json", "-").stdout)
    assert f"the engine was built with {net.library.name}: --plugin-library FILE.so" in lacking["missing"]
    assert lacking["layers"]
    done = command("inspect", path, "--json", "-", "--plugin-library", net.library)
    assert (done.returncode, done.stderr) == (0, "")  # the same plugin: no warning
    found = json.loads(done.stdout)
    assert found["missing"] is None
    assert found["counts"]["plugins"] == 5
    assert 0 < sum(layer["share"] or 0 for layer in found["layers"]) < 1 + 1e-6


def test_a_check_of_an_engine(net: Net, tmp_path: Path) -> None:
    from sn_deploy.cli import main

    result = tmp_path / "check.json"
    arguments = [net.file("fp32"), net.engine("fp32"), "--data", "random", "--limit", "16", "--batch-size", "4"]
    main(["check", *map(str, arguments), "--calls", "20", "--json", str(result)])
    document = json.loads(result.read_text())
    assert document["passed"]
    names = [backend["name"] for backend in document["backends"]]
    assert [name for name in names if name.startswith("trt")] == [
        f"trt-{net.engine('fp32').stem}",
        f"trt-no-graph-{net.engine('fp32').stem}",
    ]
    timed = {row["backend"]: row for row in document["latency"]["results"]}
    assert all(timed[name]["device_ms"] > 0 for name in names if name.startswith("trt"))
    assert {row["backend"] for row in document["latency"]["layer_times"]} >= {names[-1], names[-2]}


def test_ctrl_c_leaves_no_half_written_engine(net: Net, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tmp_path / "resnet.onnx"
    sn_deploy.export(resnetv1sn50().eval(), torch.zeros(1, 3, 224, 224), model, precision="fp16", dynamic="batch")
    before = sorted(path.name for path in tmp_path.iterdir())
    line = [sys.executable, "-m", "sn_deploy", "build", str(model), "-o", str(tmp_path / "resnet.engine")]
    process = subprocess.Popen(
        [*line, "--plugin-library", str(net.library), "--no-timing-cache"],
        cwd=ROOT,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        time.sleep(12)
        if process.poll() is not None:
            pytest.skip("the build was over before Ctrl-C")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_random_inputs_are_of_the_shape_to_be_fast_for(net: Net) -> None:
    with opened(net.engine("fp32")) as engine:
        assert random_inputs(engine)[net.input].shape == SHAPES["opt"]
