"""What ends a command from outside leaves nothing behind."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sn_deploy.cli.signals import signals_heeded
from sn_deploy.runtime.trt.progress import interrupts

# Runs while its file is still a draft beside the output.
NET = """
import time
import torch
from sn_deploy.nn import SwitchNorm2d

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.sn = SwitchNorm2d(4)

    def forward(self, x):
        print("it runs", flush=True)
        time.sleep(100)
        return self.sn(x)
"""


def test_a_draft_is_removed_and_the_exit_code_is_the_signals(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    line = ["export", "--model", "net.py:Net", "--input", "1x4x8x8", "--specialise", "-o", "out.onnx"]
    with subprocess.Popen(
        [sys.executable, "-m", "sn_deploy", *line], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert any(b"it runs" in said for said in process.stdout)
        assert any(path.name.startswith(".out-") for path in tmp_path.iterdir())
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said.strip()) == (128 + signal.SIGTERM, b"interrupted")
    assert {path.name for path in tmp_path.iterdir()} - {"__pycache__"} == {"net.py"}


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN])  # a shell's & ignores it
def test_who_ignores_a_signal_still_does(ctrl_c: Any) -> None:
    before = {signal.SIGHUP: signal.signal(signal.SIGHUP, signal.SIG_IGN)}  # as nohup does
    before[signal.SIGINT] = signal.signal(signal.SIGINT, ctrl_c)
    try:
        with signals_heeded():
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            assert callable(signal.getsignal(signal.SIGTERM))
            with interrupts():  # no exception may be raised within TensorRT
                assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            assert callable(signal.getsignal(signal.SIGTERM))
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
