"""The one table of tolerances by type of number, and their reasons. The tests use it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sn_deploy.errors import SnDeployError


@dataclass(frozen=True)
class Tolerance:
    """What computing in a type of number may cost.

    Attributes:
        roundoff: unit roundoff u: half the spacing of its numbers next to 1.
        smallest: half the spacing of its numbers next to 0; in float32 runtimes may flush that to 0, so a normal
            number.
        rel_l2: relative L2 error of a whole net's output.
    """

    roundoff: float
    smallest: float
    rel_l2: float


# A net's tolerance is some ten times what the published ResNet-50s cost in ONNX Runtime and in PyTorch itself, against
# float64 (README). Wrong weights, a swapped pair of channels or a lost epsilon cost far more than the float32 one.
TOLERANCES: Final = {
    # The net's own rounding alone, a few u a layer: as much below float32's as the two roundoffs are apart.
    "float64": Tolerance(roundoff=2.0**-53, smallest=2.0**-1074, rel_l2=2e-14),
    # Measured: 3e-7 to 4e-6 for 50 layers, in every order of summation that a runtime has.
    "float32": Tolerance(roundoff=2.0**-24, smallest=2.0**-126, rel_l2=1e-5),
    # Weights, input and every layer's output are rounded to 11 bits. Measured: 3.7e-4 to 4.2e-3 for 50 layers.
    "float16": Tolerance(roundoff=2.0**-11, smallest=2.0**-25, rel_l2=16 * 2.0**-11),
    # float32 whose convolutions and matrix products may round what they read to 11 bits, sums in float32: no worse than
    # float16, whose sums are float32, too. Not measured: only a GPU computes so.
    "tf32": Tolerance(roundoff=2.0**-11, smallest=2.0**-126, rel_l2=16 * 2.0**-11),
    # float16's with 8 bits: eight times as much.
    "bfloat16": Tolerance(roundoff=2.0**-8, smallest=2.0**-126, rel_l2=16 * 2.0**-8),
}

# A single sample's output may be small by chance, so that its relative error is large: the worst of thousands was
# within 4 times the whole's for the digits and within 2 for the ResNets. A fault in few samples is far above.
WORST_SAMPLE: Final = 10.0

# Two files that compute the same are each as far from it as their type allows.
TWO_EVALUATIONS: Final = 2.0

# A net that amplifies rounding moves by so much where its input moves by one unit in the last place, or where its
# operators are put together in another way. A file whose layers are replaced rounds otherwise in each of them: by a few
# units, at 50 and more places, whose errors add up as their squares.
OWN_ROUNDINGS: Final = 16.0

# Beyond it, rounding alone makes other outputs of the same file, and two files can't be told apart by them.
MOST_AMPLIFIED: Final = 0.1

# Of outputs that aren't floating point, such as the index of the largest score, near ties may come out the other way.
MOST_CHANGED: Final = 0.01


def coarsest(dtypes: list[str]) -> str:
    """The type with the largest roundoff: what limits a comparison of several."""
    return max(dtypes, key=lambda dtype: tolerance_for(dtype).roundoff)


def tolerance_for(dtype: str) -> Tolerance:
    """The row of ``dtype``.

    Raises:
        SnDeployError: it has none.
    """
    if dtype not in TOLERANCES:
        raise SnDeployError(
            f"there is no default tolerance for {dtype}",
            expected=", ".join(TOLERANCES),
            mend="say what is allowed: --max-rel-l2 0.05, or --tolerance OUTPUT:rel_l2=0.05",
        )
    return TOLERANCES[dtype]
