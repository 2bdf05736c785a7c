"""Errors of `sn_deploy.check.check` name its arguments."""

from __future__ import annotations

import pytest

from sn_deploy.check.python_words import in_arguments, naming_arguments
from sn_deploy.errors import CheckFailedError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--data", "data"),
        ("--data a--b/x.npz", "data a--b/x.npz"),
        ("--data, input x", "data, input x"),
        ("give it: --input x=1x3x224x224", "give it: example_inputs={'x': torch.zeros(1, 3, 224, 224)}"),
        ("--input x", "example_inputs x"),
        ("give batches, each with its own, or --batch-size 1", "give batches, each with its own, or batch_size=1"),
        ("accuracies need labels; see --task and --metric", "accuracies need labels; see task and metrics"),
        ("export with --dynamic batch, or leave it out", "export with dynamic=batch, or leave it out"),
        ("give --finalize-batch-average N, with N", "give finalize_batch_average=N, with N"),
        ("name both, with --backend NAME=KIND:FILE", "name both, with backends=NAME=KIND:FILE"),
        ("with --labels FILE, or none with --labels none", "with labels=FILE, or none with labels=none"),
        ("--min", "Limits, minima"),
        ("--max-drop", "Limits, drops"),
        ("make it with: sn-deploy export --model A:B", "make it with: sn-deploy export --model A:B"),
        ("/tmp/a--b/net.onnx", "/tmp/a--b/net.onnx"),
    ],
)
def test_options_as_arguments(text: str, expected: str) -> None:
    assert in_arguments(text) == expected


def test_an_error_stays_the_same_error() -> None:
    inner = CheckFailedError("fails with --threads 1", where="--data", mend="see where with sn-deploy --traceback …")
    with pytest.raises(CheckFailedError) as raised, naming_arguments():
        raise inner from ValueError("the cause")
    assert raised.value is inner
    assert str(inner) == "data: fails with threads=1; see where in the traceback above"
    assert (inner.what, inner.where, inner.expected) == ("fails with threads=1", "data", None)
    assert isinstance(inner.__cause__, ValueError)


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), naming_arguments():
        raise KeyError("--data")
