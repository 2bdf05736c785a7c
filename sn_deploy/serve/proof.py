"""Whether a model does what its config will promise: batches of any size, and each sample as if it were alone.

Triton puts requests of strangers into one batch. A model whose graph fixes a batch somewhere inside, or whose samples
see each other, would answer with errors or with wrong numbers, and only under load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sn_deploy.compare.tolerances import TOLERANCES, WORST_SAMPLE
from sn_deploy.errors import CheckFailedError, SnDeployError
from sn_deploy.runtime.tensors import Array, TensorInfo, is_exact
from sn_deploy.serve.interface import Interface

Runs = Mapping[str, Array]
_SAMPLES = 3
_MEND: Final = "turn batching off, --max-batch 0: the server must not put requests together"


def prove_batches(
    model: Path, interface: Interface, shapes: Mapping[str, Sequence[int]], precision: str, *, library: Path | None
) -> str:
    """Runs three samples one by one and together, in ONNX Runtime on the CPU.

    Args:
        shapes: input -> the shape of a sample.
        precision: what the model computes in.
        library: with its custom operators, that the server will use.

    Returns:
        What was seen, for people.

    Raises:
        SnDeployError: ONNX Runtime is missing or can't run it, or an output isn't as the file says.
        CheckFailedError: samples of a batch see each other.
    """
    from sn_deploy.runtime.ort import OrtSession

    generator = np.random.default_rng(0)
    samples = {info.name: _random(generator, info, (_SAMPLES, *shapes[info.name])) for info in interface.inputs}
    with OrtSession(model, native=False, custom_op_library=library, spinning=False) as session:
        together = session.run(samples)
        alone = [
            session.run({name: values[index : index + 1] for name, values in samples.items()})
            for index in range(_SAMPLES)
        ]
    worst = 0.0
    for info in interface.outputs:
        _check_shape(info, together[info.name], where=str(model))
        separate = _separate([one[info.name] for one in alone], together[info.name], info, where=str(model))
        worst = max(worst, _difference(together[info.name], separate, precision, f"{model}, output {info.name}"))
    return f"a batch of {_SAMPLES} differs from its samples alone by {worst:.1e} (relative L2)"


def _random(generator: np.random.Generator, info: TensorInfo, shape: tuple[int, ...]) -> Array:
    if is_exact(info.dtype):
        return generator.integers(0, 2, shape).astype(info.dtype)
    return generator.standard_normal(shape, dtype=np.float32).astype(info.dtype)


def _check_shape(info: TensorInfo, value: Array, *, where: str) -> None:
    if not info.accepts_shape(value.shape) or len(value) != _SAMPLES:
        raise SnDeployError(
            f"output {info.name} of a batch of {_SAMPLES} has shape {value.shape}", where=where, expected=str(info)
        )


def _separate(alone: Sequence[Array], together: Array, info: TensorInfo, *, where: str) -> Array:
    """What each sample gives alone, one behind the other."""
    shapes = sorted({value.shape for value in alone})
    if shapes != [(1, *together.shape[1:])]:
        raise CheckFailedError(
            f"output {info.name} of one sample has shape {' or '.join(map(str, shapes))}",
            where=where,
            expected=f"{(1, *together.shape[1:])}, as in a batch",
            mend=_MEND,
        )
    return np.concatenate(alone)


def _difference(together: Array, alone: Array, precision: str, where: str) -> float:
    """Relative L2 difference of the worst sample."""
    if is_exact(together.dtype):
        if not np.array_equal(together, alone):
            raise CheckFailedError("a sample's integers differ in a batch and alone", where=where, mend=_MEND)
        return 0.0
    if not together.size:
        return 0.0
    one, other = (value.astype(np.float64).reshape(_SAMPLES, -1) for value in (together, alone))
    # Infinities, which masks are made of, and NaN are the same or they aren't.
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    scale = np.linalg.norm(np.where(np.isfinite(other), other, 0), axis=1)
    errors = np.linalg.norm(np.subtract(one, other, out=np.zeros_like(one), where=~same), axis=1)
    errors /= np.where(scale > 0, scale, 1)
    worst = float(errors.max())
    coarsest = TOLERANCES.get(precision, TOLERANCES["bfloat16"])
    limit = WORST_SAMPLE * coarsest.rel_l2
    if not worst <= limit:
        raise CheckFailedError(
            f"a sample's result differs by {worst:.1e} (relative L2) in a batch and alone",
            where=where,
            expected=f"at most {limit:.1e}",
            mend=_MEND,
        )
    return worst
