"""Optimised files where they don't belong: what runs instead, and what is said."""

from __future__ import annotations

import dataclasses
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from sn_deploy.errors import SnDeployError, SnDeployWarning
from sn_deploy.hashing import sha256_of_file
from sn_deploy.optimise import optimise
from sn_deploy.runtime.native import SWITCH
from sn_deploy.runtime.ort import OrtSession
from sn_deploy.runtime.stamp import Here, Stamp, misfit, read_stamp, stamp_from_metadata
from tests.optimise.nets import plain_chain

X = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def made(block: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx and here.onnx, made of it."""
    folder = tmp_path_factory.mktemp("made")
    optimise(plain_chain(folder / "net.onnx"), folder / "here.onnx")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(made, tmp_path / "copy"))


def restamp(path: Path, **changes: object) -> None:
    """As if the file had been made somewhere else."""
    stamp = read_stamp(path)
    assert stamp is not None
    model = onnx.load(path)
    del model.metadata_props[:]
    changed = dataclasses.replace(stamp, **changes)  # type: ignore[arg-type]
    onnx.helper.set_model_props(model, changed.as_metadata())
    onnx.save(model, path)


def result(session: OrtSession) -> np.ndarray:
    (y,) = session.run({"x": X}).values()
    return y


def test_the_file_says_what_it_was_made_for(made: Path, block: int) -> None:
    stamp = read_stamp(made / "here.onnx")
    assert stamp is not None
    assert stamp == read_stamp((made / "here.onnx").read_bytes())
    assert (stamp.target, stamp.block_size, stamp.source) == ("ort-cpu", block, "net.onnx")
    assert stamp.source_sha256 == sha256_of_file(made / "net.onnx")
    assert stamp.processor.startswith(("x86_64: ", "aarch64: "))
    assert read_stamp(made / "net.onnx") is None


def test_where_it_belongs_it_runs(made: Path) -> None:
    with warnings.catch_warnings(), OrtSession(made / "here.onnx") as session:
        warnings.simplefilter("error")
        assert session.instead is None
        with OrtSession((made / "here.onnx").read_bytes()) as of_bytes:
            assert np.array_equal(result(session), result(of_bytes))


ELSEWHERE = {
    "another version": ({"onnxruntime": "1.99.0"}, "this is ONNX Runtime "),
    "another block": ({"block_size": 8192}, "on this processor the blocks have "),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_elsewhere_the_portable_file_runs(name: str, folder: Path) -> None:
    changes, message = ELSEWHERE[name]
    restamp(folder / "here.onnx", **changes)
    with pytest.warns(SnDeployWarning, match=message) as warned:
        session = OrtSession(folder / "here.onnx")
    assert session.instead == folder / "net.onnx"
    with session, OrtSession(folder / "net.onnx") as portable:
        assert np.array_equal(result(session), result(portable))
    text = str(warned[0].message)
    assert text.startswith(f"{folder / 'here.onnx'}: made for ONNX Runtime ")
    assert "net.onnx runs instead; make it anew with: sn-deploy optimise net.onnx --for ort-cpu" in text


def turned_off_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setenv(SWITCH, "0")
    return True


def turned_off_by_the_caller(monkeypatch: pytest.MonkeyPatch) -> bool:
    return False


@pytest.mark.parametrize("native", [turned_off_by_the_environment, turned_off_by_the_caller])
def test_without_the_operators_the_portable_file_runs(
    native: Callable[[pytest.MonkeyPatch], bool], made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = native(monkeypatch)
    with pytest.warns(SnDeployWarning, match="native operators aren't built, or are turned off"):
        session = OrtSession(made / "here.onnx", native=allowed)
    assert session.instead == made / "net.onnx"
    session.run({"x": X})


def spoilt() -> Iterator[tuple[str, Callable[[Path], None], str]]:
    yield "missing", lambda source: source.unlink(), "its portable source net.onnx isn't beside it"
    yield "changed", lambda source: source.write_bytes(source.read_bytes() + b"\0"), "is not the file that it was made"


@pytest.mark.parametrize(("spoil", "message"), [(s, m) for _, s, m in spoilt()], ids=[name for name, _, _ in spoilt()])
def test_elsewhere_without_its_source_it_is_refused(spoil: Callable[[Path], None], message: str, folder: Path) -> None:
    spoil(folder / "net.onnx")
    with OrtSession(folder / "here.onnx") as session:
        assert session.instead is None, "where it belongs it needs no source"
    restamp(folder / "here.onnx", onnxruntime="1.99.0")
    with pytest.raises(SnDeployError) as error:
        OrtSession(folder / "here.onnx")
    text = str(error.value)
    assert "it was made for ONNX Runtime 1.99.0 with blocks of " in text
    assert ", but this is ONNX Runtime " in text
    assert message in text
    assert text.endswith("make it anew here: sn-deploy optimise net.onnx --for ort-cpu -o here.onnx")


def test_bytes_have_no_source_beside_them(folder: Path) -> None:
    restamp(folder / "here.onnx", onnxruntime="1.99.0")
    with pytest.raises(SnDeployError, match=r"where its portable source net\.onnx is, a model in memory can't tell"):
        OrtSession((folder / "here.onnx").read_bytes())


def test_a_source_in_another_folder_is_not_looked_for(folder: Path) -> None:
    """The stamp names a file, never a path."""
    restamp(folder / "here.onnx", onnxruntime="1.99.0", source="../elsewhere/net.onnx")
    with pytest.warns(SnDeployWarning):
        session = OrtSession(folder / "here.onnx")
    assert session.instead == folder / "net.onnx"


STAMP = Stamp("ort-cpu", "1.32.0", 16, "x86_64: avx512f", "net.onnx", "0" * 64)
HERE = Here("1.32.0", 16, None, ("CPUExecutionProvider",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"onnxruntime": "1.32.1"}, "this is ONNX Runtime 1.32.1"),
        ({"block_size": 8}, "on this processor the blocks have 8 channels"),
        ({"block_size": None}, "ONNX Runtime has no blocked convolutions on this processor"),
        ({"operators": "they aren't built"}, "they aren't built"),
        ({"providers": ("CUDAExecutionProvider", "CPUExecutionProvider")}, "it is for the CPU, and CUDAExecutionProv"),
    ],
)
def test_what_fits(changes: dict[str, object], reason: str | None) -> None:
    found = misfit(STAMP, dataclasses.replace(HERE, **changes))  # type: ignore[arg-type]
    assert found == reason or (found is not None and reason is not None and found.startswith(reason))


def test_a_stamp_survives_its_file(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["": 18]> g (float[N] x) => (float[N] y) {y = Abs(x)}'
    )
    onnx.helper.set_model_props(model, {"other": "entry", **STAMP.as_metadata()})
    onnx.save(model, tmp_path / "a.onnx")
    assert read_stamp(tmp_path / "a.onnx") == STAMP


def test_files_without_a_stamp(tmp_path: Path) -> None:
    assert read_stamp(tmp_path / "missing.onnx") is None
    for content in (b"", b"PK\x03\x04 no protobuf at all", b"\xff" * 40, b"\x08", b"\x72\xff\xff\xff\xff\x0f"):
        (tmp_path / "a.onnx").write_bytes(content)
        assert read_stamp(tmp_path / "a.onnx") is None
        assert read_stamp(content) is None


@pytest.mark.parametrize("key", ["target", "onnxruntime", "block_size", "processor", "source", "source_sha256"])
def test_an_incomplete_stamp_is_refused(key: str) -> None:
    entries = {name: value for name, value in STAMP.as_metadata().items() if not name.endswith(f".{key}")}
    with pytest.raises(SnDeployError, match=f"not for what: '{key}'"):
        stamp_from_metadata(entries, where="a.onnx")
    with pytest.raises(SnDeployError, match="not for what: invalid literal"):
        stamp_from_metadata({**STAMP.as_metadata(), "sn_deploy.optimised.block_size": "many"}, where="a.onnx")
