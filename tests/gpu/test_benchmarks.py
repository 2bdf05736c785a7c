"""The GPU benchmarks where no GPU is: they say so; and every step of them over the host's stand-in for one."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from onnx import numpy_helper

from sn_deploy.errors import SnDeployError
from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.cuda import Tactic
from tests.gpu.device import library_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(*arguments: str | Path, script: str = "gpu_kernels.py") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("script", ["gpu_kernels.py", "gpu_engines.py", "gpu_tactics.py", "gpu_expansions.py"])
def test_without_a_gpu_nothing_is_measured(tmp_path: Path, script: str) -> None:
    done = run("--output", tmp_path / "figures.json", script=script)
    assert (done.returncode, done.stderr) == (2, "no GPU: not measured\n")
    assert not (tmp_path / "figures.json").exists()


def test_a_rehearsal_takes_every_step_and_goes_on_where_it_was_ended(tmp_path: Path) -> None:
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    output = tmp_path / "figures.json"
    arguments = ["--rehearse", "--no-compile", "--library", library, "--output", output]
    done = run(*arguments, "--budget", "0")
    assert (done.returncode, done.stderr) == (3, "to be continued: call again\n")
    assert not json.loads(output.read_text())["complete"]
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("A rehearsal")
    figures = json.loads(output.read_text())
    assert figures["rehearsal"]
    assert figures["complete"]
    layouts = figures["tactics"]["1"]
    assert all(len(layouts[layout]) == 4 for layout in ("linear", "channels last"))
    for net in figures["resnet50"].values():
        assert {"best tactics, linear", "two kernels, channels last", "torch eager"} <= set(net["1"]["us"])
    # What is there isn't measured again.
    assert run(*arguments, "--budget", "0").returncode == 0
    again = json.loads(output.read_text())
    assert all(again[key] == figures[key] for key in ("large", "tactics", "resnet50"))


def test_a_tactic_that_fails_is_noted_and_the_rest_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    tactics, layers, timing = map(importlib.import_module, ("gpu_tactics", "gpu_layers", "gpu_timing"))
    kernels, layer = tactics.CudaKernels(library), layers.Layer(16, 4, 4, "add relu")
    row = tactics.time_layer(kernels, timing.RehearsalClock(), layer, 2, "last")
    assert "failed" not in row
    assert row["chosen"] in row["us"]
    assert {"one block", "two kernels"} <= set(row["us"])
    assert min(row["us"].values()) > 0

    launch = kernels.launch

    def one_is_refused(problem: object, addresses: object, tactic: Tactic, **more: int) -> None:
        if tactic.name == "two kernels":
            raise SnDeployError("out of order", where="CUDA kernels")
        launch(problem, addresses, tactic, **more)

    kernels.launch = one_is_refused
    found = tactics.time_layer(kernels, timing.RehearsalClock(), layer, 2, "last")
    assert found["failed"] == {"two kernels": "CUDA kernels: out of order"}
    assert set(found["us"]) == set(row["us"]) - {"two kernels"}


def test_second_moments_give_what_the_layer_behind_a_convolution_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    moments = importlib.import_module("second_moments")
    torch.manual_seed(0)
    module = SwitchNorm2d(12).double().eval()
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.copy_(torch.rand_like(tensor) + 0.5)
    x, w = torch.randn(3, 5, 7, 6).double() + 0.3, torch.randn(12, 5).double()
    wanted = module(torch.nn.functional.conv2d(x, w[:, :, None, None])).detach()
    rows = x.flatten(2).mT
    maps = moments.affine(rows.mean(1), moments.second_moments(rows), 42, w, moments.Norm.of(module))
    y = rows @ moments.weights_of_samples(w, maps[0]) + maps[1][:, None]
    torch.testing.assert_close(y.mT.reshape(wanted.shape), wanted, rtol=0, atol=1e-12)


def expansions_on_the_host(monkeypatch: pytest.MonkeyPatch, *, most_tactics: int) -> tuple[Any, ...]:
    """The benchmark's module, and what stands for the kernels, the clock and the trial on a GPU."""
    library = library_of("host")
    if library is None:
        pytest.skip("the kernels' stand-in on the host was not built (see SN_PLUGIN_BUILD)")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark, timing = map(importlib.import_module, ("gpu_expansions", "gpu_timing"))
    trial = benchmark.ConvolutionKernels(library.with_name("libsn_deploy_convolution_host.so"))
    monkeypatch.setattr(importlib.import_module("trial_convolution"), "_MOST_TACTICS", most_tactics)
    return benchmark, benchmark.CudaKernels(library), timing.RehearsalClock(), trial


def test_expansions_are_timed_and_compared_with_the_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark, kernels, clock, trial = expansions_on_the_host(monkeypatch, most_tactics=3)
    expansions = benchmark.resnet50_expansions(48)
    assert len(expansions) == 20
    for expansion in (expansions[0], next(one for one in expansions if one.layer.epilogue == "none")):
        row = benchmark.time_expansion(kernels, clock, expansion, 2, trial)
        assert "failed" not in row
        assert row["relative_l2"] < 2e-3  # each side rounds to half twice
        figures = benchmark.compared(row["us"])
        assert figures["floor"] == row["us"]["convolution and residual"]
        of_tactics = [value for name, value in row["us"].items() if name.startswith("tactic: ")]
        of_trial = [value for name, value in row["us"].items() if name.startswith("one kernel: ")]
        assert len(of_trial) == 3
        of_pairs = [value for name, value in row["us"].items() if name.startswith("convolution, then ")]
        assert len(of_pairs) == 3
        assert len(of_tactics) == len(row["us"]) - len(of_trial) - len(of_pairs) - 5
        assert figures["as it is"] == min(of_pairs)
        assert figures["one kernel"] == min(of_trial)
        assert figures["the better"] == min(figures["as it is"], figures["one kernel"])
    # A tactic that is wrong isn't timed, and is named.
    monkeypatch.setattr(benchmark, "MOST_APART", 0.0)
    row = benchmark.time_expansion(kernels, clock, expansions[0], 2, trial)
    assert len(row["failed"]) == 3
    assert all(name.startswith("one kernel: ") and "relative L2" in why for name, why in row["failed"].items())
    assert not any(name.startswith("one kernel: ") for name in row["us"])
    # So is a trial without any.
    monkeypatch.setattr(benchmark.ConvolutionKernels, "convolution_tactics", lambda *_: [])
    row = benchmark.time_expansion(kernels, clock, expansions[0], 2, trial)
    assert list(row["failed"]) == ["one kernel: any"]


def test_what_the_trial_or_torch_does_not_have_is_no_end_of_the_expansions(monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark, kernels, clock, trial = expansions_on_the_host(monkeypatch, most_tactics=1)
    expansions = benchmark.resnet50_expansions(48)
    # The depth of the last one has no kernels: that is known, and no failure on any GPU.
    deepest = max(expansions, key=lambda one: one.in_channels)
    assert deepest.in_channels == 1024
    row = benchmark.time_expansion(kernels, clock, deepest, 1, trial)
    assert "failed" not in row
    assert "one kernel" not in benchmark.compared(row["us"])

    def refuse(*_: object, **__: object) -> None:
        raise TypeError("bmm() got an unexpected keyword argument 'out_dtype'")  # of an older torch

    monkeypatch.setattr(benchmark, "second_moments", refuse)
    row = benchmark.time_expansion(kernels, clock, expansions[0], 1, trial)
    assert row["failed"] == {"product of each sample": "bmm() got an unexpected keyword argument 'out_dtype'"}
    assert {"as it is", "one kernel", "the better", "floor"} == set(benchmark.compared(row["us"]))


def test_a_tactic_that_hangs_is_named() -> None:
    program = (
        "import time\n"
        "from gpu_tactics import times_us\n"
        "from gpu_timing import RehearsalClock\n"
        "clock = RehearsalClock()\n"
        "clock.patience_s = 0.5\n"
        "calls = {'quick': lambda index: None, 'stuck': lambda index: time.sleep(60)}\n"
        "times_us(clock, calls, needed=(), where='8 x a layer')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=BENCHMARKS, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 1
    assert done.stdout == "8 x a layer: stuck: still running after 0.5 s: ended\n"


def test_a_tactic_of_the_trial_is_held_by_element_and_by_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("gpu_expansions")
    wanted = torch.randn(2, 50, 50, 64)
    y = torch.empty(2 * 50 * 50, 64, dtype=torch.float16)

    def why(spoil: Callable[[int], object]) -> str | None:
        runs = iter(range(100))

        def call(index: int) -> None:
            y.copy_(wanted.view(y.shape))
            spoil(next(runs))

        answer = benchmark._why_wrong("a tactic", call, y, wanted)
        assert answer is None or isinstance(answer, str)
        return answer

    def race(run: int) -> None:
        y[7, 3] += 0.01 * (run == 3)

    def fault(run: int) -> None:
        raise RuntimeError("CUDA error: an illegal memory access")

    assert why(lambda run: None) is None
    assert "an element is" in (why(lambda run: y[7, :1].add_(0.3)) or "")
    assert why(race) == "other bits in another run"
    assert "relative L2 nan" in (why(lambda run: y[7].fill_(float("nan"))) or "")
    with pytest.raises(benchmark.SnDeployError, match="illegal memory access") as raised:
        why(fault)
    assert "a tactic" in str(raised.value)


@pytest.fixture
def rehearse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Rehearses the engines' benchmark in this process, which has torch already; gives the exit code."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    module = importlib.import_module("gpu_engines")
    threads = torch.get_num_threads()

    def call(*arguments: str) -> int:
        given = [
            "--rehearse",
            "--nets",
            "digits",
            "--batches",
            "128",
            "--rounds",
            "1",
            "--files",
            str(tmp_path / "files"),
        ]
        return int(module.main([*given, "--output", str(tmp_path / "figures.json"), *arguments]))

    yield call
    torch.set_num_threads(threads)


def test_a_rehearsal_of_engines_goes_on_where_it_was_ended(
    rehearse: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "figures.json"
    precisions = ["--precisions", "fp16", "int8"]
    assert rehearse(*precisions, "--budget", "0") == 3
    assert "call again" in capsys.readouterr().err
    assert json.loads(output.read_text())["nets"] == {}
    assert rehearse(*precisions) == 0
    figures = json.loads(output.read_text())
    assert figures["complete"]
    assert figures["machine"]["rehearsal"]
    for precision, error in {"fp16": 2e-3, "int8": 5e-2}.items():
        for shapes in ("static", "dynamic"):
            row = figures["nets"]["digits"][precision][shapes]["128"]
            assert {"plugin", "floor", *(["torch eager"] if shapes == "static" else [])} == set(row["us"])
            assert 0 < row["engines"]["plugin"]["relative_l2"] < error
        assert row["engines"]["plugin"]["images"] == 1000
        assert row["engines"]["plugin"]["top1_agreement"] >= 0.995  # measured: 1 in fp16, 0.999 in int8
    # What is there isn't measured again, and so isn't late either.
    before = figures["nets"]
    assert rehearse(*precisions, "--budget", "0") == 0
    assert json.loads(output.read_text())["nets"] == before

    # The planted fault: a file with other weights than the model's.
    path = tmp_path / "files" / "digits.plugin.fp16.onnx"
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights)[::-1].copy(), weights.name))
    onnx.save(model, path)
    output.unlink()
    assert rehearse("--precisions", "fp16") == 1
    assert "2 of 2 don't agree with torch, digits/fp16/dynamic/128 first" in capsys.readouterr().err
    row = json.loads(output.read_text())["nets"]["digits"]["fp16"]["static"]["128"]
    assert "relative L2 to torch is" in row["failed"]


def test_goals_come_before_what_is_slow_and_each_batch_has_a_time_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    engines = importlib.import_module("gpu_engines")
    goals = [group for group in engines.groups(engines.USUAL, ["fp16"], engines.BATCHES) if engines.is_goal(group)]
    assert [(group.net, group.kind, *group.batches) for group in goals] == [
        *(("resnet50 v1", "static", batch) for batch in (32, 1, 8, 128)),
        *(("resnet50 v2", "static", batch) for batch in (32, 1, 8, 128)),
        ("digits", "dynamic", 32, 1, 8, 128),
        ("resnet50 v1", "slow", 32),
        ("resnet50 v2", "slow", 32),
    ]
    trial = engines.groups(["resnet50 v1, fused convolutions"], ["fp16"], engines.BATCHES)
    assert [(group.kind, *group.batches) for group in trial] == [("static", batch) for batch in (32, 1, 8, 128)]
    bench = engines.Bench(None, None, rounds=1, deadline=0.0)
    bench.took(goals[0], 30)
    assert bench.expected_s(goals[3]) == pytest.approx(39)  # nothing else is known
    bench.took(goals[3], 100)
    # Of the other net: as long as the first took at that batch.
    assert [bench.expected_s(group) for group in goals[4:8]] == pytest.approx([36, 130, 130, 120])
    assert bench.expected_s(goals[8]) == 40
    assert bench.expected_s(goals[9]) == 180


def test_an_engine_that_cannot_be_built_is_named_and_tried_again(
    rehearse: Callable[..., int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = importlib.import_module("gpu_engines").RehearsalMachine
    opened = machine.open

    def refuse(self: object, model: Path, form: str, shapes: object) -> object:
        if form == "plugin" and shapes:
            raise SnDeployError("no room", where="the builder")
        return opened(self, model, form, shapes)

    with monkeypatch.context() as own:
        own.setattr(machine, "open", refuse)
        assert rehearse("--precisions", "fp16") == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said == "1 of 2 groups measured, 1 left out, digits/fp16/dynamic/128 first: plugin: the builder: no room"
    row = json.loads((tmp_path / "figures.json").read_text())["nets"]["digits"]["fp16"]["dynamic"]["128"]
    assert "floor" in row["us"]
    assert rehearse("--precisions", "fp16") == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 groups measured"


def test_what_is_timed_before_torch_compiles_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    engines = importlib.import_module("gpu_engines")
    machine = engines.RehearsalMachine(tmp_path)
    asked: list[str] = []

    def compiled(*_: object) -> dict[str, object]:
        def make() -> None:
            asked.append("compile")
            raise KeyboardInterrupt  # as if the process were ended

        return {"torch.compile": make}

    machine.compiled = compiled
    files = engines.Files(tmp_path, tmp_path)
    group = engines.Group("digits", "fp16", "slow", (8,))
    for left_s, ends in ((1000, True), (60, False)):
        output = tmp_path / f"{left_s}.json"
        bench = engines.Bench(machine, files, 1, time.monotonic() + left_s, {"nets": {}}, output)
        if ends:
            with pytest.raises(KeyboardInterrupt):
                engines.measure_group(bench, group)
        else:
            engines.measure_group(bench, group)
        slow = json.loads(output.read_text())["nets"]["digits"]["fp16"]["static"]["8"]["slow"]
        assert set(slow["us"]) == {"plugin", "floor", "function body"}
        assert slow["left_out"] == {"torch.compile": "the time was up before it was compiled"}
    assert asked == ["compile"]


def test_engines_begin_with_the_timings_of_the_same_version_and_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    engines = importlib.import_module("gpu_engines")
    known = tmp_path / "known"
    known.mkdir()
    (known / "10.6-GPU_1").write_bytes(b"timings")
    timings = tmp_path / "results/timings"
    engines.take_known(timings, "10.7", "GPU 1", known)
    assert not timings.exists()
    engines.take_known(timings, "10.6", "GPU 1", known)
    assert timings.read_bytes() == b"timings"
    timings.write_bytes(b"newer")
    engines.take_known(timings, "10.6", "GPU 1", known)
    assert timings.read_bytes() == b"newer"
