"""Metrics: how good predictions are, told from predictions and outcomes alone.

Predictions come first, outcomes second. Scores return one value an example, lower is better; summaries return
one number a test set. They read a `Predictive`, class probabilities, point predictions or intervals, and know
nothing of networks or how they were trained. Everything runs under `jax.jit`.
"""

from .calibration import ReliabilityCurve as ReliabilityCurve
from .calibration import accuracy as accuracy
from .calibration import calibration_error as calibration_error
from .calibration import coverage as coverage
from .calibration import pit as pit
from .calibration import regression_calibration_error as regression_calibration_error
from .calibration import reliability_curve as reliability_curve
from .calibration import rmse as rmse
from .scores import brier_score as brier_score
from .scores import crps as crps
from .scores import interval_width as interval_width
from .scores import log_score as log_score
from .scores import squared_error as squared_error
