"""Recalibration: predictions made better calibrated, from outcomes that trained none of them.

Each is a `Recalibrator`: `fit(predictive, y) -> state` and `apply(state, predictive) -> Predictive`. They see the
mixture, not its members.
"""

from ._recalibrator import Fitted as Fitted
from ._recalibrator import Recalibrator as Recalibrator
from ._recalibrator import compose as compose
from .auto import AutoState as AutoState
from .auto import Candidate as Candidate
from .auto import auto as auto
from .conditional_scale import conditional_scale as conditional_scale
from .quantiles import quantiles as quantiles
from .stacking import stacking as stacking
from .variance import affine_variance as affine_variance
from .variance import scale as scale
from .variance import student_tails as student_tails
