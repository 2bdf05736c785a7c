"""Figures of the task against scikit-learn, SciPy and counting by hand."""

from __future__ import annotations

import json
import math
import sys
import tracemalloc
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest
import scipy.stats
import sklearn.metrics
import sklearn.preprocessing
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sn_deploy.check.batch import Batch
from sn_deploy.check.intervals import mcnemar, wilson
from sn_deploy.check.limits import Limits
from sn_deploy.check.metrics.choose import choose_metrics, metric_from_spec
from sn_deploy.check.metrics.classification import accuracy, leaders, rivals, targets_from_labels, top1_agreement
from sn_deploy.check.metrics.metric import Metric
from sn_deploy.check.metrics.scores import are_scores, smallest_cosine
from sn_deploy.check.metrics.segmentation import classes_from_scores
from sn_deploy.check.result import TaskMetric
from sn_deploy.errors import SnDeployError

Array = npt.NDArray[Any]
NAN = math.nan


@given(count=st.integers(1, 500), data=st.data())
def test_wilson_is_scipys(count: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, count))
    expected = scipy.stats.binomtest(hits, count).proportion_ci(method="wilson")
    share = wilson(hits, count)
    assert share.value == hits / count
    assert (share.low, share.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(one=st.integers(0, 300), other=st.integers(0, 300))
def test_mcnemar_is_the_exact_binomial_test(one: int, other: int) -> None:
    expected = scipy.stats.binomtest(one, one + other).pvalue if one + other else 1.0
    assert mcnemar(one, other) == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_flips_does_not_overflow() -> None:
    assert mcnemar(20_000, 20_600) == pytest.approx(scipy.stats.binomtest(20_000, 40_600).pvalue, rel=1e-9)


def test_wilson_of_nothing() -> None:
    share = wilson(0, 0)
    assert math.isnan(share.value)
    assert (share.low, share.high, share.count) == (0, 1, 0)


def gathered(
    outputs: dict[str, Array], labels: Array | None = None, *, task: str = "auto", batch: int = 7, parts: int = 1
) -> list[TaskMetric]:
    """The figures of one output of several backends, the first being the reference, by way of ``parts`` parts."""
    names, metrics = list(outputs), list[list[Metric]]()
    for part in range(parts):
        first = outputs[names[0]]
        metrics.append(choose_metrics(task, {"y": first}, labels, backends=names, reference=names[0]))
        for index, start in enumerate(range(0, len(first), batch)):
            if index % parts == part:
                chosen = slice(start, start + batch)
                inputs = {"x": first[chosen]}
                one = Batch(index, start, inputs, None if labels is None else labels[chosen])
                for metric in metrics[-1]:
                    metric.update(one, {name: {"y": value[chosen]} for name, value in outputs.items()})
    rows = []
    for place, metric in enumerate(metrics[0]):
        merged = metric_from_spec(json.loads(json.dumps(metric.spec)), names, names[0])
        for part_metrics in reversed(metrics):
            merged.merge(json.loads(json.dumps(part_metrics[place].state())))
        rows += merged.figures()
    return rows


def by_name(rows: list[TaskMetric], backend: str) -> dict[str, TaskMetric]:
    return {row.name: row for row in rows if row.backend == backend}


def scores(samples: int = 200, classes: int = 12, noise: float = 0.5) -> dict[str, Array]:
    generator = np.random.default_rng(1)
    reference = generator.standard_normal((samples, classes)).astype(np.float32)
    return {"torch": reference, "ort": reference + np.float32(noise) * generator.standard_normal(reference.shape)}


@pytest.mark.parametrize("parts", [1, 3])
def test_classification_against_scikit_learn(parts: int) -> None:
    outputs, labels = scores(), np.random.default_rng(2).integers(0, 12, 200)
    rows = by_name(gathered(outputs, labels, parts=parts), "ort")
    predicted = {name: value.argmax(1) for name, value in outputs.items()}
    assert rows["top1_agreement"].value == sklearn.metrics.accuracy_score(predicted["torch"], predicted["ort"])
    assert rows["top1_accuracy"].value == sklearn.metrics.accuracy_score(labels, predicted["ort"])
    for name, truth in (("top5_agreement", predicted["torch"]), ("top5_accuracy", labels)):
        expected = sklearn.metrics.top_k_accuracy_score(truth, outputs["ort"], k=5, labels=range(12))
        assert rows[name].value == pytest.approx(expected, abs=1e-15)
    right = {name: value == labels for name, value in predicted.items()}
    only_ort, only_torch = (int((right[a] & ~right[b]).sum()) for a, b in (("ort", "torch"), ("torch", "ort")))
    assert only_ort != only_torch
    expected_p = scipy.stats.binomtest(only_ort, only_ort + only_torch).pvalue
    assert rows["top1_accuracy"].p_value == pytest.approx(expected_p)
    assert rows["top1_accuracy"].difference == pytest.approx((only_ort - only_torch) / 200)
    interval = scipy.stats.binomtest(int(right["ort"].sum()), 200).proportion_ci(method="wilson")
    assert (rows["top1_accuracy"].low, rows["top1_accuracy"].high) == pytest.approx((interval.low, interval.high))
    assert rows["top1_ties"].value == 0


def test_a_limit_of_ties_holds_where_there_are_none() -> None:
    limits, one = Limits(maxima={"top1_ties": 0}), np.eye(3)
    for other, passed in ((one, True), (np.ones((3, 3)), False)):
        figures = gathered({"torch": one, "ort": other})
        limits.check_metrics(figures)
        assert {assertion.backend: assertion.passed for assertion in limits.of_metrics(figures)}["ort"] is passed


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.bool_])
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("task", ["auto", "classification"])
def test_one_hot_labels_are_the_numbers_that_they_stand_for(dtype: Any, parts: int, task: str) -> None:
    outputs, labels = scores(), np.random.default_rng(2).integers(0, 12, 200)
    one_hot = sklearn.preprocessing.label_binarize(labels, classes=range(12)).astype(dtype)
    assert gathered(outputs, one_hot, parts=parts, task=task) == gathered(outputs, labels, parts=parts, task=task)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.uint8, np.uint64, np.bool_, ml_dtypes.bfloat16])
def test_labels_are_whole_numbers_of_any_type(dtype: Any) -> None:
    classes = 2 if dtype is np.bool_ else 12
    outputs, labels = scores(classes=classes), np.random.default_rng(2).integers(0, classes, 200)
    assert gathered(outputs, labels.astype(dtype)) == gathered(outputs, labels)
    assert gathered(outputs, labels.astype(dtype)[:, None]) == gathered(outputs, labels)
    planes = np.random.default_rng(3).integers(0, 2, (9, 6, 5))
    assert gathered(maps(), planes.astype(dtype)) == gathered(maps(), planes)


@pytest.mark.parametrize("label", [0.5, NAN, math.inf, 1e300])
def test_labels_that_are_no_whole_numbers_are_none(label: float) -> None:
    labels = np.zeros(200)
    labels[5] = label
    assert gathered(scores(), labels, batch=200) == gathered(scores())  # another task's: nothing is right or wrong
    (metric,) = choose_metrics("auto", {"y": scores()["torch"]}, np.zeros(7), backends=["a", "b"], reference="a")
    batch = Batch(1, 7, {"x": np.zeros((7, 1))}, labels[:7])
    with pytest.raises(SnDeployError, match=r"the label of sample 12 is .*expected whole numbers"):
        metric.update(batch, {name: {"y": scores()["torch"][:7]} for name in "ab"})


@pytest.mark.parametrize(("classes", "counts"), [(255, False), (256, True), (300, True)])
def test_255_is_a_class_where_there_are_so_many(classes: int, counts: bool) -> None:
    outputs = maps(classes=classes)
    labels = outputs["torch"].argmax(1)
    labels[:, :3] = 255
    counted = np.ones(labels.shape, bool) if counts else labels != 255
    right = outputs["ort"].argmax(1) == labels
    row = by_name(gathered(outputs, labels), "ort")["pixel_accuracy"]
    assert (row.value, row.count) == (right[counted].mean(), counted.sum())


def test_a_column_of_labels_is_their_numbers() -> None:
    outputs, labels = scores(), np.random.default_rng(2).integers(0, 12, 200)
    assert gathered(outputs, labels[:, None]) == gathered(outputs, labels)


def test_one_hot_maps_are_the_numbers_that_they_stand_for() -> None:
    outputs, labels = maps(), np.random.default_rng(6).integers(0, 4, (9, 6, 5))
    one_hot = np.eye(4, dtype=np.float32)[labels].transpose(0, 3, 1, 2)
    assert gathered(outputs, one_hot) == gathered(outputs, labels) == gathered(outputs, labels[:, None])


def test_a_label_of_another_kind_than_the_first_is_refused() -> None:
    one_hot = np.eye(12, dtype=int)[np.arange(200) % 12]
    one_hot[150] = 0
    outputs = {name: {"y": value[100:]} for name, value in scores().items()}
    names = list(outputs)
    (metric,) = choose_metrics("auto", {"y": outputs["torch"]["y"]}, one_hot[:100], backends=names, reference=names[0])
    batch = Batch(1, 100, {"x": np.zeros((100, 1))}, one_hot[100:])
    with pytest.raises(SnDeployError, match=r"the label of sample 150 has no 1 among zeros.*--labels none"):
        metric.update(batch, outputs)


@pytest.mark.parametrize("labels", [np.full((200, 12), 1 / 12), np.ones((200, 12), int), np.zeros((200, 4))])
def test_labels_that_are_no_classes_are_none(labels: Array) -> None:
    assert gathered(scores(), labels) == gathered(scores())
    with pytest.raises(SnDeployError, match=r"labels are .* of shape .*expected \(N,\), or one-hot \(N, classes\)"):
        gathered(scores(), labels, task="classification")


def test_few_classes_have_no_top_5() -> None:
    rows = by_name(gathered(scores(classes=5)), "ort")
    assert "top1_agreement" in rows
    assert "top5_agreement" not in rows


def brute_rivals(row: Array, targets: Array) -> int:
    """How many others stand before or beside the first target, counted one by one."""
    if np.isnan(row).any() or not targets.any():
        return len(row)
    return sum(row[c] >= max(row[targets]) for c in range(len(row)) if not targets[c])


@given(
    values=hnp.arrays(np.float64, (4, 6), elements=st.sampled_from([-1.0, 0.0, 0.0, 1.0, NAN, math.inf, -math.inf])),
    targets=hnp.arrays(np.bool_, (4, 6)),
)
def test_rivals_are_counted_with_ties_against_the_target(values: Array, targets: Array) -> None:
    assert rivals(values, targets).tolist() == [brute_rivals(*pair) for pair in zip(values, targets, strict=True)]


@given(values=hnp.arrays(np.float64, (5, 7), elements=st.sampled_from([0.0, 1.0, 2.0])))
def test_an_output_agrees_with_itself_whatever_its_ties(values: Array) -> None:
    assert top1_agreement(values, values) == 1


def test_a_dead_network_is_right_about_nothing() -> None:
    dead, labels = np.zeros((50, 10)), np.arange(50) % 10
    assert accuracy(dead, labels) == 0
    assert top1_agreement(np.eye(10)[labels], dead) == 0
    rows = by_name(gathered({"torch": np.eye(10)[labels], "ort": dead}, labels), "ort")
    assert rows["top5_accuracy"].value == rows["top5_agreement"].value == rows["top1_accuracy"].value == 0
    assert rows["top1_ties"].value == 1


def test_a_tie_that_the_reference_does_not_have_is_no_agreement() -> None:
    assert top1_agreement([[3.0, 1.0]], [[3.0, 3.0]]) == 0
    assert top1_agreement([[3.0, 3.0, 1.0]], [[2.0, 3.0, 1.0]]) == 1  # either of the two is right
    assert top1_agreement([[3.0, 3.0, 1.0]], [[3.0, 1.0, 2.0]]) == 1  # whatever comes behind it
    assert top1_agreement([[3.0, 3.0, 1.0]], [[2.0, 1.0, 3.0]]) == 0
    assert top1_agreement([[NAN, 1.0]], [[NAN, 1.0]]) == 0
    tied = np.array([[3.0, 3.0, 1.0], [3.0, 1.0, 1.0], [2.0, 2.0, 2.0], [NAN, 2.0, 2.0]])
    rows = gathered({"torch": np.eye(3)[[0, 0, 0, 0]], "ort": tied})
    assert [(row.backend, row.value) for row in rows if row.name == "top1_ties"] == [("torch", 0.0), ("ort", 0.5)]


def test_half_precision_scores() -> None:
    values = np.array([[1, 2, 3], [5, 4, 3]], dtype=ml_dtypes.bfloat16)
    assert top1_agreement(values, values.astype(np.float16)) == 1
    assert leaders(values.astype(np.float64)).tolist() == [[False, False, True], [True, False, False]]


def test_labels_that_are_no_classes_are_refused() -> None:
    with pytest.raises(SnDeployError, match=r"sample 9 is 3 \(expected 0 to 2, the classes of the output\)"):
        targets_from_labels(np.array([0, 3]), 3, first=8)
    with pytest.raises(SnDeployError, match="the label of sample 0 is -1"):
        targets_from_labels(np.array([-1]), 3)


def maps(samples: int = 9, classes: int = 4) -> dict[str, Array]:
    generator = np.random.default_rng(5)
    reference = generator.standard_normal((samples, classes, 6, 5)).astype(np.float32)
    return {"torch": reference, "ort": reference + generator.standard_normal(reference.shape).astype(np.float32)}


@pytest.mark.parametrize("parts", [1, 2])
def test_segmentation_against_scikit_learn(parts: int) -> None:
    outputs, labels = maps(), np.random.default_rng(6).integers(0, 4, (9, 6, 5))
    labels[0, :2], labels[3, 4] = 255, -1
    rows = by_name(gathered(outputs, labels, batch=2, parts=parts), "ort")
    predicted = {name: value.argmax(1).ravel() for name, value in outputs.items()}
    counted = ((labels >= 0) & (labels != 255)).ravel()
    truth = labels.ravel()[counted]
    assert rows["pixel_agreement"].value == sklearn.metrics.accuracy_score(predicted["torch"], predicted["ort"])
    assert rows["pixel_accuracy"].value == sklearn.metrics.accuracy_score(truth, predicted["ort"][counted])
    iou = {"average": "macro", "labels": range(4)}
    expected = sklearn.metrics.jaccard_score(predicted["torch"], predicted["ort"], **iou)
    assert rows["miou_agreement"].value == pytest.approx(expected)
    expected = sklearn.metrics.jaccard_score(truth, predicted["ort"][counted], **iou)
    assert rows["miou"].value == pytest.approx(expected)
    other = sklearn.metrics.jaccard_score(truth, predicted["torch"][counted], **iou)
    assert rows["miou"].difference == pytest.approx(expected - other)


def test_classes_that_nobody_has_do_not_count_in_the_miou() -> None:
    one = np.zeros((1, 4, 2, 2), np.float32)
    one[:, 1] = 1
    assert by_name(gathered({"torch": one, "ort": one}), "ort")["miou_agreement"].value == 1


def test_thousands_of_classes_take_no_table_of_each_with_each() -> None:
    scores = np.random.default_rng(0).standard_normal((2, 9000, 1, 1)).astype(np.float32)  # a classifier of maps
    tracemalloc.start()
    try:
        rows = by_name(gathered({"torch": scores, "ort": scores}, np.zeros((2, 1, 1), int)), "ort")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows["miou_agreement"].value == 1
    assert peak < 20e6  # 9000 x 9001 counts would be 648 MB


def brute_class(row: Array) -> int:
    if np.isnan(row).any() or (row == row.max()).sum() > 1:
        return len(row)
    return int(row.argmax())


@given(values=hnp.arrays(np.float32, (2, 4, 1, 3), elements=st.sampled_from([-1.0, 0.0, 1.0, 2.0, NAN, math.inf])))
def test_pixels_with_a_tie_or_a_nan_have_no_class(values: Array) -> None:
    rows = np.moveaxis(values, 1, -1).reshape(-1, 4)
    assert classes_from_scores(values).ravel().tolist() == [brute_class(row) for row in rows]


def test_pixels_without_a_class_are_wrong() -> None:
    generator = np.random.default_rng(0)
    reference = generator.standard_normal((2, 3, 4, 4)).astype(np.float16)
    candidate, labels = reference.copy(), reference.argmax(1)
    candidate[0, :, 0, 0] = 7
    rows = by_name(gathered({"torch": reference, "ort": candidate}, labels), "ort")
    assert rows["pixel_agreement"].value == rows["pixel_accuracy"].value == 31 / 32
    # Nothing can be said about pixels to which the reference gives no class.
    rows = by_name(gathered({"torch": candidate, "ort": reference}, labels), "ort")
    assert (rows["pixel_agreement"].value, rows["pixel_agreement"].count) == (1, 31)
    assert rows["pixel_accuracy"].difference == pytest.approx(1 / 32)


@pytest.mark.parametrize(
    ("task", "output", "labels", "message"),
    [
        ("classification", np.zeros((2, 3, 4, 4)), None, r"no output is \(N, classes\): y \(2, 3, 4, 4\)"),
        ("segmentation", np.zeros((2, 3)), None, r"no output is \(N, classes, H, W\)"),
        (
            "classification",
            np.zeros((2, 3)),
            np.zeros((2, 4, 4), int),
            r"of shape \(2, 4, 4\) \(expected \(N,\)",
        ),
        ("classification", np.zeros((2, 3)), np.full(2, 0.5), "labels are float64 .*as whole numbers"),
    ],
)
def test_tasks_that_do_not_fit_are_refused(task: str, output: Array, labels: Array | None, message: str) -> None:
    with pytest.raises(SnDeployError, match=message):
        choose_metrics(task, {"y": output}, labels, backends=["a", "b"], reference="a")


def test_folders_that_are_not_the_classes_are_refused() -> None:
    with pytest.raises(SnDeployError, match="the folders are 10 classes, and output y has 1000"):
        choose_metrics(
            "auto", {"y": np.zeros((2, 1000))}, np.zeros(2, int), backends=["a"], reference="a", label_classes=10
        )


NAMES: dict[str, Any] = {"backends": ["a", "b"], "reference": "a"}


def test_folders_are_labels_of_the_outputs_with_as_many_classes() -> None:
    outputs = {"features": np.zeros((2, 64)), "logits": np.zeros((2, 10)), "other": np.zeros((2, 10))}
    metrics = choose_metrics("auto", outputs, np.zeros(2, int), label_classes=10, **NAMES)
    assert {metric.spec["output"]: metric.spec["labelled"] for metric in metrics} == {
        "features": False,
        "logits": True,
        "other": True,
    }


def test_one_of_several_outputs_may_be_named() -> None:
    outputs = {"feat:0": np.zeros((2, 4)), "logits": np.eye(10)[:2], "map": np.zeros((2, 4, 3, 3))}
    labels, batch = np.array([0, 9]), Batch(0, 0, {"x": np.zeros((2, 1))}, np.array([0, 9]))
    (metric,) = choose_metrics("classification:logits", outputs, labels, **NAMES)
    metric.update(batch, dict.fromkeys("ab", outputs))
    assert by_name(metric.figures(), "b")["top1_accuracy"].value == 0.5
    (metric,) = choose_metrics("classification:feat:0", outputs, None, **NAMES)
    assert metric.spec["output"] == "feat:0"
    metric = choose_metrics("auto", outputs, labels, **NAMES)[0]
    message = r"sample 1 is 9 .*classes of output feat:0\); .* name the output .* of with --task classification:OUTPUT"
    with pytest.raises(SnDeployError, match=message):
        metric.update(batch, dict.fromkeys("ab", outputs))
    with pytest.raises(SnDeployError, match=r"there is no output 'scores' \(expected feat:0, logits, map\)"):
        choose_metrics("classification:scores", outputs, labels, **NAMES)
    with pytest.raises(SnDeployError, match=r"no output is \(N, classes\): map \(2, 4, 3, 3\)"):
        choose_metrics("classification:map", outputs, labels, **NAMES)


def unit_vectors(dtype: Any = np.float32) -> Array:
    vectors = np.random.default_rng(0).standard_normal((6, 16)).astype(np.float32)
    made: Array = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(dtype)
    return made


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_embeddings_are_no_classes(dtype: Any) -> None:
    vectors = {"y": unit_vectors(dtype)}
    names: dict[str, Any] = {"backends": ["a", "b"], "reference": "a"}
    assert choose_metrics("auto", vectors, None, **names) == []
    assert choose_metrics("auto", vectors, np.zeros(6, int), label_classes=3, **names) == []
    assert len(choose_metrics("classification", vectors, None, **names)) == 1


def test_scores_of_every_kind_are_classes() -> None:
    logits = scores()["torch"]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    certain = np.eye(12, dtype=np.float32)  # as long as unit vectors
    mixed = np.concatenate([unit_vectors(), 3 * unit_vectors()])
    for value in (logits, shares, certain, mixed, np.full((3, 4), np.nan), np.zeros((2, 5))):
        assert are_scores(value, len(value))
    for value in (logits[:, :1], logits[None], logits.astype(int), logits > 0):
        assert not are_scores(value, len(value))
    assert not are_scores(logits, len(logits) + 1)  # a detector's boxes


def test_the_smallest_cosine_is_that_of_one_row() -> None:
    vectors = unit_vectors()
    turned = vectors.copy()
    turned[3] = -2 * vectors[3]
    assert smallest_cosine(vectors, turned) == pytest.approx(-1)
    assert smallest_cosine(vectors, 5 * vectors) == pytest.approx(1)
    assert smallest_cosine(vectors, 0 * vectors) == 0


def test_a_picture_is_no_segmentation() -> None:
    picture = {"y": np.zeros((2, 3, 8, 8))}
    assert choose_metrics("auto", picture, None, backends=["a", "b"], reference="a") == []
    assert len(choose_metrics("segmentation", picture, None, backends=["a", "b"], reference="a")) == 1
    assert choose_metrics("none", picture, None, backends=["a", "b"], reference="a") == []


def test_labels_of_another_size_than_the_output_are_refused() -> None:
    with pytest.raises(SnDeployError, match=r"have shape \(9, 12, 10\) \(expected .*, \(9, 6, 5\)\)"):
        gathered(maps(), np.zeros((9, 12, 10), int), batch=9)
    labels = np.zeros((9, 6, 5), int)
    labels[4, 0, 0] = 4
    with pytest.raises(SnDeployError, match="a pixel of sample 4 has label 4"):
        gathered(maps(), labels, batch=3)


def test_a_figure_that_one_backend_does_not_give_keeps_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Classes:
        def __init__(self) -> None:
            self.seen: set[int] = set()

        def update(self, outputs: dict[str, Array], labels: Array | None) -> None:
            self.seen |= set(outputs["y"].argmax(1).tolist())

        def value(self) -> dict[str, float]:
            return {f"class{one}": 1.0 for one in self.seen}

    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(Classes=Classes))
    metric = metric_from_spec({"kind": "user", "callable": "mine:Classes"}, ("torch", "ort"), "torch")
    outputs = {"torch": {"y": np.eye(3)[[0, 1]]}, "ort": {"y": np.eye(3)[[0, 2]]}}
    metric.update(Batch(0, 0, {"x": np.zeros((2, 1))}), outputs)
    figures = metric.figures()
    values = {(row.name, row.backend): row.value for row in figures}
    assert [name for name, value in values.items() if math.isnan(value)] == [("class1", "ort"), ("class2", "torch")]
    limits = Limits(minima={"class0": 1, "class1": 0}, maxima={"class1": 9}, drops={"class0": 0, "class1": 9})
    failed = [(one.metric, one.backend) for one in limits.of_metrics(figures) if not one.passed]
    assert failed == [("class1", "ort")] * 2 + [("class1_drop", "ort")]


class Told:
    def __init__(self, value: Any) -> None:
        self._value = value

    def update(self, outputs: dict[str, Array], labels: Array | None) -> None:
        assert labels is not None

    def value(self) -> Any:
        return self._value


def fails(outputs: dict[str, Array], labels: Array | None) -> Array:
    raise KeyError("score")


def positive_as(outputs: dict[str, Array]) -> torch.Tensor:
    return torch.from_numpy(outputs["y"][:, 0] > 0).float()


def writes(outputs: dict[str, Array], labels: Array) -> Array:
    """Takes what it is given for its own, as code that was written for one model does."""
    assert labels.tolist() == [0, 1, 2, 3]
    labels -= 1
    positive: Array = outputs["y"][:, 0] > 0
    outputs["y"][:] = 1
    return positive


SHARED = Told(3)
OWN = {
    "share": (lambda outputs, labels: outputs["y"][:, 0] > 0, [0.25, 0.5]),
    "default": (lambda outputs, labels=None: outputs["y"][:, 0], [-0.5, 0.25]),
    "keyword": (lambda outputs, labels, *, limit=0.9: outputs["y"][:, 0] > limit, [0.25, 0.5]),
    "maker": (lambda: Told(3), [3, 3]),
    "one": (lambda outputs: outputs["y"][:, 0], "needs 1 argument .expected a function metric"),
    "three": (lambda outputs, labels, more: labels, "needs 3 arguments .expected a function metric"),
    "number": (5, "is a int .expected a function or a class"),
    "needing": (Told, r"doesn't take these arguments: .*\(expected Told\(value"),
    "empty": (dict, "makes a dict without value"),
    "failing": (fails, "failed: KeyError: 'score'; see where"),
    "scalar": (lambda outputs, labels: 0.5, r"gives an array of float64 and shape \(\) for a batch of 4"),
    "rows": (lambda outputs, labels: outputs["y"], r"gives an array of float64 and shape \(4, 2\) for"),
    "text": (lambda outputs, labels: np.array(list("abcd")), "what it gives: is a ndarray of <U1"),
    "word": (lambda: Told("high"), "value.. gives 'high' .expected a number"),
    "gradient": (lambda outputs, labels: positive_as(outputs).requires_grad_(), [0.25, 0.5]),
    "bfloat16": (lambda outputs, labels: positive_as(outputs).bfloat16(), [0.25, 0.5]),
    "ragged": (lambda outputs, labels: [[1.0], [2.0, 3.0], [], []], "what it gives: is no array"),
    "nothing": (lambda outputs, labels: None, "what it gives: is a NoneType"),
    "shared": (lambda: SHARED, "gives the same object twice.* .expected a new one at each call"),
    "writer": (writes, [0.25, 0.5]),
}


@pytest.mark.parametrize("name", OWN)
def test_what_a_metric_of_the_users_own_may_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metric, found = OWN[name]
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(**{name: metric}))
    outputs = {"torch": {"y": np.array([[-1.0, 0], [-2, 0], [0, 0], [1, 0]])}}
    outputs["ort"] = {"y": outputs["torch"]["y"] + np.array([[0.0], [1], [1], [1]])}

    def figures() -> list[TaskMetric]:
        made = metric_from_spec({"kind": "user", "callable": f"mine:{name}"}, ("torch", "ort"), "torch")
        batch = Batch(0, 0, {"x": np.zeros((4, 1))}, np.arange(4))
        made.update(batch, outputs)
        assert batch.labels is not None
        assert batch.labels.tolist() == [0, 1, 2, 3]
        return made.figures()

    if isinstance(found, str):
        with pytest.raises(SnDeployError, match=f"^--metric mine:{name}[:,] {found}"):
            figures()
        return
    assert [(row.name, row.backend, row.value) for row in figures()] == [
        (name, backend, value) for backend, value in zip(outputs, found, strict=True)
    ]
    assert [row.difference for row in figures()] == [None, found[1] - found[0]]
    assert [row.low is not None for row in figures()] == [name in ("share", "keyword", "writer")] * 2
