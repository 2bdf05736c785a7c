"""What ONNX Runtime's calibrators leave behind in the program that imports them."""

from __future__ import annotations

import subprocess
import sys


def test_the_folders_of_modules_stay_as_they_were() -> None:
    code = (
        "import sys, sn_deploy.runtime.ort_calibration as own; before = list(sys.path); own.calibrators(); "
        "print(sys.path == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
