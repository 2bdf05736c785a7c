"""One candidate: read its constants, let the module itself confirm them, or say why not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sn_deploy.errors import SnDeployError
from sn_deploy.folded import FoldedSwitchNorm
from sn_deploy.recognise.candidates import Candidate, with_other_statistics
from sn_deploy.recognise.diagnose import check_dtype, diagnose, misbehaviour, negative_variance
from sn_deploy.recognise.forms import Constants, Form, branch_orders, constants_from_candidate, eps_values, fold, forms
from sn_deploy.recognise.probe import SINGLE_TOLERANCE, TOLERANCE, Probe, mismatch, probe_inputs, run_probes
from sn_deploy.recognise.raw_sums import why_undivided
from sn_deploy.recognise.result import RefusedError
from sn_deploy.recognise.solve import line_inputs, solutions
from sn_deploy.recognise.subject import ForwardFailedError, Subject

Shape = tuple[int, ...]

_USUAL_RANKS = (4, 2, 3, 5)
_LARGE = 500_000  # elements; above it, one sample of the layer's own size has to do
# Sizes beyond all activations: squared, the one is far from float32's end, the other nothing beside any eps.
_ENDS = (("large", 1e12), ("small", 1e-6))
_FLOAT32_ROUNDOFF = 2.0**-24


@dataclass(frozen=True)
class _Trial:
    """A run of the module on probes of one rank."""

    rank: int
    spatial: tuple[int, ...] | None
    probes: list[Probe]


@dataclass(frozen=True)
class _Reading:
    """The form that came closest, and its mismatch; None where no form applies."""

    folded: FoldedSwitchNorm | None
    size: float


def examine(candidate: Candidate, shapes: Sequence[Shape]) -> FoldedSwitchNorm:
    """The folded layer, confirmed by the module's own output; of several recorded statistics with those that it reads.

    Args, Raises: as `examine_as_read`.
    """
    try:
        return examine_as_read(candidate, shapes)
    except RefusedError:
        for other in with_other_statistics(candidate):
            with contextlib.suppress(RefusedError):
                return examine_as_read(other, shapes)
        raise


def examine_as_read(candidate: Candidate, shapes: Sequence[Shape]) -> FoldedSwitchNorm:
    """The folded layer, confirmed by the module's own output.

    Args:
        candidate: a module that looks like SN.
        shapes: of the inputs that the layer was seen with, of one rank; empty where it wasn't.

    Raises:
        RefusedError: it is something else, or its constants can't be used.
    """
    _check_values(candidate)
    shape = shapes[0] if shapes else None
    channels = _channel_count(candidate, shape)
    constants = constants_from_candidate(candidate, channels)
    subject = Subject(candidate.module)
    first: tuple[_Trial, _Reading] | None = None
    for trial in _trials(candidate, constants, subject, channels, shape):
        reading = _closest(candidate, constants, subject, trial)
        if reading.folded is not None and _confirmed(reading, subject, trial):
            _check_accepted(candidate, constants, subject, reading, trial, shapes)
            return reading.folded
        first = first or (trial, reading)
    assert first is not None
    # A module may take a rank it wasn't made for and only give nonsense there: what it fails on first is its own.
    trial, reading = first
    line_probes = _run_lines(subject, constants, trial)
    raise diagnose(candidate, constants, subject, trial.probes, line_probes, reading.size)


def examine_reading(
    candidate: Candidate, constants: Constants, form: Form, shapes: Sequence[Shape], reader: str
) -> FoldedSwitchNorm:
    """The folded layer as a user's reader reads it, confirmed by the module's own output as any other.

    Args:
        candidate: the module; of its tensors nothing is known.
        constants, form: what the reader says.
        shapes: of the inputs that the layer was seen with, of one rank; empty where it wasn't.
        reader: its name, for messages.

    Raises:
        RefusedError: the module computes something else, or its constants can't be used.
    """
    shape = shapes[0] if shapes else None
    channels = _channel_count(candidate, shape)
    subject = Subject(candidate.module)
    folded = fold(candidate.name, constants, form)
    first: tuple[_Trial, float] | None = None
    for trial in _trials(candidate, constants, subject, channels, shape):
        reading = _Reading(folded, mismatch(folded, trial.probes))
        if _confirmed(reading, subject, trial):
            _check_accepted(candidate, constants, subject, reading, trial, shapes)
            return folded
        first = first or (trial, reading.size)
    assert first is not None
    trial, size = first
    raise misbehaviour(candidate, constants, subject, trial.probes) or RefusedError(
        f"differs by {size:.1e} of its output from what {reader} reads of it", f"correct {reader}"
    )


def _check_values(candidate: Candidate) -> None:
    for name in candidate.tensor_names:
        if candidate.tensor(name).is_meta:
            raise RefusedError(f"{name} is on the meta device and has no values", "load the checkpoint first")
        values = candidate.values(name)
        assert values is not None
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            text = f"{name}[{bad[0]}] is {values[bad[0]]}" + (f" (and {bad.size - 1} more)" if bad.size > 1 else "")
            raise RefusedError(text, "use a checkpoint without NaN and infinity")
    undivided = why_undivided(candidate)
    if undivided is not None:
        raise RefusedError(undivided, "give --finalize-batch-average N, with N the number of batches that were summed")


def _channel_count(candidate: Candidate, shape: Shape | None) -> int:
    if shape is None:
        if candidate.channels is None:
            raise RefusedError(
                "nothing tells its number of channels: it has no affine part and no running statistics",
                "give the shape of its input",
            )
        return candidate.channels
    text = "×".join(str(size) for size in shape)
    if len(shape) < 2:
        raise RefusedError(f"its input is {text}: it has no channels", "give it an input (N, C, *spatial)")
    if candidate.channels not in (None, shape[1]):
        if len(shape) > 2 and shape[-1] == candidate.channels:
            raise RefusedError(
                f"its input is {text}, and its parameters have {shape[-1]} channels: it takes its channels last",
                "give it an input (N, C, *spatial), as sn_deploy.nn.ChannelsLast does; or run torch.onnx.export "
                "and then sn-deploy fuse",
            )
        raise RefusedError(
            f"its input is {text}, with {shape[1]} channels along axis 1, and its parameters have {candidate.channels}",
            "give it an input (N, C, *spatial)",
        )
    return shape[1]


def _attempts(candidate: Candidate, channels: int, shape: Shape | None) -> Iterator[tuple[int, tuple[int, ...] | None]]:
    """Ranks and spatial sizes (None: small ones) to probe with, the likeliest first."""
    if shape is not None:
        yield len(shape), None
        if len(shape) > 2:
            yield len(shape), shape[2:]  # for a layer made for one size
        return
    hint = None
    # (1, C, 1, 1) is broadcast against a rank 4 input; the statistics' shape tells less, as (N, C, -1) views are usual.
    for name in (candidate.scale, candidate.bias):
        size = tuple(candidate.tensor(name).shape) if name is not None else ()
        if len(size) >= 2 and size[1] == channels:
            hint = len(size)
    for rank in dict.fromkeys(rank for rank in (hint, *_USUAL_RANKS) if rank is not None):
        yield rank, None


def _trials(
    candidate: Candidate, constants: Constants, subject: Subject, channels: int, shape: Shape | None
) -> Iterator[_Trial]:
    """Runs of the module as it takes them, the likeliest first; where it takes none, why not the first is raised."""
    failure, ran = None, False
    for rank, spatial in _attempts(candidate, channels, shape):
        inputs = probe_inputs(constants.scale.size, rank, constants, 0, spatial)
        try:
            trial = _Trial(rank, spatial, run_probes(subject, inputs))
        except RefusedError as error:
            failure = failure or error
            continue
        ran = True
        yield trial
    if not ran and failure is not None:
        raise failure


def _run_lines(subject: Subject, constants: Constants, trial: _Trial) -> list[Probe]:
    inputs = probe_inputs(constants.scale.size, trial.rank, constants, 1, trial.spatial)
    return run_probes(subject, line_inputs(inputs))


def _closest(candidate: Candidate, constants: Constants, subject: Subject, trial: _Trial) -> _Reading:
    """The first published form that fits; else the constants in effect; else whichever came closest."""
    best = _Reading(None, float("inf"))
    if not all(np.isfinite(probe.y).all() for probe in trial.probes):
        return best
    for form in _hypotheses(candidate, constants, subject, trial):
        folded = fold(candidate.name, constants, form)
        size = mismatch(folded, trial.probes, give_up=best.size)
        if size < best.size:
            best = _Reading(folded, size)
        if size <= TOLERANCE:
            break
    return best


def _hypotheses(candidate: Candidate, constants: Constants, subject: Subject, trial: _Trial) -> Iterator[Form]:
    eps = eps_values(candidate)
    orders = branch_orders(constants.mean_mix.size, trial.rank, constants.has_statistics)
    yield from forms(constants, orders, eps)
    line_probes = _run_lines(subject, constants, trial)
    for ddof in (1, 0):
        yield from solutions(constants, line_probes, ddof, eps)


def _confirmed(reading: _Reading, subject: Subject, trial: _Trial) -> bool:
    if reading.size <= TOLERANCE:
        return True
    return reading.size <= SINGLE_TOLERANCE and subject.computes_in_low_precision(trial.probes[1].x)


def _check_accepted(
    candidate: Candidate,
    constants: Constants,
    subject: Subject,
    reading: _Reading,
    trial: _Trial,
    shapes: Sequence[Shape],
) -> None:
    """What a layer whose output agrees must keep to, too: dtypes, a variance that can't be negative, inputs of any
    size, its own extents at every call."""
    folded = reading.folded
    assert folded is not None
    check_dtype(candidate, trial.probes[0])
    if (folded.var_offset < 0).any():
        channel = int(folded.var_offset.argmin())
        raise negative_variance(candidate, constants) or RefusedError(
            f"the constant part of its variance is {folded.var_offset[channel]:.4g} in channel {channel}: the weight "
            f"of {candidate.running_var} is {folded.var_bn:.4g}, so var + eps can be below zero, and its root NaN"
        )
    _check_ends(folded, subject, reading, trial)
    # A shared head runs on each level of a pyramid. A sample is normalised by itself, so batches don't matter.
    for shape in {shape[1:]: shape for shape in shapes}.values():
        _check_own_size(folded, constants, subject, reading, shape)


def _check_ends(folded: FoldedSwitchNorm, subject: Subject, reading: _Reading, trial: _Trial) -> None:
    """Clamps, at what activations or their variances may reach, are no part of the layer."""
    # A variance is kept above 1e-12, say, to stay positive: where float32 can't tell, it may be.
    limit = _FLOAT32_ROUNDOFF if reading.size <= TOLERANCE else SINGLE_TOLERANCE
    for word, factor in _ENDS:
        inputs = [(end * trial.probes[1].x).astype(np.float32).astype(np.float64) for end in (factor, -factor)]
        size = mismatch(folded, run_probes(subject, inputs))
        if size > limit:
            raise RefusedError(
                f"it agrees with Switchable Normalization on usual inputs, but differs by {size:.1e} of its output on "
                f"very {word} ones",
                "take what limits its input or its variance (clamp, maximum) out of its forward",
            )


def _check_own_size(
    folded: FoldedSwitchNorm, constants: Constants, subject: Subject, reading: _Reading, shape: Shape
) -> None:
    try:
        folded.check_shape(shape)
    except SnDeployError as error:
        raise RefusedError(error.what, error.mend) from error
    if 0 in shape[1:]:
        return
    samples = 2 if 2 * int(np.prod(shape[1:])) <= _LARGE else 1
    x = probe_inputs(constants.scale.size, len(shape), constants, 2, shape[2:])[1][:samples]
    try:
        size = mismatch(folded, run_probes(subject, [x]))
    except ForwardFailedError as error:
        raise RefusedError(f"it agrees on small inputs, but {error.reason}", error.mend) from error
    if size > max(TOLERANCE, 4 * reading.size):
        raise RefusedError(
            f"it agrees with Switchable Normalization on small inputs, but differs by {size:.1e} of its output at its "
            "own size " + "×".join(str(extent) for extent in shape),
            "compare its forward with the published one for what depends on the size",
        )
