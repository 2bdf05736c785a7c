"""Statistics of the BN branches from the user's own data: batch averages, and those of the whole population.

`calibrate` runs a private copy of a model and gives statistics; `with_statistics` puts them into a state dict.
"""

from sn_deploy.calibrate.calibration import calibrate, calibrate_part
from sn_deploy.calibrate.one_pass import Calibration, LayerStatistics, Pass, calibration_from_pass
from sn_deploy.calibrate.state import changed_tensors, with_statistics
from sn_deploy.calibrate.tally import BATCH_AVERAGE, POPULATION

__all__ = [
    "BATCH_AVERAGE",
    "POPULATION",
    "Calibration",
    "LayerStatistics",
    "Pass",
    "calibrate",
    "calibrate_part",
    "calibration_from_pass",
    "changed_tensors",
    "with_statistics",
]
