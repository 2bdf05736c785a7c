"""`sn_deploy.runtime.trt.Engine` over the real module tensorrt, with stand-ins for its runtime and the GPU; run by
`test_build.py`, in a process for each version of TensorRT.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorrt as trt
import torch

from sn_deploy.check.backends.onnx_file import read_facts
from sn_deploy.check.backends.open import BackendOptions, open_backends
from sn_deploy.check.latency import TimedByLayer, TimedOnDevice
from sn_deploy.check.limits import Limits
from sn_deploy.cli import main
from sn_deploy.engine.layers import layer_rows
from sn_deploy.errors import SnDeployError, SnDeployWarning
from sn_deploy.runtime.gpu import Gpu
from sn_deploy.runtime.trt import Engine, library, plugin, reader
from sn_deploy.runtime.trt.inspector import layers_from_plan
from sn_deploy.runtime.trt.session import Session
from sn_deploy.runtime.trt.sidecar import Sidecar
from sn_deploy.runtime.trt.weights import structure_sha256
from tests.check.small_net import write_net
from tests.engine.made_sidecar import write_sidecar
from tests.tensorrt.stand_in import engine as fakes
from tests.tensorrt.stand_in.device import CUDAGraph, Event, Stream, Torch, use_host_as_gpu

MAJOR = int(trt.__version__.split(".")[0])
PLUGIN = Path(os.environ["SN_PLUGIN_BUILD"]) / "tensorrt" / f"libsn_deploy_trt{MAJOR}.so"
GPU = Gpu("Stand-in", "9.0", 141_000, "13.0")
JSON = trt.LayerInformationFormat.JSON


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> Torch:
    monkeypatch.setattr(trt, "Runtime", fakes.Runtime)
    monkeypatch.setattr(trt, "Refitter", fakes.Refitter)
    monkeypatch.setattr(trt, "OnnxParserRefitter", fakes.ParserRefitter)
    monkeypatch.setattr(library, "find_gpu", lambda index=0: GPU)
    fakes.contexts.clear()
    return use_host_as_gpu(monkeypatch)


def sidecar_for(plan: bytes, **changes: Any) -> Sidecar:
    made = Sidecar(
        sn_deploy="0.1.0",
        tensorrt=trt.__version__,
        created="2026-01-01T00:00:00+00:00",
        seconds=1.0,
        engine={"sha256": hashlib.sha256(plan).hexdigest(), "bytes": len(plan)},
        onnx={"file": "net.onnx", "sha256": "0", "data_sha256": {}, "switch_norm_nodes": 1},
        gpu=GPU.as_json(),
        precision="float32",
        tf32=False,
        plugin={"use": "none", "library": None, "sha256": None},
        settings={"version_compatible": False, "hardware_compatibility": "none"},
        profiles=[{"x": {"min": [1, 3], "opt": [2, 3], "max": [4, 3]}}],
        inputs=[{"name": "x", "dtype": "float32", "shape": ["batch", 3]}],
        outputs=[],
        layers=fakes.LAYERS,
    )
    return replace(made, **changes)


def engine_file(folder: Path, traits: dict[str, Any] | None = None, **changes: Any) -> Path:
    """An engine and its sidecar."""
    path = folder / "net.engine"
    plan = json.dumps(traits or {"kind": "stand-in"}).encode()
    path.write_bytes(plan)
    write_sidecar(sidecar_for(plan, **changes), path)
    return path


def rows(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).standard_normal((count, 3), dtype=np.float32)


def expect(outputs: Any, x: Any) -> None:
    x = np.asarray(x)
    np.testing.assert_allclose(np.asarray(outputs["y"]), 2 * x + 1, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs["z"]), x.sum(1), rtol=1e-5, atol=1e-5)


# --- Runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("graphs", [True, False])
def test_arrays_of_any_shape_in_any_order(tmp_path: Path, graphs: bool) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session(cuda_graphs=graphs) as session:
        assert [str(info) for info in engine.inputs] == ["x: float32 (batch, 3)"]
        assert [info.name for info in engine.outputs] == ["y", "z"]
        for seed, count in enumerate([2, 4, 2, 8, 1, 32, 2, 8]):
            x = rows(count, seed)
            expect(session.run({"x": x}), x)


def test_graphs_are_captured_once_a_shape_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = []
    monkeypatch.setattr(CUDAGraph, "__init__", lambda self: (captured.append(self), setattr(self, "work", []))[0])
    with Engine(engine_file(tmp_path)) as engine, engine.session(most_shapes=2) as session:
        for count in (1, 2, 1, 2, 1):
            session.run({"x": rows(count)})
        assert len(captured) == 2
        session.run({"x": rows(3)})  # in the place of 2
        session.run({"x": rows(1)})
        assert len(captured) == 3
        expect(session.run({"x": rows(2, 7)}), rows(2, 7))
        assert len(captured) == 4
        fakes.contexts.clear()  # which holds them, as the graphs do
        captured.clear()
        gc.collect()
        assert sum(name.startswith("context") for name in fakes.alive) == 2


def test_each_captured_shape_has_a_context_and_all_share_one_memory(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session() as session:
        for count in (1, 2, 8):
            session.run({"x": rows(count)})
        own = fakes.contexts[-3:]
        assert [context._profile for context in own] == [0, 0, 1]
        assert len({id(context) for context in own}) == 3
        assert len({context._scratch for context in own}) == 1


def test_tensors_are_taken_and_given_without_a_copy(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session(cuda_graphs=False) as session:
        x = at(0, rows(4))
        outputs = session.run_tensors({"x": x})
        assert fakes.contexts[-1]._addresses["x"] == x.data_ptr()
        assert fakes.contexts[-1]._addresses["y"] == outputs["y"].data_ptr()
        expect(outputs, x)
        again = session.run_tensors({"x": x + 1})
        expect(outputs, x)  # not overwritten
        expect(again, x + 1)
        # Anything with DLPack: NumPy's arrays are on the host's stand-in.
        expect(session.run_tensors({"x": rows(4, 5)}), rows(4, 5))


def at(offset: int, array: Any) -> torch.Tensor:
    """A tensor whose address is so many bytes behind a multiple of 256, as torch's on a GPU are where they begin."""
    room = torch.empty(array.size + 128, dtype=torch.float32)
    first = (-room.data_ptr() % 256 + offset) // 4
    return room[first : first + array.size].view(array.shape).copy_(torch.from_numpy(array))


def test_what_begins_within_a_tensor_is_copied_where_tensorrt_can_read_it(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine:
        for graphs in (True, False):
            with engine.session(cuda_graphs=graphs) as session:
                x = at(4, rows(4))
                expect(session.run_tensors({"x": x}), x)
                assert fakes.contexts[-1]._addresses["x"] != x.data_ptr()


def test_buffers_are_filled_in_place(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session() as session:
        buffers = session.buffers({"x": (4, 3)})
        buffers.inputs["x"].copy_(torch.from_numpy(rows(4)))
        outputs = session.run_tensors(buffers.inputs)
        assert outputs["y"].data_ptr() == buffers.outputs["y"].data_ptr()
        expect(outputs, rows(4))
        # Another tensor is copied there.
        expect(session.run_tensors({"x": torch.from_numpy(rows(4, 3))}), rows(4, 3))
        with (
            engine.session(cuda_graphs=False) as plain,
            pytest.raises(SnDeployError, match="without CUDA graphs a session has no buffers"),
        ):
            plain.buffers({"x": (4, 3)})


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": 8}, r"input x can't have the shape 8 \(expected x: float32"),
        ({"x": (4.0, 3)}, r"can't have the shape \(4\.0, 3\)"),
        ({"x": (4, 5)}, r"can't have the shape \(4, 5\)"),
        ({"x": "43"}, "can't have the shape '43'"),
        ({"z": (4, 3)}, r"inputs are z \(expected x"),
        ({}, r"inputs are none \(expected x"),
    ],
)
def test_buffers_of_no_shape_are_refused(tmp_path: Path, shapes: dict[str, Any], words: str) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session() as session:
        with pytest.raises(SnDeployError, match=words):
            session.buffers(shapes)
        assert session.buffers({"x": tuple(np.array([4, 3]))}).inputs["x"].shape == (4, 3)


def test_streams_wait_for_each_other(tmp_path: Path, device: Torch) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session() as session:
        session.run({"x": rows(2)})
        Stream.order.clear()
        session.run_tensors({"x": torch.from_numpy(rows(2))})
        own, caller = session.stream.name, device.cuda.caller.name
        assert Stream.order == [(own, "waits for", caller), (caller, "waits for", own)]
        Stream.order.clear()
        session.run({"x": rows(2)})  # the caller may still read what the run before gave
        assert Stream.order == [(own, "waits for", caller)]
        assert session.stream is not device.cuda.caller
        assert device.cuda.current is device.cuda.caller


def test_what_the_caller_gets_is_memory_of_its_own_stream(tmp_path: Path, device: Torch) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session(cuda_graphs=False) as session:
        device.allocated_on.clear()
        session.run_tensors({"x": torch.from_numpy(rows(2))})
        assert device.allocated_on == [device.cuda.caller.name] * 2
        device.allocated_on.clear()
        session.run({"x": rows(2)})
        assert device.allocated_on == [session.stream.name] * 2


def test_an_empty_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fakes, "PROFILES", [(0, 2, 4)])
    monkeypatch.setattr(fakes.Engine, "num_optimization_profiles", 1)
    with Engine(engine_file(tmp_path)) as engine:
        outputs = engine.run({"x": rows(0)})
        assert outputs["y"].shape == (0, 3)
        assert 0 not in fakes.contexts[-1]._addresses.values()


def test_sessions_are_apart_and_threads_may_share_one(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine:
        one, other = engine.session(), engine.session()
        assert one.stream is not other.stream
        expect(one.run({"x": rows(2)}), rows(2))
        expect(other.run({"x": rows(2, 1)}), rows(2, 1))
        wrong = []

        def work(seed: int) -> None:
            for turn in range(20):
                x = rows(1 + turn % 4, seed + turn)
                try:
                    expect(engine.run({"x": x}), x)
                except BaseException as error:  # noqa: BLE001
                    wrong.append(error)

        threads = [threading.Thread(target=work, args=(100 * seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


def test_sessions_of_several_threads_capture_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = fakes.Context.set_optimization_profile_async

    def slowly(self: Any, index: int, stream: int) -> bool:
        # Making a context may wait for the whole device, which a capture of another thread would not survive.
        assert CUDAGraph.capturing is None
        time.sleep(0.002)
        return usual(self, index, stream)

    monkeypatch.setattr(fakes.Context, "set_optimization_profile_async", slowly)
    wrong: list[BaseException] = []
    with Engine(engine_file(tmp_path)) as engine:

        def work(seed: int) -> None:
            try:
                with engine.session() as session:
                    for count in (1, 2, 3, 4):
                        expect(session.run({"x": rows(count, seed)}), rows(count, seed))
            except BaseException as error:  # noqa: BLE001
                wrong.append(error)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def expect_it_waits_for_a_capture(
    monkeypatch: pytest.MonkeyPatch, capturing: Session, work: Callable[[], object]
) -> None:
    """Does ``work`` in another thread, in the midst of a capture in this one; it must not be over before that is."""
    begin = CUDAGraph.capture_begin
    begun, over = threading.Event(), threading.Event()
    wrong: list[BaseException] = []

    def begin_and_wait(self: CUDAGraph, **options: Any) -> None:
        begin(self, **options)
        assert not gc.isenabled()  # a session in a cycle would be freed in it
        begun.set()
        assert not over.wait(0.1), "it did not wait"

    def other() -> None:
        begun.wait(5)
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            wrong.append(error)
        over.set()

    monkeypatch.setattr(CUDAGraph, "capture_begin", begin_and_wait)
    thread = threading.Thread(target=other)
    thread.start()
    expect(capturing.run({"x": rows(2)}), rows(2))
    thread.join()
    assert not wrong
    assert gc.isenabled()


def test_whatever_makes_or_frees_contexts_waits_for_a_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = engine_file(tmp_path)
    with Engine(path) as engine:
        other = engine.session(cuda_graphs=False)
        for work in (
            lambda: Engine(path).close(),
            engine.layers,
            lambda: other.layer_times_ms({"x": rows(2)}),
            lambda: other.run({"x": rows(2)}),
            lambda: other.close(),
        ):
            with monkeypatch.context() as patched, engine.session() as session:
                expect_it_waits_for_a_capture(patched, session, work)


def test_sessions_that_share_a_stream_take_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch has 32: the 33rd session's is the first's. What one enqueues, the other must not be capturing.
    monkeypatch.setattr(Stream, "cuda_stream", property(lambda self: 77, lambda self, value: None), raising=False)
    with Engine(engine_file(tmp_path)) as engine:
        first, second = engine.session(), engine.session(cuda_graphs=False)
        second.run({"x": rows(2)})  # has its context
        expect_it_waits_for_a_capture(monkeypatch, first, lambda: expect(second.run({"x": rows(2)}), rows(2)))


def test_each_shape_runs_in_the_profile_that_is_made_for_the_nearest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fakes, "PROFILES", [(1, 8, 32), (32, 64, 128)])
    with Engine(engine_file(tmp_path)) as engine:
        for graphs in (True, False):
            for wanted, count, profile in ((None, 31, 0), (None, 32, 1), (None, 64, 1), (0, 32, 0), (1, 32, 1)):
                with engine.session(cuda_graphs=graphs, profile=wanted) as session:
                    expect(session.run({"x": rows(count)}), rows(count))
                    assert fakes.contexts[-1]._profile == profile
        with (
            engine.session(profile=1) as session,
            pytest.raises(
                SnDeployError,
                match=r"x 8x3 isn't in profile 1, which the session was opened with .expected x 32x3 to 128x3.; open",
            ),
        ):
            session.run({"x": rows(8)})
        for wrong in (2, -1, True, "1"):
            with pytest.raises(SnDeployError, match=rf"net.engine: there is no profile {wrong!r} .expected 0 to 1."):
                engine.session(profile=wrong)  # type: ignore[arg-type]


def test_times_of_the_device_and_of_layers(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine:
        assert isinstance(engine, TimedOnDevice)
        assert isinstance(engine, TimedByLayer)
        assert 0 < engine.device_time_ms({"x": rows(2)}) < 1e4
        with engine.session(cuda_graphs=False) as session:
            assert 0 < session.device_time_ms({"x": rows(2)}) < 1e4
        assert engine.layer_times_ms({"x": rows(2)}) == {"scale": 0.5}  # the SN layer alone
        assert engine.all_layer_times_ms({"x": rows(2)}) == fakes.LAYER_MS


def test_closing_frees_everything_for_certain(tmp_path: Path) -> None:
    before = set(fakes.alive)
    engine = Engine(engine_file(tmp_path))
    sessions = [engine.session(), engine.session(cuda_graphs=False)]
    for session in sessions:
        session.run({"x": rows(2)})
    engine.run({"x": rows(3)})
    buffers = sessions[0].buffers({"x": (2, 3)})  # what a caller still holds
    fakes.contexts.clear()
    engine.close()
    engine.close()
    gc.collect()
    assert fakes.alive <= before
    assert buffers.graph is None
    for call in (engine.run, *(session.run for session in sessions)):
        with pytest.raises(SnDeployError, match="is closed"):
            call({"x": rows(2)})
    with pytest.raises(SnDeployError, match="the engine is closed; open it again"):
        engine.layers()


def test_an_engine_that_nobody_closes_goes_with_its_last_reference(tmp_path: Path) -> None:
    before = set(fakes.alive)
    gc.collect()
    gc.disable()  # which would find cycles, at some time, in the midst of another's capture, say
    try:
        for traits in ({}, {"data_dependent": True}, {"uncapturable": True}):
            engine = Engine(engine_file(tmp_path, traits))
            for session in (engine.session(), engine.session(cuda_graphs=False)):
                if not (traits.get("uncapturable") and session.cuda_graphs):
                    session.run({"x": rows(2)})
            with contextlib.suppress(SnDeployError):
                engine.run({"x": rows(3)})
            engine.all_layer_times_ms({"x": rows(2)})
            fakes.contexts.clear()
            Stream.order.clear()
            gone, streams = weakref.ref(engine), {session.stream.name}
            del engine, session
            assert gone() is None, traits
            assert fakes.alive <= before, traits
            assert {(name, "synchronized") for name in streams} <= set(Stream.order)  # it may run until then
    finally:
        gc.enable()


def test_a_session_outlives_an_engine_that_nobody_closes(tmp_path: Path) -> None:
    session = Engine(engine_file(tmp_path)).session()
    gc.collect()
    expect(session.run({"x": rows(2)}), rows(2))
    session.close()


# --- What other libraries lend ----------------------------------------------------------------------------------------


class Library:
    """Lends an array by DLPack, as CuPy and JAX do, and says what it would do with the memory once it has it back."""

    def __init__(self, array: Any) -> None:
        self._array = array
        weakref.finalize(array, Stream.order.append, ("library", "has it back"))

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def lend(offset: int = 0) -> Library:
    return Library(at(offset, rows(4)).numpy().view())


BACK = ("library", "has it back")


@pytest.mark.parametrize("graphs", [True, False])
@pytest.mark.parametrize("offset", [0, 4])
def test_what_is_lent_is_held_until_the_gpu_has_read_it(
    tmp_path: Path, graphs: bool, offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Engine(engine_file(tmp_path)) as engine:
        session = engine.session(cuda_graphs=graphs)
        Stream.order.clear()
        monkeypatch.setattr(Event, "reached", False)
        expect(session.run_tensors({"x": lend(offset)}), rows(4))
        session.run({"x": rows(4)})
        session.run_tensors({"x": lend(offset)})
        assert BACK not in Stream.order
        monkeypatch.setattr(Event, "reached", True)
        session.run({"x": rows(4)})
        assert Stream.order.count(BACK) == 2
        monkeypatch.setattr(Event, "reached", False)
        session.run_tensors({"x": lend(offset)})
        Stream.order.clear()
        session.close()
        assert Stream.order == [(session.stream.name, "synchronized"), BACK]


def test_what_is_lent_is_held_where_a_run_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Event, "reached", False)
    with Engine(engine_file(tmp_path, {"fails": True})) as engine:
        session = engine.session(cuda_graphs=False)
        Stream.order.clear()
        with pytest.raises(SnDeployError, match="TensorRT failed"):
            session.run_tensors({"x": lend()})
        gc.collect()
        assert BACK not in Stream.order


def test_a_caller_may_capture_a_session_without_graphs_in_one_of_its_own(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session(cuda_graphs=False) as session:
        session.run_tensors({"x": lend()})
        graph, x = CUDAGraph(), at(0, rows(4))
        graph.capture_begin()
        outputs = session.run_tensors({"x": x})  # events can't be asked now
        session.run_tensors({"x": lend()})
        graph.capture_end()
        x.copy_(torch.from_numpy(rows(4, 1)))
        graph.work[0]()
        expect(outputs, rows(4, 1))


def test_what_a_library_does_not_lend(tmp_path: Path) -> None:
    class Refusing:
        def __dlpack__(self, **options: Any) -> Any:
            raise BufferError("a read-only array\ncan't be lent")

        def __dlpack_device__(self) -> Any:
            return (1, 0)

    with Engine(engine_file(tmp_path)) as engine, engine.session() as session:
        with pytest.raises(
            SnDeployError,
            match=r"engine: input x, a Refusing, can't be taken by DLPack: a read-only array .expected x: float32",
        ):
            session.run_tensors({"x": Refusing()})
        expect(session.run({"x": rows(2)}), rows(2))


# --- What is wrong --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            torch.zeros(2, 3, dtype=torch.float16),
            "has dtype float16 .expected x: float32 .batch, 3..; convert it to float32",
        ),
        (torch.zeros(3, 2).T, "isn't contiguous .*; give .contiguous"),
        (torch.zeros(2, 4), r"has shape \(2, 4\)"),
        (torch.zeros(2, 3, device="meta"), "is on meta .*; move it with .to"),
        ([1.0], "is a list .expected a torch tensor or DLPack's"),
        (torch.zeros(6, 3), "x 6x3 is in no profile .expected x 1x3 to 4x3 or x 8x3 to 32x3.; build it with"),
    ],
)
def test_tensors_that_do_not_fit(tmp_path: Path, value: Any, message: str) -> None:
    with Engine(engine_file(tmp_path)) as engine, engine.session() as session:
        with pytest.raises(SnDeployError, match=message):
            session.run_tensors({"x": value})
        with pytest.raises(SnDeployError, match=r"inputs are y .expected x."):
            session.run_tensors({"y": value})


def test_arrays_that_do_not_fit(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine:
        with pytest.raises(SnDeployError, match="has dtype float64"):
            engine.run({"x": rows(2).astype(np.float64)})
        with pytest.raises(SnDeployError, match="x 6x3 is in no profile"):
            engine.run({"x": rows(6)})
        expect(engine.run({"x": rows(2)}), rows(2))  # and it goes on


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"fails": True}, "TensorRT failed: Cask convolution execution"),
        (
            {"uncapturable": True},
            "can't be captured in a CUDA graph: CUDA error.*capturing; run it without: cuda_graphs=False",
        ),
    ],
)
def test_what_fails_in_a_run(tmp_path: Path, traits: dict[str, Any], message: str) -> None:
    with Engine(engine_file(tmp_path, traits)) as engine, pytest.raises(SnDeployError, match=message):
        engine.run({"x": rows(2)})


def expect_kept(outputs: Any, x: Any) -> None:
    x = np.asarray(x)
    np.testing.assert_allclose(np.asarray(outputs["y"]), (2 * x + 1)[x.sum(1) > 0], rtol=1e-6)
    np.testing.assert_allclose(np.asarray(outputs["z"]), x.sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("graphs", [True, False])
def test_outputs_whose_size_depends_on_the_data(tmp_path: Path, graphs: bool, device: Torch) -> None:
    with Engine(engine_file(tmp_path, {"data_dependent": True})) as engine:
        assert engine.data_dependent == ("y",)
        with engine.session(cuda_graphs=graphs) as session:
            for seed, count in enumerate([2, 4, 8, 4]):
                x = rows(count, seed)
                outputs = session.run({"x": x})
                assert list(outputs) == ["y", "z"]
                expect_kept(outputs, x)
            nothing = session.run({"x": -abs(rows(3))})["y"]
            assert nothing.shape == (0, 3)
            device.allocated_on.clear()
            first = session.run_tensors({"x": at(0, rows(4))})
            assert set(device.allocated_on) == {device.cuda.caller.name}  # it outlives the run
            session.run_tensors({"x": at(0, rows(4, 9))})
            expect_kept(first, rows(4))
            with pytest.raises(SnDeployError, match="has no buffers of its own: the size of output y depends on"):
                session.buffers({"x": (2, 3)})
        assert engine.device_time_ms({"x": rows(2)}) > 0
        assert set(engine.all_layer_times_ms({"x": rows(2)})) == set(fakes.LAYER_MS)


def test_outputs_that_there_is_no_memory_for(tmp_path: Path, device: Torch, monkeypatch: pytest.MonkeyPatch) -> None:
    with Engine(engine_file(tmp_path, {"data_dependent": True})) as engine:
        session = engine.session()
        usual = device.empty

        def empty(size: Any, **options: Any) -> torch.Tensor:
            if isinstance(size, int) and size < 1000:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nand more")
            return usual(size, **options)

        monkeypatch.setattr(device, "empty", empty)
        with pytest.raises(SnDeployError, match="there is no memory for output y: CUDA out of memory"):
            session.run({"x": rows(2)})
        monkeypatch.undo()


def test_engines_of_others_with_formats_that_tensors_do_not_have(tmp_path: Path) -> None:
    with (
        Engine(engine_file(tmp_path, {"hwc": True})) as engine,
        pytest.raises(SnDeployError, match=r"x is in the format HWC8, not in a tensor's order .expected linear"),
    ):
        engine.run({"x": rows(2)})


def test_inputs_that_are_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match="x decides about shapes"):
        Engine(engine_file(tmp_path, {"shape_input": True}))


# --- Loading --------------------------------------------------------------------------------------------------------


OTHER = f"{MAJOR}.99.0.1"
COMPATIBLE = {"version_compatible": True, "exclude_lean_runtime": True}
L4 = {"name": "NVIDIA L4", "compute_capability": "8.9"}
H100 = {"name": "NVIDIA H100", "compute_capability": "9.0"}
MISFITS: list[tuple[dict[str, Any], str]] = [
    (
        {"tensorrt": f"{MAJOR}.1.0.1"},
        r"was built by TensorRT .*, and .* is installed: an engine runs in its own version; "
        r"build it here: sn-deploy build net.onnx -o net.engine; or install TensorRT",
    ),
    (
        {"gpu": L4},
        r"was built for NVIDIA L4 \(compute capability 8.9\), and this is Stand-in \(compute capability 9.0\)",
    ),
    ({"settings": COMPATIBLE, "tensorrt": OTHER}, "which is newer than"),
    (
        {"settings": COMPATIBLE, "tensorrt": f"{MAJOR}.1.0.1"},
        rf"without its lean runtime, and .* is installed; give that version's: lean_runtime='libnvinfer_lean.so."
        rf"{MAJOR}' \(pip install tensorrt-lean=={MAJOR}.1.0.1 has it\); or build it here",
    ),
    (
        {
            "settings": {"version_compatible": True},
            "tensorrt": f"{21 - MAJOR}.2.0.1",
            "plugin": {"use": "loaded", "library": "libsn_deploy_trt10.so", "sha256": None},
        },
        "which is newer than"
        if MAJOR == 10
        else r"only engines with an embedded plugin \(plugin='embed'\), or without",
    ),
    ({"settings": {"version_compatible": True}}, r"holds code that would run on this host.*allow_host_code=True"),
    ({"plugin": {"use": "embedded"}}, "holds code that would run on this host"),
    (
        {"settings": {"strip_weights": True}},
        r"was built without its weights; put them in: sn-deploy refit net.engine net.onnx -o NEW.engine, or in Py",
    ),
    (
        {"settings": {"hardware_compatibility": "same-compute-capability"}, "gpu": L4},
        "of its own compute capability",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISFITS)
def test_an_engine_that_does_not_fit_is_explained_before_it_is_read(
    tmp_path: Path, changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt, "Runtime", None)  # not even made
    with pytest.raises(SnDeployError, match=message):
        Engine(engine_file(tmp_path, **changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"settings": {"version_compatible": True}, "tensorrt": f"{MAJOR}.1.0.1"},
        # What TensorRT 10 has built runs in 11, by the lean runtime in it.
        {"settings": {"version_compatible": True}, "tensorrt": "10.1.0.1"},
        {"settings": {"version_compatible": True}, "plugin": {"use": "embedded"}, "tensorrt": "10.1.0.1"},
        {"settings": COMPATIBLE},
        {"settings": {"hardware_compatibility": "ampere-plus"}, "gpu": {"name": "A100", "compute_capability": "8.0"}},
        {"settings": {"hardware_compatibility": "ampere-plus"}, "gpu": H100},
        {"settings": {"hardware_compatibility": "same-compute-capability"}, "gpu": H100},
    ],
)
def test_compatible_engines_run_elsewhere(tmp_path: Path, changes: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", SnDeployWarning)
        with Engine(engine_file(tmp_path, **changes), allow_host_code=True) as engine:
            expect(engine.run({"x": rows(2)}), rows(2))


def test_another_gpu_of_the_same_kind_is_a_warning(tmp_path: Path) -> None:
    path = engine_file(tmp_path, gpu=H100)
    with (
        pytest.warns(
            SnDeployWarning,
            match="was built on NVIDIA H100, and this is Stand-in: TensorRT supports no other model of GPU than that; "
            "it is likely to be slower, and may fail or hang.*hardware_compatibility='same-compute-capability'",
        ),
        Engine(path),
    ):
        pass


def test_what_tensorrt_warns_of_is_shown(tmp_path: Path) -> None:
    path = engine_file(tmp_path, {"warns": ["Using an engine plan file across different models of devices\n"] * 2})
    path.with_name("net.engine.json").unlink()
    with pytest.warns(SnDeployWarning) as seen, Engine(path):
        pass
    (warning,) = seen
    assert (
        str(warning.message) == f"{path}: TensorRT warns: Using an engine plan file across different models of devices"
    )
    assert warning.filename == __file__


def test_an_earlier_version_is_read_by_its_own_lean_runtime(tmp_path: Path) -> None:
    lean, wrong = tmp_path / "libnvinfer_lean.so", tmp_path / "wrong.so"
    lean.write_text("lean")
    wrong.write_text("another")
    plan, changes = {"lean": "lean"}, {"settings": COMPATIBLE, "tensorrt": f"{MAJOR}.1.0.1"}
    path = engine_file(tmp_path, plan, **changes)
    with Engine(path, lean_runtime=lean) as engine:
        expect(engine.run({"x": rows(2)}), rows(2))
    assert not fakes.Runtime.lean[-1].engine_host_code_allowed
    with pytest.raises(
        SnDeployError, match=r"wrong\.so: TensorRT .* takes it for no lean runtime: Could not load librar"
    ):
        Engine(path, lean_runtime=wrong)
    with pytest.raises(SnDeployError, match=r"none\.so"):
        Engine(path, lean_runtime=tmp_path / "none.so")
    # A plugin is registered there, too; host code is allowed there.
    path = engine_file(tmp_path, plan, **changes, plugin={"use": "loaded", "library": PLUGIN.name, "sha256": None})
    with Engine(path, lean_runtime=lean, plugin=PLUGIN, allow_host_code=True):
        assert fakes.Runtime.lean[-1]._registry._libraries == [str(PLUGIN.resolve())]
        assert fakes.Runtime.lean[-1].engine_host_code_allowed
    # An engine of this version is read by this version, whatever is given for others.
    with Engine(engine_file(tmp_path), lean_runtime=lean) as engine:
        expect(engine.run({"x": rows(2)}), rows(2))
    # Without a sidecar what is given is taken.
    path = engine_file(tmp_path, plan)
    path.with_name("net.engine.json").unlink()
    with Engine(path, lean_runtime=lean):
        pass
    fakes.Runtime.lean.clear()
    reader._loader.cache_clear()


def test_host_code_runs_only_where_it_is_allowed(tmp_path: Path) -> None:
    path = engine_file(tmp_path, {"host_code": True}, settings={"version_compatible": True})
    with Engine(path, allow_host_code=True) as engine:
        expect(engine.run({"x": rows(2)}), rows(2))
    # A sidecar that says nothing of it changes nothing: TensorRT isn't told to allow it.
    path = engine_file(tmp_path, {"host_code": True})
    with pytest.raises(SnDeployError, match="can't read it: Host code isn't allowed"):
        Engine(path)


def test_an_engine_that_was_replaced_is_found_out(tmp_path: Path) -> None:
    path = engine_file(tmp_path)
    path.write_bytes(b'{"another": 1}')
    with pytest.raises(SnDeployError, match=r"isn't the engine that net\.engine\.json describes"):
        Engine(path)
    path.with_name("net.engine.json").unlink()
    with Engine(path) as engine:
        assert [str(info) for info in engine.inputs] == ["x: float32 (?, 3)"]


def test_the_plugin_is_loaded_for_an_engine_that_needs_it(tmp_path: Path) -> None:
    known = {"use": "loaded", "library": PLUGIN.name, "sha256": hashlib.sha256(PLUGIN.read_bytes()).hexdigest()}
    path = engine_file(tmp_path, plugin=known)
    if not plugin.is_loaded():
        with pytest.raises(
            SnDeployError,
            match=rf"there is no libsn_deploy_trt{MAJOR}\.so.*; the engine was built with libsn_deploy_trt{MAJOR}\.so: "
            "plugin=FILE.so; or build it with",
        ):
            Engine(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SnDeployWarning)
        with Engine(path, plugin=PLUGIN):
            assert plugin.is_loaded()
        with Engine(path):  # it is there by now
            pass
    # Another build of it, whether it is named or there already.
    path = engine_file(tmp_path, plugin={**known, "sha256": "2" * 64})
    for given in ({"plugin": PLUGIN}, {}):
        with (
            pytest.warns(
                SnDeployWarning, match=r"was built with another libsn_deploy_trt.*\(SHA-256 222222222222…\) than"
            ),
            Engine(path, **given),
        ):
            pass
    copy = tmp_path / PLUGIN.name
    copy.write_bytes(PLUGIN.read_bytes())
    with (
        pytest.warns(SnDeployWarning, match=rf"is {PLUGIN} already, and {copy} isn't loaded"),
        Engine(path, plugin=copy),
    ):
        pass


def onnx_fields(path: Path) -> dict[str, Any]:
    """What a sidecar says of an ONNX file."""
    facts = read_facts(path)
    return {
        "file": path.name,
        "sha256": facts.sha256,
        "data_sha256": facts.data_sha256,
        "structure_sha256": structure_sha256(path),
        "switch_norm_nodes": 2,
    }


def variant(source: Path, name: str, change: Callable[[onnx.ModelProto], object]) -> Path:
    """A copy of an ONNX file that differs in something."""
    model = onnx.load(source)
    change(model)
    onnx.save(model, source.with_name(name))
    return source.with_name(name)


def with_other_weights(model: onnx.ModelProto) -> None:
    model.producer_version = "another"
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 2, tensor.name))


def with_other_shares(model: onnx.ModelProto) -> None:
    node = next(node for node in model.graph.node if node.op_type == "SwitchNorm")
    next(attribute for attribute in node.attribute if attribute.name == "mean_in").f += 0.1


def test_stripped_weights_come_from_the_file_that_it_was_built_of(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    path = engine_file(tmp_path, settings={"strip_weights": True}, onnx=onnx_fields(net))
    fakes.Refitter.given.clear()
    with Engine(path, weights=str(net)) as engine:
        expect(engine.run({"x": rows(2)}), rows(2))
    assert fakes.Refitter.given == [str(net.resolve())]
    fakes.Refitter.given.clear()
    other = variant(net, "later.onnx", with_other_weights)
    with pytest.raises(
        SnDeployError,
        match=r"later\.onnx: isn't the file that net\.engine was built of, and that engine "
        r"takes the weights of no other .expected net.onnx as it was then.; build it with refit=True",
    ):
        Engine(path, weights=other)  # fmt: skip
    with pytest.raises(SnDeployError, match="and that engine has its weights for good"):
        Engine(engine_file(tmp_path, onnx=onnx_fields(net)), weights=other)
    # Nothing to hold them against: without its sidecar, and where the engine's bytes are given.
    unknown = "net.engine: which weights the engine takes isn't known: there is no sidecar .expected net.engine.json"
    with pytest.raises(SnDeployError, match=f"{unknown}.*; give the file's path in the place of its bytes"):
        Engine(path, plan=path.read_bytes(), weights=net)
    path.with_name("net.engine.json").unlink()
    with pytest.raises(SnDeployError, match=unknown):
        Engine(path, weights=net)
    assert fakes.Refitter.given == []


def test_a_refittable_engine_takes_other_weights_and_nothing_else(tmp_path: Path) -> None:
    net = write_net(tmp_path / "net.onnx")
    path = engine_file(tmp_path, settings={"refit": True}, onnx=onnx_fields(net))
    with Engine(path, weights=variant(net, "later.onnx", with_other_weights)) as engine:
        expect(engine.run({"x": rows(2)}), rows(2))
    for change in (with_other_shares, lambda model: model.graph.node[-1].attribute[0].ClearField("i")):
        with pytest.raises(
            SnDeployError, match=r"wrong\.onnx: differs in more than its weights from the file that net"
        ):
            Engine(path, weights=variant(net, "wrong.onnx", change))
    for name, why in (("other", "Could not refit weights: conv1.weight"), ("partial", "it has no conv2.weight")):
        with pytest.raises(SnDeployError, match=rf"{name}\.onnx: its weights don't go into .*: {why}"):
            Engine(path, weights=variant(net, f"{name}.onnx", with_other_weights))


@pytest.mark.parametrize(("settings", "flags"), [({"strip_weights": True}, []), ({"refit": True}, ["INCLUDE_REFIT"])])
def test_refitting_writes_a_whole_engine(
    tmp_path: Path, settings: dict[str, Any], flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    net = write_net(tmp_path / "net.onnx")
    path = engine_file(tmp_path, settings=settings, onnx=onnx_fields(net))
    main(["refit", str(path), str(net), "-o", str(tmp_path / "whole.engine")])
    assert capsys.readouterr().out.splitlines()[-1] == f"wrote {tmp_path / 'whole.engine'} and whole.engine.json"
    known = [flag for flag in flags if flag in trt.SerializationFlag.__members__]  # not in 10.6
    assert json.loads((tmp_path / "whole.engine").read_bytes())["written"] == known
    with Engine(tmp_path / "whole.engine") as engine:
        assert engine.sidecar is not None
        assert not engine.sidecar.needs_weights
        assert engine.sidecar.settings.get("refit", False) == settings.get("refit", False)
        expect(engine.run({"x": rows(2)}), rows(2))


def test_refits_that_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    net = write_net(tmp_path / "net.onnx")
    path = engine_file(tmp_path, {"unwritable": True}, settings={"refit": True}, onnx=onnx_fields(net))
    new = tmp_path / "new.engine"
    cases = [
        ([path, net, "-o", new], "TensorRT can't write it: TensorRT gives no reason"),
        ([path, net, "-o", tmp_path / "new.onnx"], "new.onnx: has no engine's name: it ends in '.onnx'"),
        ([path, net, "-o", path], "is the engine that is read; write to another file"),
        ([path, tmp_path / "none.onnx", "-o", new], "none.onnx"),
        ([path, variant(net, "wrong.onnx", with_other_shares), "-o", new], "differs in more than its weights"),
    ]
    for arguments, message in cases:
        with pytest.raises(SystemExit) as exit_:
            main(["refit", *map(str, arguments)])
        assert exit_.value.code == 2
        assert message in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["refit", str(path), str(variant(net, "other.onnx", with_other_weights)), "-o", str(new), "--verbose"])
    logged, error = capsys.readouterr().err.splitlines()
    assert logged == "TensorRT error: Could not refit weights: conv1.weight"
    assert "its weights don't go into" in error
    path.with_name("net.engine.json").unlink()
    with pytest.raises(SystemExit):
        main(["refit", str(path), str(net), "-o", str(new)])
    assert "net.engine: which weights the engine takes isn't known: there is no sidecar" in capsys.readouterr().err
    assert not new.exists()


# --- Check and inspect ----------------------------------------------------------------------------------------------


def test_an_engine_is_two_backends_of_a_check(tmp_path: Path) -> None:
    path = engine_file(tmp_path)
    backends = open_backends(BackendOptions(files=[path]))
    assert [backend.info.name for backend in backends.all] == ["trt", "trt-no-graph"]
    graphs, plain = backends.all
    assert graphs.info.versions == {"tensorrt": trt.__version__}
    assert graphs.info.settings["precision"] == "float32"
    assert (graphs.info.settings["cuda_graphs"], plain.info.settings["cuda_graphs"]) == (True, False)
    for backend in backends.all:
        expect(backend.run({"x": rows(4)}), rows(4))
    inputs = {2: {"x": rows(2)}}
    timed = graphs.timed(inputs)
    assert isinstance(timed, TimedOnDevice)
    assert timed.device_time_ms(inputs[2]) > 0
    backends.close()
    gc.collect()
    with pytest.raises(SnDeployError, match="holds code that would run"):
        open_backends(BackendOptions(files=[engine_file(tmp_path, settings={"version_compatible": True})]))


def test_an_engine_in_tf32_gets_its_tolerance(tmp_path: Path) -> None:
    for tf32, precision, limit in ((False, "float32", 1e-5), (True, "tf32", 16 * 2.0**-11)):
        backends = open_backends(BackendOptions(files=[engine_file(tmp_path, tf32=tf32)]))
        settings = backends.all[0].info.settings
        backends.close()
        assert (settings["precision"], settings["tf32"]) == (precision, tf32)
        assert Limits().tolerance("y", ["float32", str(settings["precision"]), "float32"])["rel_l2"] == limit
    # float16 is as coarse by itself.
    backends = open_backends(BackendOptions(files=[engine_file(tmp_path, tf32=True, precision="float16")]))
    assert backends.all[0].info.settings["precision"] == "float16"
    backends.close()


def test_inspect_asks_the_engine_and_times_its_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(engine_file(tmp_path))])
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    form = " ".join(fakes.format_of(trt.__version__).values())
    assert f"scale PluginV3 float16 {form} {form} 500.0 50.0%" in lines
    assert f"copy Reformat float16 {form} {form} 250.0 25.0% next to an SN plugin" in lines
    assert f"sum Reduce float16 {form} {form} 250.0 25.0%" in lines
    assert (
        "3 layers, 1 of them SN plugins; 1 reformats, 1 of them next to an SN plugin; the plugins take 50.0% of the "
        "layers' time"
    ) in lines
    assert lines[-1] == "times: median over 20 runs on random x 2x3, each layer launched and timed apart"


def test_formats_are_told_at_the_shapes_to_be_fastest_for(tmp_path: Path) -> None:
    with Engine(engine_file(tmp_path)) as engine:
        told = engine.layers()
        assert [row.precision for row in layer_rows(told)] == ["float16"] * 3
        assert fakes.contexts[-1]._shape == (2, 3)
        # Without a context there is nothing to be told.
        alone = json.loads(engine.handle.create_engine_inspector().get_engine_information(JSON))["Layers"]
        assert [row.precision for row in layer_rows(alone)] == [""] * 3
    fakes.contexts.clear()
    assert [row.precision for row in layer_rows(layers_from_plan(b"{}", allow_host_code=False))] == ["float16"] * 3


def test_an_engine_that_cannot_be_looked_into(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = engine_file(tmp_path, {"opaque": True}, layers=None)
    with Engine(path) as engine:
        assert engine.layer_times_ms({"x": rows(2)}) == {}
        with pytest.raises(SnDeployError, match="TensorRT's inspector tells no layers"):
            engine.layers()
    main(["inspect", str(path)])
    assert "3 layers, 0 of them SN plugins" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("traits", "changes", "why"),
    [
        ({}, {"tensorrt": OTHER}, "an engine runs in its own version"),
        ({}, {"gpu": L4}, "was built for NVIDIA L4"),
        ({}, {"settings": {"strip_weights": True}}, "was built without its weights"),
        ({}, {"settings": {"version_compatible": True}}, "holds code that would run on this host"),
        ({"fails": True}, {}, "TensorRT failed"),
    ],
)
def test_inspect_shows_the_sidecars_layers_of_what_cannot_run_here(
    tmp_path: Path,
    traits: dict[str, Any],
    changes: dict[str, Any],
    why: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = str(engine_file(tmp_path, traits, **changes))
    main(["inspect", path])
    said = capsys.readouterr()
    assert said.err == ""
    assert "3 layers, 1 of them SN plugins" in said.out
    assert said.out.splitlines()[-1].startswith("layers are the sidecar's, without times: ")
    assert why in said.out.splitlines()[-1]
    main(["inspect", path, "--json", "-"])
    document = json.loads(capsys.readouterr().out)
    assert document["counts"]["plugins"] == 1
    assert why in document["missing"]
    # There is nothing to fall back to.
    Path(path + ".json").unlink()
    if traits:
        with pytest.raises(SystemExit) as exit_:
            main(["inspect", path])
        assert exit_.value.code == 2


def test_inspect_loads_nothing_where_it_is_told_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = engine_file(tmp_path)
    monkeypatch.setattr(trt, "Runtime", None)  # not even made
    main(["inspect", str(path), "--no-run"])
    assert capsys.readouterr().out.splitlines()[-1].endswith("times: the engine isn't loaded, with --no-run")


def test_commands_take_what_an_engine_needs_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lean, net = tmp_path / "libnvinfer_lean.so", write_net(tmp_path / "net.onnx")
    lean.write_text("lean")
    settings = {**COMPATIBLE, "refit": True}
    changes = {"settings": settings, "tensorrt": f"{MAJOR}.1.0.1", "onnx": onnx_fields(net)}
    known = {"use": "loaded", "library": PLUGIN.name, "sha256": None}
    path = engine_file(tmp_path, {"lean": "lean"}, **changes, plugin=known)
    given = ["--plugin-library", str(PLUGIN), "--lean-runtime", str(lean)]
    main(["inspect", str(path), *given])
    assert "times: median over" in capsys.readouterr().out
    main(["refit", str(path), str(net), "-o", str(tmp_path / "new.engine"), *given])
    assert "wrote" in capsys.readouterr().out
    main(["check", str(path), *given, "--limit", "2", "--batch-size", "2", "--no-latency"])
    assert capsys.readouterr().err == ""
    assert {len(runtime._registry._libraries) for runtime in fakes.Runtime.lean} == {1}
    assert len(fakes.Runtime.lean) == 4  # check opens two
    fakes.Runtime.lean.clear()
    reader._loader.cache_clear()


def test_the_engines_of_the_gpus_tests_are_these() -> None:
    from tests.gpu import engines

    made = engines.Engine(b"{}")
    assert (made.inputs, made.outputs) == (["x"], ["y", "z"])
    assert [layer["Name"] for layer in made.layers()] == ["scale", "copy", "sum"]
    expect(made.run({"x": torch.from_numpy(rows(4))}), rows(4))
    with pytest.raises(engines.EngineError, match="Host code isn't allowed"):
        engines.Engine(b'{"host_code": true}')
