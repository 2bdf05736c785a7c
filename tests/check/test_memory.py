"""Memory of a backend in a process of its own."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn_deploy.check.memory import measure_memory
from sn_deploy.errors import SnDeployError

X = {"x": np.zeros(4, np.float32)}


class Holder:
    """Keeps ``kept`` MiB, and takes ``passing`` MiB more while it runs."""

    def __init__(self, kept: int, passing: int) -> None:
        self.kept, self.passing = np.ones(kept * 2**20, np.uint8), passing

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {"y": np.ones(self.passing * 2**20, np.uint8)[:1]}


def die() -> None:
    os.abort()


def fail() -> None:
    raise ValueError("no such model\nat all")


def refuse() -> None:
    raise SnDeployError("is no model", where="a.onnx")


def test_the_peak_is_that_of_opening_and_running_and_of_nothing_else() -> None:
    own = np.ones(300 * 2**20, np.uint8)  # the process that asks is larger than the answer
    assert measure_memory(functools.partial(Holder, 64, 32), X, imports=["numpy"]) == pytest.approx(96, abs=6)
    assert own[0] == 1


@pytest.mark.parametrize(
    ("opener", "words"),
    [
        (die, "the process ended by SIGABRT"),
        (fail, "ValueError: no such model"),
        (refuse, "a.onnx: is no model"),
        (lambda: None, "can't be sent to another process"),
    ],
)
def test_what_goes_wrong_there_is_told_here(opener: Any, words: str) -> None:
    with pytest.raises(SnDeployError, match=words):
        measure_memory(opener, X)


def test_a_backend_that_hangs_is_given_up() -> None:
    import time

    with pytest.raises(SnDeployError, match=r"no answer in 1 s"):
        measure_memory(functools.partial(time.sleep, 60), X, timeout_s=1)


def test_what_a_notebook_defines_is_refused_before_any_work(tmp_path: Path) -> None:
    """The class of a model that is of ``__main__``, as in a notebook, where no other process can import it."""
    script = f"""
import torch
import sn_deploy
from sn_deploy.check import Latency, check
from sn_deploy.errors import SnDeployError
from sn_deploy.models.digits import load_pretrained

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = load_pretrained()

    def forward(self, x):
        return self.inner(x)

def data():
    raise AssertionError("some work was done")

net = Net()
sn_deploy.export(net, torch.zeros(1, 1, 8, 8), {str(tmp_path / "net.onnx")!r})
try:
    check({str(tmp_path / "net.onnx")!r}, model=net, data=data, latency=Latency(memory=True))
except SnDeployError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "memory: Net is defined in the program itself (__main__)" in done.stdout
    assert "put it into a module, a .py file" in done.stdout
