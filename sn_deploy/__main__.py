"""``python -m sn_deploy``: the same as ``sn-deploy``."""

from sn_deploy.cli import program

program()
