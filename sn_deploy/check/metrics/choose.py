"""Which figures of the task a check gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from sn_deploy.check.metrics.class_numbers import are_class_numbers, are_laid_out
from sn_deploy.check.metrics.classification import Classification
from sn_deploy.check.metrics.metric import Metric
from sn_deploy.check.metrics.scores import are_scores, may_be_scores
from sn_deploy.check.metrics.segmentation import Segmentation
from sn_deploy.check.metrics.user import load_metric
from sn_deploy.errors import SnDeployError
from sn_deploy.runtime.tensors import Array

_WORDS: Final = ("auto", "none")
_KINDS: Final[dict[str, Callable[..., Metric]]] = {"classification": Classification, "segmentation": Segmentation}
_RANKS: Final = {"classification": 2, "segmentation": 4}
_LABELS: Final = {"classification": "(N,)", "segmentation": "(N, H, W)"}
_FORMS: Final = {"classification": "(N, classes)", "segmentation": "(N, classes, H, W)"}


def check_task(task: object, where: str) -> str:
    """``auto``, ``none``, or ``classification`` or ``segmentation`` of each output that may be one, or ``…:OUTPUT``.

    Raises:
        SnDeployError: it is none of them.
    """
    kind, colon, output = task.partition(":") if isinstance(task, str) else ("", "", "")
    if kind in _KINDS and bool(colon) == bool(output):
        return str(task)
    if task in _WORDS:
        return str(task)
    expected = " or ".join([*_WORDS, *(f"{kind}[:OUTPUT]" for kind in _KINDS)])
    raise SnDeployError(f"is {task!r}", where=where, expected=expected)


def choose_metrics(
    task: str,
    outputs: Mapping[str, Array],
    labels: Array | None,
    *,
    backends: Sequence[str],
    reference: str,
    label_classes: int | None = None,
) -> list[Metric]:
    """The metrics of the task for the outputs that they fit.

    Args:
        task: as of `check_task`; ``auto`` takes scores (N, classes) for a classification and (N, classes, H, W) for a
            segmentation, unless they have three channels and no labels: that is a picture. Unit vectors are embeddings.
        outputs: the reference's, of one batch; those that have a row for each sample.
        labels: (N,) for a classification, (N, H, W) for a segmentation, or as `class_numbers` makes such of them.
        label_classes: how many classes the labels tell apart, where that is known: they are outputs' with as many.

    Raises:
        SnDeployError: there is no such output, or the labels are another task's.
    """
    if task == "none":
        return []
    asked, _, only = task.partition(":")
    if only:
        if only not in outputs:
            raise SnDeployError(f"there is no output {only!r}", where=f"--task {task}", expected=", ".join(outputs))
        outputs = {only: outputs[only]}
    made: list[Metric] = []
    for kind in (asked,) if asked != "auto" else _KINDS:
        rank = _RANKS[kind] - 1
        fitting = {
            name: (classes, labels is not None and are_class_numbers(labels, rank, classes))
            for name, value in outputs.items()
            if value.ndim == _RANKS[kind]
            for classes in (value.shape[1],)
            if _fits(value, kind, labels is not None and are_laid_out(labels, rank, classes), asked)
        }
        if asked != "auto":
            _check_asked_for(kind, outputs, fitting, labels)
        # Of a net that gives its features beside its scores, these alone are what folders are numbers of.
        told = label_classes in (classes for classes, labelled in fitting.values() if labelled)
        for name, (classes, labelled) in fitting.items():
            if labelled and told:
                labelled = classes == label_classes
            elif labelled:
                check_label_classes(name, classes, label_classes)
            made.append(_KINDS[kind](name, classes, backends, reference, labelled))
    return made


def why_unused(labels: Array, outputs: Mapping[str, Array]) -> str:
    """Of labels that `choose_metrics` has found no use for, for people."""
    shapes = ", ".join(f"{name} {value.shape}" for name, value in outputs.items()) or "none has a row for each sample"
    shape = "that are no numbers" if labels.dtype == object else f"{labels.dtype} {labels.shape}"
    forms = " or ".join(f"{_LABELS[kind]}, or one-hot, for scores {_FORMS[kind]}" for kind in _KINDS)
    return (
        f"no accuracies are given: labels {shape} fit no output ({shapes}; expected {forms}, as whole numbers); give "
        "others, or --task none"
    )


def metric_from_spec(
    spec: Mapping[str, Any],
    backends: Sequence[str],
    reference: str,
    user_metrics: Mapping[str, str | Callable[..., Any]] = MappingProxyType({}),
) -> Metric:
    """An empty metric like the one with that ``spec``.

    Args:
        user_metrics: those of the user's own that are in memory, by the name that they have in a ``spec``.

    Raises:
        KeyError: it is no such thing.
        SnDeployError: the user's own can't be made.
    """
    if spec["kind"] == "user":
        return load_metric(user_metrics.get(spec["callable"], spec["callable"]), backends, reference)
    return _KINDS[spec["kind"]](spec["output"], spec["classes"], backends, reference, spec["labelled"])


def _fits(value: Array, kind: str, labelled: bool, task: str) -> bool:
    if kind == "classification":
        return (are_scores if task == "auto" else may_be_scores)(value, len(value))
    if value.shape[1] < 2 or value.dtype.kind in "biu":
        return False
    return task != "auto" or labelled or value.shape[1] != 3


def _check_asked_for(
    kind: str, outputs: Mapping[str, Array], fitting: Mapping[str, tuple[int, bool]], labels: Array | None
) -> None:
    if not fitting:
        found = ", ".join(f"{name} {value.shape}" for name, value in outputs.items())
        raise SnDeployError(f"no output is {_FORMS[kind]}: {found}", where=f"--task {kind}")
    if labels is not None and not any(labelled for _, labelled in fitting.values()):
        raise SnDeployError(
            "labels are no numbers" if labels.dtype == object else f"labels are {labels.dtype} of shape {labels.shape}",
            where=f"--task {kind}",
            expected=f"{_LABELS[kind]}, or one-hot {_FORMS[kind]}, as whole numbers",
        )


def check_label_classes(output: str, classes: int, label_classes: int | None) -> None:
    """Refuses folders whose names are the labels, where there are others than the classes of an output.

    Raises:
        SnDeployError: they are.
    """
    if label_classes is not None and label_classes != classes:
        raise SnDeployError(
            f"the folders are {label_classes} classes, and output {output} has {classes}",
            where="labels",
            mend="folders are numbered by their sorted names, which would be wrong here: give --labels FILE, or "
            "--labels none",
        )
