"""Checkpoints of every shape load into the model they fit; every other file is refused in one line, with a mend."""

from __future__ import annotations

import argparse
import copy
import os
import re
import shlex
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from sn_deploy.checkpoint import LoadReport, ModelState, load_into, read_checkpoint
from sn_deploy.errors import SnDeployError


class Net(nn.Module):
    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.fc = nn.Linear(4, classes)


def make(seed: int, classes: int = 5) -> Net:
    generator = torch.Generator().manual_seed(seed)
    net = Net(classes)
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator))
    return net


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(tree: object, name: str = "checkpoint.pth", **options: object) -> Path:
        torch.save(tree, tmp_path / name, **options)
        return tmp_path / name

    return write


def prefixed(state: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def assert_same(net: nn.Module, expected: nn.Module) -> None:
    for (name, tensor), other in zip(net.state_dict().items(), expected.state_dict().values(), strict=True):
        assert torch.equal(tensor, other), name


SOURCE = make(1)
STATE = SOURCE.state_dict()
OTHER = make(2).state_dict()
SIZE = len(STATE)


# --- what loads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tree", "key", "stripped"),
    [
        (STATE, "", []),
        ({"state_dict": STATE, "epoch": 3, "best": 0.7}, "state_dict", []),
        ({"model": STATE}, "model", []),
        ({"model_state_dict": STATE, "loss": torch.tensor(0.3)}, "model_state_dict", []),
        ({"teacher": {"backbone": STATE}}, "teacher.backbone", []),
        (prefixed(STATE, "module."), "", ["module."]),
        (prefixed(STATE, "_orig_mod.module."), "", ["_orig_mod.module."]),
        ({"state_dict": prefixed(STATE, "model.net.")}, "state_dict", ["model.net."]),
        ({name.replace("features.", "features.module."): t for name, t in STATE.items()}, "", ["module."]),
        (
            {"net." + name.replace("features.", "features._orig_mod."): t for name, t in STATE.items()},
            "",
            ["_orig_mod.", "net."],
        ),
        (prefixed(STATE, "module.") | {"n_averaged": torch.tensor(7)}, "", ["module."]),
        (
            {
                "_fsdp_wrapped_module."
                + name.replace("features.", "features._fsdp_wrapped_module._checkpoint_wrapped_module."): t
                for name, t in STATE.items()
            },
            "",
            ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module."],
        ),
        (
            {name.replace("features.", "features._forward_module."): t for name, t in STATE.items()},
            "",
            ["_forward_module."],
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else str(value),
)
def test_wrapped_state_dicts_are_found_and_unwrapped(
    save: Callable[..., Path], tree: object, key: str, stripped: list[str]
) -> None:
    net = Net()
    report = load_into(net, save(tree))
    assert report == LoadReport(key, stripped, [], [], SIZE)
    assert_same(net, SOURCE)


def test_the_real_wrappers_names_are_known(save: Callable[..., Path]) -> None:
    compiled = torch.compile(make(1))
    averaged = torch.optim.swa_utils.AveragedModel(make(1))
    parallel = nn.DataParallel(make(1))
    for wrapper in (compiled, averaged, parallel):
        net = Net()
        assert load_into(net, save({"state_dict": wrapper.state_dict()})).missing == []
        assert_same(net, SOURCE)


def test_a_training_checkpoint_of_lightning_loads_past_its_optimizer(save: Callable[..., Path]) -> None:
    source = make(1)
    optimizer = torch.optim.Adam(source.parameters())
    source.fc(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    tree = {
        "pytorch-lightning_version": "2.4.0",
        "state_dict": prefixed(source.state_dict(), "model."),
        "optimizer_states": [optimizer.state_dict()],
        "hyper_parameters": {"lr": 0.1},
    }
    net = Net()
    assert load_into(net, save(tree)).key == "state_dict"
    assert_same(net, source)


def test_an_optimizer_state_is_never_taken_for_the_model(save: Callable[..., Path]) -> None:
    # One parameter group named like a module: int keys above the tensors, so it is no state dict.
    tree = {"optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}}
    with pytest.raises(SnDeployError, match="holds no tensors by name"):
        read_checkpoint(save(tree))
    # As some trainers write it, keyed by the parameters' names with the shapes of the parameters.
    named = {name: {"exp_avg": t, "exp_avg_sq": t} for name, t in STATE.items()}
    net = Net()
    assert load_into(net, save({"optimizer": {"state": named}, "net": STATE})).key == "net"
    assert_same(net, SOURCE)


def test_old_format_and_safetensors_load(save: Callable[..., Path], tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    for path in (save(STATE, _use_new_zipfile_serialization=False), tmp_path / "a.safetensors"):
        net = Net()
        assert load_into(net, path).loaded == SIZE
        assert_same(net, SOURCE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tensors_take_the_models_dtype(save: Callable[..., Path], dtype: torch.dtype) -> None:
    net = Net()
    load_into(net, save({n: t.to(dtype) if t.is_floating_point() else t for n, t in STATE.items()}))
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == STATE[name].dtype
        assert torch.equal(tensor, STATE[name].to(dtype).to(tensor.dtype) if tensor.is_floating_point() else tensor)


def test_num_batches_tracked_follows_load_state_dicts_rules(save: Callable[..., Path]) -> None:
    name = "features.1.num_batches_tracked"
    plain = {n: t for n, t in STATE.items() if n != name}
    assert load_into(Net(), save(plain)).missing == []  # no metadata: a checkpoint from before it existed
    with_metadata = OrderedDict(prefixed(plain, "module."))
    with_metadata._metadata = OrderedDict({"module": {"version": 1}, "module.features.1": {"version": 2}})
    with pytest.raises(SnDeployError, match=f"1 key missing: {re.escape(name)}"):
        load_into(Net(), save(with_metadata))


def test_a_models_own_state_is_written_with_torchs_versions(tmp_path: Path) -> None:
    changed = torch.full((4,), 0.5)
    assert ModelState(SOURCE).write({"features.1.running_mean": changed}, tmp_path / "own.pth") == []
    written = torch.load(tmp_path / "own.pth", weights_only=True)
    assert written._metadata == STATE._metadata
    assert torch.equal(written["features.1.running_mean"], changed)
    assert all(torch.equal(written[name], STATE[name]) for name in STATE if name != "features.1.running_mean")


def test_read_checkpoint_leaves_names_alone_without_match(save: Callable[..., Path]) -> None:
    path = save({"state_dict": prefixed(STATE, "module."), "loss": torch.tensor(0.3)})
    assert list(read_checkpoint(path)) == list(prefixed(STATE, "module."))
    assert list(read_checkpoint(path, match=STATE.keys())) == list(STATE)


# --- which one ----------------------------------------------------------------------------------------------------


def test_several_that_fit_are_listed_and_a_key_chooses(save: Callable[..., Path]) -> None:
    path = save({"state_dict": STATE, "ema": OTHER})
    with pytest.raises(
        SnDeployError, match=r"several state dicts fit equally well: 'state_dict'.*'ema'.*with key='state_dict'"
    ):
        load_into(Net(), path)
    net = Net()
    assert load_into(net, path, key="ema").key == "ema"
    assert torch.equal(net.state_dict()["fc.weight"], OTHER["fc.weight"])


def test_two_networks_in_one_dict_are_listed_and_a_prefix_chooses(save: Callable[..., Path]) -> None:
    path = save({"model": prefixed(OTHER, "student.") | prefixed(STATE, "teacher.")})
    with pytest.raises(SnDeployError, match=r"fit equally well: 'model\.student'.*'model\.teacher'"):
        load_into(Net(), path)
    net = Net()
    assert load_into(net, path, key="model.teacher") == LoadReport("model", ["teacher."], [], [], SIZE)
    assert_same(net, SOURCE)


def test_the_better_fit_is_taken_and_the_outer_name_wins_over_a_prefix(save: Callable[..., Path]) -> None:
    smaller = {n: t for n, t in OTHER.items() if "running" not in n}
    assert load_into(Net(), save({"ema": smaller, "model": STATE})).key == "model"
    both = {**STATE, **prefixed(OTHER, "shadow.")}
    net = Net()
    report = load_into(net, save(both), strict=False)
    assert (report.stripped, len(report.unexpected)) == ([], SIZE)
    assert_same(net, SOURCE)


def test_a_wrong_key_lists_the_right_ones(save: Callable[..., Path]) -> None:
    with pytest.raises(SnDeployError, match=r"has no state dict 'modle' \(expected one of 'model' \(9 tensors\)\)"):
        load_into(Net(), save({"model": STATE}), key="modle")


def test_a_dict_that_contains_itself_ends(save: Callable[..., Path]) -> None:
    tree: dict[str, object] = {"state_dict": STATE}
    tree["self"] = tree
    assert load_into(Net(), save(tree)).key == "state_dict"


# --- what doesn't fit ---------------------------------------------------------------------------------------------


def test_strict_lists_ten_of_the_missing_and_unexpected_keys(save: Callable[..., Path]) -> None:
    tree = {n: t for n, t in STATE.items() if n != "fc.bias"} | {f"head.{i}": torch.ones(1) for i in range(12)}
    with pytest.raises(SnDeployError) as caught:
        load_into(Net(), save(tree))
    message = str(caught.value)
    assert "1 key missing: fc.bias and 12 keys unexpected: head.0, head.1," in message
    assert "head.9 and 2 more" in message
    assert "head.10" not in message
    assert message.endswith("or load what fits with strict=False")
    report = load_into(Net(), save(tree), strict=False)
    assert (report.missing, report.loaded) == (["fc.bias"], SIZE - 1)
    assert report.unexpected == [f"head.{i}" for i in range(12)]


@pytest.mark.parametrize("strict", [True, False])
def test_a_shape_that_differs_is_always_an_error(save: Callable[..., Path], strict: bool) -> None:
    with pytest.raises(SnDeployError, match=r"2 shapes differ: fc\.weight is \(7, 4\) in the checkpoint and \(5, 4\)"):
        load_into(Net(), save(make(1, classes=7).state_dict()), strict=strict)
    # Broadcasting must not hide it: (1,) could be copied into (5,).
    with pytest.raises(SnDeployError, match=r"1 shape differs: fc\.bias is \(1,\) in the checkpoint and \(5,\)"):
        load_into(Net(), save({**STATE, "fc.bias": torch.ones(1)}), strict=strict)


@pytest.mark.parametrize("strict", [True, False])
def test_a_checkpoint_of_another_network_is_refused(save: Callable[..., Path], strict: bool) -> None:
    with pytest.raises(
        SnDeployError, match=r"no state dict in it fits the model.*names such as 0\.bias.*check that model "
    ):
        load_into(Net(), save(nn.Sequential(nn.Linear(2, 2)).state_dict()), strict=strict)


def test_a_model_on_the_meta_device_is_refused(save: Callable[..., Path]) -> None:
    with torch.device("meta"):
        net = Net()
    with pytest.raises(SnDeployError, match="on the meta device"):
        load_into(net, save(STATE))


# --- files that are no checkpoints --------------------------------------------------------------------------------


def cut(path: Path, keep: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    return path


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.pth", b"", "the file is empty; copy or download it again"),
        ("page.pth", b"\n<!DOCTYPE html><html><body>Sign in", "is a web page, not a model; download it again"),
        ("page.safetensors", b"<html>", "is a web page, not a model"),
        ("lfs.pth", b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git-lfs pointer.*git lfs pull"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        ("junk.pth", b"junk" * 100, r"is not a checkpoint \(expected a file written by torch.save"),
        ("a.tar.gz", b"\x1f\x8b\x08" + bytes(50), "is compressed with gzip; unpack it"),
        ("keras.h5", b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        ("junk.safetensors", b"\xff" * 100, "is not a whole safetensors file"),
        ("pickle.pth", b"\x80\x02" + bytes(30), "is cut off"),
    ],
)
def test_impostors_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SnDeployError, match=message) as caught:
        load_into(Net(), tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_paths(tmp_path: Path) -> None:
    with pytest.raises(SnDeployError, match="there is no such file"):
        read_checkpoint(tmp_path / "none.pth")
    with pytest.raises(SnDeployError, match="is a folder; name the file in it"):
        read_checkpoint(tmp_path)
    with pytest.raises(SnDeployError, match=r"can't be read: Not a directory"):
        read_checkpoint(Path(__file__) / "x.pth")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("keep", [0.2, 0.6, 0.98])
def test_files_cut_off_are_refused(save: Callable[..., Path], zipped: bool, keep: float) -> None:
    path = cut(save(STATE, _use_new_zipfile_serialization=zipped), keep)
    with pytest.raises(SnDeployError, match=r"is cut off.*copy or download it again"):
        read_checkpoint(path)


def test_a_cut_off_safetensors_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    with pytest.raises(SnDeployError, match="is not a whole safetensors file"):
        read_checkpoint(cut(tmp_path / "a.safetensors", 0.9))


def test_zip_archives_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("folder/readme.txt", "hello")
    with pytest.raises(SnDeployError, match="is a zip archive, but not one written by torch"):
        read_checkpoint(tmp_path / "a.zip")


@pytest.mark.parametrize("tree", [torch.ones(3), [STATE], 3], ids=["tensor", "list", "int"])
def test_files_without_a_dict_are_refused(save: Callable[..., Path], tree: object) -> None:
    with pytest.raises(SnDeployError, match=rf"holds a {type(tree).__name__} \(expected a state dict"):
        read_checkpoint(save(tree))


# --- files that would run code ------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_never_run(
    save: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    path = save({"state_dict": STATE, "bomb": Bomb()}, _use_new_zipfile_serialization=zipped)
    with pytest.raises(SnDeployError, match=r"holds an object other than tensors \(posix\.mkdir\)"):
        read_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def run_mend(error: SnDeployError) -> None:
    command = shlex.split(str(error).rpartition("with: ")[2])
    assert command[:2] == ["python", "-c"]
    subprocess.run([sys.executable, "-W", "ignore", *command[1:]], check=True, timeout=120)


def test_the_mend_for_pickled_objects_works(save: Callable[..., Path], tmp_path: Path) -> None:
    whole = save(nn.Sequential(nn.Conv2d(3, 4, 3)), "whole model.pth")
    with pytest.raises(
        SnDeployError, match=r"is a whole pickled object \(torch\.nn\.modules\.container\.Sequential\)"
    ) as error:
        read_checkpoint(whole)
    run_mend(error.value)
    assert sorted(read_checkpoint(tmp_path / "whole model-weights.pth")) == ["0.bias", "0.weight"]

    with_arguments = save({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}, "run.pth")
    with pytest.raises(SnDeployError, match=r"an object other than tensors \(argparse\.Namespace\)") as error:
        read_checkpoint(with_arguments)
    run_mend(error.value)
    net = Net()
    assert load_into(net, tmp_path / "run-weights.pth").key == "state_dict"
    assert_same(net, SOURCE)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused_and_its_mend_works(tmp_path: Path) -> None:
    module = torch.jit.trace(nn.Linear(2, 3), torch.ones(1, 2))
    module.save(str(tmp_path / "script.pt"))
    with pytest.raises(SnDeployError, match="is a TorchScript archive") as error:
        read_checkpoint(tmp_path / "script.pt")
    run_mend(error.value)
    assert sorted(read_checkpoint(tmp_path / "script-weights.pth")) == ["bias", "weight"]


@pytest.mark.parametrize(
    "metadata",
    [
        {"": 5},
        {"features.1": "text"},
        {"features.1": {"version": "text"}},
        {"features.1": {"version": [1]}},
        {5: {"version": 2}, b"x": 1},
        {"features.0": {"assign_to_params_buffers": True}},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_a_file_says_of_versions_is_no_danger(
    metadata: dict[object, object], prefix: str, save: Callable[..., Path]
) -> None:
    state = OrderedDict(
        (prefix + name, tensor.half() if tensor.is_floating_point() else tensor) for name, tensor in STATE.items()
    )
    state._metadata = OrderedDict(
        (prefix + name if isinstance(name, str) else name, says) for name, says in metadata.items()
    )
    net = Net()
    load_into(net, save(state))
    assert net.features[0].weight.dtype is torch.float32
    assert torch.equal(net.fc.weight, SOURCE.fc.weight.half().float())


def test_complex_numbers_do_not_lose_half_of_what_they_are(save: Callable[..., Path]) -> None:
    path = save({**STATE, "fc.bias": STATE["fc.bias"].to(torch.complex64)})
    with pytest.raises(SnDeployError, match=r"fc\.bias is complex"):
        load_into(Net(), path)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("scale", [{"fc.weight_scale": torch.ones(1)}, {}])
@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.float8_e5m2])
def test_numbers_of_a_quantized_checkpoint_are_no_weights(
    save: Callable[..., Path], strict: bool, scale: dict[str, torch.Tensor], dtype: torch.dtype
) -> None:
    path = save({**STATE, "fc.weight": STATE["fc.weight"].to(dtype), **scale})
    net = make(1)
    before = copy.deepcopy(net.state_dict())
    with pytest.raises(SnDeployError, match=rf"fc\.weight is of {dtype} \(expected torch\.float32, as in the model"):
        load_into(net, path, strict=strict)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_arguments_in_the_wrong_order_are_told(save: Callable[..., Path]) -> None:
    with pytest.raises(SnDeployError, match=r"^the model is a PosixPath"):
        load_into(save(STATE), make(1))  # type: ignore[arg-type]
    with pytest.raises(SnDeployError, match=r"^the checkpoint: is a OrderedDict \(expected a path"):
        load_into(make(1), STATE)  # type: ignore[arg-type]
