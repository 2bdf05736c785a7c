"""Options that could do nothing are refused, by name, before a file is looked for."""

from __future__ import annotations

import pytest

from tests.cli.command import run_folded


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("diff a.onnx b.onnx --no-run --tolerance 1", "--tolerance: without effect: --no-run runs nothing"),
        ("diff a.onnx b.onnx --no-run --input 1x3 --seed 4", "--input and --seed: without effect"),
        ("specialise a.onnx -o b.onnx --max-weight 0.2", "--max-weight: without effect"),
        ("convert-precision a.onnx -o b.onnx --precision fp16 --keep-convolutions", "--keep-convolutions: without"),
        ("quantize a.onnx -o b.onnx --precision int8 --half-io-types", "--half-io-types: without effect"),
        ("inspect a.engine --no-run --allow-host-code", "--allow-host-code: without effect"),
        ("check a.onnx b.onnx --allow-host-code", "--allow-host-code: without effect: no engine is run"),
        ("check a.onnx b.onnx --no-latency --memory --calls 3", "--calls and --memory: without effect: nothing is tim"),
        ("check a.onnx b.onnx --bisect-runs 3", "--bisect-runs: without effect: nothing is bisected"),
        ("check a.onnx b.onnx --shard 1/2", "--shard: without effect: the part is written nowhere"),
        ("check a.engine b.engine --threads 2", "--threads: without effect"),
        ("calibrate a.npz --merge --checkpoint a.pth -o b.pth --batch-size 8", "--batch-size: without effect: --merge"),
        (
            "calibrate --model a:b --checkpoint a.pth -o b.pth --finalize-batch-average 5 --device cuda --resize 9",
            "--resize and --device: without effect: --finalize-batch-average runs no data",
        ),
        (
            "calibrate --model a:b --data nets:samples --shard 1/2 -o part.npz --json moved.json",
            "--json: without effect: what has moved is known once the parts are put together; give it to --merge",
        ),
        ("serve triton a.onnx -o r --name a --tensorrt 10", "--tensorrt: without effect: no engine is served"),
        ("serve triton a.engine -o r --name a --tensorrt 10 --no-native", "--tensorrt: without effect: --no-native"),
        (
            "calibrate a.npz --merge --checkpoint a.pth --model a:b --model-arg c=1 --no-strict -o b.pth",
            "--model and --model-arg and --no-strict: without effect: --merge writes into the checkpoint, and",
        ),
        (
            "calibrate a.npz --merge --checkpoint a.pth --data x.npy --sweeps 2 -o b.pth",
            "--data and --sweeps: without effect: --merge runs no data",
        ),
        (
            "calibrate --model a:b --data nets:samples --statistics population --shard 1/2 --tolerance 1 -o part.npz",
            "--tolerance: without effect: a part is of one sweep",
        ),
        ("check a.onnx b.onnx --no-strict", "--no-strict: without effect: no checkpoint is read"),
    ],
)
def test_refused(arguments: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run_folded(capsys, *arguments.split())
    assert code == 2
    assert words in err
