"""What the checks of the documents find: each fault planted in a document that is right but for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents import commands, links, python_code
from tests.documents.markdown import Document, read_document

RIGHT = """# A guide, with `code`: and more

## Twice

```console
$ alias check='python tools/gpu_check.py out'
$ sn-deploy check net.onnx --model mynets:net --data val.npz \\
      --min-top1-agreement 0.999 && sn-deploy report check.json   # a page
holds  everything --that is printed
$ check --budget 280 --only kernels
$ sn-deploy export … --precision fp16
$ pip install '.[torch,ort]' -C cmake.define.SN_WITH_ORT=OFF && make demo
```

`sn-deploy serve triton`, `check --shard 1/2`, `--runtime ort|ort-native`, `--json`, `--keep NAME`, `tests/documents`,
`tools/gpu_check.py --dry-run`.

```yaml
- run: >
    sn-deploy merge part*.json
    --html report.html
```

```python
import sn_deploy
from sn_deploy.calibrate import calibrate

report = sn_deploy.export(model, x, "net.onnx", dynamic="batch")
print(report.nodes)
…
calibration = calibrate(model, source, statistics="population")
print(calibration.layers, undefined(here=1))
```

`sn_deploy.runtime.ort.OrtSession`, `from sn_deploy.fuse import fuse`, `sn_deploy.optimise.optimise("a", "b.onnx")`.

`report.forms`, `report.html`, `calibrate(model, source, sweeps=…)`.

## Twice

[a](#a-guide-with-code-and-more), [b](#twice-1), [c](other.md#top), [d](folder#read), [e](https://example.org/#x),
![f](other.md)
"""


def document(folder: Path, text: str = RIGHT) -> Document:
    (folder / "folder").mkdir()
    (folder / "folder" / "README.md").write_text("# Read\n")
    (folder / "other.md").write_text("Top\n===\n")
    (folder / "guide.md").write_text(text)
    return read_document(folder / "guide.md")


def all_faults(one: Document) -> list[str]:
    root = Path(__file__).parents[2]
    return [*commands.faults(one), *python_code.faults(one), *links.faults(one), *links.file_faults(one, root)]


def test_a_document_that_is_right_has_none(tmp_path: Path) -> None:
    assert all_faults(document(tmp_path)) == []


@pytest.mark.parametrize(
    ("right", "wrong", "line", "fault"),
    [
        # Commands.
        ("--min-top1-agreement", "--min-top-agreement", 7, "No such option '--min-top-agreement'"),
        ("sn-deploy report", "sn-deploy reports", 7, "No such command 'reports'"),
        ("report check.json", "report check.json page.html", 7, "Unexpected argument 'page.html'"),
        ("--budget 280", "--budgets 280", 10, "gpu_check.py has no option --budgets"),
        ("gpu_check", "gpu_checks", 10, "there is no tools/gpu_checks.py"),
        ("fp16", "fp15", 11, "--precision: 'fp15' is not one of 'fp32', 'fp16', 'bf16'"),
        ("--precision fp16", "--precision", 11, "Option '--precision' requires an argument"),
        ("torch,ort", "torch,onnx", 12, "there is no extra 'onnx'"),
        ("SN_WITH_ORT=", "SN_WITH_ONNX=", 12, "CMake has no setting 'SN_WITH_ONNX'"),
        ("make demo", "make demos", 12, "there is no target 'demos'"),
        ("serve triton", "serve tritons", 15, "No such command 'tritons'"),
        ("check --shard", "check --shards", 15, "No such option '--shards'"),
        ("ort|ort-native", "ort|ort-c", 15, "--runtime: 'ort-c' is not one of"),
        ("--keep NAME", "--keeps NAME", 15, "No such option '--keeps'"),
        ("--html", "--pdf", 20, "No such option '--pdf'"),
        ("gpu_check.py --dry-run", "gpu_check.py --dry", 16, "gpu_check.py has no option --dry"),
        # Python.
        ("calibrate import calibrate", "calibrate import calibrates", 26, "sn_deploy.calibrate has no calibrates"),
        ("sn_deploy.calibrate", "sn_deploy.calibration", 26, "there is no module sn_deploy.calibration"),
        ("dynamic=", "dynamics=", 28, "export: got an unexpected keyword argument 'dynamics'"),
        ('x, "net.onnx", ', "", 28, "export: missing a required argument: 'example_inputs'"),
        ("sn_deploy.export", "sn_deploy.exports", 28, "sn_deploy has no exports"),
        ("sn_deploy.export(", "sn_deploy.fuse.fuse(", 28, "sn_deploy.fuse is a module that isn't imported"),
        ("report.nodes", "report.knots", 29, "ExportReport has no knots"),
        ("statistics=", "statistic=", 31, "calibrate: got an unexpected keyword argument 'statistic'"),
        ("calibration.layers", "calibration.strata", 32, "Calibration has no strata"),
        ("print(report", "print((report", 29, "'(' was never closed"),
        ("OrtSession", "Session", 35, "sn_deploy.runtime.ort has no Session"),
        ("import fuse", "import melt", 35, "sn_deploy.fuse has no melt"),
        ('"b.onnx")', '"b.onnx", fast=True)', 35, "optimise: got an unexpected keyword argument 'fast'"),
        ("report.forms", "report.shapes", 37, "ExportReport has no shapes"),
        ("sweeps=…", "rounds=…", 37, "calibrate: got an unexpected keyword argument 'rounds'"),
        # Links, and files.
        ("(#twice-1)", "(#twice-2)", 41, "#twice-2: no heading there has this anchor"),
        ("(other.md#top)", "(another.md#top)", 41, "another.md#top: there is no such file"),
        ("(other.md#top)", "(other.md#bottom)", 41, "other.md#bottom: no heading there has this anchor"),
        ("(folder#read)", "(folder#write)", 41, "folder#write: no heading there has this anchor"),
        ("![f](other.md)", "![f](other.png)", 42, "other.png: there is no such file"),
        ("`tests/documents`", "`tests/document`", 15, "tests/document: there is no such file"),
    ],
)
def test_a_fault_is_found(right: str, wrong: str, line: int, fault: str, tmp_path: Path) -> None:
    assert RIGHT.count(right) >= 1
    (found,) = all_faults(document(tmp_path, RIGHT.replace(right, wrong, 1)))
    assert found.startswith("guide.md:"), found
    assert fault in found
    assert int(found.split(":")[1]) == line, found
