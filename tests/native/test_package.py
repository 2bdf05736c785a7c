"""The native operators in programs that aren't Python: installed by CMake alone, then taken by a user's own build.

A C program is built against the package, laid out as CMake does by itself and as in the wheel, and run in the ONNX
Runtime of the Python package. The C++ example is, too, where ONNX Runtime's C++ header is: in ORT_CXX_INCLUDE_DIR, or
in the folder of the C header.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import sn_deploy
from tests.cases import Case, make_case
from tests.native.models import operator_model
from tests.tolerances import roundings

ROOT = Path(__file__).parent.parent.parent
CONSUMER = Path(__file__).parent / "consumer"
WEIGHTS = (0.5, 0.3, 0.2)
TOOLS = ("cmake", "ninja", "cc", "c++")
RUNTIMES = sorted((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))

pytestmark = [
    pytest.mark.skipif(any(shutil.which(tool) is None for tool in TOOLS), reason=f"needs {', '.join(TOOLS)}"),
    pytest.mark.skipif(not RUNTIMES, reason="this onnxruntime package has no library that a program can be linked to"),
]


def said(command: Sequence[str | Path], *, fine: bool = True, given: str | None = None) -> str:
    """What a command prints, on one line; it has to end as expected."""
    done = subprocess.run(list(map(str, command)), input=given, capture_output=True, text=True, timeout=300)
    text = done.stdout + done.stderr
    assert (done.returncode == 0) == fine, text
    return " ".join(text.split())


def configure(source: Path, build: Path, *, fine: bool = True, **settings: object) -> str:
    flags = [f"-D{name}={value}" for name, value in settings.items()]
    return said(["cmake", "-S", source, "-B", build, "-G", "Ninja", *flags], fine=fine)


@dataclass(frozen=True)
class Installed:
    """An installed package, and an ONNX Runtime laid out as its releases are, as far as a build goes.

    Attributes:
        package: the folder of sn_deployConfig.cmake.
        library: the custom-op library.
        runtime: the folder of onnxruntimeConfig.cmake.
        headers: the folder of onnxruntime_c_api.h.
    """

    package: Path
    library: Path
    runtime: Path
    headers: Path

    def settings(self) -> dict[str, object]:
        return {"sn_deploy_DIR": self.package, "onnxruntime_DIR": self.runtime, "CMAKE_BUILD_TYPE": "Debug"}


def layer() -> Case:
    return make_case((1, 4, 3, 3), "float32", mean_weights=WEIGHTS, var_weights=WEIGHTS, ddof=1, seed=1)


def write_runtime(folder: Path, headers: Path) -> Path:
    """onnxruntimeConfig.cmake for the library of the Python package."""
    folder.mkdir()
    library = folder / "libonnxruntime.so.1"  # the name that it has within
    library.symlink_to(RUNTIMES[-1])
    (folder / "onnxruntimeConfig.cmake").write_text(
        "add_library(onnxruntime::onnxruntime SHARED IMPORTED)\n"
        "set_target_properties(onnxruntime::onnxruntime PROPERTIES "
        f'IMPORTED_LOCATION "{library}" INTERFACE_INCLUDE_DIRECTORIES "{headers}")\n'
    )
    return folder


LAYOUTS = {
    "cmake": ("lib", {"CMAKE_INSTALL_LIBDIR": "lib"}),
    "wheel": (
        "sn_deploy/plugins",
        {"SN_LIBRARY_DIR": "sn_deploy/plugins", "SN_INCLUDE_DIR": "sn_deploy/plugins/include"},
    ),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build folder of the library, not optimised: which numbers come out is the same.

    As part of a product whose every file is compiled for speed.
    """
    build = tmp_path_factory.mktemp("plugins") / "build"
    parts = {f"SN_WITH_{part}": "OFF" for part in ("TESTS", "CUDA", "ORT_CUDA", "TENSORRT")}
    configure(ROOT / "plugins", build, CMAKE_BUILD_TYPE="Debug", CMAKE_CXX_FLAGS_DEBUG="-O0 -ffast-math", **parts)
    said(["cmake", "--build", build])
    return build


@pytest.fixture(scope="module", params=LAYOUTS)
def installed(request: pytest.FixtureRequest, built: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder, settings = LAYOUTS[request.param]
    place = tmp_path_factory.mktemp("installed")
    configure(ROOT / "plugins", built, **settings)
    said(["cmake", "--install", built, "--prefix", place / "first"])
    (place / "first").rename(place / "moved")  # it may be packed and unpacked elsewhere
    headers = re.search(r"^ORT_INCLUDE_DIR:PATH=(.+)$", (built / "CMakeCache.txt").read_text(), re.MULTILINE)
    assert headers is not None
    libraries = place / "moved" / folder
    return Installed(
        libraries / "cmake" / "sn_deploy",
        libraries / "libsn_deploy_ort.so",
        write_runtime(place / "onnxruntime", Path(headers[1])),
        Path(headers[1]),
    )


def test_a_c_program_runs_the_operators(installed: Installed, tmp_path: Path) -> None:
    configure(CONSUMER, tmp_path / "build", SN_COMPONENTS="ort", **installed.settings())
    said(["cmake", "--build", tmp_path / "build"])
    case = layer()
    onnx.save(operator_model("SwitchNorm", case.folded, case.x.shape, "float32"), tmp_path / "model.onnx")
    numbers = " ".join(f"{value:.9g}" for value in case.x.flat)
    program = [tmp_path / "build" / "consumer", tmp_path / "model.onnx"]
    for library in ([], [installed.library]):
        y = np.array(said([*program, *library], given=numbers).split(), np.float32).reshape(case.x.shape)
        assert roundings(y, case.folded, case.x) <= 1


def test_a_products_fast_math_is_kept_out(built: Path, tmp_path: Path) -> None:
    library = built / "onnxruntime" / "libsn_deploy_ort.so"
    # What the linker adds, to make denormals 0 in the thread that loads the library.
    assert "set_fast_math" not in said(["nm", library])
    model = operator_model("SwitchNorm", layer().folded, (1, 4, 3, 3), "float32")
    next(each for each in model.graph.node[0].attribute if each.name == "mean_in").f = float("inf")
    onnx.save(model, tmp_path / "model.onnx")
    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(str(library))
    with pytest.raises(Exception, match="must be finite"):
        onnxruntime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])


def test_what_was_not_built_is_named(installed: Installed, tmp_path: Path) -> None:
    text = configure(CONSUMER, tmp_path, fine=False, SN_COMPONENTS="ort;trt10", **installed.settings())
    assert "sn_deploy was built without 'trt10'" in text


def test_the_sources_may_be_part_of_another_build(installed: Installed, tmp_path: Path) -> None:
    settings = {"SN_SOURCES": ROOT / "plugins", "ORT_INCLUDE_DIR": installed.headers, "SN_WITH_CUDA": "OFF"}
    configure(CONSUMER, tmp_path, **settings, **installed.settings())
    targets = said(["ninja", "-C", tmp_path, "-t", "targets", "all"])
    assert "libsn_deploy_ort.so" in targets
    assert "test_onnxruntime" not in targets


def test_the_version_is_the_projects(built: Path) -> None:
    text = (built / "sn_deployConfigVersion.cmake").read_text()
    assert f'set(PACKAGE_VERSION "{sn_deploy.__version__}")' in text


def test_the_library_exports_its_two_names_alone(built: Path) -> None:
    text = subprocess.run(
        ["nm", "-D", "--defined-only", built / "onnxruntime" / "libsn_deploy_ort.so"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert {line.split()[-1] for line in text.splitlines()} == {"RegisterCustomOps", "sn_ort_register"}


def cpp_headers(installed: Installed) -> Path:
    headers = Path(os.environ.get("ORT_CXX_INCLUDE_DIR", installed.headers)).resolve()
    if not (headers / "onnxruntime_cxx_api.h").exists():
        pytest.skip(f"no onnxruntime_cxx_api.h in {headers}: set ORT_CXX_INCLUDE_DIR")
    return headers


@pytest.mark.parametrize("installed", ["cmake"], indirect=True)
def test_what_the_guide_prints_links_and_runs(installed: Installed, tmp_path: Path) -> None:
    settings = {
        **installed.settings(),
        "onnxruntime_DIR": write_runtime(tmp_path / "onnxruntime", cpp_headers(installed)),
    }
    guide = (ROOT / "docs" / "guides" / "native.md").read_text()
    (cmake,), (cpp,) = (
        re.findall(rf"^```{kind}\n(.*?)^```", guide, re.DOTALL | re.MULTILINE) for kind in ("cmake", "cpp")
    )
    includes, _, body = cpp.partition("\n\n")
    (tmp_path / "main.cpp").write_text(f"{includes}\nint main() {{\n{body}}}\n")
    begin = "cmake_minimum_required(VERSION 3.16)\nproject(app LANGUAGES CXX)\nset(CMAKE_CXX_STANDARD 17)\n"
    (tmp_path / "CMakeLists.txt").write_text(
        begin + cmake.replace("target_link", "add_executable(app main.cpp)\ntarget_link")
    )
    configure(tmp_path, tmp_path / "build", **settings)
    said(["cmake", "--build", tmp_path / "build"])
    # In a folder without the guide's file the program gets as far as that.
    assert "resnet50sn.onnx" in said([tmp_path / "build" / "app"], fine=False)


@pytest.mark.parametrize("installed", ["cmake"], indirect=True)
def test_the_cpp_example_says_what_the_digits_are(installed: Installed, tmp_path: Path) -> None:
    from torch import from_numpy

    from sn_deploy.check.digits_data import load_digits_split
    from sn_deploy.models.digits import load_pretrained

    settings = {
        **installed.settings(),
        "onnxruntime_DIR": write_runtime(tmp_path / "onnxruntime", cpp_headers(installed)),
    }
    configure(ROOT / "examples" / "cpp", tmp_path / "build", **settings)
    said(["cmake", "--build", tmp_path / "build"])
    split = load_digits_split()
    images = from_numpy(split.test_images)
    sn_deploy.export(load_pretrained(), images[:1], tmp_path / "digits.onnx", dynamic="batch")
    program = [tmp_path / "build" / "digits", tmp_path / "digits.onnx"]
    expected = load_pretrained()(images).argmax(1)
    pixels = " ".join(f"{value:g}" for value in (split.test_images * 16).flat)
    assert said(program, given=pixels).split() == [str(int(each)) for each in expected]
    assert "65 numbers; expected 64" in said(program, given="1 " * 65, fine=False)
    assert said(program, given="") == ""
    assert "no_such.onnx" in said([program[0], "no_such.onnx"], given=pixels, fine=False)
