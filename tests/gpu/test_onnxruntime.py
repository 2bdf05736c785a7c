"""The library of ONNX Runtime's CUDA provider in the real ONNX Runtime; on a machine without a GPU, its CPU operators.

Both against float64 and against the function in the file, with the proof of who ran.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sn_deploy.graph.op import OP_TYPES, SWITCH_NORM, SWITCH_NORM_ADD_RELU
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.ort import OrtSession
from tests.cases import Case, cases
from tests.fused_forms import fused_roundings, inputs_of
from tests.gpu.conftest import need_gpu
from tests.gpu.device import built
from tests.gpu.test_agreement import chosen_case
from tests.native.models import operator_model
from tests.single_node import single_node_model

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
LIBRARY = "onnxruntime_cuda/libsn_deploy_ort_cuda.so"


@dataclass(frozen=True)
class Runtime:
    """ONNX Runtime with one provider first, and the library."""

    provider: str
    library: Path

    def run(self, model: onnx.ModelProto, inputs: dict[str, np.ndarray], *, native: bool = True) -> np.ndarray:
        """Y. Without ``native`` the function in the file runs."""
        own = {"providers": [self.provider], "native": native, "threads": 1}
        if native:
            own["custom_op_library"] = self.library
        with OrtSession(model.SerializeToString(), **own) as session:  # type: ignore[arg-type]
            return session.run(inputs)["Y"]

    def session(
        self, model: onnx.ModelProto, provider_options: dict[str, str] | None = None, **options: Any
    ) -> onnxruntime.InferenceSession:
        """ONNX Runtime's own session, with SessionOptions' fields in ``options``."""
        own = onnxruntime.SessionOptions()
        own.log_severity_level = 3
        for name, value in {"intra_op_num_threads": 1, **options}.items():
            setattr(own, name, value)
        own.register_custom_ops_library(str(self.library))
        providers: list[Any] = [(self.provider, provider_options or {})]
        made = onnxruntime.InferenceSession(model.SerializeToString(), own, providers=providers)
        assert made.get_providers()[0] == self.provider, f"{self.provider} could not be started"
        return made


@pytest.fixture(scope="session", params=[CPU, pytest.param(CUDA, marks=pytest.mark.gpu)])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    """The CPU provider and the CUDA provider, both served by the CUDA provider's library."""
    if request.param == CUDA:
        need_gpu()  # and torch, imported there, has brought cuBLAS and cuDNN
        if CUDA not in onnxruntime.get_available_providers():
            pytest.skip(f"onnxruntime {onnxruntime.__version__} has no {CUDA} (install onnxruntime-gpu)")
    library = built(LIBRARY) or ort_library([CUDA])
    if library is None or "cuda" not in library.name:
        pytest.skip("libsn_deploy_ort_cuda.so was not found: set SN_PLUGIN_BUILD, or build with SN_WITH_ORT_CUDA=ON")
    return Runtime(request.param, library)


@pytest.fixture
def on_cuda(runtime: Runtime) -> Runtime:
    """The CUDA provider alone."""
    if runtime.provider != CUDA:
        pytest.skip("of the CUDA provider alone")
    return runtime


@settings(max_examples=100)
@given(case=cases(), op_type=st.sampled_from(OP_TYPES))
def test_drawn_cases(runtime: Runtime, case: Case, op_type: str) -> None:
    model = operator_model(op_type, case.folded, [None] * case.x.ndim, case.dtype)
    assert fused_roundings(op_type, runtime.run(model, inputs_of(op_type, case)), case) <= 1


@pytest.mark.parametrize("shape", [(2, 64, 28, 28), (1, 3, 180, 181), (3, 40), (1, 8, 3, 9, 10)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_operator_and_the_function_agree(runtime: Runtime, shape: tuple[int, ...], dtype: str) -> None:
    case = chosen_case(shape, dtype)
    model = single_node_model(case.folded, shape, dtype)
    for native in (True, False):
        y = runtime.run(model, {"X": case.x}, native=native)
        assert fused_roundings(SWITCH_NORM, y, case) <= 1, f"native={native}"


def test_the_operator_ran_where_it_should(runtime: Runtime, tmp_path: Path) -> None:
    case = chosen_case((1, 8, 7, 7), "float32")
    model = single_node_model(case.folded, ["batch", 8, 7, 7], "float32")
    prefix = str(tmp_path / "profile")
    session = runtime.session(model, enable_profiling=True, profile_file_prefix=prefix)
    session.run(None, {"X": case.x})
    events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
    ran = {(args["op_name"], args["provider"]) for args in kernels if "Memcpy" not in args["op_name"]}
    assert ran == {(SWITCH_NORM, runtime.provider)}


def test_in_place(runtime: Runtime) -> None:
    # Y may take the place of A, which nobody else reads.
    case = chosen_case((2, 8, 9, 7), "float32")
    model = operator_model(SWITCH_NORM, case.folded, ["batch", 8, 9, 7], "float32")
    expected = runtime.run(model, {"X": case.x})
    node = model.graph.node[0]
    node.input[0] = "A"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), "zero"))
    model.graph.node.insert(0, onnx.helper.make_node("Add", ["X", "zero"], ["A"]))
    assert runtime.run(model, {"X": case.x}).tobytes() == expected.tobytes()


def test_bad_input_is_refused_with_the_layers_name(runtime: Runtime) -> None:
    case = chosen_case((1, 8, 3, 3), "float32")
    model = operator_model(SWITCH_NORM, case.folded, [None] * 4, "float32")
    session = runtime.session(model)
    for shape in [(1, 5, 3, 3), (1, 8, 1, 1), (1, 8, 0, 3)]:
        with pytest.raises(Exception, match="sn_deploy::SwitchNorm 'layer': X has shape"):
            session.run(None, {"X": np.zeros(shape, np.float32)})
    y = session.run(None, {"X": case.x})[0]
    assert fused_roundings(SWITCH_NORM, y, case) <= 1


def test_runs_at_the_same_time(runtime: Runtime) -> None:
    case = chosen_case((4, 64, 28, 28), "float16")
    model = operator_model(SWITCH_NORM_ADD_RELU, case.folded, [None] * 4, "float16")
    session = runtime.session(model)
    inputs = inputs_of(SWITCH_NORM_ADD_RELU, case)
    run: Callable[[int], bytes] = lambda _: session.run(None, inputs)[0].tobytes()  # noqa: E731
    alone = run(0)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(run, range(60))) == {alone}


def test_a_cuda_graph(on_cuda: Runtime) -> None:
    import torch

    case = chosen_case((2, 64, 28, 28), "float16")
    model = operator_model(SWITCH_NORM, case.folded, [2, 64, 28, 28], "float16")
    expected = on_cuda.run(model, {"X": case.x})
    session = on_cuda.session(model, {"enable_cuda_graph": "1"})
    x = torch.from_numpy(case.x).cuda()
    y = torch.full_like(x, float("nan"))
    binding = session.io_binding()
    shape = tuple(x.shape)
    binding.bind_input("X", "cuda", 0, np.float16, shape, x.data_ptr())
    binding.bind_output("Y", "cuda", 0, np.float16, shape, y.data_ptr())
    for _ in range(5):  # the first ones warm up and capture
        y.fill_(float("nan"))
        torch.cuda.synchronize()
        session.run_with_iobinding(binding)
        torch.cuda.synchronize()
        assert y.cpu().numpy().tobytes() == expected.tobytes()


def test_on_a_stream_of_the_callers(on_cuda: Runtime) -> None:
    import torch

    case = chosen_case((2, 64, 28, 28), "float32")
    model = operator_model(SWITCH_NORM, case.folded, [None] * 4, "float32")
    stream = torch.cuda.Stream()
    own = {"has_user_compute_stream": "1", "user_compute_stream": str(stream.cuda_stream)}
    y = on_cuda.session(model, own).run(None, {"X": case.x})[0]
    assert fused_roundings(SWITCH_NORM, y, case) <= 1
