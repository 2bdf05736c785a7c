"""`sn_deploy.build` and its command over the real module tensorrt with a stand-in for the builder; run by
`test_build.py`, in a process for each version of TensorRT.
"""

from __future__ import annotations

import ast
import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import tensorrt as trt

import sn_deploy
from sn_deploy.cli import main
from sn_deploy.engine import timing_cache
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.gpu import Gpu
from sn_deploy.runtime.trt import builder, inspector, library, plugin
from sn_deploy.runtime.trt.sidecar import Sidecar, read_sidecar
from tests.check.small_net import write_net
from tests.tensorrt.stand_in.builder import Builder, Config, Parser
from tests.tensorrt.stand_in.names import standing_in_for

MAJOR = int(trt.__version__.split(".")[0])
PLUGIN = Path(os.environ["SN_PLUGIN_BUILD"]) / "tensorrt" / f"libsn_deploy_trt{MAJOR}.so"
OLDEST = trt.__version__.startswith("10.6.")  # which lacks a little
SAME_CAPABILITY = "SAME_COMPUTE_CAPABILITY"
GPU = Gpu("Stand-in", "9.0", 141_000, "13.0")  # and its index behind the name
LAYERS = [{"Name": "sn1", "LayerType": "PluginV3"}]


current_gpu: list[int] = []


@contextlib.contextmanager
def on_gpu(index: int) -> Iterator[None]:
    """In the place of the driver's: tests/runtime/test_gpu.py."""
    current_gpu.append(index)
    try:
        yield
    finally:
        current_gpu.remove(index)


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(trt, "Builder", Builder)
    monkeypatch.setattr(trt, "OnnxParser", Parser)
    monkeypatch.setattr(library, "find_gpu", lambda index=0: replace(GPU, name=f"{GPU.name} {index}"))
    monkeypatch.setattr("sn_deploy.engine.build.on_gpu", on_gpu)
    monkeypatch.setattr("sn_deploy.engine.build.layers_from_plan", lambda plan, allow_host_code: LAYERS)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    Builder.built.clear()
    yield
    Builder.during, Builder.gives = staticmethod(lambda: None), True


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_net(tmp_path / "net.onnx")


def build(model: Path, **options: Any) -> tuple[sn_deploy.BuildReport, dict[str, Any]]:
    report = sn_deploy.build(model, model.with_suffix(".engine"), **{"plugin_library": PLUGIN, **options})
    return report, Builder.built[-1]


def test_names_of_tensorrt_that_are_used_exist() -> None:
    chains = set()
    for file in Path(builder.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts = []
            while isinstance(node, ast.Attribute):
                parts.append(node.attr)
                node = node.value
            if parts and isinstance(node, ast.Name) and node.id == "trt":
                chains.add(tuple(reversed(parts)))
    assert len(chains) > 20
    chains.discard(("SerializationFlag", "INCLUDE_REFIT"))  # only used where it is
    for chain in chains:
        found = trt
        for part in chain:
            assert hasattr(found, part), ".".join(chain)
            found = getattr(found, part)
    known = set(trt.HardwareCompatibilityLevel.__members__)
    assert known >= set(builder.HARDWARE_COMPATIBILITY.values()) - ({SAME_CAPABILITY} if OLDEST else set())
    # What is called on objects that only a GPU's machine has, and that no stand-in is made of.
    for cls, names in {
        trt.Refitter: ["refit_cuda_engine"],
        trt.OnnxParserRefitter: ["refit_from_file"],
        trt.EngineInspector: ["get_engine_information", "execution_context"],
        trt.Runtime: ["load_runtime", "get_plugin_registry"],
        trt.IPluginRegistry: ["load_library", "get_creator"],
    }.items():
        assert all(hasattr(cls, name) for name in names), cls


def test_an_engine_is_what_was_asked_for(model: Path) -> None:
    report, asked = build(model)
    assert asked["strongly_typed"]
    assert asked["flags"] == []  # TF32, which TensorRT has on by itself, is off
    assert asked["verbosity"] == "DETAILED"
    (profile,) = asked["profiles"]
    assert profile == {"image": [(1, 3, 8, 8), (8, 3, 8, 8), (32, 3, 8, 8)]}
    assert "SwitchNorm" in asked["operators"]
    assert asked["functions"] == []  # 10.6 would take these in the place of the plugin
    assert report.path.read_bytes() == json.dumps(asked).encode()
    assert any("assumed for its first axis" in note for note in report.notes)
    assert plugin.is_loaded()


def test_the_sidecar_tells_all_of_it(model: Path) -> None:
    report, _ = build(model, profiles=[{"image": (4, 3, 8, 8)}], tf32=True, workspace_mib=64)
    sidecar = read_sidecar(report.path)
    assert sidecar == report.sidecar
    assert sidecar is not None
    assert sidecar.tensorrt == trt.__version__
    assert sidecar.gpu == {**GPU.as_json(), "name": "Stand-in 0"}
    assert sidecar.engine["sha256"] == hashlib.sha256(report.path.read_bytes()).hexdigest()
    assert sidecar.onnx["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert (sidecar.onnx["file"], sidecar.onnx["switch_norm_nodes"]) == ("net.onnx", 2)
    assert sidecar.profiles == [{"image": {"min": [4, 3, 8, 8], "opt": [4, 3, 8, 8], "max": [4, 3, 8, 8]}}]
    assert sidecar.plugin == {
        "use": "loaded",
        "library": PLUGIN.name,
        "sha256": hashlib.sha256(PLUGIN.read_bytes()).hexdigest(),
    }
    assert (sidecar.precision, sidecar.tf32, sidecar.settings["workspace_mib"]) == ("float32", True, 64)
    assert sidecar.inputs == [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 8, 8]}]
    assert sidecar.layers == LAYERS


def test_options_reach_the_builder(model: Path) -> None:
    _, asked = build(
        model,
        profiles=[{"image": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}, {"image": {"opt": (64, 3, 8, 8)}}],
        tf32=True,
        workspace_mib=3,
        optimization_level=5,
        hardware_compatibility="ampere-plus",
        version_compatible=True,
        exclude_lean_runtime=True,
        refit=True,
    )
    assert asked["flags"] == ["EXCLUDE_LEAN_RUNTIME", "REFIT", "TF32", "VERSION_COMPATIBLE"]
    assert asked["pools"] == {"WORKSPACE": 3 << 20}
    assert (asked["level"], asked["hardware"]) == (5, "AMPERE_PLUS")
    assert [profile["image"][1] for profile in asked["profiles"]] == [(2, 3, 8, 8), (64, 3, 8, 8)]


def test_a_level_that_this_tensorrt_does_not_know_is_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not OLDEST:
        assert build(model, hardware_compatibility="same-compute-capability")[1]["hardware"] == SAME_CAPABILITY
        monkeypatch.setitem(builder.HARDWARE_COMPATIBILITY, "same-compute-capability", "OF_A_LATER_VERSION")
    with pytest.raises(SnDeployError, match="has no such level") as refused:
        build(model, hardware_compatibility="same-compute-capability")
    assert refused.value.where == "hardware compatibility same-compute-capability"
    assert refused.value.expected == "none, ampere-plus"


def test_an_embedded_plugin_makes_the_engine_version_compatible(model: Path) -> None:
    report, asked = build(model, plugin="embed")
    assert asked["embedded"] == [str(PLUGIN.resolve())]
    assert asked["flags"] == ["VERSION_COMPATIBLE"]
    assert report.sidecar.plugin["use"] == "embedded"
    assert report.sidecar.holds_host_code


def test_stripped_weights_are_to_come_back_the_same(model: Path) -> None:
    report, asked = build(model, strip_weights=True)
    assert asked["flags"] == ["REFIT_IDENTICAL", "STRIP_PLAN"] or "WEIGHTLESS" in asked["flags"]
    assert report.sidecar.needs_weights


def test_stripped_weights_of_functions_are_refused(model: Path) -> None:
    with pytest.raises(
        SnDeployError, match="strip_weights=True: can't be done for a file with SwitchNorm nodes without"
    ):
        build(model, strip_weights=True, plugin="none", plugin_library=None)
    with pytest.raises(SnDeployError, match="refit=True: can't be done for a file with SwitchNorm nodes without"):
        build(model, refit=True, plugin="none", plugin_library=None)


def test_without_the_plugin_no_node_of_ours_is_parsed(model: Path) -> None:
    report, asked = build(model, plugin="none", plugin_library=None)
    assert not any("SwitchNorm" in name for name in asked["operators"])
    assert len(asked["operators"]) > 20
    assert report.sidecar.plugin == {"use": "none", "library": None, "sha256": None}
    (cost,) = [note for note in report.notes if "plugin" in note]
    assert "each of the 2 SN layers becomes the standard operators" in cost
    assert "hasn't been measured" in cost


def test_timings_are_kept_from_build_to_build(model: Path, tmp_path: Path) -> None:
    assert build(model)[1]["timings"] == ""
    assert build(model)[1]["timings"] == "+timed"
    file = timing_cache.timing_cache_file(trt.__version__, replace(GPU, name="Stand-in 0"))
    assert file.is_file()
    assert file.is_relative_to(tmp_path / "cache" / "sn-deploy")
    assert file.name == f"{trt.__version__}-Stand_in_0-9.0.timings"
    own = tmp_path / "own.timings"
    assert build(model, timing_cache=own)[1]["timings"] == ""
    assert own.is_file()
    before = file.read_bytes()
    assert build(model, timing_cache=False)[1]["timings"] == ""
    assert file.read_bytes() == before


def test_timings_are_replaced_as_a_whole_and_merged(model: Path, tmp_path: Path) -> None:
    own, before = tmp_path / "own.timings", tmp_path / "before"
    own.write_bytes(b"known")
    before.hardlink_to(own)
    other = tmp_path / "of another build"
    other.write_bytes(b"theirs")
    Builder.during = staticmethod(lambda: other.replace(own))
    report, asked = build(model, timing_cache=own)
    assert asked["timings"] == "known"
    assert own.read_bytes() == b"known+timedtheirs"
    assert before.read_bytes() == b"known"  # nothing was written into it
    assert not any("timings" in note for note in report.notes)


@pytest.mark.parametrize("content", [b"damaged", b"of another GPU", b"logged"])
def test_timings_that_tensorrt_does_not_take_are_left_alone(model: Path, tmp_path: Path, content: bytes) -> None:
    own = tmp_path / "own.timings"
    own.write_bytes(content)
    report, asked = build(model, timing_cache=own)
    assert asked["timings"] == ""
    assert report.path.is_file()
    assert own.read_bytes() == content
    (note,) = [note for note in report.notes if "own.timings holds no timings that TensorRT takes here" in note]
    assert note.endswith("every kernel is timed, and nothing is kept; delete it to begin anew")
    own.unlink()
    assert not any("timings" in note for note in build(model, timing_cache=own)[0].notes)
    assert own.read_bytes() == b"+timed"


def test_timings_that_cannot_be_kept_do_not_cost_the_engine(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "folder" / "own.timings"
    own.parent.mkdir()
    for spoil, why in (
        (own.mkdir, "Is a directory"),
        (lambda: own.write_bytes(b"damaged"), "was replaced by what TensorRT doesn't take"),
        (lambda: shutil.rmtree(own.parent), "No such file or directory"),
    ):
        Builder.during = staticmethod(spoil)
        report, _ = build(model, timing_cache=own)
        assert report.path.is_file()
        assert report.notes[-1].startswith("the timings weren't kept: ")
        assert why in report.notes[-1]
        shutil.rmtree(own, ignore_errors=True)
        own.unlink(missing_ok=True)


def test_timings_that_cannot_be_locked_are_refused_before_the_build(model: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.timings"
    own.with_name("own.timings.lock").mkdir()
    with pytest.raises(SnDeployError, match=r"own\.timings\.lock: the timings can't be read: Is a directory; name an"):
        build(model, timing_cache=own)
    assert Builder.built == []


def test_a_full_disk_leaves_the_old_engine_and_its_sidecar(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report, _ = build(model)
    before = report.path.read_bytes(), report.sidecar_path.read_bytes()

    def fail(self: Sidecar) -> str:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Sidecar, "text", fail)
    with pytest.raises(SnDeployError, match=r"net\.engine: can't be written: No space left on device"):
        build(model, profiles=[{"image": (2, 3, 8, 8)}])
    assert (report.path.read_bytes(), report.sidecar_path.read_bytes()) == before


def test_another_gpu_is_built_on_and_described(model: Path) -> None:
    seen = []
    Builder.during = staticmethod(lambda: seen.append(list(current_gpu)))
    report, _ = build(model, device=1)
    assert seen == [[1]]
    assert current_gpu == []
    assert report.sidecar.gpu["name"] == "Stand-in 1"
    assert timing_cache.timing_cache_file(trt.__version__, replace(GPU, name="Stand-in 1")).is_file()
    with pytest.raises(SnDeployError, match=r"device: is 'cuda:1' .expected the index of a GPU"):
        build(model, device="cuda:1")


@pytest.mark.skipif(sys.getfilesystemencoding() != "utf-8", reason="names are no UTF-8 in this locale")
def test_a_file_whose_name_is_no_text_is_refused(model: Path) -> None:
    model = model.rename(os.fsdecode(os.fsencode(model.parent) + b"/n\xff.onnx"))
    with pytest.raises(SnDeployError, match="its path is no UTF-8"):
        sn_deploy.build(model, model.with_name("net.engine"), plugin_library=PLUGIN)


def log(severity: str, message: str) -> None:
    """As TensorRT does."""
    library.logger().log(getattr(trt.ILogger.Severity, severity), message)


def test_what_tensorrt_warns_of_is_in_the_notes_once(model: Path) -> None:
    def warn() -> None:
        log("VERBOSE", "a detail")
        log("INFO", "a fact")
        for _ in range(3):
            log("WARNING", "subnormal\n  weights")
        log("ERROR", "skipping a tactic: " + "x" * 1000)

    Builder.during = staticmethod(warn)
    told: list[str] = []
    report, _ = build(model, on_note=told.append)
    assert list(report.notes) == told
    (first, second) = [note for note in told if note.startswith("TensorRT ")]
    assert first == "TensorRT warning: subnormal weights"
    assert second.startswith("TensorRT error: skipping a tactic: xxx")
    assert len(second) < 310
    Builder.during = staticmethod(lambda: [log("WARNING", f"layer {index}") for index in range(100)])
    notes = [note for note in build(model)[0].notes if note.startswith("TensorRT ")]
    assert notes[:5] == [f"TensorRT warning: layer {index}" for index in range(5)]
    assert notes[5:] == ["TensorRT warned of 95 more things: on_log shows all of them"]


def test_the_log_is_told_in_python_and_no_listener_ends_the_build(model: Path) -> None:
    said: list[tuple[str, str]] = []

    def listen(severity: str, message: str) -> None:
        said.append((severity, message))
        raise ZeroDivisionError

    Builder.during = staticmethod(
        lambda: (log("VERBOSE", "a detail"), log("INFO", "a fact"), log("WARNING", "a doubt"))
    )
    report, _ = build(model, on_log=listen)
    assert said == [("INFO", "a fact"), ("WARNING", "a doubt")]
    assert "TensorRT warning: a doubt" in report.notes
    log("WARNING", "later")
    assert len(said) == 2


def test_verbose_shows_the_log(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    Builder.during = staticmethod(
        lambda: (log("VERBOSE", "a detail"), log("INFO", "a fact"), log("WARNING", "a doubt"))
    )
    line = ["build", str(model), "-o", str(model.with_suffix(".engine")), "--plugin-library", str(PLUGIN)]
    main([*line, "--verbose"])
    assert capsys.readouterr().err.splitlines() == ["TensorRT info: a fact", "TensorRT warning: a doubt"]
    monkeypatch.delenv("FORCE_COLOR")
    main(line)
    said = capsys.readouterr()
    assert said.err == ""
    assert "note: TensorRT warning: a doubt" in said.out


def test_progress_is_told_with_its_hierarchy(model: Path) -> None:
    seen = []
    build(model, on_progress=seen.append)
    assert [(phase.name, phase.parent, phase.done, phase.steps) for phase in seen if not phase.finished] == [
        ("Building", None, 0, 1),
        ("Timing", "Building", 0, 3),
        *(("Timing", "Building", done, 3) for done in (1, 2, 3)),
        ("Building", None, 1, 1),
    ]
    assert [phase.name for phase in seen if phase.finished] == ["Timing", "Building"]


def test_a_terminal_shows_the_phases(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
    Builder.during = staticmethod(lambda: time.sleep(0.3))  # it is drawn ten times a second
    main(["build", str(model), "-o", str(model.with_suffix(".engine")), "--plugin-library", str(PLUGIN)])
    drawn = capsys.readouterr().err
    assert "Building" in drawn
    assert "  Timing" in drawn
    assert "0/3" in drawn


def leftovers(model: Path) -> list[str]:
    return sorted(path.name for path in model.parent.iterdir() if path.name not in ("net.onnx", "cache"))


@pytest.fixture
def listening() -> Iterator[None]:
    """SIGINT as a terminal's programs have it: what a shell starts in the background is started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_ctrl_c_leaves_nothing(model: Path) -> None:
    # Noted by TensorRT's own thread, while the main one waits in C and runs no handler of Python's.
    Builder.during = staticmethod(lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT))
    seen: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        build(model, on_progress=seen.append)
    assert max(phase.done for phase in seen if phase.name == "Timing") == 1  # stopped at the next step
    assert leftovers(model) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("listening")
def test_ctrl_c_on_the_command_line_is_130(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Builder.during = staticmethod(lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(SystemExit) as exit_:
        main(["build", str(model), "-o", str(model.with_suffix(".engine")), "--plugin-library", str(PLUGIN)])
    assert exit_.value.code == 130
    assert capsys.readouterr().err.strip() == "interrupted"
    assert leftovers(model) == []


def test_a_build_in_another_thread_works(model: Path) -> None:
    done: list[Any] = []
    thread = threading.Thread(target=lambda: done.append(build(model)))
    thread.start()
    thread.join()
    assert done[0][0].path.is_file()


def test_what_a_callback_raises_ends_the_build_and_comes_through(model: Path) -> None:
    def fail(phase: Any) -> None:
        raise ZeroDivisionError(phase.name)

    with pytest.raises(ZeroDivisionError, match="Building"):
        build(model, on_progress=fail)
    assert leftovers(model) == []


def test_the_source_is_never_written_over(model: Path) -> None:
    before = model.read_bytes()
    with pytest.raises(SnDeployError, match=r"net\.onnx: has no engine's name: it ends in '.onnx'"):
        sn_deploy.build(model, model)
    link = model.with_suffix(".trt")
    link.hardlink_to(model)
    with pytest.raises(SnDeployError, match=r"net\.trt: is the ONNX file itself; write to another"):
        sn_deploy.build(model, link)
    assert model.read_bytes() == before


def test_a_builder_that_refuses_is_quoted(model: Path) -> None:
    Builder.gives = False
    with pytest.raises(
        SnDeployError, match=r"the builder gives no engine: Could not find any.*out of memory; give the"
    ):
        build(model)
    assert leftovers(model) == []


def test_a_parser_that_refuses_is_quoted(model: Path) -> None:
    spoiled = onnx.load(model)
    spoiled.graph.node[0].op_type, spoiled.graph.node[0].name = "Refused", "conv1"
    onnx.save(spoiled, model)
    with pytest.raises(SnDeployError, match=r"net.onnx: TensorRT's parser refuses it: Refused \(conv1\): no importer"):
        build(model)


def test_inputs_that_are_shapes_are_refused(model: Path) -> None:
    spoiled = onnx.load(model)
    spoiled.graph.input.append(onnx.helper.make_tensor_value_info("sizes", onnx.TensorProto.INT64, [2]))
    onnx.save(spoiled, model)
    with pytest.raises(SnDeployError, match="input sizes decides about shapes by its values"):
        build(model)


def test_a_builder_that_cannot_be_made_is_no_traceback(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Unmakeable:
        def __init__(self, logger: Any) -> None:
            logger.log(trt.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("__init__(): incompatible constructor arguments")

    monkeypatch.setattr(trt, "Builder", Unmakeable)
    with pytest.raises(SnDeployError, match=r"TensorRT 1.*: can make no builder: CUDA init.*error: 35"):
        build(model)


def test_the_command_says_what_was_built(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine = model.with_suffix(".engine")
    shapes = ["--min", "1x3x8x8", "--opt", "image=2x3x8x8", "--max", "image=4x3x8x8"]
    main(["build", str(model), "-o", str(engine), "--plugin-library", str(PLUGIN), *shapes])
    said = capsys.readouterr()
    assert said.err == ""
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert f"TensorRT {trt.__version__}" in lines
    assert "profile 0 image 1x3x8x8 to 4x3x8x8, fastest at 2x3x8x8" in lines
    assert "1 layers, 1 of them SN plugins; 0 reformats, 0 of them next to an SN plugin" in lines
    assert lines[-1] == f"wrote {engine} and net.engine.json"


def test_a_plugin_for_the_other_version_is_named(model: Path) -> None:
    other = PLUGIN.with_name(f"libsn_deploy_trt{21 - MAJOR}.so")
    with pytest.raises(
        SnDeployError, match=rf"{other}: is for TensorRT {21 - MAJOR}, and {trt.__version__} is installed"
    ):
        build(model, plugin_library=other)


def test_a_plugin_for_the_other_version_alone_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "find_library", lambda pattern: PLUGIN if str(21 - MAJOR) in pattern else None)
    with pytest.raises(
        SnDeployError, match=rf"no libsn_deploy_trt{MAJOR}.so: the plugin here is for TensorRT {21 - MAJOR}"
    ):
        build(model, plugin_library=None)


def test_what_is_no_plugin_is_refused(model: Path, tmp_path: Path) -> None:
    wrong = PLUGIN.parents[1] / "cuda" / "libsn_deploy_cuda.so"
    with pytest.raises(SnDeployError, match="is no TensorRT plugin of sn-deploy"):
        build(model, plugin_library=wrong)
    damaged = tmp_path / "damaged.so"
    damaged.write_bytes(PLUGIN.read_bytes()[:-100_000])
    with pytest.raises(SnDeployError, match=r"damaged\.so: is cut off; copy it again"):
        build(model, plugin_library=damaged)
    with pytest.raises(SnDeployError, match="can't be read"):
        build(model, plugin_library=tmp_path / "nowhere.so")


def test_a_missing_plugin_is_an_error_that_tells_the_cost_of_none(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SN_DEPLOY_NATIVE", "0")
    with pytest.raises(SnDeployError, match="SN_DEPLOY_NATIVE=0 turns it off") as error:
        build(model, plugin_library=None)
    assert "or build without it, plugin='none': each of the 2 SN layers becomes the" in str(error.value)


def test_the_engines_of_the_gpus_tests_are_these(model: Path) -> None:
    from tests.gpu import engines

    shapes = [{"image": ((1, 3, 8, 8), (2, 3, 8, 8), (4, 3, 8, 8))}]
    formats = dict.fromkeys(("image", "logits"), trt.TensorFormat.HWC)
    recipe = engines.Recipe(shapes=shapes, formats=formats, cache=b"known", embed=PLUGIN)
    made = engines.build(onnx.load(model), recipe)
    asked = json.loads(made.plan)
    assert made.cache.startswith(b"known")
    assert asked["timings"] == "known"
    assert asked["profiles"] == [{"image": [[1, 3, 8, 8], [2, 3, 8, 8], [4, 3, 8, 8]]}]
    assert asked["flags"] == ["DIRECT_IO", "VERSION_COMPATIBLE"]
    assert asked["pools"] == {"WORKSPACE": 4096 << 20}
    assert asked["formats"] == {"image": 1 << int(trt.TensorFormat.HWC), "logits": 1 << int(trt.TensorFormat.HWC)}


def test_stand_ins_have_no_other_names_than_tensorrt(model: Path) -> None:
    with pytest.raises(AttributeError, match="IBuilderConfig has no attribute optimisation_level"):
        Config().optimisation_level = 3
    with pytest.raises(AssertionError, match="Builder has no build_plan"):
        standing_in_for(trt.Builder)(type("Wrong", (), {"build_plan": None}))


def test_layers_that_cannot_be_read_do_not_cost_the_engine(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(plan: bytes, allow_host_code: bool) -> Any:
        raise SnDeployError("can't read it")

    monkeypatch.setattr("sn_deploy.engine.build.layers_from_plan", fail)
    report, _ = build(model)
    assert report.path.is_file()
    assert report.sidecar.layers is None
    assert report.notes[-1] == "its layers can't be listed: can't read it"


assert inspector  # imported so that its names are among those that are looked for
