"""``sn-deploy doctor`` as a user calls it, on this machine and on ones with less."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sn_deploy.cli import doctor, main
from sn_deploy.doctor.finding import Finding

NAMES = [
    "Python",
    "sn-deploy",
    "numpy",
    "ml_dtypes",
    "onnx",
    "onnx_ir",
    "safetensors",
    "torch",
    "onnxscript",
    "onnxruntime",
    "matplotlib",
    "tritonclient",
    "openvino",
    "tensorrt",
    "polygraphy",
    "ONNX Runtime custom op",
    "ONNX Runtime CUDA custom op",
    "CUDA kernels",
    "TensorRT 10 plugin",
    "TensorRT 11 plugin",
    "GPU",
]
PLUGINS = NAMES[15:20]  # which have no version of their own


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command, with ``folder`` before everything else that can be imported."""
    return subprocess.run(
        [sys.executable, "-m", "sn_deploy", "doctor", *arguments],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_this_machine_is_fit(tmp_path: Path) -> None:
    done = run(tmp_path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["usable"] is True
    assert [row["name"] for row in report["findings"] if row["name"] != "onnxruntime wheels"] == NAMES
    for row in report["findings"]:
        assert row["status"] == "ok" or not row["needed"], row
        assert row["version"] or row["status"] != "ok" or row["name"] in PLUGINS


def test_with_everything_missing_each_is_named(tmp_path: Path) -> None:
    blocked = [name for name in NAMES[2:13] if name not in ("torch", "onnxruntime")]
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Blocker:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Blocker())\n"
    )
    (tmp_path / "torch.py").write_text("import os\nos.abort()\n")
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libstdc++.so.6: version not found')\n")
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: export and run aren't possible here: numpy, ml_dtypes, onnx, onnx_ir, safetensors, torch, onnxscript, "
        "onnxruntime missing or broken; see how to mend it above"
    ]
    rows = {line.split()[0]: line for line in reversed(done.stdout.splitlines()) if line.strip()}
    assert "missing" in rows["numpy"]
    assert "broken" in rows["torch"]
    assert "crashes when it is loaded (SIGABRT)" in rows["torch"]
    assert "broken" in rows["onnxruntime"]
    assert "libstdc++.so.6: version not found" in rows["onnxruntime"]
    assert "optional" in rows["matplotlib"]
    assert "  numpy: pip install 'numpy'" in done.stdout.splitlines()
    assert "  onnxscript: pip install 'sn-deploy[torch]'" in done.stdout.splitlines()


def test_the_table_and_the_exit_code_follow_the_findings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [
        Finding("numpy", "ok", "2.0", "", "", needed=True),
        Finding("openvino", "broken", "", "ImportError: [x]", "pip install --force-reinstall openvino"),
    ]
    monkeypatch.setattr(doctor, "diagnose", lambda: findings)
    main(["doctor"])
    out = capsys.readouterr().out
    assert "openvino  broken" in out
    assert "ImportError: [x]" in out
    findings.append(Finding("torch", "missing", needed=True))
    with pytest.raises(SystemExit) as exit_:
        main(["doctor", "--json"])
    assert exit_.value.code == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out)["usable"] is False
    assert captured.err.startswith("error: export and run aren't possible here: torch missing or broken")
