"""Checkpoints: read without running anything in them, unwrapped, and loaded with a report."""

from sn_deploy.checkpoint.load import LoadReport, load_into, read_checkpoint

__all__ = ["LoadReport", "load_into", "read_checkpoint"]
