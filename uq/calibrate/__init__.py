"""Recalibration: predictions made better calibrated, from outcomes that trained none of them.

Each is a `Recalibrator`: `fit(predictive, y) -> state` and `apply(state, predictive) -> Predictive`. They see the
mixture, not its members.
"""

from ._mapped import MappedPredictive as MappedPredictive
from ._recalibrator import Fitted as Fitted
from ._recalibrator import Recalibrator as Recalibrator
from ._recalibrator import compose as compose
from ._regression import Prior as Prior
from ._softmax import LinearState as LinearState
from ._steps import Steps as Steps
from ._voters import Voters as Voters
from .auto import AutoState as AutoState
from .auto import Candidate as Candidate
from .auto import auto as auto
from .auto import none as none
from .bayesian_binning import bayesian_binning as bayesian_binning
from .beta import BetaState as BetaState
from .beta import beta as beta
from .conditional_scale import ConditionalState as ConditionalState
from .conditional_scale import conditional_scale as conditional_scale
from .dirichlet import dirichlet as dirichlet
from .histogram_binning import histogram_binning as histogram_binning
from .isotonic import IsotonicState as IsotonicState
from .isotonic import isotonic as isotonic
from .matrix import matrix as matrix
from .platt import PlattState as PlattState
from .platt import platt as platt
from .quantiles import QuantileState as QuantileState
from .quantiles import quantiles as quantiles
from .scaling_binning import ScalingBinningState as ScalingBinningState
from .scaling_binning import scaling_binning as scaling_binning
from .spline import SplineState as SplineState
from .spline import spline as spline
from .stacking import StackingState as StackingState
from .stacking import stacking as stacking
from .temperature import TemperatureState as TemperatureState
from .temperature import temperature as temperature
from .variance import ScaleState as ScaleState
from .variance import VarianceState as VarianceState
from .variance import affine_variance as affine_variance
from .variance import scale as scale
from .variance import student_tails as student_tails
from .vector import vector as vector
from .venn_abers import ProbabilityBounds as ProbabilityBounds
from .venn_abers import VennAbersState as VennAbersState
from .venn_abers import venn_abers as venn_abers
from .venn_abers import venn_abers_bounds as venn_abers_bounds

CLASSES = {
    "temperature": temperature,
    "vector": vector,
    "matrix": matrix,
    "dirichlet": dirichlet,
    "platt": platt,
    "beta": beta,
    "histogram_binning": histogram_binning,
    "scaling_binning": scaling_binning,
    "isotonic": isotonic,
    "bayesian_binning": bayesian_binning,
    "spline": spline,
    "venn_abers": venn_abers,
}
"""The register of recalibrators of classes, by name; from the one with fewest parameters to the freest."""

NUMBERS = {
    "scale": scale,
    "affine_variance": affine_variance,
    "student_tails": student_tails,
    "conditional_scale": conditional_scale,
    "quantiles": quantiles,
    "stacking": stacking,
}
"""The register of recalibrators of numbers; `stacking` is for classes too."""
