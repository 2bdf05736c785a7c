"""``sn-deploy check`` as a user calls it: what it finds, what it writes, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import onnx
import onnx.parser
import pytest

from sn_deploy.check.document import json_schema
from sn_deploy.runtime.native import ort_library
from tests.check.small_net import CLASSES, SIZE, Weights, write_net
from tests.cli.command import exit_code

DATA = """
import numpy as np

def samples():
    generator = np.random.default_rng(3)
    for index in range(5):
        yield generator.standard_normal((3, 8, 8)).astype(np.float32), index

def shuffled():
    yield np.random.default_rng().standard_normal((2, 3, 8, 8)).astype(np.float32)

def broken():
    yield np.zeros((2, 3, 8, 8), np.float32)
    raise RuntimeError("the disk is gone")

def right(outputs, labels):
    return outputs["logits"].argmax(1) == labels

def labelled():
    for index in range(2):
        x = np.zeros((2, 3, 8, 8), np.float32)
        yield (x, np.arange(2)) if index else x

def norm(outputs, labels):
    return np.linalg.norm(outputs["logits"], axis=1)

class Largest:
    def __init__(self):
        self.found = 0.0
    def update(self, outputs, labels):
        self.found = max(self.found, float(outputs["logits"].max()))
    def value(self):
        return self.found
"""


def check(*arguments: str) -> int:
    return exit_code("check", *arguments, "--no-latency")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder with a file that is right and a module of theirs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    write_net(tmp_path / "net.onnx")
    (tmp_path / "mine.py").write_text(DATA)
    return tmp_path


def document(path: str = "check.json") -> dict[str, Any]:
    """A written document, held against the schema."""
    loaded: dict[str, Any] = json.loads(Path(path).read_text())
    jsonschema.Draft202012Validator(json_schema()).validate(loaded)
    return loaded


def flip_one_weight(tensors: Weights) -> None:
    tensors["conv2.weight"][2, 3, 1, 1] += 0.1


def swap_two_channels(tensors: Weights) -> None:
    for name in ("sn1.scale", "sn1.bias"):
        tensors[name][[1, 4]] = tensors[name][[4, 1]]


def lose_a_statistic(tensors: Weights) -> None:
    tensors["sn2.var_offset"] += np.float32(1e-3)


def swap_red_and_blue(tensors: Weights) -> None:
    tensors["conv1.weight"][:, [0, 2]] = tensors["conv1.weight"][:, [2, 0]]


def round_the_constants(tensors: Weights) -> None:
    for name in tensors:
        if name.startswith("sn"):
            tensors[name][:] = tensors[name].astype(np.float16)


def plant_a_nan(tensors: Weights) -> None:
    tensors["fc.bias"][3] = np.nan


FAULTS: dict[str, dict[str, Any]] = {
    "one wrong weight in one layer": {"spoil": flip_one_weight},
    "two channels swapped": {"spoil": swap_two_channels},
    "red and blue swapped": {"spoil": swap_red_and_blue},
    "a wrong statistic": {"spoil": lose_a_statistic},
    "constants of SN in half precision": {"spoil": round_the_constants},
    "a NaN": {"spoil": plant_a_nan},
    "a shifted image": {"shift": True},
}


@pytest.mark.parametrize("fault", list(FAULTS))
def test_a_planted_fault_fails_with_1(folder: Path, fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "spoilt.onnx", **FAULTS[fault])
    assert check("net.onnx", "spoilt.onnx", "--reference", "ort-net", "--json", "check.json") == 1
    printed = capsys.readouterr()
    assert "FAILS  ort-spoilt: logits:" in printed.out
    assert "limits don't hold, the first: ort-spoilt: logits" in printed.err
    found = document()
    assert not found["passed"]
    failed = {one["backend"] for one in found["assertions"] if not one["passed"]}
    assert failed == {name for name in found["parity"] if name.endswith("-spoilt")}


def test_a_right_file_passes_ten_times_out_of_ten(folder: Path) -> None:
    write_net(folder / "same.onnx")
    for seed in range(10):
        arguments = ["--data", f"random:seed={seed}", "--limit", "16", "--reference", "ort-same"]
        assert check("net.onnx", "same.onnx", *arguments) == 0


@pytest.mark.skipif(ort_library() is None, reason="the custom-op library wasn't built")
def test_a_file_is_run_by_its_function_and_by_the_native_operator(folder: Path) -> None:
    assert check("net.onnx", "--json", "check.json") == 0
    found = document()
    assert [row["name"] for row in found["backends"]] == ["ort", "ort-native"]
    assert found["reference"] == "ort"
    assert set(found["parity"]) == {"ort-native"}
    (row,) = found["parity"]["ort-native"]
    assert (row["output"], row["dtype"], row["shape"]) == ("logits", "float32", ["N", CLASSES])
    assert row["elements"] == 64 * CLASSES
    assert 0 < row["rel_l2"] < 1e-6
    assert [layer["name"] for layer in found["importance"]] == ["sn1", "sn2"]


def test_without_the_native_operator_there_is_nothing_to_compare_one_file_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SN_DEPLOY_NATIVE", "0")
    assert check("net.onnx") == 2
    assert "there is nothing to compare ort with; name the PyTorch model with --model" in capsys.readouterr().err


def test_backends_that_the_user_names(folder: Path) -> None:
    write_net(folder / "half.onnx", dtype="float16")
    arguments = ["--backend", "full=ort:net.onnx", "--backend", "half=ort:half.onnx", "--reference", "full"]
    assert check(*arguments, "--json", "check.json") == 0
    found = document()
    (row,) = found["parity"]["half"]
    assert row["dtype"] == "float16"
    assert row["tolerance"]["rel_l2"] == 16 * 2**-11
    assert 1e-4 < row["rel_l2"] < row["tolerance"]["rel_l2"]
    assert {info["name"]: info["settings"]["precision"] for info in found["backends"]} == {
        "full": "float32",
        "half": "float16",
    }


def test_labels_and_metrics_of_the_users_own(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "same.onnx")
    arguments = ["--data", "mine:samples", "--batch-size", "2", "--json", "check.json"]
    arguments += ["--metric", "mine:right", "--metric", "mine:norm", "--metric", "mine:Largest"]
    arguments += ["--max-drop", "top1_accuracy:0", "--min", "norm:0.1", "--max", "Largest:100"]
    assert check("net.onnx", "same.onnx", *arguments) == 0
    found = document()
    assert (found["samples"], found["batches"]) == (5, 3)
    values = {(row["name"], row["backend"]): row for row in found["metrics"]}
    accuracy, own = values["top1_accuracy", "ort-net"], values["right", "ort-net"]
    assert (own["value"], own["low"], own["high"]) == (accuracy["value"], accuracy["low"], accuracy["high"])
    assert values["norm", "ort-same"]["difference"] == 0
    assert "ort-same: logits: top1_accuracy: drop from the reference 0 <= 0" in capsys.readouterr().out
    wrong = ["--min", "norm:1e9", "--max", "Largest:-100", "--max-drop", "norm:-1", "--min", "top1_agreement:2"]
    assert check("net.onnx", "same.onnx", *arguments, *wrong) == 1
    failed = {(one["metric"], one["backend"]) for one in document()["assertions"] if not one["passed"]}
    reference, *others = (one["name"] for one in found["backends"])
    of_all = {(name, backend) for name in ("norm", "Largest") for backend in (reference, *others)}
    assert failed == of_all | {(name, backend) for name in ("norm_drop", "top1_agreement") for backend in others}


def test_a_segmentation(folder: Path) -> None:
    for name in ("one", "two"):
        write_net(folder / f"{name}.onnx", outputs=("map", "logits"))
    generator = np.random.default_rng(0)
    labels = generator.integers(0, CLASSES, (6, SIZE, SIZE))
    labels[:, 0] = 255
    np.savez("data.npz", image=generator.standard_normal((6, 3, SIZE, SIZE)).astype(np.float32), labels=labels)
    assert (
        check("one.onnx", "two.onnx", "--data", "data.npz", "--json", "check.json", "--min", "pixel_agreement:1") == 0
    )
    values = {(row["name"], row["backend"]): row for row in document()["metrics"]}
    assert values["pixel_agreement", "ort-two"]["value"] == values["miou_agreement", "ort-two"]["value"] == 1
    assert values["pixel_accuracy", "ort-two"]["count"] == 6 * (SIZE - 1) * SIZE
    assert ("top1_agreement", "ort-two") in values
    assert ("top1_accuracy", "ort-two") not in values  # the labels are maps


def test_limits_replace_the_table(folder: Path) -> None:
    write_net(folder / "spoilt.onnx", spoil=lose_a_statistic)
    files = ["net.onnx", "spoilt.onnx", "--reference", "ort-net"]
    assert check(*files, "--max-rel-l2", "1e-2") == 0
    assert check(*files, "--max-rel-l2", "1e-5") == 1
    assert check(*files, "--tolerance", "logits:rel_l2=1e-2") == 0
    assert check(*files, "--max-rel-l2", "1e-7", "--tolerance", "logits:rel_l2=1e-2,worst_rel_l2=1,max_abs=1") == 0
    assert check(*files, "--max-rel-l2", "1e-2", "--tolerance", "*:p99=1e-9") == 1
    assert check(*files, "--max-rel-l2", "1e-2", "--tolerance", "*:cosine=0.99999999") == 1
    assert check(*files, "--max-rel-l2", "1e-2", "--tolerance", "*:cosine=0.99,snr_db=30") == 0
    assert check(*files, "--max-rel-l2", "1e-2", "--tolerance", "*:snr_db=90") == 1
    assert check(*files, "--max-rel-l2", "1e-2", "--min-top1-agreement", "1") == 0


def test_the_document_alone_on_the_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "same.onnx")
    assert check("net.onnx", "same.onnx", "--limit", "3", "--json", "-") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["samples"] == 3
    assert "Difference from ort-net" in printed.err


def test_a_file_that_fixes_its_batch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_net(folder / f"{name}.onnx", batch=4)
    files = ["one.onnx", "two.onnx"]
    assert check(*files, "--json", "check.json") == 0
    assert (document()["samples"], document()["data"]["batch_size"]) == (64, 4)
    assert check(*files, "--batch-size", "8") == 2
    assert "--batch-size: is 8, and a file fixes the batch to 4" in capsys.readouterr().err
    assert check(*files, "--limit", "6") == 2
    assert "6 samples are no whole batches of 4, to which the file fixes them; --limit 4" in capsys.readouterr().err


def test_latency_and_speedups(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "same.onnx")
    files = ["net.onnx", "same.onnx", "--calls", "20", "--threads", "1", "--latency-batch", "2", "--limit", "1"]
    assert exit_code("check", *files, "--min-speedup", "ort-same/ort-net:0.01", "--memory", "--json", "check.json") == 0
    found = document()
    assert found["latency"]["baseline"] == "ort-net"
    rows = {row["backend"]: row for row in found["latency"]["results"]}
    assert {row["batch"] for row in rows.values()} == {2}
    assert all(row["memory_mib"] > 0 for row in rows.values())
    assert exit_code("check", *files, "--min-speedup", "ort-same/ort-net@2:1000") == 1
    assert "ort-same/ort-net: speedup at batch 2" in capsys.readouterr().err


IMPOSSIBLE: list[tuple[list[str], str]] = [
    ([], "Name a file, or a model with --model."),
    (["gone.onnx"], "gone.onnx: there is no such file"),
    (["mine.py"], "mine.py: is no file that can be run (expected an ONNX file, or an engine: .engine, .plan or .trt)"),
    (["cut.onnx", "net.onnx"], "cut.onnx: is cut off, damaged or no ONNX file"),
    (["net.plan", "net.onnx"], "error: TensorRT: "),  # isn't installed, or has no GPU
    (["net.TRT", "net.onnx"], "error: TensorRT:"),
    (["net.onnx", "net.onnx"], "net.onnx: is given twice; name both, with --backend"),
    (["net.onnx", "sub/net.onnx"], "there are two backends 'ort-net"),
    (["net.onnx", "--backend", "x=ort-cuda:net.onnx"], "CUDAExecutionProvider is not in this onnxruntime"),
    (["net.onnx", "--backend", "x=ort-cuda-native:net.onnx"], "x: the native operator wasn't built, or is turned off"),
    (["net.onnx", "wide.onnx"], "ort-wide beside ort-net: input image: float32 (batch, 3, 9, 9)"),
    (["net.onnx", "--backend", "x"], "--backend x: can't be read (expected NAME=KIND:FILE"),
    (["net.onnx", "--backend", "x=gpu:net.onnx"], "there is no kind 'gpu' (expected ort, ort-native"),
    (["net.onnx", "same.onnx", "--reference", "torch"], "there is no backend 'torch' (expected ort-net"),
    (["net.onnx", "same.onnx", "--reference-dtype", "float64"], "--reference-dtype: is for a PyTorch model"),
    (["net.onnx", "same.onnx", "--checkpoint", "x.pth"], "--checkpoint: without effect: no model is built"),
    (["net.onnx", "same.onnx", "--input", "1x3x9x9"], "--input image: input image: float32 (N, 3, 9, 9)"),
    (["net.onnx", "same.onnx", "--input", "pixels=1x3x8x8"], "--input: there is no input 'pixels' (expected image)"),
    (["free.onnx", "open.onnx"], "has no fixed size to draw samples of; give it: --input image=1x3x224x224"),
    (["net.onnx", "same.onnx", "--data", "nothing"], "--data nothing: there is no such file or folder"),
    (["net.onnx", "same.onnx", "--data", "mine.py"], "--data mine.py: is no data that can be read"),
    (["net.onnx", "same.onnx", "--data", "random:mu=3"], "can't read 'mu=3' (expected random[:seed=0"),
    (["net.onnx", "same.onnx", "--data", "random:distribution=cauchy"], "unknown distribution 'cauchy'"),
    (["net.onnx", "same.onnx", "--data", "random:seed=-1"], "can't read 'seed=-1'"),
    (["net.onnx", "same.onnx", "--data", "random:std=inf"], "can't read 'std=inf'"),
    (["net.onnx", "same.onnx", "--data", "random:std=-1"], "std is below 0 or high below low"),
    (["net.onnx", "same.onnx", "--data", "random:low=2"], "std is below 0 or high below low"),
    (["net.onnx", "same.onnx", "--data", "gone.npy"], "--data gone.npy: there is no such file"),
    (["net.onnx", "same.onnx", "--data", "bytes.npy"], "--data bytes.npy: can't be read"),
    (["net.onnx", "same.onnx", "--data", "bytes.npy", "--crop", "8"], "--resize, --crop, --mean, --std"),
    (["net.onnx", "same.onnx", "--data", "mine:nothing"], "--data mine:nothing: mine has no 'nothing'"),
    (["net.onnx", "same.onnx", "--data", "mine:broken"], "--data mine:broken: failed: RuntimeError: the disk is gone"),
    (["net.onnx", "same.onnx", "--data", "mine:right"], "doesn't take these arguments"),
    (["net.onnx", "same.onnx", "--data", "mine:labelled"], "some batches have labels and some have none"),
    (["net.onnx", "same.onnx", "--labels", "x.txt"], "--labels: is for files and folders"),
    (["net.onnx", "same.onnx", "--shard", "3/2"], "--shard: can't be read: '3/2' (expected PART/PARTS"),
    (
        ["net.onnx", "same.onnx", "--shard", "1/9", "--json", "part.json"],
        "--shard 1/9: there are 8 batches for 9 parts; make at most 8",
    ),
    (["net.onnx", "same.onnx", "--max-rel-l2", "-1"], "--max-rel-l2: -1.0 is no limit"),
    (["net.onnx", "same.onnx", "--tolerance", "logits"], "expected OUTPUT:FIGURE=LIMIT"),
    (["net.onnx", "same.onnx", "--tolerance", "logits:rel=1"], "there is no figure 'rel' (expected rel_l2"),
    (["net.onnx", "same.onnx", "--tolerance", "probs:rel_l2=1"], "there is no output 'probs' (expected logits)"),
    (["net.onnx", "same.onnx", "--min-top1-agreement", "1.5"], "--min-top1-agreement: 1.5 is no limit"),
    (["net.onnx", "same.onnx", "--min", "miou:0.5"], "--min: there is no figure 'miou' (expected top1_agreement"),
    (["net.onnx", "same.onnx", "--max-drop", "top1_accuracy:0"], "--max-drop: there is no figure 'top1_accuracy'"),
    (["net.onnx", "same.onnx", "--max", "x"], "--max x: can't be read (expected FIGURE:LIMIT"),
    (["net.onnx", "same.onnx", "--task", "segmentation"], "--task segmentation: no output is (N, classes, H, W)"),
    (
        ["net.onnx", "same.onnx", "--task", "detection"],
        "--task: is 'detection' (expected auto or none or classification",
    ),
    (["net.onnx", "same.onnx", "--task", "classification:x"], "there is no output 'x' (expected logits)"),
    (["net.onnx", "same.onnx", "--metric", "mine:gone"], "--metric mine:gone: mine has no 'gone'"),
    (
        ["net.onnx", "same.onnx", "--metric", "mine:np"],
        "mine:np: is a module (expected a function or a class)",
    ),
    (["net.onnx", "same.onnx", "--json", "no/check.json"], "no/check.json: can't be written: its folder doesn't exist"),
    (["net.onnx", "same.onnx", "--html", "no/check.html"], "no/check.html: can't be written: its folder doesn't exist"),
]


@pytest.mark.parametrize(("arguments", "message"), IMPOSSIBLE, ids=[message for _, message in IMPOSSIBLE])
def test_wrong_usage_is_one_line_and_2(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_net(folder / "same.onnx")
    write_net(folder / "wide.onnx", size=9)
    for name in ("free", "open"):
        write_net(folder / f"{name}.onnx", size="size")
    (folder / "cut.onnx").write_bytes((folder / "net.onnx").read_bytes()[:-50])
    (folder / "bytes.npy").write_bytes(b"\x93NUMPY")
    for name in ("net.plan", "net.TRT"):
        (folder / name).write_bytes(b"engine")
    (folder / "sub").mkdir()
    write_net(folder / "sub" / "net.onnx")
    before = set(folder.iterdir())
    assert check(*arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not {path for path in set(folder.iterdir()) - before if path.name != "__pycache__"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--min-speedup", "a:2"], "expected BACKEND/OVER:FACTOR"),
        (["--min-speedup", "ort-net/torch:1"], "--min-speedup: there is no backend 'torch'"),
        (["--min-speedup", "ort-net/ort-same@3:1"], "batch 3 isn't timed (expected 1, 8)"),
        (["--min-speedup", "ort-net/ort-same:1", "--no-latency"], "needs the latency; leave --no-latency out"),
        (["--min-speedup", "ort-net/ort-same:1", "--shard", "1/2"], "times of different runs can't be merged"),
        (["--latency", "--shard", "1/2"], "times of different runs can't be merged"),
        (["--concurrency", "1", "--no-latency"], "--concurrency: needs the latency"),
    ],
)
def test_impossible_speedups(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_net(folder / "same.onnx")
    assert exit_code("check", "net.onnx", "same.onnx", *arguments) == 2
    assert message in capsys.readouterr().err


def test_data_that_changes_from_pass_to_pass_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sn_deploy.check.data.open import DataOptions, open_data
    from sn_deploy.errors import SnDeployError
    from sn_deploy.runtime.tensors import TensorInfo

    source = open_data(DataOptions("mine.py:shuffled"), [TensorInfo("image", ("N", 3, 8, 8), np.dtype(np.float32))])
    assert len(list(source)) == 1
    with pytest.raises(SnDeployError, match="gives other samples in each pass; seed it, and don't shuffle"):
        list(source)


def test_outputs_of_other_shapes_fail_with_1(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def drop_a_class(tensors: Weights) -> None:
        tensors["fc.weight"], tensors["fc.bias"] = tensors["fc.weight"][1:], tensors["fc.bias"][1:]

    write_net(folder / "fewer.onnx", spoil=drop_a_class)
    assert check("net.onnx", "fewer.onnx", "--reference", "ort-net", "--task", "none") == 1
    assert "ort-fewer: output logits: has shape (8, 9) (expected the reference's, (8, 10))" in capsys.readouterr().err


def test_a_part_says_so_and_ends_with_0_whatever_its_figures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "spoilt.onnx", spoil=flip_one_weight)
    assert exit_code("check", "net.onnx", "spoilt.onnx", "--shard", "2/4", "--json", "part.json") == 0
    assert "put all parts together with: sn-deploy merge" in capsys.readouterr().out
    found = document("part.json")
    assert (found["shard"], found["samples"], found["batches"]) == ("2/4", 16, 2)
    assert not found["passed"]


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from sn_deploy.cli import main\n"
        "try:\n    main(['check', '--help'])\n"
        "finally:\n    assert not {'torch', 'onnxruntime', 'tensorrt', 'matplotlib', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--min-speedup" in done.stdout


def test_the_progress_bar_is_quiet_where_there_is_no_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_net(folder / "same.onnx")
    assert check("net.onnx", "same.onnx") == 0
    assert capsys.readouterr().err == ""


def test_a_report_and_a_script_beside_it(folder: Path) -> None:
    write_net(folder / "same.onnx")
    assert check("net.onnx", "same.onnx", "--html", "report.html") == 0
    assert "ort-same" in Path("report.html").read_text()
    script = Path("reproduce.sh")
    assert script.stat().st_mode & 0o111
    assert "sn-deploy check net.onnx same.onnx --html report.html --no-latency" in script.read_text()


@pytest.mark.skipif(ort_library() is None, reason="the custom-op library wasn't built")
def test_an_optimised_file_is_run_as_it_is_or_not_at_all(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if exit_code("optimise", "net.onnx", "--for", "ort-cpu", "-o", "fast.onnx"):
        pytest.skip(f"no optimised file can be made here: {capsys.readouterr().err}")
    assert check("net.onnx", "fast.onnx", "--json", "check.json") == 0
    assert [info["name"] for info in document()["backends"]] == ["ort-net", "ort-native-net", "ort-native-fast"]
    monkeypatch.setattr("sn_deploy.runtime.ort.block_size", lambda: None)
    assert check("net.onnx", "fast.onnx") == 2
    assert "fast.onnx: isn't for this machine, and net.onnx would run in its place" in capsys.readouterr().err


@pytest.mark.parametrize("nothing", ["infinite", "empty"])
def test_outputs_of_which_nothing_is_compared_fail(
    nothing: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    infinite = """x = Mul (x0, factor)  y = Mul (x, x)  z0 = Mul (y, big)  z = Mul (z0, big)"""
    empty = """y = Mul (x0, factor)  nine = Constant <value_ints = [9]> ()  z = Slice (y, nine, nine, one)"""
    for name, factor in (("a", 1e3), ("b", 7e5)):
        text = f"""<ir_version: 8, opset_import: ["": 17]> g (float[n, 8] x0) => (float[n, m] z)
            <float factor = {{{factor}}}, float big = {{3e38}}, int64[1] one = {{1}}>
            {{ {infinite if nothing == "infinite" else empty} }}"""
        onnx.save(onnx.parser.parse_model(text), f"{name}.onnx")
    assert check("a.onnx", "b.onnx", "--json", "check.json") == 1
    assert "z: elements 0 >= 1" in capsys.readouterr().err
    assert document()["parity"]["ort-b"][0]["tolerance"]["elements"] == 1
