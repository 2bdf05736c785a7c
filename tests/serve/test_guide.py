"""docs/guides/serving.md, followed step by step: its console blocks run in order, as they stand there.

No Docker is needed: ``docker run … tritonserver`` starts the same program from the wheel, with the mounted folder where
it lies here; ports are free ones. Blocks marked ``sh`` need a GPU, a cluster or a registry; of them the files that
they name have to be there.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.serve.server import Triton

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "guides" / "serving.md"


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", GUIDE.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands() -> list[str]:
    """Each ``$ command`` of the console blocks, on one line."""
    text = "".join(blocks("console")).replace("\\\n", " ")
    return [" ".join(line.removeprefix("$ ").split()) for line in text.splitlines() if line.startswith("$ ")]


class Reader:
    """Somebody who types what the guide says, in a folder of their own."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root, self.folder = root, folder
        self.server: Triton | None = None

    def type(self, command: str) -> str:
        if command.startswith("docker run "):
            self.start(command)
            return ""
        if command.startswith("sn-deploy serve triton "):
            command += f" --server-path {self.folder / 'repository'}"
        words = self.with_ports(command).removeprefix("sn-deploy ")
        run = subprocess.run(
            f"{sys.executable} -m sn_deploy {words}",
            shell=True,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert run.returncode == 0, f"{command}\n{run.stdout[-2000:]}\n{run.stderr[-2000:]}"
        return run.stdout

    def start(self, command: str) -> None:
        assert '-v "$PWD/repository:/models"' in command
        program, argument = command.split()[-2:]
        assert (program, argument) == ("tritonserver", "--model-repository=/models")
        (self.folder / "server").mkdir()
        self.server = Triton(self.root, self.folder / "repository", self.folder / "server").wait_until_ready()

    def with_ports(self, text: str) -> str:
        if self.server is None:
            return text
        return text.replace("localhost:8001", f"127.0.0.1:{self.server.grpc}").replace(
            "localhost:8000", f"127.0.0.1:{self.server.http}"
        )


@pytest.fixture
def reader(triton_root: Path, tmp_path: Path) -> Iterator[Reader]:
    one = Reader(triton_root, tmp_path)
    yield one
    if one.server is not None:
        one.server.stop()


def test_the_guide_works_step_by_step(reader: Reader) -> None:
    typed = commands()
    assert [command.split()[1] for command in typed] == ["export", "serve", "serve", "run", "check"]
    outputs = [reader.type(command) for command in typed]
    repository = reader.folder / "repository"
    assert f"tritonserver --model-repository={repository}" in outputs[1]
    for version in (1, 2):
        assert (repository / "digits" / str(version) / "model.onnx").is_file()
    for name in re.findall(r"`(digits[^` ]*)`", GUIDE.read_text()):
        if "/model" in name or name.endswith((".yaml", ".Dockerfile", ".pbtxt")):
            assert (repository / name).is_file(), name
    for name in re.findall(r"repository/(digits-\S+)", "".join(blocks("sh"))):
        assert (repository / name).is_file(), name
    document = json.loads((reader.folder / "check.json").read_text())
    assert document["passed"]
    assert {row["name"] for row in document["backends"]} > {"torch", "ort", "triton-grpc-digits", "triton-http-digits"}
    assert {row["concurrency"] for row in document["latency"]["load"]} == {1, 8}
    (client,) = blocks("python")
    names: dict[str, object] = {}
    exec(compile(reader.with_ports(client), str(GUIDE), "exec"), names)
    logits = names["logits"]
    assert isinstance(logits, np.ndarray)
    assert logits.shape == (2, 10)
    assert logits.any()
    names["client"].close()  # type: ignore[attr-defined]


def test_files_that_the_guide_links_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", GUIDE.read_text()):
        assert (GUIDE.parent / target).exists(), target
