"""Isotonic regression of outcomes on predictions."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .._typing import Array
from ..metrics.isotonic import isotonic as pooled
from . import _one_vs_rest
from ._one_vs_rest import Event, interpolated, logit
from ._recalibrator import Recalibrator
from ._search import sigmoid


class IsotonicState(NamedTuple):
    """What `isotonic` learns, one map a class, or one for two classes."""

    knots: Any
    """Log-odds, `(K, n)`, rising; the last one is repeated to a length of 4ⁿ."""
    probs: Any
    """Probabilities there, `(K, n)`; linear in the log-odds between knots, constant outside."""


def isotonic(*, centered: bool = False) -> Recalibrator:
    """The non-decreasing map of predictions that fits the outcomes best, in squared error and in log loss alike.

    It assumes that larger predictions mean larger probabilities, and nothing else. With few rows it fits noise: long
    flat stretches, and probabilities of 0 and 1 at the ends, with which the log score of the first exception is
    infinite. Equal predictions are pooled. With more than two classes, each is mapped against the rest and
    probabilities are divided by their sum; where all are 0, the prediction stays.

    Args:
      centered: whether each flat stretch is drawn together to the point at the mean of its predictions, and the map is
        linear between these points: strictly rising there, and less biased where the truth rises.
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is an `IsotonicState`.
    Raises:
      InputError: in `fit`, a class of which there is no outcome, labels out of range, shapes that do not fit.
    References:
      zadrozny2002, section 3; oron2017, section 2 (centred). Checked against scikit-learn's IsotonicRegression.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.1, 0.3, 0.5, 0.9])
      >>> map = isotonic()
      >>> map.apply(map.fit(p, [0, 1, 0, 1]), p).mean.tolist()
      [0.0, 0.5, 0.5, 1.0]
    """

    def learn(data: Event) -> IsotonicState:
        fit = pooled(data.rate, data.weight)
        new = np.diff(fit, prepend=-1) > 0
        if centered:
            block = np.cumsum(new) - 1
            mass = np.bincount(block, data.weight)
            mean, rest = (np.bincount(block, data.weight * p) / mass for p in (data.p, sigmoid(-data.odds)))
            return IsotonicState(np.log(mean) - np.log(rest), fit[new])
        ends = new | np.append(new[1:], True)
        return IsotonicState(data.odds[ends], fit[ends])

    return _one_vs_rest.recalibrator("isotonic", learn, _odds)


def _odds(state: IsotonicState, odds: Array) -> Array:
    return logit(interpolated(state.knots, state.probs, odds))
