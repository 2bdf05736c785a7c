"""`sn-deploy serve triton`: what it writes, and what it refuses before it writes anything."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.native import ort_library
from sn_deploy.serve import DeployOptions, ServeOptions, ServeReport, serve_triton
from sn_deploy.serve.interface import interface_from_onnx
from sn_deploy.serve.labels import labels_file
from sn_deploy.serve.model_config import check_config, config_from_text, text_from_config
from sn_deploy.serve.options import parse_delay
from sn_deploy.serve.repository import _alone
from tests.check.small_net import CLASSES, SIZE, small_net, write_net
from tests.engine.made_sidecar import made_sidecar, write_sidecar
from tests.serve.conftest import need

pytestmark = need("tritonclient")
OPTIONS = {"name": "net", "max_batch": 16, "preferred_batch": (4, 8), "max_queue_delay_us": 500}
# Without the options that are for batches.
ALONE: dict[str, Any] = {"preferred_batch": (), "max_queue_delay_us": 0}


def serve(
    model: Path, repository: Path, *, engines: tuple[str, ...] = (), config: str | None = None, **more: Any
) -> ServeReport:
    return serve_triton(model, repository, ServeOptions(**{**OPTIONS, **more}), engines=engines, config=config)


def message(report: ServeReport) -> Any:
    """The written config.pbtxt, read as Triton reads it."""
    path = report.folder / "config.pbtxt"
    return config_from_text(path.read_text(), path)


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_config_is_the_models(net: Path, tmp_path: Path) -> None:
    report = serve(net, tmp_path / "repository")
    config = message(report)
    assert (config.name, config.backend, config.max_batch_size) == ("net", "onnxruntime", 16)
    (image,), (logits,) = config.input, config.output
    assert (image.name, image.data_type, list(image.dims)) == ("image", 11, [3, SIZE, SIZE])  # 11 is TYPE_FP32
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", 11, [CLASSES])
    assert list(config.dynamic_batching.preferred_batch_size) == [4, 8]
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert config.version_policy.latest.num_versions == 1
    (group,) = config.instance_group
    assert (group.count, group.Kind.Name(group.kind)) == (1, "KIND_AUTO")
    assert [request.batch_size for request in config.model_warmup] == [1, 4, 8, 16]
    assert all(list(request.inputs["image"].dims) == [3, SIZE, SIZE] for request in config.model_warmup)
    assert (report.folder / "1" / "model.onnx").read_bytes() == net.read_bytes()
    noted = {key: value.string_value for key, value in config.parameters.items()}
    assert noted == {
        "sn_deploy.1.precision": "float32",
        "sn_deploy.1.sha256.model.onnx": hashlib.sha256(net.read_bytes()).hexdigest(),
    }
    assert report.proved is not None
    assert report.command == ["tritonserver", "--model-repository=/models"]


@pytest.mark.skipif(ort_library() is None, reason="the native operators weren't built")
def test_the_native_operators_lie_beside_the_config_which_names_them_where_the_server_sees_them(
    net: Path, tmp_path: Path
) -> None:
    report = serve(net, tmp_path / "repository", device="cpu", server_path="/srv/models", threads=2)
    config = message(report)
    library = ort_library()
    assert library is not None
    assert (report.folder / library.name).read_bytes() == library.read_bytes()
    assert list(config.model_operations.op_library_filename) == [f"/srv/models/net/{library.name}"]
    assert config.instance_group[0].Kind.Name(config.instance_group[0].kind) == "KIND_CPU"
    assert config.parameters["intra_op_thread_count"].string_value == "2"
    # On a GPU they would take each layer to the CPU and back.
    other = serve(net, tmp_path / "other")
    assert not message(other).model_operations.op_library_filename
    assert any("device='cpu'" in note for note in other.notes)
    without = serve(net, tmp_path / "without", device="cpu", native=False)
    assert (list(without.notes), list(message(without).model_operations.op_library_filename)) == ([], [])


@pytest.mark.skipif(ort_library() is None, reason="the native operators weren't built")
def test_another_build_of_the_operators_is_for_all_versions_and_is_told(net: Path, tmp_path: Path) -> None:
    library = serve(net, tmp_path / "repository", device="cpu").folder / "libsn_deploy_ort.so"
    assert not serve(net, tmp_path / "repository", device="cpu").notes
    library.write_bytes(b"an older build")
    report = serve(net, tmp_path / "repository", device="cpu")
    assert any("libsn_deploy_ort.so is replaced" in note for note in report.notes)
    own = ort_library()
    assert own is not None
    assert library.read_bytes() == own.read_bytes()


def test_called_again_it_adds_a_version_and_touches_none(net: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    serve(net, repository)
    config = repository / "net" / "config.pbtxt"
    config.write_text("# by hand\n" + config.read_text())
    before = everything(repository)
    second = write_net(tmp_path / "second.onnx", spoil=lambda tensors: tensors["fc.bias"].__iadd__(1))
    report = serve(second, repository)
    after = everything(repository)
    assert report.version == 2
    assert {name: after[name] for name in before if name != "net/config.pbtxt"} == {
        name: value for name, value in before.items() if name != "net/config.pbtxt"
    }
    assert (repository / "net" / "2" / "model.onnx").read_bytes() == second.read_bytes()
    assert (repository / "net-2.Dockerfile").is_file()
    assert config.read_text().startswith("# by hand\n")
    assert {"sn_deploy.1.precision", "sn_deploy.2.precision"} < set(message(report).parameters)
    # A version that was deleted isn't made again while there is a newer one.
    (repository / "net" / "1" / "model.onnx").unlink()
    (repository / "net" / "1").rmdir()
    assert serve(net, repository).version == 3


def take_back(repository: Path, version: int) -> None:
    """As somebody does who has found a version to be wrong."""
    shutil.rmtree(repository / "net" / str(version))
    for file in repository.glob(f"net-{version}.*"):
        file.unlink()


@pytest.mark.parametrize("config", ["keep", "replace"])
def test_a_version_that_is_made_again_leaves_no_notes_of_what_it_was(config: str, net: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    serve(net, repository)
    model = onnx.load(net)
    onnx.save(model, tmp_path / "apart.onnx", save_as_external_data=True, location="weights.bin", size_threshold=64)
    serve(tmp_path / "apart.onnx", repository)
    assert "sn_deploy.2.sha256.weights.bin" in message(serve(net, repository)).parameters
    take_back(repository, 3)
    take_back(repository, 2)
    file = repository / "net" / "config.pbtxt"
    own = '# parameters { key: "sn_deploy.2.precision" }\nparameters { key: "mine" value { string_value: "{}" } }\n'
    file.write_text(own + file.read_text())
    report = serve(net, repository, config=config)
    text = file.read_text()
    assert report.version == 2
    assert text.startswith(own) == (config == "keep")
    assert text.count('key: "sn_deploy.2.precision"') == (2 if config == "keep" else 1)  # the comment's, too
    noted = message(report).parameters
    assert noted["sn_deploy.2.sha256.model.onnx"].string_value == hashlib.sha256(net.read_bytes()).hexdigest()
    assert "sn_deploy.2.sha256.weights.bin" not in noted
    # What is noted of the other versions, those that were deleted among them, stays.
    assert {"sn_deploy.1.sha256.model.onnx", "sn_deploy.3.precision"} < set(noted)


def test_notes_in_another_form_are_to_be_deleted_by_hand(net: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    serve(net, repository)
    take_back(repository, 1)
    file = repository / "net" / "config.pbtxt"
    text = config_from_text(file.read_text(), file)
    listed = 'parameters [{key: "sn_deploy.1.precision", value {string_value: "float16"}}]\n'
    text.parameters.clear()
    file.write_text(text_from_config(text) + listed)
    before = everything(repository)
    with pytest.raises(SnDeployError, match=r"has parameters of version 1, which isn't there: sn_deploy\.1\.precision"):
        serve(net, repository)
    assert everything(repository) == before


def test_other_options_than_before_have_to_be_meant(net: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    serve(net, repository)
    before = everything(repository)
    with pytest.raises(SnDeployError, match=r"config.pbtxt: says otherwise of max_batch_size, model_warmup; give the"):
        serve(net, repository, max_batch=32)
    assert everything(repository) == before
    kept = serve(net, repository, max_batch=32, config="keep")
    assert message(kept).max_batch_size == kept.max_batch == 16
    assert any("differs in max_batch_size" in note for note in kept.notes)
    replaced = serve(net, repository, max_batch=32, config="replace")
    assert message(replaced).max_batch_size == 32
    assert replaced.version == 3
    assert {f"sn_deploy.{version}.precision" for version in (1, 2, 3)} < set(message(replaced).parameters)


def _rename_output(text: str) -> str:
    return text.replace('name: "logits"', 'name: "probabilities"')


WRONG_CONFIGS: list[tuple[Callable[[str], str], str]] = [
    (_rename_output, "output probabilities isn't in the model, which has logits"),
    (
        lambda text: text.replace('name: "image"', 'name: "pixels"', 1),
        "input pixels isn't in the model, which has image",
    ),
    (lambda text: text.replace("dims: 3\n", "dims: 1\n", 1), r"input image has dims \[1, 8, 8\], and the model's are"),
    (lambda text: text.replace("FP32", "FP16", 1), "input image is TYPE_FP16, and the model's is TYPE_FP32"),
    (lambda text: text.replace("TYPE_FP32", "32", 1), "input image is of type 32, and the model's is TYPE_FP32"),
    (
        lambda text: text.replace("max_batch_size: 16", "max_batch_size: 0"),
        r"has dims \[3, 8, 8\], and the model's are",
    ),
    (lambda text: text.replace("max_batch_size", "max_batchsize"), 'no field named "max_batchsize"'),
    (lambda text: text.replace("count: 1", 'count: "one"'), "can't be read: .* integer"),
    (lambda text: text.replace('"onnxruntime"', '"tensorrt"'), "its versions are run by tensorrt"),
    (lambda text: text.replace('backend: "onnxruntime"', ""), 'names no backend; add the line backend: "onnxruntime"'),
    (lambda text: "", "names no backend"),
]


@pytest.mark.parametrize(("spoil", "words"), WRONG_CONFIGS, ids=[words for _, words in WRONG_CONFIGS])
def test_a_config_that_is_wrong_for_the_model_is_refused(
    spoil: Callable[[str], str], words: str, net: Path, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    config = serve(net, repository).folder / "config.pbtxt"
    config.write_text(spoil(config.read_text()))
    before = everything(repository)
    for choice in (None, "keep"):
        with pytest.raises(SnDeployError, match=words):
            serve(net, repository, config=choice)
    assert everything(repository) == before


def test_another_model_is_no_version_of_this_one(net: Path, tmp_path: Path) -> None:
    serve(net, tmp_path / "repository")
    for name, change, words in (
        ("wide", {"size": 9}, r"input image has dims \[3, 8, 8\], and the model's are \[3, 9, 9\]"),
        ("half", {"dtype": "float16"}, "the model's is TYPE_FP16"),
        ("fixed", {"batch": 1}, "max_batch_size is 16, and the first axis of input image is fixed to 1"),
        ("named", {"input_name": "pixels"}, "input image isn't in the model"),
    ):
        model = write_net(tmp_path / f"{name}.onnx", **change)  # type: ignore[arg-type]
        options = {**ALONE, "max_batch": None} if name == "fixed" else {}
        with pytest.raises(SnDeployError, match=words):
            serve(model, tmp_path / "repository", **options)
    assert not (tmp_path / "repository" / "net" / "2").exists()


def test_a_model_with_a_fixed_batch_is_served_without_batching(tmp_path: Path) -> None:
    model = write_net(tmp_path / "fixed.onnx", batch=2)
    report = serve(model, tmp_path / "repository", max_batch=None, **ALONE)
    config = message(report)
    assert (config.max_batch_size, config.HasField("dynamic_batching")) == (0, False)
    assert list(config.input[0].dims) == [2, 3, SIZE, SIZE]
    assert [(one.batch_size, list(one.inputs["image"].dims)) for one in config.model_warmup] == [
        (1, [2, 3, SIZE, SIZE])
    ]
    assert report.why_not_batched == "the first axis of input image is fixed to 2"
    with pytest.raises(
        SnDeployError, match=r"ServeOptions.max_batch: the model takes no batches .*; export it with dynamic='batch'"
    ):
        serve(model, tmp_path / "other", preferred_batch=())
    with pytest.raises(SnDeployError, match=r"ServeOptions.max_queue_delay_us: the model takes no batches"):
        serve(model, tmp_path / "other", max_batch=None, preferred_batch=())


def test_axes_that_the_file_leaves_open(tmp_path: Path) -> None:
    model = write_net(tmp_path / "open.onnx", size="size")
    report = serve(model, tmp_path / "repository")
    assert list(message(report).input[0].dims) == [3, -1, -1]
    assert not message(report).model_warmup
    assert report.proved is None
    assert any("ServeOptions.sizes" in note for note in report.notes)
    sized = serve(model, tmp_path / "sized", sizes={"image": (1, 3, 12, 12)})
    assert sized.proved is not None
    assert list(message(sized).model_warmup[0].inputs["image"].dims) == [3, 12, 12]
    with pytest.raises(SnDeployError, match=r"ServeOptions.sizes image: 1x4x12x12 \(expected image: float32"):
        serve(model, tmp_path / "wrong", sizes={"image": (1, 4, 12, 12)})
    with pytest.raises(SnDeployError, match=r"ServeOptions.sizes: there is no input 'pixels' \(expected image\)"):
        serve(model, tmp_path / "wrong", sizes={"pixels": (1, 3, 12, 12)})


def test_half_precision_keeps_its_types_and_is_noted(tmp_path: Path) -> None:
    report = serve(write_net(tmp_path / "half.onnx", dtype="float16"), tmp_path / "repository")
    config = message(report)
    assert (config.input[0].data_type, config.output[0].data_type) == (10, 10)  # TYPE_FP16
    assert config.parameters["sn_deploy.1.precision"].string_value == "float16"


def test_labels(net: Path, tmp_path: Path) -> None:
    names = [f"class {index}" for index in range(CLASSES)]
    labels = tmp_path / "labels.txt"
    labels.write_text("\ufeff" + "\n".join(names) + "\n\n")  # as editors of Windows write it
    report = serve(net, tmp_path / "repository", labels={"": labels})
    assert message(report).output[0].label_filename == "logits.labels.txt"
    assert (report.folder / "logits.labels.txt").read_text().splitlines() == names
    assert "logits.labels.txt" in (tmp_path / "repository" / "net-1.Dockerfile").read_text()
    other = tmp_path / "other.txt"
    other.write_text("\n".join(reversed(names)))
    with pytest.raises(SnDeployError, match=r"logits.labels.txt: has other labels"):
        serve(net, tmp_path / "repository", labels={"": other})
    assert not (report.folder / "2").exists()
    serve(net, tmp_path / "repository", labels={"": other}, config="keep")
    assert (report.folder / "logits.labels.txt").read_text().splitlines() == names
    serve(net, tmp_path / "repository", labels={"": other}, config="replace")
    assert (report.folder / "logits.labels.txt").read_text().splitlines() == names[::-1]
    labels.write_text("one\ntwo\n")
    with pytest.raises(
        SnDeployError, match=r"has 2 lines \(expected one for each class of logits: float32 \(batch, 10\)"
    ):
        serve(net, tmp_path / "other", labels={"logits": labels})
    with pytest.raises(SnDeployError, match="there is no output 'map'"):
        serve(net, tmp_path / "other", labels={"map": labels})


def test_labels_where_the_file_leaves_the_number_of_classes_open(tmp_path: Path) -> None:
    model = _per_batch_net(tmp_path / "net.onnx", [helper.make_node("Relu", ["x"], ["y"])], y=("batch", "classes"))
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    assert (serve(model, tmp_path / "repository", labels={"": labels}).folder / "y.labels.txt").is_file()
    labels.write_text("\n")
    with pytest.raises(SnDeployError, match=r"has 0 lines"):
        serve(model, tmp_path / "other", labels={"": labels})


def test_labels_of_an_output_with_any_name() -> None:
    assert labels_file("model/head:0") == "model_head_0.labels.txt"
    assert labels_file("../up") == "_up.labels.txt"


def _per_batch_net(
    path: Path,
    nodes: list[onnx.NodeProto],
    *,
    x: tuple[str | int, ...] = ("batch", 4),
    y: tuple[str | int, ...] = ("batch", 4),
    **tensors: np.ndarray[Any, Any],
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, y)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_a_model_whose_samples_see_each_other_is_refused(tmp_path: Path) -> None:
    mean = helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=1)
    minus = helper.make_node("Sub", ["x", "mean"], ["y"])
    model = _per_batch_net(tmp_path / "mixes.onnx", [mean, minus], axes=np.array([0]))
    with pytest.raises(CheckFailedError, match=r"output y: a sample's result differs by .* in a batch and alone"):
        serve(model, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
    alone = serve(model, tmp_path / "repository", max_batch=0, **ALONE)
    assert message(alone).max_batch_size == 0


def test_integers_have_to_be_the_same(tmp_path: Path) -> None:
    def model(name: str, axis: int) -> Path:
        nodes = [helper.make_node("Hardmax", ["x"], ["hot"], axis=axis), helper.make_node("Cast", ["hot"], ["y"], to=7)]
        path = _per_batch_net(tmp_path / f"{name}.onnx", nodes)
        made = onnx.load(path)
        made.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
        onnx.save(made, path)
        return path

    assert serve(model("own", 1), tmp_path / "repository").proved is not None
    with pytest.raises(CheckFailedError, match="output y: a sample's integers differ in a batch and alone"):
        serve(model("mixes", 0), tmp_path / "repository", name="mixes")


def test_what_deploys_a_version_is_never_overwritten(net: Path, tmp_path: Path) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "net-1.kserve.yaml").write_text("mine")
    before = everything(tmp_path)
    with pytest.raises(SnDeployError, match=r"net-1.kserve.yaml: is there already; move it away"):
        serve(net, tmp_path / "repository")
    assert everything(tmp_path) == before


def test_infinities_and_nan_are_no_difference_where_they_are_the_same(tmp_path: Path) -> None:
    """Masks are made of the former; random values may give the latter."""
    nodes = [helper.make_node("Sqrt", ["x"], ["root"]), helper.make_node("Add", ["root", "mask"], ["y"])]
    mask = np.array([0, -np.inf, 0, 0], np.float32)
    model = _per_batch_net(tmp_path / "masked.onnx", nodes, mask=mask)
    assert serve(model, tmp_path / "repository").proved is not None
    # The planted fault: the infinity is another one where the batch is larger.
    nodes = [
        helper.make_node("ReduceSum", ["ones"], ["count"], keepdims=0),
        helper.make_node("Sub", ["count", "two"], ["sign"]),
        helper.make_node("Div", ["sign", "zero"], ["infinite"]),
        helper.make_node("Max", ["x", "infinite"], ["y"]),
    ]
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Expand", ["one", "shape"], ["ones"]),
        *nodes,
    ]
    numbers = {"one": np.float32([[1]]), "two": np.float32(8), "zero": np.float32(0)}
    model = _per_batch_net(tmp_path / "other.onnx", nodes, **numbers)
    with pytest.raises(CheckFailedError, match=r"output y: a sample's result differs by .* in a batch and alone"):
        serve(model, tmp_path / "repository", name="other")


def test_an_axis_of_any_size_as_some_exporters_write_it(tmp_path: Path) -> None:
    relu = helper.make_node("Relu", ["x"], ["y"])
    report = serve(_per_batch_net(tmp_path / "x.onnx", [relu], x=(-1, 4), y=(-1, 4)), tmp_path / "r")
    assert (report.max_batch, list(message(report).input[0].dims)) == (16, [4])


def test_a_batch_that_is_fixed_inside_is_refused(tmp_path: Path) -> None:
    one = helper.make_node("Reshape", ["x", "shape"], ["flat"])
    model = _per_batch_net(
        tmp_path / "fixed.onnx", [one, helper.make_node("Identity", ["flat"], ["y"])], shape=np.array([1, 4])
    )
    with pytest.raises(SnDeployError, match="ONNX Runtime failed"):
        serve(model, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_what_has_no_axis_beside_the_batch(tmp_path: Path) -> None:
    score = helper.make_node("ReduceMax", ["x", "axes"], ["y"], keepdims=0)
    model = _per_batch_net(tmp_path / "score.onnx", [score], y=("batch",), axes=np.array([1]))
    for _ in range(2):  # the second time, config.pbtxt is held against the model
        config = message(serve(model, tmp_path / "repository"))
        (output,) = config.output
        assert (list(output.dims), output.HasField("reshape"), list(output.reshape.shape)) == ([1], True, [])
        assert not config.input[0].HasField("reshape")
    one = _per_batch_net(tmp_path / "one.onnx", [helper.make_node("Relu", ["x"], ["y"])], x=("n",), y=("n",))
    config = message(serve(one, tmp_path / "repository", name="one"))
    assert [list(request.inputs["x"].dims) for request in config.model_warmup] == [[1]] * 4
    # Without batches it is an axis like any other; a scalar, Triton doesn't have.
    config = message(serve(model, tmp_path / "alone", max_batch=0, **ALONE))
    assert (list(config.output[0].dims), config.output[0].HasField("reshape")) == ([-1], False)
    scalar = _per_batch_net(
        tmp_path / "scalar.onnx", [helper.make_node("ReduceMax", ["x"], ["y"], keepdims=0)], x=(2, 4), y=()
    )
    with pytest.raises(SnDeployError, match="y is a scalar, and Triton has none"):
        serve(scalar, tmp_path / "scalar", max_batch=None, **ALONE)


def test_outputs_whose_size_the_values_decide(tmp_path: Path) -> None:
    nodes = [helper.make_node("NonZero", ["x"], ["places"]), helper.make_node("Cast", ["places"], ["y"], to=1)]
    model = _per_batch_net(tmp_path / "places.onnx", nodes, y=("batch", "count"))
    with pytest.raises(SnDeployError, match=r"output y of a batch of 3 has shape \(2, 12\)"):
        serve(model, tmp_path / "repository")
    nodes = [
        helper.make_node("TopK", ["x", "k"], ["largest", "found"], axis=1),
        helper.make_node("ReduceMax", ["found"], ["most"], keepdims=0),
        helper.make_node("Range", ["zero", "most", "one"], ["some"]),
        helper.make_node("Gather", ["x", "some"], ["y"], axis=1),
    ]
    scalars = {"zero": np.array(0), "one": np.array(1)}
    model = _per_batch_net(tmp_path / "few.onnx", nodes, y=("batch", "count"), k=np.array([1]), **scalars)
    with pytest.raises(
        CheckFailedError, match=r"output y of one sample has shape .*as in a batch\); turn batching off"
    ):
        serve(model, tmp_path / "repository")
    none = helper.make_node("Slice", ["x", "zero", "zero", "one"], ["y"])
    ends = {"zero": np.array([0]), "one": np.array([1])}
    model = _per_batch_net(tmp_path / "none.onnx", [none], y=("batch", "count"), **ends)
    assert serve(model, tmp_path / "repository").proved is not None


def test_external_data_goes_along(net: Path, tmp_path: Path) -> None:
    model = tmp_path / "external.onnx"
    onnx.save(small_net(), model, save_as_external_data=True, location="weights.bin", size_threshold=512)
    report = serve(model, tmp_path / "repository")
    files = {path.name for path in (report.folder / "1").iterdir()}
    assert files == {"model.onnx", "weights.bin"}
    assert "sn_deploy.1.sha256.weights.bin" in message(report).parameters
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(SnDeployError, match=r"its external data weights.bin is missing"):
        serve(model, tmp_path / "other")


def test_engines_by_kind_of_gpu(net: Path, tmp_path: Path) -> None:
    for name in ("a.engine", "b.plan", "c.trt"):
        (tmp_path / name).write_bytes(name.encode())
    engines = (f"sm90={tmp_path}/a.engine", f"sm_89={tmp_path}/b.plan", f"{tmp_path}/c.trt")
    report = serve(net, tmp_path / "repository", engines=engines, native=False)
    config = message(report)
    assert dict(config.cc_model_filenames) == {"9.0": "model_sm90.plan", "8.9": "model_sm89.plan"}
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.instance_group[0].Kind.Name(config.instance_group[0].kind) == "KIND_GPU"
    assert {path.name: path.read_bytes() for path in (report.folder / "1").iterdir()} == {
        "model_sm90.plan": b"a.engine",
        "model_sm89.plan": b"b.plan",
        "model.plan": b"c.trt",
    }
    assert "nvidia.com/gpu: 1" in (tmp_path / "repository" / "net-1.kubernetes.yaml").read_text()


def test_the_plugin_goes_with_engines_and_the_command_loads_it(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugins = tmp_path / "sn_deploy" / "plugins"
    plugins.mkdir(parents=True)
    (tmp_path / "none.engine").write_bytes(b"engine")
    with monkeypatch.context() as patch:
        patch.setattr("sn_deploy.__path__", [str(plugins.parent)])
        bare = serve(net, tmp_path / "bare", engines=(f"{tmp_path}/none.engine",))
    assert "no TensorRT plugin is built here: engines that need it won't load (sn-deploy doctor)" in bare.notes
    for major in (10, 11):
        (plugins / f"libsn_deploy_trt{major}.so").write_bytes(b"plugin")
    monkeypatch.setattr("sn_deploy.__path__", [str(plugins.parent)])
    (tmp_path / "a.engine").write_bytes(b"engine")
    with pytest.raises(SnDeployError, match=r"ServeOptions\.tensorrt: there are plugins for TensorRT 10 and 11"):
        serve(net, tmp_path / "repository", engines=(f"{tmp_path}/a.engine",))
    report = serve(net, tmp_path / "repository", engines=(f"{tmp_path}/a.engine",), tensorrt=11)
    plugin = "/models/net/libsn_deploy_trt11.so"
    assert report.command[-1] == f"--backend-config=tensorrt,plugins={plugin}"
    assert (report.folder / "libsn_deploy_trt11.so").is_file()
    assert f'"--backend-config=tensorrt,plugins={plugin}"' in (tmp_path / "repository" / "net-1.Dockerfile").read_text()


def _engine(folder: Path, name: str, onnx_file: Path, **changes: Any) -> Path:
    """A file with a sidecar as `sn-deploy build` writes it."""
    path = folder / name
    path.write_bytes(name.encode())
    own = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": len(name)}
    onnx_facts = {"file": onnx_file.name, "sha256": hashlib.sha256(onnx_file.read_bytes()).hexdigest()}
    write_sidecar(made_sidecar(engine=own, onnx=onnx_facts, **changes), path)
    return path


NO_PLUGIN = {"use": "none", "library": None, "sha256": None}


def test_what_the_sidecars_of_engines_say_is_kept_to(tmp_path: Path) -> None:
    half = write_net(tmp_path / "half.onnx", dtype="float16")
    engine = _engine(tmp_path, "h200.engine", half, plugin=NO_PLUGIN)
    ada_gpu = {"name": "L4", "compute_capability": "8.9"}
    ada = _engine(tmp_path, "ada.engine", half, plugin=NO_PLUGIN, gpu=ada_gpu)
    report = serve(half, tmp_path / "repository", engines=(str(engine), str(ada)))
    config = message(report)
    assert dict(config.cc_model_filenames) == {"9.0": "model_sm90.plan", "8.9": "model_sm89.plan"}
    assert config.parameters["sn_deploy.1.precision"].string_value == "float16"
    # The file alone says the same; its profiles take 32 at most.
    alone = serve(engine, tmp_path / "alone", max_batch=32)
    assert message(alone).input == config.input
    assert message(alone).output == config.output
    assert message(alone).max_batch_size == 32
    embedded = _engine(tmp_path, "embedded.engine", half, plugin={**NO_PLUGIN, "use": "embedded"})
    later = _engine(tmp_path, "later.engine", half, plugin=NO_PLUGIN, settings={"version_compatible": True})
    for file in (embedded, later):  # both hold code that runs on the host
        assert serve(file, tmp_path / file.stem).command[-1] == "--backend-config=tensorrt,version-compatible=true"
    portable = _engine(
        tmp_path, "any.engine", half, plugin=NO_PLUGIN, settings={"hardware_compatibility": "ampere-plus"}
    )
    assert not message(serve(portable, tmp_path / "portable")).cc_model_filenames
    ampere = serve(half, tmp_path / "ampere", engines=(f"sm86={portable}",))
    assert dict(message(ampere).cc_model_filenames) == {"8.6": "model_sm86.plan"}
    same = {"hardware_compatibility": "same-compute-capability"}  # for other models of GPU, none of another capability
    same_engine = _engine(tmp_path, "same.engine", half, plugin=NO_PLUGIN, settings=same)
    assert dict(message(serve(same_engine, tmp_path / "same")).cc_model_filenames) == {"9.0": "model_sm90.plan"}
    stripped = _engine(tmp_path, "stripped.engine", half, plugin=NO_PLUGIN, settings={"strip_weights": True})
    newer = _engine(
        tmp_path, "newer.engine", half, plugin=NO_PLUGIN, tensorrt="10.16.0.1", gpu={**ada_gpu, "name": "L40"}
    )
    eleven = _engine(tmp_path, "eleven.engine", half, plugin=NO_PLUGIN, tensorrt="11.2.1.2")
    other = write_net(tmp_path / "other.onnx")
    damaged = _engine(tmp_path, "damaged.engine", half, plugin=NO_PLUGIN)
    damaged.write_bytes(b"something else")
    wanting = _engine(tmp_path, "wanting.engine", half)
    for model, engines, options, words in (
        (
            engine,
            (),
            {"max_batch": 64},
            "ServeOptions.max_batch: 64 is more than the engines take (expected at most 32",
        ),
        (half, (f"sm89={engine}",), {}, "was built on NVIDIA H200 (compute capability 9.0) (expected 8.9)"),
        (half, (f"sm80={ada}", str(ada)), {}, "was built on L4 (compute capability 8.9) (expected 8.0)"),
        (half, (str(ada), str(eleven)), {}, "the engines are of TensorRT 10 and 11"),
        (half, (str(engine), str(newer)), {}, "the engines are of TensorRT 10.15.1.29 and 10.16.0.1"),
        (half, (f"sm75={portable}",), {}, "was built on NVIDIA H200 (compute capability 9.0) (expected 7.5)"),
        (half, (f"sm89={same_engine}",), {}, "was built on NVIDIA H200 (compute capability 9.0) (expected 8.9)"),
        (stripped, (), {}, "is without its weights, and Triton puts none in"),
        (engine, (), {"device": "cpu"}, "ServeOptions(device='cpu'): engines run on GPUs alone"),
        (engine, (), {"threads": 4}, "ServeOptions.threads: engines run on GPUs alone"),
        (other, (str(engine),), {}, "was built from half.onnx with other content"),
        (half, (str(damaged),), {}, "isn't what its sidecar describes"),
        (half, (str(wanting),), {}, "the plugin for TensorRT 10 isn't built here, and the engines need it"),
        (half, (str(wanting),), {"tensorrt": 11}, "ServeOptions(tensorrt=11): the engines are of TensorRT 10"),
        (engine, (str(engine),), {}, "is an engine (expected the ONNX file that the engines were built from)"),
    ):
        with pytest.raises(SnDeployError) as error:
            serve(model, tmp_path / "wrong", engines=engines, **options)
        assert words in str(error.value)
    assert not (tmp_path / "wrong").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"inputs": [{"name": "image", "dtype": "float8_e4m3fn", "shape": ["batch", 3]}]}, "a type that Triton has no"),
        ({"inputs": [{"name": "image", "dtype": "complex", "shape": ["batch", 3]}]}, "a type that Triton has no"),
        ({"inputs": [{"name": "image", "dtype": "floating", "shape": ["batch", 3]}]}, "an input or output is wrong"),
        ({"inputs": [{"name": "image", "dtype": "float32", "shape": None}]}, "an input or output is wrong"),
        ({"outputs": []}, "has no inputs or no outputs"),
    ],
)
def test_what_an_engine_takes_and_gives_has_to_be_known(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    half = write_net(tmp_path / "half.onnx", dtype="float16")
    engine = _engine(tmp_path, "odd.plan", half, plugin=NO_PLUGIN, **changes)
    with pytest.raises(SnDeployError, match=words):
        serve(engine, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def _profiles(*batches: tuple[int, int]) -> list[dict[str, dict[str, list[int]]]]:
    return [{"image": {"min": [low, 3, 8, 8], "opt": [high, 3, 8, 8], "max": [high, 3, 8, 8]}} for low, high in batches]


def test_all_profiles_of_engines_are_served(tmp_path: Path) -> None:
    """Triton takes the first alone where its config names none, and makes batches of any size up to the largest."""
    half = write_net(tmp_path / "half.onnx", dtype="float16")

    def engine(name: str, *batches: tuple[int, int], **more: Any) -> Path:
        return _engine(tmp_path, name, half, plugin=NO_PLUGIN, profiles=_profiles(*batches), **more)

    def served(*engines: Path, **options: Any) -> tuple[int, list[str], ServeReport]:
        texts, where = tuple(map(str, engines)), tmp_path / "-".join(one.stem for one in engines)
        report = serve(half, where, engines=texts, **{"max_batch": None, **ALONE, **options})
        return message(report).max_batch_size, list(message(report).instance_group[0].profile), report

    two, gap = engine("two.plan", (1, 4), (5, 32)), engine("gap.plan", (9, 32), (1, 7))
    assert served(two, max_batch=32)[:2] == (32, ["0", "1"])
    assert served(gap)[:2] == (7, ["0", "1"])
    other = engine("other.plan", (1, 6), gpu={"name": "L4", "compute_capability": "8.9"})
    batch, profiles, report = served(two, other)
    assert (batch, profiles) == (4, [])
    assert report.notes[0].startswith(f"profiles of {two} from number 1 on aren't served")
    late = engine("late.plan", (2, 32))
    for options in ({}, {"max_batch": 8}):
        with pytest.raises(SnDeployError, match="take no single sample, and Triton makes batches of any size"):
            served(late, **options)
    assert served(late, max_batch=0)[:2] == (0, [])


def test_a_config_that_is_kept_has_to_fit_the_engines(tmp_path: Path) -> None:
    half = write_net(tmp_path / "half.onnx", dtype="float16")
    first = _engine(tmp_path, "first.plan", half, plugin=NO_PLUGIN)
    small = _engine(tmp_path, "small.plan", half, plugin=NO_PLUGIN, profiles=_profiles((1, 8)))
    ada = _engine(tmp_path, "a.plan", half, plugin=NO_PLUGIN, gpu={"name": "L4", "compute_capability": "8.9"})
    serve(half, tmp_path / "repository", engines=(str(first),))
    for engines, words in (
        ((str(first), str(ada)), r"names the file model.plan for GPUs of .* 8.9 \(expected model_sm89.plan"),
        ((str(small),), "max_batch_size is 16, and the engines take 8 at most"),
    ):
        with pytest.raises(SnDeployError, match=words):
            serve(half, tmp_path / "repository", engines=engines, config="keep", max_batch=8)
    assert serve(half, tmp_path / "repository", engines=(str(first),), config="keep", max_batch=8).max_batch == 16
    config = serve(half, tmp_path / "repository", name="file").folder / "config.pbtxt"
    config.write_text(f'default_model_filename: "net.onnx"\n{config.read_text()}')
    with pytest.raises(SnDeployError, match=r"names the file net.onnx \(expected model.onnx, what this version has"):
        serve(half, tmp_path / "repository", name="file", config="keep")


IMPOSSIBLE: list[tuple[dict[str, Any], str]] = [
    ({"name": "../net"}, "ServeOptions.name: '../net' is no name for a model"),
    ({"max_batch": -1}, "ServeOptions.max_batch: is -1"),
    ({"max_batch": 4}, "ServeOptions.preferred_batch: 8 is more than 4"),
    (
        {"max_batch": 0, "preferred_batch": ()},
        "ServeOptions.max_queue_delay_us: changes nothing with batches of 0 at most",
    ),
    (
        {"max_batch": 1, "preferred_batch": ()},
        "ServeOptions.max_queue_delay_us: changes nothing with batches of 1 at most",
    ),
    ({"instances": 0}, "ServeOptions.instances: is 0"),
    ({"instances": 2**31}, "ServeOptions.instances: is 2147483648 (expected a whole number from 1 to 2147483647)"),
    ({"max_batch": 2**31}, "ServeOptions.max_batch: is 2147483648"),
    ({"server_path": "models"}, "ServeOptions.server_path: 'models' is no folder of a server"),
    ({"engines": ("sm90=gone.engine",)}, "gone.engine: there is no such file"),
    ({"engines": ("sm9x=gone.engine",)}, "there is no such file"),
    ({"engines": ("sm9=gone.engine",)}, "engines='sm9=gone.engine': can't be read"),
    ({"engines": ("net.onnx",)}, "engines net.onnx: is no engine"),
    ({"engines": ("x.engine", "x.engine")}, "there are two engines for one kind of GPU"),
]


@pytest.mark.parametrize(("options", "words"), IMPOSSIBLE, ids=[words for _, words in IMPOSSIBLE])
def test_wrong_options_write_nothing(
    options: dict[str, Any], words: str, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.engine").write_bytes(b"engine")
    before = everything(tmp_path)
    with pytest.raises(SnDeployError) as error:
        serve(net, tmp_path / "repository", **options)
    assert words in str(error.value)
    assert everything(tmp_path) == before


def test_files_that_cant_be_served(net: Path, tmp_path: Path) -> None:
    engine = tmp_path / "net.engine"
    engine.write_bytes(b"engine")
    with pytest.raises(SnDeployError, match=r"name the ONNX file that it was built from, and engines"):
        serve(engine, tmp_path / "repository")
    (tmp_path / "cut.onnx").write_bytes(net.read_bytes()[:-40])
    with pytest.raises(SnDeployError, match="is cut off"):
        serve(tmp_path / "cut.onnx", tmp_path / "repository")
    unshaped = onnx.load(net)
    unshaped.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(unshaped, tmp_path / "unshaped.onnx")
    with pytest.raises(SnDeployError, match="logits has no shape; export it with a shape"):
        serve(tmp_path / "unshaped.onnx", tmp_path / "repository")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SnDeployError, match="is no folder"):
        serve(net, file)
    assert not (tmp_path / "repository").exists()


def test_what_fails_while_it_is_written_leaves_nothing(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = tmp_path / "repository"
    serve(net, repository)
    before = everything(tmp_path)

    def no_space(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sn_deploy.serve.repository._copy", no_space)
    with pytest.raises(SnDeployError, match="can't be written: No space left on device"):
        serve(net, repository)
    with pytest.raises(SnDeployError, match="No space left"):
        serve(net, tmp_path / "other", name="other")
    assert everything(tmp_path) == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(net: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(SnDeployError, match="no permission"):
        serve(net, closed / "repository")


def test_two_at_once_dont_take_one_version(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "repository"
    serve(net, repository)
    own = __import__("sn_deploy.serve.repository", fromlist=["_copy"])._copy

    def somebody_else(source: Path, target: Path) -> None:
        own(source, target)
        (repository / "net" / "2").mkdir(exist_ok=True)
        (repository / "net" / "2" / "model.onnx").write_bytes(b"theirs")
        (repository / "net" / "config.pbtxt").write_bytes(b"says what theirs is")

    monkeypatch.setattr("sn_deploy.serve.repository._copy", somebody_else)
    with pytest.raises(SnDeployError, match="somebody else added it meanwhile; run the command again"):
        serve(net, repository)
    assert (repository / "net" / "2" / "model.onnx").read_bytes() == b"theirs"
    assert (repository / "net" / "config.pbtxt").read_bytes() == b"says what theirs is"


def test_one_writes_into_a_models_folder_at_a_time(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with _alone(tmp_path):
            order.append("second")

    with _alone(tmp_path):
        waiting = threading.Thread(target=second)
        waiting.start()
        waiting.join(0.5)
        order.append("first")
    waiting.join(10)
    assert order == ["first", "second"]


def test_a_config_is_held_against_the_model(net: Path, tmp_path: Path) -> None:
    config = message(serve(net, tmp_path / "repository"))
    interface = interface_from_onnx(net)
    check_config(config, interface, "config.pbtxt")
    del config.output[:]
    check_config(config, interface, "config.pbtxt")  # Triton needs to name no output
    del config.input[:]
    with pytest.raises(SnDeployError, match="input image of the model is missing"):
        check_config(config, interface, "config.pbtxt")


@pytest.mark.parametrize(
    ("text", "delay_us"), [("0", 0), ("500", 500), ("500us", 500), ("2ms", 2000), ("1.5ms", 1500), ("1s", 1_000_000)]
)
def test_delays(text: str, delay_us: int) -> None:
    assert parse_delay(text) == delay_us


@pytest.mark.parametrize("text", ["", "-1", "5m", "us", "1e3", "61s"])
def test_no_delays(text: str) -> None:
    with pytest.raises(SnDeployError, match="expected a time such as 500us"):
        parse_delay(text)


def test_wrong_images_and_replicas() -> None:
    for options, words in (
        ({"image": "Has Spaces"}, "DeployOptions.image: 'Has Spaces' is no image"),
        ({"image": 'x"\n'}, "is no image"),
        ({"replicas": 0}, "DeployOptions.replicas and DeployOptions.max_replicas: 0 to 8"),
        ({"replicas": 9}, "9 to 8"),
        ({"queue_target_us": 0}, "DeployOptions.queue_target_us: 0us"),
    ):
        with pytest.raises(SnDeployError) as error:
            DeployOptions(**options)  # type: ignore[arg-type]
        assert words in str(error.value)
