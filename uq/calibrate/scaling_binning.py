"""Scaling-binning: Platt scaling, then its mean over bins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._typing import Array
from . import _one_vs_rest, _steps
from ._one_vs_rest import Event, logit
from ._recalibrator import Fitted, Recalibrator
from ._search import Found, fitted, log_loss, logistic, sigmoid, weak_prior


class ScalingBinningState(NamedTuple):
    """What `scaling_binning` learns."""

    steps: _steps.Steps
    fitted: Fitted
    """How the searches for slope and bias went, `(K,)`."""


def scaling_binning(*, bins: int = 15) -> Recalibrator:
    """Log-odds are scaled as by `platt`, then every prediction becomes the mean of the scaled ones in its bin.

    The value of a bin is a mean of smooth predictions and not of outcomes, so that it varies less than that of
    `histogram_binning`; and as the map takes few values, its calibration error can be estimated without bias, which
    that of continuous maps cannot. Predictions of one bin are no longer told apart. With more than two classes, each
    is mapped against the rest and probabilities are divided by their sum.

    As in the authors' code, one set of rows serves to scale, to place the bins (of equal mass), and to average.

    Args:
      bins: at most as many; ties are never parted.
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `ScalingBinningState`.
    Raises:
      InputError: settings that are none; in `fit`, a class of which there is no outcome, labels out of range, shapes
        that do not fit.
    References:
      kumar2019, section 4.1. Checked against a loop over bins of predictions scaled by `platt`.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.2, 0.4, 0.6, 0.8] * 25)
      >>> y = np.array([0, 0, 1, 1] * 20 + [1, 0, 1, 0] * 5)
      >>> binned = scaling_binning(bins=2)
      >>> np.asarray(binned.apply(binned.fit(p, y), p[:4]).mean, float).round(2).tolist()
      [0.23, 0.23, 0.77, 0.77]
    """
    _steps.check("scaling_binning", bins, "mass")

    def learn(data: Event) -> ScalingBinningState:
        found, before = scaled(data)
        odds = found.at[0] * data.odds + found.at[1]
        cuts = _steps.equal_mass(data, bins)
        mean = _steps.sums(data.weight * sigmoid(odds), cuts) / _steps.sums(data.weight, cuts)
        steps = _steps.Steps(_steps.edges_at(data, cuts), logit(mean))
        after = _mean_loss(np.repeat(steps.odds, np.diff(cuts, prepend=0, append=len(odds))), data)
        return ScalingBinningState(steps, fitted("scaling_binning", found, before, after))

    return _one_vs_rest.recalibrator("scaling_binning", learn, _step)


def _step(state: ScalingBinningState, odds: Array) -> Array:
    return _steps.step(state.steps, odds)


def scaled(data: Event) -> tuple[Found, float]:
    """Slope and intercept of the log-odds as by `platt`, and the mean log loss without them."""
    yes = data.happened.sum()
    no = data.weight.sum() - yes
    target = ((yes + 1) / (yes + 2) * data.happened + (data.weight - data.happened) / (no + 2)) / data.weight
    design = np.stack([data.odds, np.ones_like(data.odds)], 1)
    found = logistic(design, target, data.weight, [1, 0], weak_prior([10, 10], data.weight))
    return found, _mean_loss(data.odds, data)


def _mean_loss(odds: Any, data: Event) -> float:
    return float(np.average(log_loss(odds, data.rate), weights=data.weight))
