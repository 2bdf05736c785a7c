"""The options that say which samples a new file is proved, or calibrated, on: those of ``sn-deploy check``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from sn_deploy.cli.check_options import DATA_FROM, EXAMPLES, IMAGES, images_from_options
from sn_deploy.cli.values import parse_sizes

if TYPE_CHECKING:
    from sn_deploy.precision.samples import SampleOptions

SAMPLES: Final = (
    DATA_FROM,
    click.option(
        "--batch-size", type=click.IntRange(min=1), help="Samples in a batch; default: 8, or what the file fixes."
    ),
    click.option(
        "--limit", type=click.IntRange(min=1), metavar="N", help="So many samples; default: all, 8 random ones."
    ),
    EXAMPLES,
    *IMAGES,
)


def samples_from_options(given: Mapping[str, Any]) -> SampleOptions:
    """What the options say.

    Raises:
        SnDeployError: there is no such data, or an input that can't be read.
    """
    from sn_deploy.check.data.open import DataOptions, data_kind
    from sn_deploy.precision.samples import SampleOptions

    data_kind(given["data"])
    examples = parse_sizes(given["examples"])
    # What the samples show doesn't matter here.
    data = DataOptions(
        given["data"], given["batch_size"], given["limit"], labels="none", images=images_from_options(given)
    )
    return SampleOptions(data, examples)
