"""Conformal prediction: intervals and sets with a guarantee for finite samples, from held-out outcomes.

A procedure is a `Conformal`: `fit(pred, y) -> state` and `apply(state, pred, level=0.9)`. A `Score` says how ill an
outcome conforms to its prediction; every procedure takes every score.
"""

from ._procedure import Conformal as Conformal
from ._procedure import PredictionInterval as PredictionInterval
from ._procedure import Score as Score
from .quantile import cqr as cqr
from .quantile import cqr_r as cqr_r
from .quantile import uacqr as uacqr
from .scores import absolute as absolute
from .scores import distributional as distributional
from .scores import gamma as gamma
from .scores import normalized as normalized
from .split import SplitState as SplitState
from .split import split as split
