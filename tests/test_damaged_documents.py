"""Damaged files of every kind: refused in one line, whatever is damaged; archives that unpack to too much."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sn_deploy import archive
from sn_deploy.archive import check_stored, check_unpacked_size
from sn_deploy.calibrate.partial import merge_parts, read_part
from sn_deploy.check.data.arrays import open_arrays
from sn_deploy.checkpoint import read_checkpoint
from sn_deploy.errors import SnDeployError
from sn_deploy.free_memory import free_memory
from sn_deploy.onnx_file import read_model, read_proto
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.runtime.trt.sidecar import read_sidecar
from sn_deploy.serve.repository import read_folder
from tests.check.small_net import small_net, write_net
from tools import soak_documents

IMAGE = TensorInfo("image", ("N", 4), np.dtype(np.float32))


def test_damaged_files_of_every_kind_are_refused_in_one_line(tmp_path: Path) -> None:
    faults, codes = soak_documents.run(200, 0, tmp_path)
    assert not faults, "\n".join(faults)
    assert codes[2] > 100  # most changes are found
    assert codes[0] > 10  # and some can't be told from other weights


def test_the_search_finds_a_planted_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sn_deploy.runtime.trt.sidecar._check_types", lambda *arguments: None)
    faults, _ = soak_documents.run(20, 1, tmp_path, only=["net.engine.json"])
    assert any("net.engine.json" in fault and "Error" in fault for fault in faults)
    assert list(tmp_path.glob("case-*-net.engine.json"))


def test_names_of_an_onnx_file_that_are_no_text(tmp_path: Path) -> None:
    path = write_net(tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes().replace(b"conv1.weight", b"conv\x80.weight"))
    with pytest.raises(SnDeployError, match=r"net\.onnx: holds a name that is no UTF-8: b'conv\\x80\.weight'"):
        read_proto(path)


def assert_refused(model: onnx.ModelProto, folder: Path, words: str) -> None:
    onnx.save(model, folder / "net.onnx")
    with pytest.raises(SnDeployError, match=words):
        read_model(folder / "net.onnx")


def test_a_constant_of_another_type_than_it_says(tmp_path: Path) -> None:
    model = small_net()
    node = onnx.helper.make_node("Constant", [], ["c"], name="constant", value_int=1)
    node.attribute[0].name = "value"
    model.graph.node.append(node)
    assert_refused(model, tmp_path, r"the value of Constant 'constant' is of another type")


def test_attributes_that_stand_for_what_isnt_there(tmp_path: Path) -> None:
    model = small_net()
    branch = onnx.helper.make_graph([], "branch", [], [])
    node = onnx.helper.make_node("If", ["image"], ["c"], name="choice", then_branch=branch, else_branch=branch)
    node.attribute[1].ClearField("g")
    node.attribute[1].ref_attr_name = "given"
    called = onnx.helper.make_function(
        "f", "F", ["image"], ["c"], [node], [onnx.helper.make_opsetid("", 18)], ["given"]
    )
    model.functions.append(called)
    assert_refused(model, tmp_path, r"of If 'choice' is a graph that a function is called with")
    model.functions.pop()
    model.graph.node.append(node)
    assert_refused(model, tmp_path, r"of If 'choice' is a function's attribute, in none")


def test_sizes_of_an_onnx_file_that_lie(tmp_path: Path) -> None:
    model = small_net()
    model.graph.initializer[0].dims[0] += 1
    assert_refused(model, tmp_path, r"weight 'conv1\.weight' has \d+ bytes for the shape 7×3×3×3")


def test_a_config_of_a_repository_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.pbtxt").write_bytes(b'name: "\xff"')
    with pytest.raises(SnDeployError, match=r"config\.pbtxt: can't be read: .* \(expected text in UTF-8\)"):
        read_folder(tmp_path, "net")


# --- archives -----------------------------------------------------------------------------------------------------


def npz_of_zeros(path: Path, count: int) -> Path:
    np.savez_compressed(path, image=np.zeros((count, 4), np.float32))
    return path


def test_samples_that_unpack_to_more_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = npz_of_zeros(tmp_path / "bomb.npz", 1 << 18)  # 4 MiB of zeros in some kB
    assert bomb.stat().st_size < 100_000
    assert len(open_arrays(bomb, [IMAGE], None)) == 1 << 18
    monkeypatch.setattr(archive, "free_memory", lambda: 1 << 20)
    for read in (lambda: open_arrays(bomb, [IMAGE], None), lambda: read_part(bomb)):
        with pytest.raises(
            SnDeployError, match=r"bomb\.npz: unpacks to 0\.0 GiB, \d+ times its size \(expected at most"
        ):
            read()
    # A name says nothing: NumPy goes by the first bytes.
    renamed = bomb.rename(tmp_path / "bomb.dat")
    with pytest.raises(SnDeployError, match="unpacks to"):
        open_arrays(renamed, [IMAGE], None)


def test_what_an_archive_claims_bounds_what_is_read(tmp_path: Path) -> None:
    """An entry that claims less than it unpacks to is damaged, to the reader."""
    path = npz_of_zeros(tmp_path / "lies.npz", 1 << 16)
    content = bytearray(path.read_bytes())
    size = zipfile.ZipFile(path).infolist()[0].file_size
    lie = (1000).to_bytes(4, "little")
    for place in range(len(content) - 4):
        if content[place : place + 4] == size.to_bytes(4, "little"):
            content[place : place + 4] = lie
    path.write_bytes(content)
    check_unpacked_size(path, where="here")
    with pytest.raises(SnDeployError, match="can't be read"):
        open_arrays(path, [IMAGE], None)


def repacked(source: Path, target: Path, compression: int) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    return target


def test_checkpoints_are_never_unpacked(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(1 << 18)}, tmp_path / "net.pth")
    bomb = repacked(tmp_path / "net.pth", tmp_path / "bomb.pth", zipfile.ZIP_DEFLATED)
    with pytest.raises(SnDeployError, match=r"bomb\.pth: has compressed records .*zip -0"):
        read_checkpoint(bomb)
    plain = repacked(bomb, tmp_path / "plain.pth", zipfile.ZIP_STORED)
    assert read_checkpoint(plain)["weight"].shape == (1 << 18,)


def test_records_that_overlap(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "overlap.pth", "w") as made:
        made.writestr("net/data.pkl", bytes(1000))
        made.filelist += made.filelist * 50  # the directory names the same bytes again and again
    with pytest.raises(SnDeployError, match="records that overlap"):
        check_stored(tmp_path / "overlap.pth", where="here")


def test_dicts_that_hold_each_other_many_times(tmp_path: Path) -> None:
    tree: dict[str, object] = {"weight": torch.ones(2)}
    for _ in range(7):
        tree = {str(number): tree for number in range(30)}  # 30^7 ways lead to the weight, in some kB
    torch.save(tree, tmp_path / "laughs.pth")
    assert (tmp_path / "laughs.pth").stat().st_size < 20_000
    with pytest.raises(SnDeployError, match="holds more than 10000 dicts"):
        read_checkpoint(tmp_path / "laughs.pth")


def test_tensors_that_repeat_a_number_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"weight": torch.ones(1).expand(1 << 28)}, tmp_path / "net.pth")  # 1 GiB to whoever copies it
    assert (tmp_path / "net.pth").stat().st_size < 5000
    assert read_checkpoint(tmp_path / "net.pth")["weight"].shape == (1 << 28,)
    monkeypatch.setattr("sn_deploy.checkpoint.state_dicts.free_memory", lambda: 1 << 29)
    with pytest.raises(SnDeployError, match=r"its tensors claim 1\.0 GiB \(expected at most the 0\.5 GiB"):
        read_checkpoint(tmp_path / "net.pth")


def test_tensors_without_data(tmp_path: Path) -> None:
    torch.save({"weight": torch.empty(1 << 40, device="meta")}, tmp_path / "net.pth")
    with pytest.raises(SnDeployError, match="weight has a shape and no data"):
        read_checkpoint(tmp_path / "net.pth")


def test_a_name_of_many_parts(tmp_path: Path) -> None:
    torch.save({"." * 1_000_000 + "weight": torch.ones(2)}, tmp_path / "net.pth")
    # With each of its million ends tried it took hours.
    assert list(read_checkpoint(tmp_path / "net.pth", match=["weight"])) == ["weight"]


def test_samples_beside_something_else(tmp_path: Path) -> None:
    npz_of_zeros(tmp_path / "x.npz", 4)
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("readme.txt", "what is in it")
    with pytest.raises(SnDeployError, match=r"'readme\.txt' in it is no array"):
        open_arrays(tmp_path / "x.npz", [IMAGE], None)


# In a process of its own: an audit hook stays for ever. Atheris finds more (tools/fuzz_checkpoints.py).
HOSTILE = """
import sys
from tools import checkpoint_readers
{plant}
sys.exit(checkpoint_readers.main(["600"]))
"""
UNSAFE = """
import torch
load = torch.load
torch.load = lambda *arguments, **options: load(*arguments, **{**options, "weights_only": False})
"""


@pytest.mark.parametrize(("plant", "code"), [("", 0), (UNSAFE, 1)], ids=["ours", "planted"])
def test_hostile_files_run_nothing(plant: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HOSTILE.replace("{plant}", plant)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    assert ("has run" in done.stdout and "os.system" in done.stdout) == bool(code)


class Runs:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, trace: Path) -> None:
        self.trace = str(trace)

    def __reduce__(self) -> tuple[object, ...]:
        return (eval, (f"__import__('pathlib').Path({self.trace!r}).touch()",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("where", ["value", "key", "whole", "metadata"])
def test_no_pickle_runs(tmp_path: Path, protocol: int, where: str) -> None:
    run = Runs(tmp_path / "ran")
    state = {"weight": torch.ones(2)}
    tree = {"value": {"state_dict": state, "args": run}, "key": {run: state}, "whole": run, "metadata": [state, run]}[
        where
    ]
    torch.save(tree, tmp_path / "zip.pth", pickle_protocol=protocol)
    torch.save(tree, tmp_path / "old.pth", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(run, protocol))
    for name in ("zip.pth", "old.pth", "bare.pth"):
        with pytest.raises(SnDeployError):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_no_array_runs(tmp_path: Path) -> None:
    hostile = np.array([Runs(tmp_path / "ran")], dtype=object)
    np.save(tmp_path / "x.npy", hostile, allow_pickle=True)
    np.savez(tmp_path / "x.npz", image=hostile)
    for name in ("x.npy", "x.npz"):
        with pytest.raises(SnDeployError, match="can't be read"):
            open_arrays(tmp_path / name, [IMAGE], None)
    with pytest.raises(SnDeployError, match="is not a whole part"):
        read_part(tmp_path / "x.npz")
    assert not (tmp_path / "ran").exists()


def _part_with(path: Path, shape: list[int], rows: np.ndarray, count: int = 1) -> Path:
    """A part of a calibration in 1 kB that claims much."""
    layer = {"layer": "sn", "mean_keys": ["m"], "var_keys": ["v"], "shape": shape}
    exponents = dict.fromkeys(("means", "variances", "squares"), 0)
    row = {"identity": layer, "traits": None, "calls": 1, "weight": 1, "exponents": exponents}
    header = {"schema": 1, "number": 1, "count": count, "fingerprint": "f", "data": {}, "keys": [], "layers": [row],
              "statistics": "batch-average", "without_bn": [], "batches": [], "refused": {}, "order": []}  # fmt: skip
    arrays = {f"layer0.{name}": rows for name in exponents}
    with path.open("wb") as file:
        np.savez_compressed(file, **{"sn_deploy.calibrate.part": np.array(json.dumps(header)), **arrays})
    assert path.stat().st_size < 2000
    return path


def test_parts_that_claim_much(tmp_path: Path) -> None:
    sound = _part_with(tmp_path / "sound.npz", [2], np.ones((2, 3), np.uint8))
    assert len(read_part(sound).found.tallies) == 1
    for shape, rows in [
        ([2**31], np.zeros((2**31, 0), np.uint8)),
        ([2**31], np.ones((2, 3), np.uint8)),
        ([2**11, 2**11], np.ones((2, 3), np.uint8)),
        ([3], np.ones((2, 3), np.uint8)),
    ]:
        with pytest.raises(SnDeployError, match="is not a whole part"):
            read_part(_part_with(tmp_path / "part.npz", shape, rows))
    with pytest.raises(SnDeployError, match=r"part 2/1000000000000, .*, 9/1000000000000 is missing"):
        merge_parts([_part_with(tmp_path / "part.npz", [2], np.ones((2, 3), np.uint8), count=10**12)])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_arrays_that_numpy_did_not_pack(tmp_path: Path, method: int) -> None:
    np.save(tmp_path / "image.npy", np.ones((1, 4), np.float32))
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.write(tmp_path / "image.npy", "image.npy")
    expected = f"has the record 'image.npy', packed by method {method} of zip"
    with pytest.raises(SnDeployError, match=expected):
        open_arrays(tmp_path / "x.npz", [IMAGE], None)
    with pytest.raises(SnDeployError, match=expected):
        read_part(tmp_path / "x.npz")


def test_text_of_numbers_that_are_no_characters(tmp_path: Path) -> None:
    arrays = {"sn_deploy.calibrate.part": np.array([0x7FFFFFFF] * 2, np.uint32).view("<U2")[0], "image": np.ones(4)}
    np.savez(tmp_path / "x.npz", **arrays)
    np.savez(tmp_path / "y.npz", image=np.ones((1, 4), np.float32), labels=arrays["sn_deploy.calibrate.part"])
    with pytest.raises(SnDeployError, match="is not a whole part"):
        read_part(tmp_path / "x.npz")
    with pytest.raises(SnDeployError):
        open_arrays(tmp_path / "y.npz", [IMAGE], None)


def test_free_memory_is_that_of_a_container_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, used, statistics = (tmp_path / name for name in ("max", "current", "memory.stat"))
    monkeypatch.setattr("sn_deploy.free_memory._CONTAINER", ((tmp_path, "max", "current", "total_"),))
    of_the_machine = free_memory()
    limit.write_text("3000\n")
    used.write_text("1000\n")
    assert free_memory() == 2000
    # What was read of files is given back when it is needed; "total_" with what is in groups inside of this one.
    statistics.write_text("cache 7\ninactive_file 1\nactive_file 2\ntotal_inactive_file 300\ntotal_active_file 400\n")
    assert free_memory() == 2700
    limit.write_text("max\n")
    assert free_memory() == pytest.approx(of_the_machine, rel=0.5)


def test_a_json_that_is_nested_without_end(tmp_path: Path) -> None:
    (tmp_path / "net.engine.json").write_text("[" * 100_000)
    with pytest.raises(SnDeployError, match="is no JSON"):
        read_sidecar(tmp_path / "net.engine")
