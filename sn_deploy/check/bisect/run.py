"""The bisection of a failed check: which backend, which files are tried, and what came of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx_ir as ir

from sn_deploy.check.backends.adapted import AdaptedBackend
from sn_deploy.check.backends.open import Backends
from sn_deploy.check.batch import Batch, Source
from sn_deploy.check.bisect.blocks import BEHIND, Blocks, cut
from sn_deploy.check.bisect.originals import originals_of
from sn_deploy.check.bisect.remembered import RememberedRunner
from sn_deploy.check.bisect.search import Found, smallest_set
from sn_deploy.check.comparison import Comparison
from sn_deploy.check.layers.comparison import OUTSIDE, LayerTolerance
from sn_deploy.check.layers.onnx_points import layers_in_file
from sn_deploy.check.layers.run import LayerRun
from sn_deploy.check.layers.words import sentences
from sn_deploy.check.result import BisectReport, LayerReport, as_json_object
from sn_deploy.check.run import Plan, run_comparison
from sn_deploy.draft_folder import draft_folder
from sn_deploy.errors import SnDeployError
from sn_deploy.graph.mixed import HALF_TYPES
from sn_deploy.graph.save import save
from sn_deploy.python_words import in_callers_words
from sn_deploy.runtime.ort import OrtSession

DEFAULT_RUNS: Final = 50

# What is told while it works: runs so far, the most there can be, seconds of one.
OnRun = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Bisection:
    """A report, and the blocks' model where a mixed file passes."""

    report: BisectReport
    mixed: ir.Model | None = None

    def write(self, path: Path) -> BisectReport:
        """Writes the mixed file, where there is one; gives the report that says so.

        Raises:
            SnDeployError: it can't be written.
        """
        if self.mixed is None:
            return self.report
        ir.external_data.load_to_model(self.mixed)  # the source's external data isn't the new file's
        save(self.mixed, path)
        return dataclasses.replace(self.report, file=str(path))


def failed_backend(comparison: Comparison, backends: Backends) -> AdaptedBackend | None:
    """The first backend that fails: among those in half precision, else among all.

    What fails after a layer alone doesn't count: bisection is about results.
    """
    failed = {one.backend for one in comparison.assertions() if not one.passed and one.metric != OUTSIDE}
    found = [one for one in backends.all if one.info.name in failed and one.info.name != backends.reference]
    return next((one for one in found if _can_be_bisected(one)), found[0] if found else None)


def _can_be_bisected(backend: AdaptedBackend) -> bool:
    return backend.info.kind.startswith("ort") and backend.info.settings.get("precision") in HALF_TYPES


def bisect(
    backend: AdaptedBackend,
    backends: Backends,
    source: Source,
    plan: Plan,
    *,
    most_runs: int = DEFAULT_RUNS,
    on_run: OnRun = lambda done, most, seconds: None,
) -> Bisection:
    """Finds the layers of one backend that must stay in float32.

    Args:
        backend: one that fails.
        source, plan: of the check.
        most_runs: how many mixed files are run at most.
        on_run: called after each.

    Raises:
        SnDeployError: it isn't an ONNX file in half precision, or its layers can't be found.
    """
    if not _can_be_bisected(backend):
        precision = backend.info.settings.get("precision", "?")
        raise SnDeployError(
            f"computes in {precision} and fails",
            where=f"--bisect, {backend.info.name}",
            expected="an ONNX file in float16 or bfloat16",
            mend="precision isn't the cause, or can't be changed here; --layers names the layer",
        )
    reference = next(one for one in backends.all if one.info.name == backends.reference)
    with draft_folder(None, of=str(backend.info.file)) as folder:
        trials = _Trials(backend, reference, backends, source, dataclasses.replace(plan, layers=None), folder)
        return _bisect(trials, most_runs, on_run)


class _Trials:
    """Mixed files of one backend, each run on all data."""

    def __init__(
        self,
        backend: AdaptedBackend,
        reference: AdaptedBackend,
        backends: Backends,
        source: Source,
        plan: Plan,
        folder: Path,
    ) -> None:
        assert backend.info.file is not None
        path = Path(backend.info.file)
        self.backend, self.source, self._backends, self._plan, self._folder = backend, source, backends, plan, folder
        layers = layers_in_file(path).layers
        if not layers:
            raise SnDeployError("has no SN layer that could be found", where=f"--bisect, {path}")
        self.blocks: Blocks = cut(path, str(backend.info.settings["precision"]), layers)
        self.reference = reference
        self._remembered = RememberedRunner(reference.runner, folder)
        self._replayed = reference.with_runner(reference.info, self._remembered, reference.reopen)
        self._originals = originals_of(reference)
        self.runs = 0
        self.seconds = 0.0

    def model(self, kept: Collection[str]) -> ir.Model:
        """The file with these blocks in float32."""
        return self.blocks.mixed(kept, self._originals)

    def passes(self, kept: Collection[str]) -> bool:
        """Whether its result does."""
        start = time.monotonic()
        mixed = self.opened(kept)
        try:
            self._remembered.rewind()
            pair = dataclasses.replace(self._backends, all=[self._replayed, mixed])
            comparison, _ = run_comparison(self.source, pair, self._plan)
        finally:
            mixed.close()
        self.runs += 1
        self.seconds = time.monotonic() - start
        name = self.backend.info.name
        return all(one.passed for one in comparison.assertions() if one.backend == name)

    def opened(self, kept: Collection[str]) -> AdaptedBackend:
        """The mixed file as a backend, under the name of the one that is bisected."""
        model = self.model(kept)
        ir.external_data.load_to_model(model)
        path = self._folder / "mixed.onnx"
        save(model, path)
        runner = self.backend.runner
        assert isinstance(runner, OrtSession)
        info = dataclasses.replace(self.backend.info, file=str(path))
        return self.backend.with_runner(info, runner.with_model(path), lambda: runner.with_model(path))

    def layer_report(self, kept: Collection[str], batches: int | None = None) -> LayerReport | None:
        """The layers of the mixed file beside the reference's; of the first batches alone, where so many are named."""
        mixed = self.opened(kept)
        pair = dataclasses.replace(self._backends, all=[self.reference, mixed])
        layers = LayerRun(pair, LayerTolerance())
        try:
            for batch in _first(self.source, batches):
                layers.update(batch)
        finally:
            layers.close()
            mixed.close()
        return next((one for one in layers.comparison.reports() if one.backend == mixed.info.name), None)


def _first(source: Source, batches: int | None) -> Iterator[Batch]:
    for done, batch in enumerate(source):
        if done == batches:
            return
        yield batch


def _bisect(trials: _Trials, most_runs: int, on_run: OnRun) -> Bisection:
    names = list(trials.blocks.places)

    def passes(kept: Collection[str]) -> bool:
        passed = trials.passes(kept)
        on_run(trials.runs, most_runs, trials.seconds)
        return passed

    if not passes(names):
        return Bisection(_not_precision(trials))
    found = smallest_set(_likeliest_first(trials, names), passes, most_runs - trials.runs)
    kept = [name for name in names if name in found.kept]
    report = BisectReport(
        backend=trials.backend.info.name,
        blocks=len(names),
        kept=kept,
        passed=True,
        minimal=found.minimal,
        runs=trials.runs,
        says=list(_kept_says(trials, kept, found)),
    )
    return Bisection(report, trials.model(kept))


def _likeliest_first(trials: _Trials, names: Sequence[str]) -> list[str]:
    """The blocks by how much the error grows in them, on one batch of the file as it is."""
    try:
        report = trials.layer_report((), batches=1)
    except SnDeployError:
        report = None  # the order costs runs, and nothing else
    growth: dict[str, float] = dict.fromkeys(names, 0.0)
    before = 0.0
    for layer in report.layers if report is not None else ():
        growth[layer.layer] = max(0.0, layer.rel_l2**2 - before**2)
        before = layer.rel_l2 if layer.rel_l2 < float("inf") else before
    return sorted(names, key=lambda name: -growth[name])


def _not_precision(trials: _Trials) -> BisectReport:
    names, backend = list(trials.blocks.places), trials.backend.info.name
    report = trials.layer_report(names)
    says = [f"{backend}: it doesn't pass with everything in float32 either: precision isn't the cause."]
    if trials.blocks.left_out:
        says.append(
            f"{backend}: these stayed as they are, since they hold graphs: {', '.join(trials.blocks.left_out)}."
        )
    if report is not None and report.layers:
        says += sentences(as_json_object(report), outputs_hold=False)
    return BisectReport(
        backend=backend,
        blocks=len(names),
        kept=[],
        passed=False,
        minimal=False,
        runs=trials.runs,
        says=says,
        culprit=report.culprit if report is not None else None,
        culprit_part=report.culprit_part if report is not None else None,
    )


def _kept_says(trials: _Trials, kept: Sequence[str], found: Found) -> Iterator[str]:
    backend = trials.backend.info.name
    blocks = len(trials.blocks.places)
    layers = [name for name in kept if name != BEHIND]
    what = ", ".join([*layers, *(["what is behind the last layer"] if BEHIND in kept else [])])
    yield (
        f"{backend}: it passes with {len(kept)} of {blocks} blocks in float32: {what}. A layer's block is the layer "
        "and what leads to it from the layers before, its convolution above all."
    )
    if found.minimal:
        yield f"{backend}: none of them can be left out; {trials.runs} files were tried."
    else:
        more = in_callers_words("--bisect-runs")
        yield f"{backend}: after {trials.runs} files no more were tried: fewer may suffice ({more})."
