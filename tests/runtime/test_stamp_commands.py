"""Commands that an error gives to be copied: names in them come from files, and a shell would obey them."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.stamp import Stamp, portable_source


def test_names_are_quoted(tmp_path: Path) -> None:
    stamp = Stamp("ort-cpu;reboot", "1.0", 8, "x", "a.onnx; touch pwned #", "0" * 64)
    with pytest.raises(SnDeployError) as refused:
        portable_source(tmp_path / "net.onnx", stamp, "it is another machine")
    command = str(refused.value.mend).partition("here: ")[2]
    expected = ["sn-deploy", "optimise", "a.onnx; touch pwned #", "--for", "ort-cpu;reboot", "-o", "net.onnx"]
    assert shlex.split(command) == expected
