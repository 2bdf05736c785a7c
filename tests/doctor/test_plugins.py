"""The project's libraries: those that are here, and those that are damaged, foreign or missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from safetensors import _safetensors_rust

from sn_deploy.doctor import plugins, trials
from sn_deploy.doctor.finding import Finding
from sn_deploy.doctor.isolate import Outcome
from sn_deploy.doctor.plugins import LIBRARIES, PluginLibrary, find_plugin
from sn_deploy.doctor.trials import Trial
from sn_deploy.runtime.native import ort_library

BY_FILE = {library.file: library for library in LIBRARIES}
TRT10 = BY_FILE["libsn_deploy_trt10.so"]
TENSORRT_HERE = trials.run_probe("tensorrt").usable

# Any library that needs no other, and something that it exports.
FOREIGN = Path(str(_safetensors_rust.__file__))
SYMBOL = "PyInit__safetensors_rust"


def test_a_library_that_was_not_built_is_no_obstacle(tmp_path: Path) -> None:
    for library in LIBRARIES:
        finding = find_plugin(library, [tmp_path])
        assert finding.status == "optional"
        assert finding.note.startswith("not built: ")
        assert not finding.mend or TENSORRT_HERE


def test_a_library_that_loads_is_tried(tmp_path: Path) -> None:
    seen: list[Path] = []

    def try_it(file: Path) -> Trial:
        seen.append(file)
        return Trial(True, "it works", "pip install more")

    shutil.copy(FOREIGN, tmp_path / "libplugin.so")
    library = PluginLibrary("plugin", "libplugin.so", SYMBOL, "", try_it)
    finding = find_plugin(library, [tmp_path / "nowhere", tmp_path])
    assert finding == Finding("plugin", "ok", "", "libplugin.so loads; it works", "pip install more")
    assert seen == [tmp_path / "libplugin.so"]


def test_a_library_that_its_program_refuses_is_broken(tmp_path: Path) -> None:
    shutil.copy(FOREIGN, tmp_path / "libplugin.so")
    library = PluginLibrary("plugin", "libplugin.so", SYMBOL, "", lambda _: Trial(False, "refused", "build it"))
    assert find_plugin(library, [tmp_path]) == Finding(
        "plugin", "broken", "", "libplugin.so loads; refused", "build it"
    )


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.file)
@pytest.mark.parametrize(
    ("damage", "reason"),
    # The loader maps a truncated library, and the process may die of it.
    [("truncated", ""), ("text", "invalid ELF header"), ("empty", "file too short"), ("foreign", "has no ")],
)
def test_damaged_and_foreign_files_are_broken(tmp_path: Path, library: PluginLibrary, damage: str, reason: str) -> None:
    target = tmp_path / library.file
    whole = FOREIGN.read_bytes()
    target.write_bytes({"truncated": whole[:5000], "text": b"no library" * 100, "empty": b"", "foreign": whole}[damage])
    finding = find_plugin(library, [tmp_path])
    assert finding.status == "broken"
    assert finding.note.startswith(f"{library.file}: ")
    assert reason in finding.note
    assert finding.mend.startswith("build it again")


def test_the_switch_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(FOREIGN, tmp_path / "libplugin.so")
    library = PluginLibrary("plugin", "libplugin.so", SYMBOL, "", lambda _: Trial(True, "it works"))
    monkeypatch.setenv(plugins.SWITCH, "0")
    finding = find_plugin(library, [tmp_path])
    assert (finding.status, finding.note) == ("ok", "libplugin.so loads; it works; turned off by SN_DEPLOY_NATIVE=0")


@pytest.mark.skipif(ort_library() is None, reason="the custom-op library wasn't built")
def test_the_real_custom_op_library_is_registered() -> None:
    finding = find_plugin(BY_FILE["libsn_deploy_ort.so"])
    assert finding.status == "ok", finding
    assert finding.note.endswith(" takes it")


# --- The plugin, and the TensorRT that is installed -----------------------------------------------------------------


def tensorrt_is(monkeypatch: pytest.MonkeyPatch, installed: Outcome, plugin: Outcome | None = None) -> None:
    """What the probes of TensorRT and of the plugin in it come back with."""
    answers = {"tensorrt": installed, "tensorrt_plugin": plugin}
    monkeypatch.setattr(trials, "run_probe", lambda probe, *_: answers[probe])


def test_without_tensorrt_a_plugin_that_loads_is_well(monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt_is(monkeypatch, Outcome({}, missing=True))
    trial = TRT10.try_it(Path("x.so"))
    assert trial.works
    assert "not installed" in trial.note
    assert TRT10.wanted() == ""


def test_a_broken_tensorrt_is_not_the_plugins_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt_is(monkeypatch, Outcome({}, error="ImportError: libnvinfer.so.10"))
    trial = TRT10.try_it(Path("x.so"))
    assert trial.works
    assert trial.note.endswith("see its row")
    assert TRT10.wanted() == ""


def test_the_plugin_of_another_major_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    tensorrt_is(monkeypatch, Outcome({"version": "11.2.1.2"}))
    assert TRT10.try_it(Path("x.so")) == Trial(True, "it is for TensorRT 10, and 11.2.1.2 is installed")
    assert TRT10.wanted() == ""
    assert "SN_WITH_TENSORRT=ON" in BY_FILE["libsn_deploy_trt11.so"].wanted()


def test_what_tensorrt_says_of_the_plugin_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = Outcome({"version": "10.15.1"})
    tensorrt_is(monkeypatch, installed, Outcome({"creators": ["SwitchNorm", "SwitchNormRelu"]}))
    assert TRT10.try_it(Path("x.so")) == Trial(True, "TensorRT 10.15.1 takes SwitchNorm, SwitchNormRelu from it")
    tensorrt_is(monkeypatch, installed, Outcome({}, error="RuntimeError: load_library gives None"))
    trial = TRT10.try_it(Path("x.so"))
    assert not trial.works
    assert trial.note == "TensorRT 10.15.1 refuses it: RuntimeError: load_library gives None"
    assert "build it again" in trial.mend


# --- ONNX Runtime's CUDA provider, and the kernels ------------------------------------------------------------------


def test_the_cuda_library_waits_for_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        trials, "run_probe", lambda probe, *_: Outcome({"version": "1.32", "providers": ["CPUExecutionProvider"]})
    )
    trial = BY_FILE["libsn_deploy_ort_cuda.so"].try_it(Path("x.so"))
    assert trial.works
    assert trial.mend == "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"


@pytest.mark.parametrize(
    ("reason", "note"), [("", "they run on this GPU"), ("no driver", "no GPU to run on: no driver")]
)
def test_kernels_need_a_gpu_to_run_and_none_to_be_well(monkeypatch: pytest.MonkeyPatch, reason: str, note: str) -> None:
    monkeypatch.setattr(trials, "run_probe", lambda probe, *_: Outcome({"reason": reason}))
    assert BY_FILE["libsn_deploy_cuda.so"].try_it(Path("x.so")) == Trial(True, note)


def test_every_library_that_the_build_installs_has_a_row() -> None:
    folders = [folder for folder in plugins.plugin_folders() if folder.is_dir()]
    assert {file.name for folder in folders for file in folder.glob("*.so")} <= set(BY_FILE)
