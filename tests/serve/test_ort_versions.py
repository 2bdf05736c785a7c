"""Exported files in ONNX Runtime 1.18 to the newest, each installed alone, with and without the native operators.

``make test-ort-versions`` installs them and runs this; ORT_VERSIONS_ROOT names the folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from sn_deploy.runtime.native import ort_library
from tools.get_ort_versions import install, versions
from tools.ort_matrix import inputs_of, outputs_here, outputs_there, run_matrix, tolerance_of, worst_rel_l2


@pytest.fixture(scope="session")  # before the files are made that it skips
def root() -> Path:
    folder = os.environ.get("ORT_VERSIONS_ROOT")
    if not folder:
        pytest.skip("ORT_VERSIONS_ROOT isn't set: make test-ort-versions")
    return Path(folder).resolve()


@pytest.fixture(scope="module")
def half(digits: Path) -> Path:
    import torch

    import sn_deploy
    from sn_deploy.models.digits import load_pretrained

    path = digits / "half.onnx"
    sn_deploy.export(load_pretrained(), torch.zeros(1, 1, 8, 8), path, dynamic="batch", precision="fp16")
    return path


def test_every_minor_version_loads_what_is_exported(root: Path, digits: Path, half: Path) -> None:
    library = ort_library()
    assert library is not None, "the native operators weren't built"
    there = versions()
    minors = [tuple(int(part) for part in version.split(".")[:2]) for version in there]
    newest = minors[-1][1]
    # None is left out between the oldest that this Python has wheels of and the newest.
    assert minors == [(1, minor) for minor in range(minors[0][1], newest + 1)]
    rows = run_matrix(root, [digits / "digits.onnx", half], library, there)
    assert [row for row in rows if row["error"]] == []
    assert len(rows) == len(there) * 4


def test_a_file_that_is_too_new_or_gives_other_numbers_is_found(root: Path, digits: Path, tmp_path: Path) -> None:
    oldest = versions()[0]
    model = onnx.load(digits / "digits.onnx")
    model.ir_version = 99
    onnx.save(model, tmp_path / "new.onnx")
    given = inputs_of(digits / "digits.onnx")
    np.savez(tmp_path / "given.npz", **given)
    packages = install(root, oldest)
    with pytest.raises(Exception, match=r"can't run it: .*IR version"):
        outputs_there(tmp_path / "new.onnx", None, tmp_path / "given.npz", packages)
    expected = outputs_here(digits / "digits.onnx", given)
    model.ir_version = 10
    weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
    changed = numpy_helper.to_array(weight).copy()
    changed[0, 0, 0, 0] += 0.1
    weight.CopyFrom(numpy_helper.from_array(changed, weight.name))
    onnx.save(model, tmp_path / "changed.onnx")
    found = outputs_there(tmp_path / "changed.onnx", None, tmp_path / "given.npz", packages)
    assert worst_rel_l2(found, expected) > 10 * tolerance_of(expected)
    assert worst_rel_l2(expected, expected) == 0
    assert worst_rel_l2({"other": np.zeros(3)}, expected) == float("inf")
