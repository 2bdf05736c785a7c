"""Checkpoints: read without running anything in them, unwrapped, loaded with a report, written and rewritten."""

from sn_deploy.checkpoint.load import LoadReport, load_into, read_checkpoint, read_state_dict
from sn_deploy.checkpoint.rewrite import Base, Checkpoint, ModelState, read_whole_checkpoint
from sn_deploy.checkpoint.save import check_suffix, save_state_dict
from sn_deploy.checkpoint.state_dicts import StateDict

__all__ = [
    "Base",
    "Checkpoint",
    "LoadReport",
    "ModelState",
    "StateDict",
    "check_suffix",
    "load_into",
    "read_checkpoint",
    "read_state_dict",
    "read_whole_checkpoint",
    "save_state_dict",
]
