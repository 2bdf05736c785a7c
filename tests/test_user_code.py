"""References to the user's code: found, run, and every way in which they can be wrong told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from sn_deploy import user_code
from sn_deploy.errors import SnDeployError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a user's: it is the current one, and holds a package and scripts."""
    package = tmp_path / "nets_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "resnet.py").write_text(
        "class Space:\n    @staticmethod\n    def build(width=4):\n        return ('net', width)\n"
        "def resnet50(width, depth=50):\n    return (width, depth)\n"
        "def broken():\n    raise ValueError('no weights')\n"
    )
    (tmp_path / "needs_more.py").write_text("import surely_not_installed\n")
    (tmp_path / "fails.py").write_text("1 / 0\n")
    (tmp_path / "script.py").write_text("def build(): pass\nraise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_modules_of_the_current_folder_are_found(project: Path) -> None:
    function = user_code.load_object("nets_of_mine.resnet:resnet50", option="--model")
    assert user_code.call(function, {"width": 8}, option="--model") == (8, 50)
    nested = user_code.load_object("nets_of_mine.resnet:Space.build", option="--model")
    assert user_code.call(nested, {}, option="--model") == ("net", 4)


def test_files_are_found_by_their_path(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "my_script.py"
    elsewhere.write_text("def build():\n    return 3\n")
    assert user_code.load_object(f"{elsewhere}:build", option="--model")() == 3


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("nets_of_mine.resnet", r"--model nets_of_mine.resnet: can't be read \(expected PACKAGE.MODULE:CALLABLE"),
        ("nets_of_mine.resnet:", "can't be read"),
        ("nowhere.resnet:build", "there is no module 'nowhere'; run from the folder"),
        ("nets_of_mine.vgg:build", "there is no module 'nets_of_mine.vgg'"),
        ("nets_of_mine.resnet:resnet5", "nets_of_mine.resnet has no 'resnet5'; did you mean resnet50"),
        ("needs_more:build", "needs_more needs 'surely_not_installed', which isn't installed"),
        ("fails:build", "importing fails failed: ZeroDivisionError: division by zero"),
        ("no_such.py:build", "there is no such file"),
        ("fails.py:build", "importing it failed: ZeroDivisionError"),
    ],
)
def test_references_that_lead_nowhere(project: Path, reference: str, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        user_code.load_object(reference, option="--model")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "resnet50",
            {},
            r"missing a required argument: .* \(expected resnet50\(width, depth=50\)\); give them",
        ),
        ("resnet50", {"width": 1, "hight": 2}, "unexpected keyword argument 'hight'"),
        ("broken", {}, "failed: ValueError: no weights; see where with sn-deploy --traceback"),
        ("__name__", {}, "is a str, not callable"),
    ],
)
def test_calls_that_fail(project: Path, name: str, arguments: dict[str, object], message: str) -> None:
    function = user_code.load_object(f"nets_of_mine.resnet:{name}", option="--model")
    with pytest.raises(SnDeployError, match=message):
        user_code.call(function, arguments, option="--model")


def test_code_that_ends_the_program_ends_in_words(project: Path) -> None:
    """A script that runs when it is imported may end with 0, and nothing would have been done."""
    for reference in ("script:build", "script.py:build"):
        with pytest.raises(SnDeployError, match=r"importing .* ended the program, with None; put what a script does"):
            user_code.load_object(reference, option="--model")

    def build() -> None:
        raise SystemExit(3)

    with pytest.raises(SnDeployError, match="--model: calling it ended the program, with 3"):
        user_code.call(build, {}, option="--model")
