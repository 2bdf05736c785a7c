"""``sn-deploy inspect`` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

from sn_deploy.nn import SwitchNorm2d
from sn_deploy.runtime.stamp import Stamp
from tests.cli.command import run
from tests.switch_norm_file import model, node


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    long_name = "backbone.stage3.23.bottleneck_with_a_long_name.[norm].sn2"
    nodes = [
        node("n1", "x", "a", (0.5, 0.25), (0.25, 0.25), bn=(0.25, 0.5), layer="stem.sn"),
        node("n2", "a", "y", (0.75, 0.25), (0.125, 0.875), layer=long_name),
    ]
    onnx.save(model(nodes), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


def test_the_table_has_a_row_a_layer_and_the_averages(capsys: pytest.CaptureFixture[str], onnx_file: Path) -> None:
    code, out, err = run(capsys, "inspect", onnx_file)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["mean", "var"]
    assert rows[1] == ["#", "layer", "kind", "X", "IN", "LN", "BN", "IN", "LN", "BN"]
    assert rows[2] == ["1", "stem.sn", "SN2d", "N×4×8×8", "0.500", "0.250", "0.250", "0.250", "0.250", "0.500"]
    # Whole names, even where no terminal tells the width, and brackets in them are no markup.
    assert rows[3][:2] == ["2", "backbone.stage3.23.bottleneck_with_a_long_name.[norm].sn2"]
    assert rows[3][-6:] == ["0.750", "0.250", "0.000", "0.125", "0.875", "0.000"]
    assert rows[4] == ["average", "0.625", "0.250", "0.125", "0.188", "0.562", "0.250"]
    assert out.splitlines()[5] == (
        "2 SN layers; on average mean 0.625 IN + 0.250 LN + 0.125 BN, variance 0.188 IN + 0.562 LN + 0.250 BN"
    )


def test_json_on_stdout_is_alone_and_exact(capsys: pytest.CaptureFixture[str], onnx_file: Path) -> None:
    code, out, err = run(capsys, "inspect", onnx_file, "--json", "-")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert data["file"] == str(onnx_file)
    assert data["layers"][0] == {
        "name": "stem.sn",
        "kind": "SN2d",
        "channels": 4,
        "shape": ["N", 4, 8, 8],
        "mean": {"IN": 0.5, "LN": 0.25, "BN": 0.25},
        "var": {"IN": 0.25, "LN": 0.25, "BN": 0.5},
        "epilogue": [],
        "gamma": {"median": 1.0, "smallest": 1.0, "largest": 1.0},
        "population_mean": {"median": 0.0, "smallest": 0.0, "largest": 0.0},
        "population_var": {"median": 2.0, "smallest": 2.0, "largest": 2.0},
    }
    assert data["average"]["mean"] == {"IN": 0.625, "LN": 0.25, "BN": 0.125}


def test_picture_and_json_files_are_written_and_named(
    capsys: pytest.CaptureFixture[str], onnx_file: Path, tmp_path: Path
) -> None:
    picture, data = tmp_path / "p.svg", tmp_path / "d.json"
    code, out, _ = run(capsys, "inspect", onnx_file, "--picture", picture, "--json", data)
    assert code == 0
    assert out.splitlines()[-2:] == [f"wrote {picture}", f"wrote {data}"]
    assert 'id="mean-IN-1"' in picture.read_text()
    assert len(json.loads(data.read_text(encoding="utf-8"))["layers"]) == 2


def test_a_checkpoint_is_shown_too(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    states = {name: torch.nn.Sequential(SwitchNorm2d(4)).state_dict() for name in ("model", "ema")}
    torch.save(states, tmp_path / "a.pth")
    code, out, err = run(capsys, "inspect", tmp_path / "a.pth")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {tmp_path / 'a.pth'}: several state dicts fit equally well")
    code, out, _ = run(capsys, "inspect", tmp_path / "a.pth", "--checkpoint-key", "ema")
    assert code == 0
    assert "SN2d C=4 0.333 0.333 0.333 0.333 0.333 0.333" in " ".join(out.split())
    assert "1 SN layer; on average" in out


def test_an_onnx_file_is_known_by_its_content(capsys: pytest.CaptureFixture[str], onnx_file: Path) -> None:
    renamed = onnx_file.rename(onnx_file.with_suffix(".model"))
    assert run(capsys, "inspect", renamed)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.onnx"], "error: none.onnx: there is no such file; check the path"),
        (["."], "error: .: is a folder; name the file in it"),
        (["net.onnx", "--picture", "p.gif"], "error: p.gif: the suffix '.gif' names no format of a picture"),
        (["net.onnx", "--json", "none/d.json"], "error: none/d.json: can't be written: its folder doesn't exist"),
        (
            ["net.onnx", "--checkpoint-key", "a"],
            "error: --checkpoint-key: is for checkpoints, and net.onnx is an ONNX file",
        ),
        (["junk.pth"], "error: junk.pth: is not a checkpoint (expected a file written by torch.save"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_no_file(
    capsys: pytest.CaptureFixture[str],
    onnx_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(onnx_file.parent)
    (onnx_file.parent / "junk.pth").write_text("junk")
    before = sorted(onnx_file.parent.iterdir())
    code, out, err = run(capsys, "inspect", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ") == message.startswith("error: ")
    assert len(err.splitlines()) == 1 or err.startswith("Usage")
    assert sorted(onnx_file.parent.iterdir()) == before


def test_onnx_files_need_no_torch_and_checkpoints_say_so(onnx_file: Path, tmp_path: Path) -> None:
    """In a process where torch can't be imported, and where matplotlib is loaded for a picture alone."""
    torch.save(torch.nn.Sequential(SwitchNorm2d(4)).state_dict(), tmp_path / "a.pth")
    code = (
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
        "import importlib.util; find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name == 'torch' else find(name, *a)\n"
        "from sn_deploy.cli import main\n"
        f"main(['inspect', {str(onnx_file)!r}])\n"
        "assert not {'torch', 'matplotlib', 'onnxruntime'} & set(sys.modules)\n"
        f"main(['inspect', {str(tmp_path / 'a.pth')!r}])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert "2 SN layers" in done.stdout
    assert done.returncode == 2
    assert done.stderr.strip() == (
        "error: sn-deploy inspect of a checkpoint: PyTorch isn't installed; pip install 'sn-deploy[torch]'"
    )


def test_an_optimised_file_is_told_which_one_to_inspect(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, onnx_file: Path
) -> None:
    stamp = Stamp("ort-cpu", "1.32.0", 16, "x86_64: avx2", onnx_file.name, "0" * 64)
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1] x) => (float[1] y) {y = Abs(x)}'
    )
    onnx.helper.set_model_props(proto, stamp.as_metadata())
    onnx.save(proto, tmp_path / "here.onnx")
    code, out, err = run(capsys, "inspect", tmp_path / "here.onnx")
    assert (code, out) == (2, "")
    assert "here.onnx: was made by sn-deploy optimise for ONNX Runtime 1.32.0" in err
    assert err.endswith("inspect the portable file that it was made of: net.onnx\n")
