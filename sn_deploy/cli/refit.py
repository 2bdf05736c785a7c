"""``sn-deploy refit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sn_deploy.cli.engine_options import ENGINES
from sn_deploy.cli.log import print_log
from sn_deploy.cli.options import add_options
from sn_deploy.console import output_console


@click.command(name="refit")
@click.argument("engine", metavar="FILE.engine", type=click.Path(path_type=Path))
@click.argument("model", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="NEW.engine")
@add_options(ENGINES)
@click.option("--verbose", is_flag=True, help="Show TensorRT's log, from infos up.")
def command(engine: Path, model: Path, output: Path, verbose: bool, **access: Any) -> None:
    """Put an ONNX file's weights into an engine that was built without any, or with others.

    \b
    sn-deploy build resnet50sn.onnx -o small.engine --strip-weights
    sn-deploy refit small.engine resnet50sn.onnx -o resnet50sn.engine

    An engine that was built with --strip-weights gets the weights of the very file that it was built
    of. One built with --refit takes those of any file of the same graph, whose SN layers give the same
    shares to IN, LN and BN: these are fixed in an engine. It needs the GPU that the engine is for.
    """
    from sn_deploy.engine.refit import refit
    from sn_deploy.engine.show import print_refit

    report = refit(engine, model, output, on_log=print_log if verbose else None, **access)
    print_refit(output_console(), report)
