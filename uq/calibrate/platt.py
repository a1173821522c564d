"""Platt scaling: a slope and a bias of the log-odds."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import UQWarning
from .._typing import ArrayLike
from ..predictive import Predictive
from . import _classes
from ._recalibrator import Fitted, Recalibrator
from ._search import Found, fitted, log_loss, logistic, weak_prior
from ._voters import fit_by_voters, parameter

_SPREAD = 10.0


class PlattState(NamedTuple):
    """What `platt` learns: new log-odds are `slope` times the old ones plus `intercept`."""

    slope: Any
    intercept: Any
    fitted: Fitted
    voters: Any = None
    """A `Voters`: what both become where more or fewer members vote."""


def platt(*, smooth: bool = True) -> Recalibrator:
    """New log-odds are a t + b, where t are the log-odds of two classes: logistic regression on them.

    Two parameters: sureness and bias. It cannot bend, as `beta` and `spline` can. A negative slope, where predictions
    rank outcomes the wrong way, is kept and warned of.

    A normal prior of standard deviation 10 about a = 1, b = 0 makes the answer unique where all predictions are equal.

    Args:
      smooth: whether to fit to Platt's targets, (n₁ + 1) / (n₁ + 2) and 1 / (n₀ + 2) for n₁ ones and n₀ zeros instead
        of 1 and 0: finite for separable outcomes, and for those of one class. False is plain logistic regression.
    Returns:
      A `Recalibrator` for "binary" predictions; its state is a `PlattState`.
    Raises:
      InputError: in `fit`, more than two classes, labels out of range, shapes that do not fit; without `smooth`,
        outcomes of one class.
    References:
      platt1999, section 2.2. Checked against scikit-learn's LogisticRegression.
    Example:
      >>> import numpy as np
      >>> p = np.array([0.2, 0.4, 0.6, 0.8] * 25)
      >>> y = np.array([0, 0, 1, 1] * 20 + [1, 0, 1, 0] * 5)
      >>> scaled = platt()
      >>> np.asarray(scaled.apply(scaled.fit(p, y), p[:4]).mean, float).round(1).tolist()
      [0.1, 0.4, 0.6, 0.9]
    """

    def found(data: _classes.Sample) -> PlattState:
        _classes.needs_two_classes("platt", data.num_classes)
        if not smooth:
            _classes.needs_every_class("platt", data)
        found, before = search(data.log_probs[:, 1] - data.log_probs[:, 0], data.labels, data.weight, smooth)
        return PlattState(np.asarray(found.at[0]), np.asarray(found.at[1]), fitted("platt", found, before))

    def fit(pred: Any, y: ArrayLike, weight: Any = None) -> PlattState:
        state = fit_by_voters("platt", ("slope", "intercept"), found, pred, y, weight)
        if state.slope < 0:
            warnings.warn(
                f"`platt` has found a negative slope, {state.slope:.3g}: predictions rank these outcomes the wrong "
                "way. Are labels 0 and 1 swapped?",
                UQWarning,
                stacklevel=2,
            )
        return state

    return Recalibrator("platt", fit, _apply, ("binary",))


def _apply(state: PlattState, pred: Any) -> Predictive:
    found = _classes.log_probs("platt", pred)
    _classes.check_classes("platt", 2, found.shape[1])
    odds = _classes.log_odds(found)
    slope, intercept = (parameter(state, each, pred, odds.dtype)[:, None] for each in ("slope", "intercept"))
    odds = odds * slope + intercept
    return _classes.with_log_probs(pred, jnp.concatenate([jnp.zeros_like(odds), odds], 1))


def search(odds: np.ndarray, event: np.ndarray, weight: np.ndarray, smooth: bool = True) -> tuple[Found, float]:
    """Slope and intercept, with the mean log loss that they have; and that of the predictions as they are."""
    event = np.asarray(event, np.float64)
    target = event
    if smooth:
        yes, no = weight @ event, weight @ (1 - event)
        target = np.where(event == 1, (yes + 1) / (yes + 2), 1 / (no + 2))
    design = np.stack([odds, np.ones_like(odds)], 1)
    found = logistic(design, target, weight, [1, 0], weak_prior([_SPREAD, _SPREAD], weight))
    after = np.average(log_loss(design @ found.at, event), weights=weight)
    return found._replace(loss=float(after)), float(np.average(log_loss(odds, event), weights=weight))
