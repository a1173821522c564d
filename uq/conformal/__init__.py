"""Conformal prediction: intervals and sets with a guarantee for finite samples, from held-out outcomes.

A procedure is a `Conformal`: `fit(pred, y) -> state` and `apply(state, pred, level=0.9)`, which gives intervals, or
sets of classes. A `Score` says how ill a number conforms to its prediction; procedures for numbers take any score.
"""

from ._procedure import Conformal as Conformal
from ._procedure import PredictionInterval as PredictionInterval
from ._procedure import Score as Score
from ._sets import PredictionSet as PredictionSet
from .class_conditional import class_conditional as class_conditional
from .class_conditional import clustered as clustered
from .class_conditional import group_conditional as group_conditional
from .covariate_shift import covariate_shift as covariate_shift
from .cross import cross as cross
from .cross import jackknife_after_bootstrap as jackknife_after_bootstrap
from .density import DensityRegion as DensityRegion
from .density import highest_density as highest_density
from .distribution import ConformalDistribution as ConformalDistribution
from .distribution import distribution as distribution
from .label_sets import aps as aps
from .label_sets import lac as lac
from .label_sets import raps as raps
from .label_sets import saps as saps
from .label_sets import top_k as top_k
from .mondrian import mondrian as mondrian
from .multi import PredictionBox as PredictionBox
from .multi import PredictionEllipsoid as PredictionEllipsoid
from .multi import copula as copula
from .multi import ellipsoid as ellipsoid
from .multi import max_norm as max_norm
from .online import Online as Online
from .online import Stream as Stream
from .online import aci as aci
from .online import agaci as agaci
from .online import enbpi as enbpi
from .online import pid as pid
from .online import stream as stream
from .quantile import cqr as cqr
from .quantile import cqr_r as cqr_r
from .quantile import uacqr as uacqr
from .risk import RiskControl as RiskControl
from .risk import RiskTests as RiskTests
from .risk import conformal_risk_control as conformal_risk_control
from .risk import learn_then_test as learn_then_test
from .risk import rcps as rcps
from .scores import absolute as absolute
from .scores import distributional as distributional
from .scores import gamma as gamma
from .scores import normalized as normalized
from .selective import Abstention as Abstention
from .selective import selective_threshold as selective_threshold
from .split import split as split
from .weighted import localized as localized
from .weighted import weighted as weighted
