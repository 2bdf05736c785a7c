"""What ONNX Runtime raises, and what of it says something."""

from __future__ import annotations

import re
from typing import Any, Final

from sn_deploy.errors import SnDeployError

# What stands before the part of a message that says something: the file, the node, and a line of ONNX Runtime's own
# source with the function's signature and the condition that it tests.
_LOADED_FILE: Final = re.compile(r"^Load model from .*? failed:\s*", re.DOTALL)
_FAILED_NODE: Final = re.compile(
    r"^Non-zero status code returned while running (\S+) node\. Name:'(.*?)' Status Message: "
)
_SOURCE_LINE: Final = re.compile(r"\S+\.(?:h|hpp|cc|cpp|cu|cuh):\d+ (?:.*? was false\. (?=\S))?")


def ort_errors(ort: Any) -> tuple[type[Exception], ...]:
    """The classes of what ONNX Runtime raises, which share no base but Exception. ``ort``: the module."""
    state = ort.capi.onnxruntime_pybind11_state
    names = ("Fail", "InvalidArgument", "NoSuchFile", "NoModel", "EngineError", "RuntimeException", "InvalidProtobuf",
             "ModelLoaded", "NotImplemented", "InvalidGraph", "EPFail")  # fmt: skip
    return (*(getattr(state, name) for name in names), RuntimeError, ValueError)


def load_error(error: Exception, where: str) -> SnDeployError:
    """What it raised at a model that it can't load."""
    what = f"ONNX Runtime can't load it: {reason_of(error)}"
    if "Duplicate model-local function" in what:
        return SnDeployError(
            what,
            where=where,
            expected="one function of a name",
            mend="if it was one of sn-deploy specialise, sn-deploy fuse or inline makes it anew",
        )
    if "Could not find an implementation" not in what:
        return SnDeployError(what, where=where, expected="a valid ONNX file")
    return SnDeployError(
        what,
        where=where,
        expected="operators in types that its provider has",
        mend="what the CPU lacks, bfloat16 most of all, runs on a GPU; on the CPU use float32 or fp16",
    )


def reason_of(error: Exception) -> str:
    """The part of a message of ONNX Runtime's that says something."""
    # "[ONNXRuntimeError] : 1 : FAIL : Load model from x.onnx failed:…" -> the part that says something.
    text = str(error).split(" : ", 3)[-1].strip().rstrip(".")
    text = _LOADED_FILE.sub("", text)
    return _SOURCE_LINE.sub("", _FAILED_NODE.sub(r"node \2 (\1): ", text))
