"""Layers that need less than SwitchNorm does get cheaper: exactly, or within a budget that is measured on data."""

from sn_deploy.specialise.budget import Budget
from sn_deploy.specialise.report import LayerChange, SpecialiseReport
from sn_deploy.specialise.run import specialise

__all__ = ["Budget", "LayerChange", "SpecialiseReport", "specialise"]
