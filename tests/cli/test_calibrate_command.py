"""``sn-deploy calibrate`` as a user calls it: what it writes, what it says, and what it refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

from sn_deploy.check.digits_data import load_digits_split
from sn_deploy.models.digits import WEIGHTS, DigitsNet, load_pretrained
from sn_deploy.nn import SwitchNorm2d
from tests.calibrate.digits_oracle import DigitsOracle
from tests.calibrate.published import PublishedSwitchNorm
from tests.cli.command import exit_code
from tests.randomise import randomise_

DIGITS = ("--model", "sn_deploy.models.digits:digits")
TRAINED = (*DIGITS, "--checkpoint", str(WEIGHTS))
SMALL = """
import torch
from torch import nn
from sn_deploy.nn import SwitchNorm2d
from tests.calibrate.published import PublishedSwitchNorm

def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), SwitchNorm2d(4))

def published(apart=False):
    return nn.Sequential(nn.Conv2d(3, 4, 3), PublishedSwitchNorm(4, using_moving_average=False, sums_apart=apart))

def without_bn():
    return nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4, using_bn=False))

class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = SwitchNorm2d(3)

    def forward(self, x, shift=None, *, twice=None):
        x = x if shift is None else x + shift
        return self.norm(x if twice is None else 2 * x + 0 * twice)

class Strange(PublishedSwitchNorm):
    def forward(self, x):
        return super().forward(x) + 0.1 * x

def strange():
    return nn.Sequential(SwitchNorm2d(3), Strange(3))
"""
NET = ("--model", "small.py:net")
IMAGES = 470  # of the demo's for training; the last batch is smaller than the others


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small.py, its weights, and digits.npz."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(SMALL, encoding="utf-8")
    x = np.random.default_rng(0).normal(0.5, 1.0, (20, 3, 9, 9)).astype(np.float32)
    np.save("x.npy", x)
    torch.save(small().state_dict(), "net.pth")
    return tmp_path


def small() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), SwitchNorm2d(4))
    return randomise_(model, 3)


def calibrate(*arguments: str) -> int:
    return exit_code("calibrate", *arguments)


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_inputs_that_a_model_can_do_without_are_given_where_they_are_named(folder: Path) -> None:
    x = np.load("x.npy")
    shift = np.random.default_rng(1).normal(2.0, 0.5, x.shape).astype(np.float32)
    np.savez("both.npz", x=x, shift=shift)
    np.savez("twice.npz", x=x, twice=x)
    np.save("sum.npy", x + shift)
    np.save("double.npy", 2 * x)
    found = {}
    for data in ("x.npy", "both.npz", "sum.npy", "twice.npz", "double.npy"):
        output = f"{data}.safetensors"
        assert calibrate("--model", "small.py:Shifted", "--data", data, "-o", output) == 0
        found[data] = safetensors.torch.load_file(output)["norm.running_mean"]
    torch.testing.assert_close(found["both.npz"], found["sum.npy"])
    torch.testing.assert_close(found["twice.npz"], found["double.npy"])
    assert (found["both.npz"] - found["x.npy"]).abs().max() > 1


# --- the demo's network, against float64 NumPy ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle() -> DigitsOracle:
    return DigitsOracle({name: value.numpy() for name, value in load_pretrained().state_dict().items()})


@pytest.fixture(scope="module")
def expected(oracle: DigitsOracle) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return oracle.batch_average(load_digits_split().train_images[:IMAGES], 32)


@pytest.fixture
def digits(folder: Path) -> Path:
    np.save("train.npy", load_digits_split().train_images[:IMAGES])
    return folder


def test_the_accuracy_with_batch_averages_is_that_of_a_float64_computation(digits, oracle, expected):
    assert calibrate(*TRAINED, "--data", "train.npy", "--batch-size", "32", "-o", "new.pth") == 0
    model = DigitsNet()
    model.load_state_dict(torch.load("new.pth"))
    assert list(expected) == ["sn1", "sn3"]
    for name, (mean, var) in expected.items():
        layer = model.get_submodule(name)
        np.testing.assert_allclose(layer.running_mean.flatten(), mean, rtol=0, atol=2e-6 * np.sqrt(var).max())
        np.testing.assert_allclose(layer.running_var.flatten(), var, rtol=2e-5)
    split = load_digits_split()
    reference = oracle.logits(split.test_images, expected)
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(split.test_images)).numpy()
    assert np.linalg.norm(logits - reference) < 1e-5 * np.linalg.norm(reference)
    accuracy = float((reference.argmax(1) == split.test_labels).mean())
    assert float((logits.argmax(1) == split.test_labels).mean()) == accuracy > 0.98


def test_another_batch_size_gives_other_batch_averages(digits, expected):
    """The planted fault of the test above: its tolerance tells batches of 16 from those of 32."""
    assert calibrate(*TRAINED, "--data", "train.npy", "--batch-size", "16", "-o", "new.pth") == 0
    var = torch.load("new.pth")["sn3.running_var"].flatten().numpy()
    assert np.abs(var / expected["sn3"][1] - 1).max() > 2e-4


def test_parts_merge_to_the_bytes_of_one_run(digits):
    for statistics in ("batch-average", "population"):
        options = (*TRAINED, "--data", "train.npy", "--limit", "200", "--batch-size", "24", "--statistics", statistics)
        for part in (3, 1, 2):
            assert calibrate(*options, "--shard", f"{part}/3", "-o", f"part{part}.npz") == 0
        parts = ("part2.npz", "part3.npz", "part1.npz")
        assert calibrate("--merge", *parts, "--checkpoint", str(WEIGHTS), "-o", "merged.safetensors") == 0
        assert calibrate(*options, "--shard", "1/1", "-o", "whole.npz") == 0
        assert calibrate("--merge", "whole.npz", *TRAINED[2:], "-o", "whole.safetensors") == 0
        assert Path("merged.safetensors").read_bytes() == Path("whole.safetensors").read_bytes()
        if statistics == "batch-average":
            assert calibrate(*options, "-o", "one.safetensors") == 0
            assert Path("merged.safetensors").read_bytes() == Path("one.safetensors").read_bytes()


def test_sweeps_in_parts_come_to_the_population(digits, capsys):
    """Made again from each new checkpoint, parts end where one run ends."""
    options = ("--data", "train.npy", "--limit", "120", "--statistics", "population")
    assert calibrate(*TRAINED, *options, "--tolerance", "0", "-o", "one.safetensors") == 0
    before = str(WEIGHTS)
    for sweep in range(3):
        for part in (1, 2):
            arguments = (*DIGITS, "--checkpoint", before, *options, "--shard", f"{part}/2", "-o", f"part{part}.npz")
            assert calibrate(*arguments) == 0
        after = f"sweep{sweep}.safetensors"
        assert calibrate("--merge", "part1.npz", "part2.npz", "--checkpoint", before, "-o", after) == 0
        before = after
    assert Path(before).read_bytes() == Path("one.safetensors").read_bytes()
    _, first, *_, last = " ".join(capsys.readouterr().out.split()).split("this sweep moved the statistics by ")
    assert "which is more than 1e-06: for the next one make parts again with --checkpoint sweep0.safetensors" in first
    assert "they have settled (tolerance 1e-06)" in last


def test_a_run_says_whether_its_sweeps_have_settled(digits, capsys):
    options = (*TRAINED, "--data", "train.npy", "--limit", "120", "-o", "new.pth")
    for more, words in (
        ((), "settled after 3 sweeps: the last moved the statistics by "),
        (("--sweeps", "1"), "not settled after 1 sweep: the last still moved the statistics by "),
        (("--sweeps", "1", "--tolerance", "1"), "settled after 1 sweep: the last moved the statistics by "),
    ):
        assert calibrate(*options, "--statistics", "population", *more) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert words in printed
        assert ("(tolerance 1)" if "--tolerance" in more else "(tolerance 1e-06)") in printed
    assert calibrate(*options) == 0
    assert "settled" not in capsys.readouterr().out


# --- what is written --------------------------------------------------------------------------------------------------


def test_a_checkpoint_keeps_its_keys_its_wrapping_and_all_else(folder):
    state = small().state_dict()
    wrapped = type(state)((f"module.{name}", value) for name, value in state.items())
    wrapped._metadata = state._metadata
    optimizer = {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    torch.save({"epoch": 7, "state_dict": wrapped, "optimizer": optimizer, "best": 0.75}, "last.pth")
    assert calibrate(*NET, "--checkpoint", "last.pth", "--data", "x.npy", "-o", "new.ckpt") == 0
    old, new = (torch.load(name, weights_only=True) for name in ("last.pth", "new.ckpt"))
    assert new["epoch"] == 7
    assert new["best"] == 0.75
    assert new["optimizer"]["param_groups"] == optimizer["param_groups"]
    assert torch.equal(new["optimizer"]["state"][0]["momentum_buffer"], torch.ones(3))
    assert list(new["state_dict"]) == list(old["state_dict"])
    assert type(new["state_dict"]) is type(old["state_dict"])
    assert new["state_dict"]._metadata == old["state_dict"]._metadata
    for name, value in old["state_dict"].items():
        assert torch.equal(new["state_dict"][name], value) == ("running" not in name), name
        assert new["state_dict"][name].shape == value.shape


def test_it_may_be_written_over_the_checkpoint_that_it_was_read_from(folder):
    before = torch.load("net.pth")
    assert calibrate(*NET, "--checkpoint", "net.pth", "--data", "x.npy", "-o", "other.pth") == 0
    assert calibrate(*NET, "--checkpoint", "net.pth", "--data", "x.npy", "-o", "net.pth") == 0
    assert Path("net.pth").read_bytes() == Path("other.pth").read_bytes()
    assert not torch.equal(torch.load("net.pth")["1.running_var"], before["1.running_var"])


def test_safetensors_keep_their_metadata_and_leave_out_what_is_no_tensor(folder, capsys):
    state = torch.load("net.pth")
    safetensors.torch.save_file(state, "net.safetensors", metadata={"format": "pt"})
    assert calibrate(*NET, "--checkpoint", "net.safetensors", "--data", "x.npy", "-o", "new.safetensors") == 0
    with safetensors.safe_open("new.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    torch.save({"epoch": 7, "state_dict": state}, "last.pth")
    assert calibrate(*NET, "--checkpoint", "last.pth", "--data", "x.npy", "-o", "again.safetensors") == 0
    assert "left out, since again.safetensors holds tensors alone: epoch" in capsys.readouterr().out
    first, second = (safetensors.torch.load_file(name) for name in ("new.safetensors", "again.safetensors"))
    assert all(torch.equal(first[name], value) for name, value in second.items())


def test_a_checkpoint_without_statistics_gets_them_beside_its_layers(folder, capsys):
    state = {f"module.{name}": value for name, value in small().state_dict().items() if "running" not in name}
    torch.save(state, "bare.pth")
    options = (*NET, "--checkpoint", "bare.pth", "--no-strict", "--data", "x.npy")
    assert calibrate(*options, "-o", "new.pth") == 0
    assert "there were none before" in capsys.readouterr().out
    new = torch.load("new.pth")
    assert new.keys() - state.keys() == {
        f"module.{layer}.running_{what}" for layer in (1, 4) for what in ("mean", "var")
    }


def test_a_model_that_brings_its_weights_needs_no_checkpoint(folder):
    code = "from sn_deploy.models.digits import load_pretrained as net\n"
    Path("own.py").write_text(code, encoding="utf-8")
    np.save("images.npy", load_digits_split().train_images[:64])
    options = ("--model", "own.py:net", "--data", "images.npy")
    assert calibrate(*options, "-o", "own.pth") == 0
    assert calibrate(*TRAINED, "--data", "images.npy", "-o", "other.pth") == 0
    for name, value in torch.load("own.pth").items():
        assert torch.equal(value, torch.load("other.pth")[name])


def test_a_folder_of_images(folder):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (12, 9, 9, 3), dtype=np.uint8)
    for index, image in enumerate(pixels):
        path = folder / "images" / f"class{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    data = ("--data", "images", "--input", "1x3x9x9", "--mean", "0.5", "--std", "0.25", "--batch-size", "4")
    assert calibrate(*NET, "--checkpoint", "net.pth", *data, "-o", "new.pth") == 0
    order = [index for group in range(3) for index in sorted(range(group, 12, 3), key=str)]
    x = ((pixels[order] / 255 - 0.5) / 0.25).astype(np.float32).transpose(0, 3, 1, 2)
    np.save("pixels.npy", x)
    options = ("--data", "pixels.npy", "--batch-size", "4", "-o", "same.pth")
    assert calibrate(*NET, "--checkpoint", "net.pth", *options) == 0
    for name in ("1.running_var", "4.running_mean"):
        torch.testing.assert_close(torch.load("new.pth")[name], torch.load("same.pth")[name], rtol=1e-4, atol=1e-5)


def test_json_says_what_moved(folder, capsys):
    assert calibrate(*NET, "--checkpoint", "net.pth", "--data", "x.npy", "-o", "new.pth", "--json", "-") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["statistics"] == "batch-average"
    assert (document["samples"], document["batches"], document["batch_sizes"]) == (20, 1, {"20": 1})
    assert document["data"]["samples"] == 20
    assert [row["name"] for row in document["layers"]] == ["1", "4"]
    old, new = torch.load("net.pth"), torch.load("new.pth")
    for row in document["layers"]:
        means, variances = (
            [state[f"{row['name']}.running_{what}"].double() for state in (old, new)] for what in ("mean", "var")
        )
        shift = (means[1] - means[0]).abs() / (variances[1] + 1e-5).sqrt()
        assert row["mean_moved"]["largest"] == pytest.approx(shift.max().item(), rel=1e-5)
        assert row["var_times"]["largest"] == pytest.approx(
            ((variances[1] + 1e-5) / (variances[0] + 1e-5)).max().item()
        )
        assert row["channels"] == 4
        assert row["calls"] == 1


# --- sums without data ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [False, True])
def test_sums_become_averages_without_data(folder, apart):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), PublishedSwitchNorm(4, using_moving_average=False, sums_apart=apart))
    x = torch.from_numpy(np.load("x.npy"))
    moments = []
    with torch.no_grad():
        for batch in x.split(4):
            model.train()(batch)
            flat = model[0](batch).flatten(2).double()
            mean = flat.mean(2).mean(0)
            moments.append((mean, (flat.var(2) + flat.mean(2) ** 2).mean(0) - mean**2))
    torch.save({"model": model.state_dict()}, "sums.pth")
    options = ("--model", "small.py:published", "--model-arg", f"apart={apart}", "--checkpoint", "sums.pth")
    assert calibrate(*options, "--finalize-batch-average", "5", "-o", "final.pth", "--json", "final.json") == 0
    new = torch.load("final.pth")["model"]
    means, variances = (torch.stack(values) for values in zip(*moments, strict=True))
    mean = means.mean(0)
    torch.testing.assert_close(new["1.running_mean"].flatten().double(), mean, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        new["1.running_var"].flatten().double(), (variances + means**2).mean(0) - mean**2, rtol=1e-5, atol=1e-6
    )
    assert json.loads(Path("final.json").read_text())["averaged"] == 5
    old = model.state_dict()
    assert all(torch.equal(new[name], old[name]) for name in old if "running" not in name)


# --- refusals ---------------------------------------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert calibrate(*arguments) == 2
    assert not Path("new.pth").exists()
    assert not list(Path().glob(".*-*"))
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message


SMALL_RUN = (*NET, "--checkpoint", "net.pth", "--data", "x.npy", "-o", "new.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "x.npy", "-o", "new.pth"), "--model: is missing"),
        ((*NET, "-o", "new.pth"), "--data: is missing"),
        ((*NET, "--data", "random", "-o", "new.pth"), "random numbers have other statistics"),
        ((*NET, "--data", "y.npy", "-o", "new.pth"), "there is no such file"),
        ((*SMALL_RUN, "--sweeps", "2"), "--sweeps: without effect: batch averages take one pass"),
        ((*SMALL_RUN, "--statistics", "population", "--tolerance", "nan"), "nan is no tolerance"),
        ((*SMALL_RUN, "--shard", "1/2"), "is no name for a part"),
        ((*SMALL_RUN[:-1], "new.npz"), "is no name for a checkpoint"),
        ((*SMALL_RUN[:-1], "new.onnx"), ".onnx is no format for a checkpoint"),
        ((*SMALL_RUN[:-1], "no/new.pth"), "its folder doesn't exist"),
        (
            (*SMALL_RUN, "--finalize-batch-average", "5"),
            "--data: without effect: --finalize-batch-average runs no data",
        ),
        ((*SMALL_RUN, "--merge"), "--data: without effect: --merge runs no data"),
        (("p.npz", *SMALL_RUN), "p.npz: parts are put together with --merge"),
        (("--merge", "--checkpoint", "net.pth", "-o", "new.pth"), "--merge: there are no parts"),
        (("--merge", "p.npz", "-o", "new.pth"), "give the same --checkpoint, or the same --model if there was none"),
        (("--merge", "p.npz", "--checkpoint", "net.pth", "-o", "new.pth"), "p.npz: there is no such file"),
        (("--merge", "x.npy", "--checkpoint", "net.pth", "-o", "new.pth"), "is not a whole part of a calibration"),
        ((*DIGITS, *SMALL_RUN[2:]), "no state dict in it fits the model"),
        (("--model", "small.py:without_bn", "--data", "x.npy", "-o", "new.pth"), "nothing to calibrate"),
        (("--model", "small.py:strange", "--data", "x.npy", "-o", "new.pth"), "layer '1': differs from Switchable"),
        ((*SMALL_RUN, "--device", "abacus"), "--device abacus"),
        ((*NET, "--checkpoint", "net.pth", "--finalize-batch-average", "3", "-o", "new.pth"), "layer '1': sums over"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(folder, capsys, arguments, message):
    if "--finalize-batch-average" in arguments and "--data" not in arguments:
        state = torch.load("net.pth")
        state["1.running_mean"] += 30  # no sums of 3 batches have such a mean beside such a variance
        torch.save(state, "net.pth")
    assert message in refused(capsys, *arguments)


def test_data_with_nan_are_refused_by_batch(folder, capsys):
    x = np.load("x.npy")
    x[17, 1, 2, 3] = np.nan
    np.save("x.npy", x)
    message = refused(capsys, *SMALL_RUN, "--batch-size", "4")
    assert "batch 4: input 'input' has NaN or infinite values" in message


def test_an_output_that_cannot_be_written_is_refused_before_any_work(folder, capsys):
    Path("taken.pth").mkdir()
    assert "taken.pth: is a folder" in refused(capsys, *SMALL_RUN[:-1], "taken.pth")
    assert "its folder doesn't exist" in refused(capsys, *SMALL_RUN, "--json", "no/such.json")


def test_parts_that_do_not_belong_together_are_refused(folder, capsys):
    make = (*NET, "--checkpoint", "net.pth", "--data", "x.npy", "--batch-size", "4")
    for part in (1, 2):
        assert calibrate(*make, "--shard", f"{part}/2", "-o", f"{part}.npz") == 0
    merge = ("--checkpoint", "net.pth", "-o", "new.pth")
    assert "part 2/2 is missing" in refused(capsys, "--merge", "1.npz", *merge)
    shutil.copy("1.npz", "again.npz")
    message = refused(capsys, "--merge", "1.npz", "2.npz", "again.npz", *merge)
    assert "again.npz: is part 1/2, as is 1.npz; give it once" in message
    assert calibrate(*make, "--limit", "12", "--shard", "2/2", "-o", "other.npz") == 0
    assert "other.npz: is of another data than 1.npz" in refused(capsys, "--merge", "1.npz", "other.npz", *merge)
    torch.save({name: value + 1e-6 for name, value in torch.load("net.pth").items()}, "near.pth")
    message = refused(capsys, "--merge", "1.npz", "2.npz", "--checkpoint", "near.pth", "-o", "new.pth")
    assert "near.pth: isn't what the parts were made with" in message
    damaged = Path("2.npz").read_bytes()
    Path("2.npz").write_bytes(damaged[: len(damaged) // 2])
    assert "2.npz: is not a whole part" in refused(capsys, "--merge", "1.npz", "2.npz", *merge)


def test_parts_without_a_checkpoint_merge_by_the_model(digits, capsys):
    model = ("--model", "sn_deploy.models.digits:load_pretrained")
    make = (*model, "--data", "train.npy", "--limit", "64")
    assert calibrate(*make, "--shard", "1/1", "-o", "1.npz") == 0
    assert "sn-deploy calibrate --merge PARTS --model … -o FILE" in capsys.readouterr().out
    assert calibrate("--merge", "1.npz", *model, "-o", "merged.safetensors") == 0
    assert calibrate(*make, "-o", "one.safetensors") == 0
    assert Path("merged.safetensors").read_bytes() == Path("one.safetensors").read_bytes()


def test_merge_of_checks_names_the_command_for_parts_of_a_calibration(folder, capsys):
    assert calibrate(*SMALL_RUN[:-1], "1.npz", "--shard", "1/1") == 0
    assert exit_code("merge", "1.npz") == 2
    assert "sn-deploy calibrate --merge" in capsys.readouterr().err
