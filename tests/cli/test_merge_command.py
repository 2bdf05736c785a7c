"""``sn-deploy merge``: the parts give, to the last bit, what one run gives; and nothing else is merged."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.check.small_net import CLASSES, SIZE, write_net
from tests.cli.command import exit_code
from tests.cli.test_check_command import DATA, check, document

OF_ONE_RUN = ("command", "created", "seconds")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two files that differ a little, and samples with labels of both tasks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(DATA)
    write_net(tmp_path / "net.onnx", outputs=("logits", "map"))
    write_net(tmp_path / "half.onnx", outputs=("logits", "map"), dtype="float16")
    generator = np.random.default_rng(0)
    images = generator.standard_normal((50, 3, SIZE, SIZE)).astype(np.float32)
    np.savez("classes.npz", image=images, labels=generator.integers(0, CLASSES, 50))
    np.savez("maps.npz", image=images, labels=generator.integers(0, CLASSES, (50, SIZE, SIZE)))
    return tmp_path


FILES = ("net.onnx", "half.onnx", "--reference", "ort-net", "--batch-size", "3")


def run_parts(count: int, *arguments: str) -> list[str]:
    """Runs all parts, and gives their files."""
    paths = [f"part{number}.json" for number in range(1, count + 1)]
    for number, path in enumerate(paths, 1):
        assert check(*FILES, *arguments, "--shard", f"{number}/{count}", "--json", path) == 0
        document(path)
    return paths


def text_without(path: str) -> str:
    return json.dumps({key: value for key, value in document(path).items() if key not in OF_ONE_RUN})


@pytest.mark.parametrize("data", ["random:seed=4", "classes.npz", "maps.npz", "mine:samples"])
def test_parts_in_any_order_give_one_run_to_the_bit(folder: Path, data: str) -> None:
    metrics = ["--metric", "mine:norm"]
    count = 2 if data == "mine:samples" else 4
    assert check(*FILES, "--data", data, *metrics, "--json", "whole.json") == 0
    whole = text_without("whole.json")
    paths = run_parts(count, "--data", data, *metrics)
    for order in itertools.permutations(paths):
        assert exit_code("merge", *order, "-o", "merged.json", *metrics) == 0
        assert text_without("merged.json") == whole


def test_a_merge_fails_as_the_one_run_does(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    limits = ["--tolerance", "logits:rel_l2=1e-6,worst_rel_l2=inf", "--min-top1-agreement", "0.5"]
    assert check(*FILES, *limits, "--json", "whole.json") == 1
    assert exit_code("merge", *run_parts(3, *limits), "-o", "merged.json") == 1
    assert text_without("merged.json") == text_without("whole.json")
    assert "limits don't hold, the first: ort-half: logits: rel_l2" in capsys.readouterr().err


def refused(paths: Sequence[str], message: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    capsys.readouterr()
    assert exit_code("merge", *paths, "-o", "merged.json", *arguments) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert "Traceback" not in errors
    assert not Path("merged.json").exists()


def test_what_is_no_set_of_parts_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = run_parts(3, "--data", "classes.npz")
    assert check(*FILES, "--json", "whole.json") == 0
    refused(paths[:2], "1 of 3 parts missing: 3/3; run them, with --shard", capsys)
    Path("many.json").write_text(Path(paths[0]).read_text().replace('"1/3"', f'"1/{10**12}"'))
    refused(["many.json"], f"{10**12 - 1} of {10**12} parts missing: 2/{10**12}, ", capsys)  # at once
    odd = json.loads(Path(paths[0]).read_text())
    odd["backends"][0]["file"] = -1  # another file's name than the other parts' is allowed, but a name
    Path("odd.json").write_text(json.dumps(odd))
    refused(["odd.json", *paths[1:]], "odd.json: is damaged: TypeError: backend ", capsys)
    refused([*paths, paths[0]], "given twice", capsys)
    Path("copy.json").write_bytes(Path(paths[0]).read_bytes())
    refused([*paths, "copy.json"], "copy.json: is part 1/3, as part1.json is", capsys)
    refused([*paths, "whole.json"], "whole.json: is a whole result, not a part", capsys)
    refused([], "Missing argument 'PARTS", capsys)
    refused(["gone.json"], "gone.json: there is no such file", capsys)
    refused(["net.onnx"], "net.onnx: is no JSON", capsys)
    Path("list.json").write_text("[]")
    refused(["list.json"], "list.json: is no result of a check", capsys)
    refused(paths, "--metric mine:norm: isn't in the parts", capsys, "--metric", "mine:norm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--data", "maps.npz"], "the data, sha256: "),
        (["--data", "classes.npz", "--limit", "30"], "the data, samples: 30 and 50"),
        (["--data", "classes.npz", "--max-rel-l2", "1"], "limits and metrics, limits:"),
        (["--data", "classes.npz", "--task", "none"], "limits and metrics, metrics:"),
        (["--data", "classes.npz", "--threads", "1"], "ort-net's settings, threads: 1 and None"),
    ],
)
def test_parts_of_different_checks_are_refused(
    folder: Path, change: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(*FILES, "--data", "classes.npz", "--shard", "1/2", "--json", "one.json") == 0
    assert check(*FILES, *change, "--shard", "2/2", "--json", "two.json") == 0
    refused(["one.json", "two.json"], f"two.json: is a part of another check than one.json: {message}", capsys)


def test_data_may_lie_elsewhere_on_another_machine_if_they_are_the_same(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savetxt("labels.txt", np.arange(50) % CLASSES, fmt="%d")
    (folder / "mnt").mkdir()
    for name in ("classes.npz", "labels.txt"):
        shutil.copy(name, folder / "mnt" / name)
    given = ["--data", "classes.npz", "--labels", "labels.txt"]
    assert check(*FILES, *given, "--json", "whole.json") == 0
    assert check(*FILES, *given, "--shard", "1/2", "--json", "one.json") == 0
    there = ["--data", "mnt/classes.npz", "--labels", "mnt/labels.txt", "--shard", "2/2", "--json", "two.json"]
    assert check(*FILES, *there) == 0
    assert exit_code("merge", "one.json", "two.json", "-o", "merged.json") == 0
    assert text_without("merged.json") == text_without("whole.json")
    Path("merged.json").unlink()
    # A file of the same name with another content isn't the same.
    np.savetxt("labels.txt", np.arange(1, 51) % CLASSES, fmt="%d")
    assert check(*FILES, *given, "--shard", "2/2", "--json", "two.json") == 0
    message = "two.json: is a part of another check than one.json: the data, labels_sha256: "
    refused(["one.json", "two.json"], message, capsys)


def test_parts_of_other_files_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(*FILES, "--shard", "1/2", "--json", "one.json") == 0
    write_net(folder / "half.onnx", outputs=("logits", "map"), dtype="float16", spoil=lambda w: w["fc.bias"].sort())
    assert check(*FILES, "--shard", "2/2", "--json", "two.json") == 0
    refused(["one.json", "two.json"], "ort-half's sha256:", capsys)


def test_a_document_does_not_decide_what_code_is_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = run_parts(2, "--metric", "mine:norm")
    refused(paths, "the parts have the metric mine:norm, which is code of yours; let it run with --metric", capsys)


def test_a_metric_without_state_is_refused_in_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(*FILES, "--metric", "mine:Largest", "--shard", "1/2", "--json", "one.json") == 2
    assert "--metric mine:Largest: Largest has no state (expected state() and merge(state)" in capsys.readouterr().err
    assert not Path("one.json").exists()


@pytest.mark.parametrize("state", ["{1, 2}", "float('inf')", "np.float32(1)"])
def test_a_state_that_json_cannot_hold_is_refused(folder: Path, state: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mine.py").write_text(
        f"{DATA}\n    def state(self):\n        return {state}\n    def merge(self, other): pass\n"
    )
    assert check(*FILES, "--metric", "mine:Largest", "--shard", "1/2", "--json", "one.json") == 2
    assert "--metric mine:Largest: state() gives what JSON can't hold" in capsys.readouterr().err


def test_a_metric_with_a_state_of_its_own_merges(folder: Path) -> None:
    more = "    def state(self):\n        return self.found\n"
    more += "    def merge(self, other):\n        self.found = max(self.found, other)\n"
    (folder / "mine.py").write_text(f"{DATA}\n{more}")
    metric = ["--metric", "mine:Largest", "--min", "Largest:0.01"]
    assert check(*FILES, *metric, "--json", "whole.json") == 0
    assert exit_code("merge", *run_parts(3, *metric), "-o", "merged.json", *metric[:2]) == 0
    assert text_without("merged.json") == text_without("whole.json")


def damage(path: str, change: Any) -> None:
    found = json.loads(Path(path).read_text())
    change(found)
    Path(path).write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda one: one.pop("data"), "part2.json: has no data"),
        (lambda one: one.update(schema=2), "part2.json: is of schema 2 (expected schema 1)"),
        (lambda one: one.update(shard="x"), "part2.json: can't be read: 'x'"),
        (lambda one: one["partial"].pop("state"), "part2.json: is damaged"),
        (lambda one: one["partial"]["state"].pop("differences"), "part2.json: is damaged: KeyError"),
        (lambda one: one["partial"]["state"].update(samples=1), "samples (expected 50, those of the data)"),
        (lambda one: one["partial"]["state"]["differences"]["ort-half"]["map"].update(squares="?"), "is damaged: Val"),
        (lambda one: one["backends"].pop(), "is a part of another check than part1.json: the backends"),
    ],
)
def test_damaged_parts_are_refused(folder: Path, change: Any, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    paths = run_parts(2, "--data", "classes.npz")
    damage("part2.json", change)
    refused(paths, message, capsys)


def test_files_may_lie_elsewhere_and_machines_may_differ(folder: Path) -> None:
    paths = run_parts(2)

    def elsewhere(found: dict[str, Any]) -> None:
        found["backends"][0]["file"] = "/models/net.onnx"
        found["machine"]["processor"] = "another"

    damage(paths[1], elsewhere)
    assert exit_code("merge", *paths, "-o", "merged.json") == 0
    merged = document("merged.json")
    assert merged["backends"][0]["file"] == "net.onnx"
    assert "another; " in merged["machine"]["processor"] or "; another" in merged["machine"]["processor"]
