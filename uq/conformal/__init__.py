"""Conformal prediction: intervals and sets with a guarantee for finite samples, from held-out outcomes."""

from ._procedure import Conformal as Conformal
from ._sets import PredictionSet as PredictionSet
from .class_conditional import class_conditional as class_conditional
from .class_conditional import clustered as clustered
from .class_conditional import group_conditional as group_conditional
from .covariate_shift import covariate_shift as covariate_shift
from .label_sets import aps as aps
from .label_sets import lac as lac
from .label_sets import raps as raps
from .label_sets import saps as saps
from .label_sets import top_k as top_k
from .risk import RiskControl as RiskControl
from .risk import RiskTests as RiskTests
from .risk import conformal_risk_control as conformal_risk_control
from .risk import learn_then_test as learn_then_test
from .risk import rcps as rcps
from .selective import Abstention as Abstention
from .selective import selective_threshold as selective_threshold
