"""README.md and the guides, typed: each command and each Python block that needs no GPU and no server, in order.

The nets are small and the images few; all else is as it stands there. tests/serve/test_guide.py does it for
docs/guides/serving.md.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from sn_deploy.checkpoint import load_into
from sn_deploy.recognise import unregister
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import block_size
from tests.cli.command import exit_code
from tests.documents.markdown import read_document
from tests.documents.shell import ELLIPSIS, commands
from tests.documents.test_documents import ROOT
from tests.native.library import why_no_library
from tests.randomise import randomise_
from tests.recognise.registered import C, Packed

CLASSES = 1000
MYNETS = """
import torch
from torch import nn

from sn_deploy.nn import SparseSwitchNorm2d, SwitchNorm2d


class Block(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.conv1, self.sn1 = nn.Conv2d(16, 16, 3, padding=1, bias=False), norm(16)

    def forward(self, x):
        return torch.relu(self.sn1(self.conv1(x)) + x)


class Net(nn.Module):
    def __init__(self, num_classes, norm):
        super().__init__()
        self.conv1, self.sn1 = nn.Conv2d(3, 16, 7, stride=8, padding=3, bias=False), norm(16)
        self.layer1 = nn.Sequential(Block(norm), Block(norm))
        self.linear = nn.Linear(16, num_classes)

    def forward(self, x):
        x = torch.max_pool2d(torch.relu(self.sn1(self.conv1(x))), 2)
        return self.linear(self.layer1(x).mean((2, 3)))


def resnet50sn(num_classes=1000, norm=SwitchNorm2d):
    torch.manual_seed(0)
    return Net(num_classes, norm)


def sparse50():
    return resnet50sn(norm=SparseSwitchNorm2d)
"""
NEEDS_MORE = ("--triton", ".engine", f"{ELLIPSIS}/")  # a server, a GPU, a workflow's own variables
SELDOM = ("rounded",)  # of a net with weights that are nearly 0


def write_files(folder: Path) -> None:
    """What a reader has before the first command: nets, a checkpoint, images, and files that other guides make."""
    (folder / "mynets").mkdir()
    (folder / "mynets" / "resnet.py").write_text(MYNETS)
    names = "resnet50sn, resnet50sn as net, resnet50sn as resnet18sn, sparse50"
    (folder / "mynets" / "__init__.py").write_text(f"from mynets.resnet import {names}\n")
    generator = np.random.default_rng(0)
    # Train: eight batches of 32; the others: some batches of 8.
    for part, count in (("train", 256), ("val", 40), ("calibration", 16)):
        for label in range(CLASSES):
            (folder / "imagenet" / part / f"n{label:08d}").mkdir(parents=True)
        for label in range(count):
            pixels = generator.integers(0, 256, (5, 4, 3), dtype=np.uint8)
            image = Image.fromarray(pixels).resize((240, 230), Image.Resampling.BICUBIC)
            image.save(folder / "imagenet" / part / f"n{label:08d}" / "0.JPEG")
    images = generator.standard_normal((8, 3, 224, 224), dtype=np.float32)
    np.savez(folder / "val.npz", x=images, labels=generator.integers(0, CLASSES, 8))


def write_nets() -> None:
    """The same of the current folder, by its own nets."""
    import mynets

    net = randomise_(mynets.resnet50sn(), seed=1)
    with torch.no_grad():
        net.linear.bias[0] += 10.0  # the first image of each folder is told right: a top-1 budget needs one that is
    torch.save(
        {"epoch": 90, "state_dict": {f"module.{key}": value for key, value in net.state_dict().items()}}, "best.pth"
    )
    for module in net.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean *= 500
            module.running_var *= 500
            module.running_var += module.running_mean.square() / 500
    torch.save(net.state_dict(), "last.pth")
    common = ["--input", "1x3x224x224", "--dynamic", "batch"]
    export = ["export", "--model", "mynets:net", "--checkpoint", "best.pth", *common]
    assert exit_code(*export, "-o", "resnet50sn.onnx") == 0
    for name in ("resnet18sn.onnx", "net.onnx", "model.onnx"):
        shutil.copy("resnet50sn.onnx", name)
    assert exit_code(*export, "--precision", "fp16", "-o", "resnet50sn_fp16.onnx") == 0
    assert exit_code(*export, "--inline", "-o", "decomposed.onnx") == 0
    assert exit_code("fuse", "decomposed.onnx", "-o", "fused.onnx") == 0
    assert exit_code("export", "--model", "mynets:sparse50", *common, "-o", "sparse50.onnx") == 0
    assert exit_code("demo", "--calls", "10", "-o", "digits.onnx") == 0


@pytest.fixture(scope="module", autouse=True)
def _native_operators() -> None:
    if ort_library() is None:
        pytest.skip(why_no_library())
    if block_size() is None:
        pytest.skip("ONNX Runtime has no blocked convolutions on this processor")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    write_files(folder)
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        write_nets()
        yield folder
    finally:
        os.chdir(before)
        sys.path.remove(str(folder))
        for name in [name for name in sys.modules if name.split(".")[0] == "mynets"]:
            del sys.modules[name]


@pytest.fixture
def reader(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with all of that in it."""
    for one in home.iterdir():
        if one.is_dir():
            (tmp_path / one.name).symlink_to(one)
        else:
            shutil.copy(one, tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def typed(guide: str) -> Iterator[list[str]]:
    """Arguments of each ``sn-deploy`` of a guide's blocks that can be run here."""
    first: dict[str, list[str]] = {}
    for command in commands(read_document(ROOT / guide)):
        program, *words = command.words
        if not command.whole or program != "sn-deploy" or any(one in word for word in words for one in NEEDS_MORE):
            continue
        if ELLIPSIS in words:
            yield from _with_all_parts(words, first[words[0]])
        else:
            first.setdefault(words[0], words)
            yield words


def _with_all_parts(words: list[str], first: list[str]) -> Iterator[list[str]]:
    """What an ellipsis leaves out is what the guide's first command of this name has; of parts, all."""
    name, *rest = words
    rest = [word for word in rest if word != ELLIPSIS]
    model = first[first.index("--model") :][:2]
    if "--model" in words:
        yield [name, *model, *[word for word in rest if word != "--model"]]
        return
    at = first.index("-o") if "-o" in first else first.index("--json")
    count = int(words[words.index("--shard") + 1].partition("/")[2])
    for part in range(1, count + 1):
        yield [*first[:at], *[word.replace("1/", f"{part}/").replace("part1", f"part{part}") for word in rest]]


def rows_shown(guide: str) -> dict[str, list[str]]:
    """Command -> what the rows are called that a guide shows of what it prints."""
    blocks = "".join(code.text for code in read_document(ROOT / guide).code if code.language == "console")
    found = {}
    for block in re.split(r"^\$ ", blocks.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, *lines = block.splitlines()
        rows = [row[1] for line in lines if (row := re.match(r"(\w+(?: \w+)*)  +\S", line))]
        found[" ".join(shlex.split(command, comments=True))] = rows
    return found


def headings_shown(guide: str) -> list[str]:
    """Of the tables that a guide shows apart from a command, each first line; not of `make demo` or two columns."""
    lines = [line for code in read_document(ROOT / guide).code if code.language == "text" for line in _lines(code.text)]
    return [line for line in lines if re.match(r"(?:backend|layer) (?!mean:)(?:\S+ ){3}", line)]


def _lines(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


GUIDES = {
    "README.md": 3,
    "docs/guides/calibrate.md": 11,
    "docs/guides/check.md": 10,
    "docs/guides/diff.md": 1,
    "docs/guides/export.md": 1,
    "docs/guides/fuse.md": 1,
    "docs/guides/inspect.md": 2,
    "docs/guides/interoperability.md": 1,
    "docs/guides/optimise.md": 1,
    "docs/guides/precision.md": 3,
    "docs/guides/report.md": 2,
    "docs/guides/specialise.md": 3,
}


@pytest.mark.parametrize("guide", GUIDES)
def test_commands_of_guides_work(guide: str, reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = rows_shown(guide)
    if guide.endswith("fuse.md"):
        shutil.copy("decomposed.onnx", "resnet50sn.onnx")
    count = 0
    lines: set[str] = set()
    for words in typed(guide):
        count += 1
        shown = rows.pop(" ".join(["sn-deploy", *words]), [])
        if "--min-speedup" in words:  # on a machine that does other things
            at = words.index("--min-speedup")
            words = words[:at] + words[at + 2 :]
        expanded = [name for word in words for name in (sorted(map(str, Path().glob(word))) if "*" in word else [word])]
        assert exit_code(*expanded) == 0, " ".join(expanded)
        printed = capsys.readouterr().out
        lines.update(_lines(printed))
        assert [row for row in shown if row not in SELDOM and not re.search(rf"^{row}  ", printed, re.MULTILINE)] == []
        written = [words[at + 1] for at, word in enumerate(words) if word in ("-o", "--json", "--html")]
        assert all(Path(name).is_file() for name in written), written
    assert count == GUIDES[guide]
    assert not any(rows.values()), "of no command that was run"
    assert [line for line in headings_shown(guide) if not any(one.startswith(line) for one in lines)] == []


def names_for(guide: str) -> dict[str, Any]:
    """What the blocks of a guide take as the reader's own."""
    import mynets

    class Runner:
        def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {"y": np.sort(inputs["x"])}

    with_batch_norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    image = {"x": np.ones((1, 3, 32, 32), np.float32)}
    own: dict[str, Any] = {
        "old": Runner(),
        "new": Runner(),
        "one_image": image,
        "eight_images": {"x": image["x"].repeat(8, 0)},
    }
    trained = mynets.resnet50sn()
    load_into(trained, Path("best.pth"))
    images = torch.randn(8, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    validation = TensorDataset(images, torch.zeros(8, dtype=torch.int64))
    own |= {"my_list": [(f"{at}", 0) for at in range(8)], "my_transform": lambda path: images[int(path)]}
    own |= {"validation": validation, "loader": DataLoader(validation, batch_size=4), "load_model": lambda: trained}
    net = with_batch_norm if guide.endswith("convert.md") else trained
    return {"torch": torch, "model": net, "resnet50sn": mynets.resnet50sn, **own}


@pytest.mark.parametrize(
    "guide",
    [
        "README.md",
        "docs/reference/python.md",
        *(
            f"docs/guides/{name}.md"
            for name in ("calibrate", "check", "convert", "native", "optimise", "precision", "report")
        ),
    ],
)
def test_python_of_guides_works(guide: str, reader: Path) -> None:
    if guide.endswith("optimise.md"):
        assert exit_code("optimise", "resnet50sn.onnx", "--for", "ort-cpu", "-o", "resnet50sn.here.onnx") == 0
    blocks = [code for code in read_document(ROOT / guide).code if code.language == "python"]
    assert blocks
    names = names_for(guide)  # in order, as in one session
    for block in blocks:
        exec(compile("\n" * (block.line - 1) + block.text, guide, "exec"), names)


class PackedSwitchNorm(Packed):
    """As docs/guides/variants.md has it."""

    eps = 2e-4

    def mean_shares(self) -> list[torch.Tensor]:
        return self.shares()[0]

    def var_shares(self) -> list[torch.Tensor]:
        return self.shares()[1]


def test_the_reader_of_variants_finds_its_layer() -> None:
    model = nn.Sequential(nn.Conv2d(3, C, 3), PackedSwitchNorm())
    names: dict[str, Any] = {"model": model, "PackedSwitchNorm": PackedSwitchNorm}
    look, read = (
        code.text for code in read_document(ROOT / "docs/guides/variants.md").code if code.language == "python"
    )
    exec(look, names)
    assert "1" not in names["found"].layers
    exec(read, names)
    try:
        exec(look, names)
    finally:
        unregister(names["packed"])
    assert list(names["found"].layers) == ["1"]
