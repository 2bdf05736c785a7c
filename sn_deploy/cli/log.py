"""TensorRT's log on the standard error, where ``--verbose`` asks for it."""

from __future__ import annotations

import click


def print_log(severity: str, message: str) -> None:
    """A line for each message; any thread may call."""
    click.echo(f"TensorRT {severity.lower().replace('_', ' ')}: {message}", err=True)
