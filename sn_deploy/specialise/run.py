"""`specialise`: a file with SwitchNorm nodes in, the same network with each layer no dearer than it must be out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import onnx_ir as ir

from sn_deploy.arguments import check_is_function, limit_between, of_kind, whole_number
from sn_deploy.check.backends.interface import Example, examples_from
from sn_deploy.check.backends.onnx_file import read_facts
from sn_deploy.check.data.open import OPTIONS_IN_PYTHON, data_options
from sn_deploy.check.metrics.choose import check_label_classes
from sn_deploy.compare.tolerances import TOLERANCES
from sn_deploy.draft_folder import draft_folder
from sn_deploy.errors import SnDeployError
from sn_deploy.graph.layers import count_nodes
from sn_deploy.graph.save import save
from sn_deploy.input_file import source_path
from sn_deploy.output_file import check_onnx_output
from sn_deploy.python_words import naming_arguments
from sn_deploy.runtime.native import ort_library
from sn_deploy.runtime.tensors import TensorInfo
from sn_deploy.specialise.budget import Budget
from sn_deploy.specialise.choice import Limits, Outcome, choose_drops
from sn_deploy.specialise.drafts import Drafts
from sn_deploy.specialise.forms import Choice, Form, Runtime
from sn_deploy.specialise.layers import Layer, layers_of
from sn_deploy.specialise.load import load
from sn_deploy.specialise.parts import Parts, open_parts
from sn_deploy.specialise.proof import prove_budget, prove_forms, time_ratio
from sn_deploy.specialise.report import LayerChange, SpecialiseReport
from sn_deploy.specialise.samples import Yardstick
from sn_deploy.specialise.search import Progress

if TYPE_CHECKING:
    from sn_deploy.capture.inputs import ExampleInputs

# What the file says of itself: the budget and what was dropped for it.
METADATA: Final = "sn_deploy.specialised"


@naming_arguments(OPTIONS_IN_PYTHON, input="example_inputs")
def specialise(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    budget: Budget | None = None,
    data: object = None,
    example_inputs: ExampleInputs | Sequence[Example] | None = None,
    runtime: Runtime | Literal["ort", "ort-native"] | None = None,
    threads: int | None = None,
    max_weight: float = 0.5,
    external_data: bool | None = None,
    on_progress: Progress = lambda text, share: None,
) -> SpecialiseReport:
    """Makes layers cheaper whose weights make parts of SwitchNorm needless.

    Without a budget nothing changes but rounding: statistics with a weight of 0 aren't computed, a layer that chose BN
    for mean and variance goes into the weights of the convolution before it, one that chose IN for both becomes
    InstanceNormalization where that is cheaper. With a budget, IN and LN statistics are replaced by their averages over
    the data, those first that save most time for the error that they cost, as long as the budget holds for the whole
    network. Every second batch is for choosing; the budget must hold on the others as well.

    Args:
        source: a file of `sn_deploy.export` or `sn_deploy.fuse.fuse`.
        path: the file to write; may be ``source``.
        budget: how much may change.
        data: samples, which should be as those in use, in a `DataOptions` or as `sn_deploy.check.check` takes them.
            Without a budget random ones do.
        example_inputs: as of `sn_deploy.export`, for axes that the file leaves open. Shapes matter, values don't.
        runtime: who the file is to be cheap for, ``ort`` or ``ort-native``; by default the native operators where they
            are built.
        threads: of ONNX Runtime.
        max_weight: with a budget, the largest share of a branch that may be dropped.
        external_data: write large tensors to a file beside it; by default only above protobuf's 2 GiB.
        on_progress: called with what is done and how far the search is, 0 to 1.

    Raises:
        CheckFailedError: the result isn't the source's, or breaks the budget on the held-out samples. Nothing is
            written.
        SnDeployError: no such file, one without SwitchNorm nodes, or data that doesn't fit.
    """
    source = source_path(source)
    check_onnx_output(path)
    path = Path(path)
    if budget is not None:
        of_kind(budget, Budget, "budget")
    max_weight = limit_between(max_weight, "max_weight", 0, 1)
    threads = None if threads is None else whole_number(threads, "threads")
    check_is_function(on_progress, "on_progress", "a function of a text and a share, 0 to 1")
    examples = examples_from(example_inputs)
    before = load(source)
    if (precision := read_facts(source).precision) not in TOLERANCES:
        raise SnDeployError(
            f"computes in {precision}",
            where=str(source),
            expected="a file in float32, float16 or bfloat16",
            mend="specialise the float file that it was made of, then quantize the result",
        )
    _, unfit = layers_of(before)
    # Weights stay in files of this folder until they are written, however large they are.
    with draft_folder(path, of=str(source)) as folder:
        drafts = Drafts(source, folder, _checked_runtime(runtime), threads)
        with drafts.open(source) as running:
            samples = None if data is None else data_options(data)
            parts = open_parts(samples, running.inputs, examples, split=budget is not None, run=running.run)
            _check_labels(budget, parts, running.outputs)
            batch = parts.fixed_batch or 1
            outcome = Outcome()
            if budget is not None and parts.choosing is not None:
                limits = Limits(budget, max_weight)
                outcome = choose_drops(drafts, running, parts.choosing, limits, batch, on_progress)
        on_progress("proving", 1.0)
        model, chosen = drafts.specialised(outcome.changes)
        if budget is not None:
            _describe(model, budget, outcome)
        draft = drafts.write(model, "result")
        with drafts.open(source, native=False) as reference:
            held_out = Yardstick(parts.held_out, reference.run, where=str(source))
            exact, tolerance = prove_forms(drafts, outcome.changes, draft, held_out)
            error = prove_budget(drafts, draft, held_out, budget)
        inputs = held_out.first_inputs(batch)
        before_ms, after_ms = (drafts.layer_times_ms(each, inputs) for each in (load(source), model))
        ratio, low, high = time_ratio(drafts, draft, inputs)
        data_path = save(model, path, external_data=external_data)
    return SpecialiseReport(
        path=path,
        data_path=data_path,
        runtime=drafts.runtime.value,
        layers=tuple(_changes(chosen, unfit, outcome, before_ms, after_ms)),
        exact_rel_l2=exact,
        exact_tolerance=tolerance,
        budget=budget,
        chosen_on=outcome.found.error,
        held_out=error,
        data=parts.held_out.source.describe(),
        time_ratio=ratio,
        time_low=low,
        time_high=high,
        batch=batch,
        nodes_before=count_nodes(before),
        nodes=count_nodes(model),
    )


def _changes(
    chosen: Iterable[tuple[Layer, Choice]],
    unfit: Mapping[str, str],
    outcome: Outcome,
    before_ms: Mapping[str, float],
    after_ms: Mapping[str, float],
) -> Iterator[LayerChange]:
    for layer, choice in chosen:
        name = layer.name
        gone = choice.form in (Form.FOLDED, Form.INSTANCE_NORM)
        yield LayerChange(
            name,
            choice.form.value,
            tuple(sorted(outcome.found.dropped.get(name, ()))),
            choice.reason,
            _alone(outcome, name),
            before_ms.get(name),
            0.0 if choice.form is Form.FOLDED else None if gone else after_ms.get(name),
        )
    for name, why in unfit.items():
        yield LayerChange(name, Form.KEPT.value, (), why, None, before_ms.get(name), after_ms.get(name))


def _check_labels(budget: Budget | None, parts: Parts, outputs: Sequence[TensorInfo]) -> None:
    """Of other classes than the net's nothing is right before, and so no accuracy can be lost."""
    if budget is None or budget.top1 is None:
        return
    for info in outputs:
        if info.shape is not None and len(info.shape) == 2 and isinstance(info.shape[1], int):
            check_label_classes(info.name, info.shape[1], parts.held_out.label_classes)


def _checked_runtime(given: Runtime | str | None) -> Runtime:
    try:
        runtime = None if given is None else Runtime(given)
    except ValueError as error:
        known = " or ".join(repr(one.value) for one in Runtime)
        raise SnDeployError(f"is {given!r}", where="--runtime", expected=known) from error
    built = ort_library() is not None
    if runtime is Runtime.ORT_NATIVE and not built:
        raise SnDeployError(
            "the native operator wasn't built, or is turned off", where="--runtime", mend="see: sn-deploy doctor"
        )
    return runtime or (Runtime.ORT_NATIVE if built else Runtime.ORT)


def _describe(model: ir.Model, budget: Budget, outcome: Outcome) -> None:
    dropped = {name: sorted(branches) for name, branches in sorted(outcome.found.dropped.items())}
    model.metadata_props[METADATA] = json.dumps({"budget": str(budget), "dropped": dropped})


def _alone(outcome: Outcome, name: str) -> float | None:
    """The error of the whole network were what is dropped of this layer all that is."""
    dropped = outcome.found.dropped.get(name)
    fitting = [one.error for one in outcome.found.candidates if one.layer == name and one.branches == dropped]
    return fitting[0].rel_l2 if fitting else None
