"""Files that are faster where they were made, and run nowhere else: made of a portable file, proved against it."""

from __future__ import annotations

from sn_deploy.optimise.run import TARGETS, LayerOutcome, OptimiseReport, optimise

__all__ = ["TARGETS", "LayerOutcome", "OptimiseReport", "optimise"]
