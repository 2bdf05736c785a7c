"""Damaged checkpoints, samples, parts, sidecars, configs and models through the commands that read them.

    python -m tools.soak_documents COUNT [SEED] [--only FILE …] [--seconds S]

Each case is a real file with a few bytes, or values of its JSON, changed by chance, then given to the command line in
this process: it has to exit with 0, 1 or 2, in at most 20 s, and print no traceback. A case that doesn't is named by
its number, which with the seed and the kinds makes it again, and its file is kept. A repository's config.pbtxt and its
labels are among them where tritonclient can be imported (tools/triton_client.py). Exit code 0: none failed. 1: some
did.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import safetensors.torch
import torch

from sn_deploy.cli import main as command_line
from tests.check.small_net import write_net
from tests.engine.made_sidecar import made_sidecar
from tools.triton_client import triton_client

MOST_S: Final = 20.0
NET: Final = """
from torch import nn
from sn_deploy.nn import SwitchNorm2d


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), nn.ReLU())
"""
# What a byte, and what a value of a document, may become.
BYTES: Final = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7)
VALUES: Final = (
    None, True, 0, -1, 2**31, 2**63, -(2**63), 10**400, 0.5, float("nan"), float("inf"), "", "x", "\ud800", "../x", [],
    [[]], {}, {"": {}}, [1] * 1000,
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A file that is damaged, and the command line that reads it."""

    file: str
    line: Sequence[str]

    @property
    def folder(self) -> str | None:
        """Of a file in one: the folder that the command changes, and that is put back behind each case."""
        return self.file.partition("/")[0] if "/" in self.file else None


CALIBRATE: Final = ("calibrate", "--model", "small.py:net", "--data", "x.npy", "--batch-size", "4")
KINDS: Final = (
    Kind("net.pth", ("inspect", "net.pth")),
    Kind("old.pth", ("inspect", "old.pth")),
    Kind("net.safetensors", ("inspect", "net.safetensors")),
    Kind("sums.npz", ("calibrate", "--merge", "sums.npz", "--checkpoint", "net.pth", "-o", "new.pth")),
    Kind("part1.json", ("merge", "part1.json", "part2.json", "-o", "whole.json")),
    Kind("check.json", ("report", "check.json", "-o", "page.html")),
    Kind("net.engine.json", ("inspect", "net.engine")),
    Kind("data.npz", ("check", "net.onnx", "--data", "data.npz", "--limit", "4", "--no-latency")),
    Kind("x.npy", ("check", "net.onnx", "--data", "x.npy", "--limit", "4", "--no-latency")),
    Kind("labels.txt", ("check", "net.onnx", "--data", "x.npy", "--labels", "labels.txt", "--no-latency")),
    Kind("sn.onnx", ("inspect", "sn.onnx")),
    Kind("one.onnx", ("diff", "one.onnx", "net.onnx", "--no-run")),
    Kind("two.onnx", ("specialise", "two.onnx", "-o", "written.onnx")),
    Kind("three.onnx", ("convert-precision", "three.onnx", "--precision", "fp16", "-o", "written.onnx")),
)
SERVE: Final = ("serve", "triton", "net.onnx", "-o", "repository", "--name", "net", "--labels", "names.txt")
SERVE_KINDS: Final = (
    Kind("repository/net/config.pbtxt", (*SERVE, "--config", "keep")),
    Kind("repository/net/logits.labels.txt", (*SERVE, "--config", "keep")),
)


def make_samples() -> None:
    """Images in both formats, in the current folder."""
    generator = np.random.default_rng(0)
    samples = generator.standard_normal((8, 3, 8, 8)).astype(np.float32)
    np.save("x.npy", samples)
    np.savez_compressed("data.npz", image=samples, labels=np.arange(8) % 3)


def make_checkpoints() -> None:
    """A model, its checkpoint in all formats, and a part of a calibration; over what `make_samples` made."""
    Path("small.py").write_text(NET, encoding="utf-8")
    namespace: dict[str, Any] = {}
    exec(NET, namespace)
    state = namespace["net"]().state_dict()
    torch.save({"state_dict": state, "epoch": 3}, "net.pth")
    torch.save(state, "old.pth", _use_new_zipfile_serialization=False)
    safetensors.torch.save_file(state, "net.safetensors")
    whole([*CALIBRATE, "--checkpoint", "net.pth", "--shard", "1/1", "-o", "sums.npz"])


def make_files() -> None:
    """The files of all kinds, whole, in the current folder."""
    make_samples()
    make_checkpoints()
    Path("labels.txt").write_text("0\n1\n2\n" * 2 + "3\n9\n", encoding="utf-8")
    Path("names.txt").write_text("\n".join(f"digit {number}" for number in range(10)), encoding="utf-8")
    write_net(Path("net.onnx"))
    Path("net.engine").write_bytes(b"engine")
    sidecar = made_sidecar(engine={"sha256": hashlib.sha256(b"engine").hexdigest(), "bytes": len(b"engine")})
    Path("net.engine.json").write_text(json.dumps({"schema": 1, **asdict(sidecar)}), encoding="utf-8")
    whole(["export", "--model", "small.py:net", "--input", "1x3x8x8", "--dynamic", "batch", "-o", "sn.onnx"])
    for name in ("one.onnx", "two.onnx", "three.onnx"):
        shutil.copyfile("sn.onnx", name)
    for part in (1, 2):
        shard = ("--shard", f"{part}/2", "--json", f"part{part}.json")
        whole(["check", "sn.onnx", "--limit", "16", "--no-latency", *shard])
    whole(["check", "sn.onnx", "--limit", "8", "--no-latency", "--json", "check.json"])
    if triton_client():
        whole(SERVE)


def whole(line: Sequence[str]) -> None:
    """Runs a command line that has to succeed."""
    code, said = quiet(line)
    if code:
        raise RuntimeError(f"{' '.join(line)}: {said}")


def quiet(line: Sequence[str]) -> tuple[int, str]:
    """The exit code of a command line, and what it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            command_line(list(line))
        except SystemExit as stop:
            return int(stop.code or 0), said.getvalue()
    return 0, said.getvalue()


def damaged(content: bytes, draw: random.Random, *, is_json: bool) -> bytes:
    """The content of a file with something wrong."""
    if is_json and draw.random() < 0.8:
        document = json.loads(content)
        for _ in range(draw.randint(1, 3)):
            document = changed_document(document, draw)
        return json.dumps(document).encode("utf-8", "surrogatepass")
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 8, 64))):
        # Headers and directories are at the ends.
        place = draw.choice(
            (draw.randrange(min(512, len(changed))), draw.randrange(len(changed)), -draw.randint(1, 256))
        )
        place %= len(changed)
        kind = draw.randrange(6)
        if kind < 2:
            changed[place] ^= 1 << draw.randrange(8)
        elif kind == 2:
            new = draw.choice(BYTES)
            changed[place : place + len(new)] = new
        elif kind == 3:
            del changed[place : place + draw.choice((1, 8, 100))]
        elif kind == 4:
            changed[place:place] = changed[place : place + draw.choice((1, 8, 100))]
        elif draw.random() < 0.3:
            del changed[max(place, 1) :]
        if not changed:
            return b""
    return bytes(changed)


def changed_document(node: Any, draw: random.Random) -> Any:
    """A copy with one value, key or entry somewhere in it changed."""
    if isinstance(node, (dict, list)) and node and draw.random() < 0.85:
        copy = dict(node) if isinstance(node, dict) else list(node)
        key = draw.choice(list(copy)) if isinstance(copy, dict) else draw.randrange(len(copy))
        what = draw.random()
        if what < 0.1:
            del copy[key]
        elif what < 0.15 and isinstance(copy, dict):
            copy[draw.choice(("", "x", "__class__", "\x00"))] = copy.pop(key)
        elif what < 0.2 and isinstance(copy, list):
            copy.append(copy[key])
        else:
            copy[key] = changed_document(copy[key], draw)
        return copy
    if isinstance(node, str) and draw.random() < 0.5:
        return node[: draw.randrange(len(node) + 1)] + draw.choice(("", "\x00", "é", "9" * 30))
    if isinstance(node, (int, float)) and draw.random() < 0.5:
        return draw.choice((node + 1, -node, node * 1e300 if isinstance(node, float) else node << 40))
    return draw.choice(VALUES)


def fault_of(kind: Kind, content: bytes) -> tuple[int, str | None]:
    """Runs one case: the exit code, and what is wrong with how it ended."""
    Path(kind.file).write_bytes(content)
    start = time.monotonic()
    try:
        code, said = quiet(kind.line)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return -1, "".join(traceback.format_exception(error)[-3:])
    seconds = time.monotonic() - start
    if code not in (0, 1, 2):
        return code, f"exit code {code}: {said[-300:]}"
    if code == 2 and sum(text.startswith(("error: ", "Error: ")) for text in said.splitlines()) != 1:
        return code, f"not one line: {said[-600:]}"
    return code, f"took {seconds:.1f} s" if seconds > MOST_S else None


def kinds() -> tuple[Kind, ...]:
    """Those that can be tried here."""
    return (*KINDS, *(SERVE_KINDS if triton_client() else ()))


def run(
    count: int, seed: int, keep: Path, *, only: Sequence[str] = (), most_s: float = math.inf
) -> tuple[list[str], dict[int, int]]:
    """Takes ``count`` cases, by turns of each kind, as far as the time goes; the faults, and how many ended with each
    exit code."""
    all_kinds = [kind for kind in kinds() if not only or kind.file in only]
    faults, codes, before = [], dict.fromkeys((0, 1, 2), 0), Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            make_files()
            contents = {kind.file: Path(kind.file).read_bytes() for kind in all_kinds}
            for folder in {kind.folder for kind in all_kinds if kind.folder is not None}:
                shutil.copytree(folder, f"{folder}.whole")
            start = time.monotonic()
            for number in range(count):
                if time.monotonic() - start > most_s:
                    break
                kind = all_kinds[number % len(all_kinds)]
                draw = random.Random(f"{seed}/{number}")
                code, fault = fault_of(kind, damaged(contents[kind.file], draw, is_json=kind.file.endswith(".json")))
                codes[code] = codes.get(code, 0) + 1
                if fault is not None:
                    shutil.copyfile(kind.file, keep / f"case-{number}-{Path(kind.file).name}")
                    faults.append(f"case {number}, {kind.file}: {fault}")
                if kind.folder is None:
                    Path(kind.file).write_bytes(contents[kind.file])
                else:
                    shutil.rmtree(kind.folder)
                    shutil.copytree(f"{kind.folder}.whole", kind.folder)
        finally:
            os.chdir(before)
    return faults, codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    names = [kind.file for kind in kinds()]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("count", type=int, metavar="COUNT")
    parser.add_argument("seed", type=int, nargs="?", default=0, metavar="SEED")
    parser.add_argument(
        "--only", nargs="+", choices=names, default=names, metavar="FILE", help=f"of {', '.join(names)}"
    )
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="then it ends, whatever COUNT is")
    given = parser.parse_args(arguments)
    start = time.monotonic()
    faults, codes = run(given.count, given.seed, Path(tempfile.gettempdir()), only=given.only, most_s=given.seconds)
    for fault in faults:
        print(fault)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    told = f"{codes[2]} refused in one line, {codes[0] + codes[1]} read, {len(faults)} faults"
    print(
        f"{sum(codes.values())} damaged files of {len(given.only)} kinds in {time.monotonic() - start:.0f} s: {told}; "
        f"at most {memory} MiB"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
