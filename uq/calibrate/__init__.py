"""Recalibration: predictions made better calibrated, from outcomes that trained none of them.

Each is a `Recalibrator`: `fit(predictive, y) -> state` and `apply(state, predictive) -> Predictive`. They see the
mixture, not its members.
"""

from ._recalibrator import Fitted as Fitted
from ._recalibrator import Recalibrator as Recalibrator
from ._recalibrator import compose as compose
