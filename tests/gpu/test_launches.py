"""check_launches, over the host's stand-in for a GPU: what it says where it doesn't come to its end."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.gpu.device import built


@pytest.mark.parametrize(
    ("sent", "said"), [(signal.SIGALRM, ("FAILED ", ": it doesn't end\n")), (signal.SIGTERM, ("ended in ", "\n"))]
)
def test_the_launch_that_does_not_end_is_named(sent: signal.Signals, said: tuple[str, str]) -> None:
    program = built("cuda/tests/check_launches_host")
    if program is None:
        pytest.skip("check_launches_host was not built (see SN_PLUGIN_BUILD)")
    process = subprocess.Popen([program], stdout=subprocess.PIPE, text=True)  # for a minute or more
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        process.send_signal(sent)
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 1
    last = output.splitlines(keepends=True)[-1]
    assert last.startswith(said[0])
    assert last.endswith(said[1])
    assert ": tactic " in last
