"""Two Tritons behind a real HAProxy, by examples/haproxy.cfg: one is killed under load and no request fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.triton import TritonModel
from sn_deploy.serve import ServeOptions, serve_triton
from tests.check.small_net import write_net
from tests.serve.server import Triton, free_ports

EXAMPLE = Path(__file__).parents[2] / "examples" / "haproxy.cfg"
CALLERS, REQUESTS, MOST_REQUESTS = 4, 100, 20_000

pytestmark = pytest.mark.skipif(shutil.which("haproxy") is None, reason="HAProxy isn't installed (Debian: haproxy)")


@dataclass
class Nodes:
    """Both servers, and HAProxy's ports."""

    one: Triton
    two: Triton
    http: int
    grpc: int


def configuration(one: Triton, two: Triton, http: int, grpc: int) -> str:
    """The example with the ports of this run."""
    text = EXAMPLE.read_text()
    ports = {8000: one.http, 8100: two.http, 8001: one.grpc, 8101: two.grpc, 9000: http, 9001: grpc}
    for example, own in ports.items():
        assert f"127.0.0.1:{example}" in text
        text = text.replace(f"127.0.0.1:{example}", f"127.0.0.1:@{own}").replace(f"port {example}\n", f"port @{own}\n")
    return text.replace("@", "")


@pytest.fixture
def nodes(triton_root: Path, tmp_path: Path) -> Iterator[Nodes]:
    repository = tmp_path / "repository"
    serve_triton(write_net(tmp_path / "net.onnx"), repository, ServeOptions("net", max_queue_delay_us=1_000))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one = Triton(triton_root, repository, tmp_path / "one")
    two = Triton(triton_root, repository, tmp_path / "two")
    http, grpc = free_ports(2)
    proxy = None
    try:
        for node in (one, two):
            node.wait_until_ready()
        config = tmp_path / "haproxy.cfg"
        config.write_text(configuration(one, two, http, grpc))
        subprocess.run(["haproxy", "-c", "-f", config], check=True, capture_output=True)
        with (tmp_path / "haproxy.log").open("wb") as log:
            proxy = subprocess.Popen(["haproxy", "-db", "-f", config], stdout=log, stderr=log)
        yield Nodes(one, two, http, grpc)
    finally:
        if proxy is not None:
            proxy.terminate()
            proxy.wait(10)
        one.stop()
        two.stop()


def answers_when_up(address: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    for attempt in range(50):
        try:
            model = TritonModel(address)
            break
        except Exception:
            if attempt == 49:
                raise
            time.sleep(0.1)
    try:
        return model.run({"image": values})["logits"]
    finally:
        model.close()


def test_a_node_that_is_killed_costs_no_request(nodes: Nodes) -> None:
    values = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    expected = answers_when_up(f"http://127.0.0.1:{nodes.one.http}/net", values)
    for address in (f"http://127.0.0.1:{nodes.http}/net", f"grpc://127.0.0.1:{nodes.grpc}/net"):
        np.testing.assert_array_equal(answers_when_up(address, values), expected)
    model = TritonModel(f"http://127.0.0.1:{nodes.http}/net")
    answered, failures = [0] * CALLERS, list[BaseException]()
    under_way, killed = threading.Barrier(CALLERS + 1), threading.Event()

    def ask(index: int) -> None:
        """Asks without a pause from well before the kill to well after it."""
        left = REQUESTS
        try:
            while left:
                if answered[index] == REQUESTS:
                    under_way.wait(60)
                left -= killed.is_set()
                np.testing.assert_allclose(model.run({"image": values})["logits"], expected, rtol=1e-5, atol=1e-6)
                answered[index] += 1
                assert answered[index] < MOST_REQUESTS
        except BaseException as error:  # noqa: BLE001 (asserted on below)
            failures.append(error)
            under_way.abort()

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(CALLERS)]
    for thread in threads:
        thread.start()
    under_way.wait(60)
    both = [inferences(node) for node in (nodes.one, nodes.two)]
    nodes.one.kill()
    before = sum(answered)
    killed.set()
    for thread in threads:
        thread.join(120)
    assert failures == []
    # Both had their share, the kill came under load, and the load went on.
    assert min(both) > REQUESTS // 4
    assert CALLERS * REQUESTS <= before < sum(answered)
    assert sum(answered) >= 2 * CALLERS * REQUESTS
    assert inferences(nodes.two) > both[1]
    # With no node left requests do fail.
    nodes.two.kill()
    with pytest.raises(SnDeployError):
        model.run({"image": values})
    model.close()


def inferences(node: Triton) -> int:
    """How many a node has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{node.http}/v2/models/net/stats", timeout=10) as answer:
        return int(json.loads(answer.read())["model_stats"][0]["inference_count"])
