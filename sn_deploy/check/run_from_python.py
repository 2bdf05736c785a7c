"""`check`: the whole check of files against a model that is in memory, for notebooks, training scripts and pytest."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from sn_deploy.arguments import check_is_function, chosen_options, of_kind, real_number, several_texts, whole_number
from sn_deploy.check.backends.interface import examples_from
from sn_deploy.check.backends.open import BackendOptions
from sn_deploy.check.backends.torch_model import HeldModel
from sn_deploy.check.batch import Batch
from sn_deploy.check.data.open import OPTIONS_IN_PYTHON as DATA_OPTIONS
from sn_deploy.check.data.open import data_options
from sn_deploy.check.job import Bisect, Job, Latency, Watcher, run_job
from sn_deploy.check.layers.comparison import LayerTolerance
from sn_deploy.check.limits import EVERY_OUTPUT, Limits
from sn_deploy.check.metrics.choose import check_task
from sn_deploy.check.result import CheckResult
from sn_deploy.check.run import Plan
from sn_deploy.check.shard import Shard, parse_shard
from sn_deploy.errors import SnDeployError, SnDeployWarning
from sn_deploy.input_file import source_path
from sn_deploy.python_words import in_callers_words, naming_arguments
from sn_deploy.runtime.trt.access import OPTIONS_IN_PYTHON as ACCESS_OPTIONS
from sn_deploy.runtime.trt.access import Access

if TYPE_CHECKING:
    from sn_deploy.capture.inputs import ExampleInputs
    from sn_deploy.runtime.torch import TorchModule

_NO_LIMITS: Final = Limits()
_NO_ACCESS: Final = Access()


@naming_arguments(
    DATA_OPTIONS,
    ACCESS_OPTIONS,
    batch_size="batch_size",
    limit="limit",
    shard="shard",
    backend="backends",
    bisect_output="Bisect.output",
    bisect_runs="Bisect.runs",
    calls="Latency.calls",
    concurrency="Latency.concurrency",
    input="example_inputs",
    latency_batch="Latency.batches",
    layer_tolerance=("layers", "layers=LayerTolerance({}={})"),
    max="Limits.maxima",
    max_drop="Limits.drops",
    memory="Latency.memory",
    metric="metrics",
    min="Limits.minima",
    min_top1_agreement=("Limits.minima", "Limits(minima={{'top1_agreement': {}}})"),
    min_speedup="Latency.speedups",
    tolerance=("Limits.tolerances", "Limits(tolerances={{{!r}: {{{!r}: {}}}}})"),
    triton="served",
)
def check(
    *files: str | os.PathLike[str],
    model: TorchModule | None = None,
    data: object = "random",
    batch_size: int | None = None,
    limit: int | None = None,
    example_inputs: ExampleInputs | None = None,
    limits: Limits = _NO_LIMITS,
    max_rel_l2: float | None = None,
    task: str = "auto",
    metrics: str | Callable[..., Any] | Sequence[str | Callable[..., Any]] = (),
    layers: bool | LayerTolerance = False,
    bisect: bool | Bisect = False,
    latency: bool | Latency = False,
    backends: str | Sequence[str] = (),
    served: str | Sequence[str] = (),
    access: Access = _NO_ACCESS,
    reference: str | None = None,
    reference_dtype: Literal["float64"] | None = None,
    threads: int | None = None,
    finalize_batch_average: int | None = None,
    shard: str | Shard | None = None,
    on_batch: Callable[[], None] = lambda: None,
) -> CheckResult:
    """Runs the same samples through a trained model and the files that were made of it, and compares all outputs.

    As `sn-deploy check`; docs/guides/check.md says what each figure is and where the tolerances come from. A limit that
    doesn't hold raises nothing here: ``result.passed`` says so, ``result.failed`` has those, and
    ``result.raise_if_failed()`` is for where it should. ``print(result)`` shows the tables; `CheckResult.write_html`
    and `CheckResult.write_json` write what the command does.

    Args:
        files: ONNX files and TensorRT engines.
        model: the reference, a torch.nn.Module with its weights, any device and mode. It stays as it is: a copy is put
            into evaluation mode, on the CPU. Without it the first file is the reference.
        data: an array or tensor of samples (N, …) for a model with one input; a dict of these by input name, perhaps
            with ``labels``; a list, torch DataLoader or Dataset, or a function without arguments that gives something
            to iterate over, of batches or samples, with or without labels; or what ``--data`` takes, as text or path:
            ``random:seed=1``, a .npy or .npz file, a folder of images. A `DataOptions` says how images are treated.
        batch_size: of batches that are made of samples; by default what a file fixes, else 8.
        limit: how many samples to take from the start (of a folder evenly over it); all by default, 64 of ``random``.
        example_inputs: as of `sn_deploy.export`, for samples of ``random`` where files leave axes open, or there is no
            file but a server's. Shapes and types matter, values don't.
        limits: what has to hold; what isn't in there has the tolerance of its type.
        max_rel_l2: the same for the relative L2 error of every output.
        task: ``auto``, ``classification``, ``segmentation`` or ``none``; ``classification:OUTPUT``: of that alone.
        metrics: your own figures: a function or class, or ``PACKAGE.MODULE:CALLABLE`` of one; or several.
        layers: compare after each SN layer, too; a `LayerTolerance` sets what is allowed there.
        bisect: of a file in half precision that fails, find the layers that must stay in float32.
        latency: time the backends in turns, too; a `Latency` says how, and how much faster one has to be.
        backends: ``NAME=KIND:FILE`` of a further one, or of several.
        served: the address of a model on a Triton server, ``grpc://HOST:PORT/MODEL``, or several.
        access: what engines may be loaded with.
        reference: the name of the backend that the others are compared with.
        reference_dtype: ``float64`` for one more backend, the model in float64, as the reference.
        threads: within an operator; by default each runtime's own choice. PyTorch has its own number afterwards.
        finalize_batch_average: the number of batches whose sums the running statistics are, see `sn_deploy.export`.
        shard: ``2/8`` for the second of eight parts of the batches, to be put together with the others by
            `sn_deploy.check.merge.merge_parts`; limits say little of a part alone.
        on_batch: called after each batch is compared.

    Raises:
        SnDeployError: a file, the model, the data or an argument is wrong, their inputs don't match, a backend fails,
            or there is nothing to compare.
    """
    _check_kinds(task, reference_dtype, on_batch)
    given = data_options(data)
    if model is None and finalize_batch_average is not None:
        raise SnDeployError("no model is given", where="finalize_batch_average", mend="give it: model=…")
    job = Job(
        BackendOptions(
            files=[_file(file) for file in files],
            named=several_texts(backends, "backends", "NAME=KIND:FILE"),
            model=None if model is None else HeldModel(model, finalize_batch_average),
            reference=reference,
            reference_dtype=reference_dtype,
            threads=None if threads is None else whole_number(threads, "threads"),
            examples=examples_from(example_inputs),
            access=of_kind(access, Access, "access"),
            served=several_texts(served, "served", "grpc://HOST:PORT/MODEL"),
        ),
        replace(
            given,
            batch_size=given.batch_size if batch_size is None else batch_size,
            limit=given.limit if limit is None else limit,
            shard=_shard(shard, given.shard),
        ),
        Plan(
            _limits(limits, max_rel_l2),
            task,
            _metrics(metrics),
            layers=chosen_options(layers, LayerTolerance, "layers"),
        ),
        latency=chosen_options(latency, Latency, "latency"),
        bisect=chosen_options(bisect, Bisect, "bisect"),
    )
    with _threads_as_before(threads):
        watcher = _Watcher(on_batch)
        outcome = run_job(job, watcher)
    causes = [] if outcome.cause is None else [f"why it may have failed: {in_callers_words(outcome.cause)}"]
    for text in (*watcher.warnings, *causes):
        # The decorator's frame lies between this one and the caller's.
        warnings.warn(text, SnDeployWarning, stacklevel=3)
    return outcome.result


def _check_kinds(task: object, reference_dtype: object, on_batch: object) -> None:
    check_task(task, "task")
    if reference_dtype not in (None, "float64"):
        raise SnDeployError(f"is {reference_dtype!r}", where="reference_dtype", expected="'float64' or None")
    check_is_function(on_batch, "on_batch")


def _shard(given: object, of_data: Shard) -> Shard:
    if given is None:
        return of_data
    return parse_shard(given, where="shard") if isinstance(given, str) else of_kind(given, Shard, "shard")


def _limits(given: object, max_rel_l2: object) -> Limits:
    limits = of_kind(given, Limits, "limits")
    if max_rel_l2 is None:
        return limits
    every = {**limits.tolerances.get(EVERY_OUTPUT, {}), "rel_l2": real_number(max_rel_l2, "max_rel_l2")}
    return replace(limits, tolerances={**limits.tolerances, EVERY_OUTPUT: every})


def _metrics(given: object) -> Sequence[str | Callable[..., Any]]:
    if isinstance(given, str) or callable(given):
        return (given,)
    if not isinstance(given, Sequence):
        raise SnDeployError(
            f"is a {type(given).__name__}", where="metrics", expected="a function or class, or a list of them"
        )
    return given


@contextlib.contextmanager
def _threads_as_before(threads: int | None) -> Iterator[None]:
    """Gives PyTorch its own number of threads again: the program goes on with it."""
    if threads is None or importlib.util.find_spec("torch") is None:
        yield
        return
    from sn_deploy.runtime.torch import threads_in_use, use_threads

    before = threads_in_use()
    try:
        yield
    finally:
        use_threads(before)


def _file(given: object) -> Path:
    if isinstance(given, (list, tuple)):
        raise SnDeployError(
            f"is a {type(given).__name__}",
            where="a file",
            expected="a path",
            mend="give several files one after another: check(*files, …)",
        )
    if hasattr(given, "state_dict"):
        raise SnDeployError(
            f"is a {type(given).__name__}",
            where="a file",
            expected="a path",
            mend="give the model as model=…, or make an ONNX file of it: sn_deploy.export(model, example_inputs, "
            "'model.onnx')",
        )
    return source_path(given, "a file")


class _Watcher(Watcher):
    """Passes on that a batch is done, and keeps what there is to warn of."""

    def __init__(self, on_batch: Callable[[], None]) -> None:
        self._on_batch = on_batch
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """See `Watcher`; whoever called is told at the end."""
        self.warnings.append(in_callers_words(text))

    def comparing(self, batches: int | None) -> AbstractContextManager[Callable[[Batch], None]]:
        """See `Watcher`."""
        return contextlib.nullcontext(lambda batch: self._on_batch())
