"""Checkpoints: read without running anything in them, unwrapped, loaded with a report, and written."""

from sn_deploy.checkpoint.load import LoadReport, load_into, read_checkpoint, read_state_dict
from sn_deploy.checkpoint.save import check_suffix, save_state_dict
from sn_deploy.checkpoint.state_dicts import StateDict

__all__ = [
    "LoadReport",
    "StateDict",
    "check_suffix",
    "load_into",
    "read_checkpoint",
    "read_state_dict",
    "save_state_dict",
]
