"""What serving systems need: a model in an NVIDIA Triton repository, and what deploys it."""

from __future__ import annotations

from sn_deploy.serve.deployment import DeployOptions
from sn_deploy.serve.options import ServeOptions
from sn_deploy.serve.run import ServeReport, serve_triton

__all__ = ["DeployOptions", "ServeOptions", "ServeReport", "serve_triton"]
