"""Errors of a point prediction, over a test set."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._typing import ArrayLike
from . import _forecast, _inputs
from ._estimate import Estimate, Statistic, check_weight, mean, summarize
from .pit import as_weight, prepared


def rmse(pred: Any, y: ArrayLike, *, weight: Any = None, key: Any = None) -> Estimate:
    """Root-mean-square error of the mean, √(Σ w (y − mean)² / Σ w), over examples and, if several, outputs.

    A few large errors decide it. The standard error is that of the mean square, divided by twice the root.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, points `(N,)` or `(N, D)`, or draws
        `(M, N)` or `(M, N, D)`, of which the mean is taken.
      y: outcomes `(N,)` or `(N, D)`.
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: None, or a key, seed or `Resample` for a bootstrap interval.
    Returns:
      An `Estimate`, in the units of `y`.
    Raises:
      InputError: not a regression, shapes that differ, numbers that are not finite.
    References:
      lakshminarayanan2017, section 3.3 (where it is reported). Checked against scikit-learn's root_mean_squared_error.
    Example:
      >>> float(rmse([0.0, 0.0], [3.0, -3.0]))
      3.0
    """
    weight = as_weight("rmse", weight)
    square = residual("rmse", pred, y, weight) ** 2
    square = square.reshape(square.shape[0], -1).mean(1)
    return summarize(ROOT, square, weight=weight, estimand="root-mean-square error of the mean", key=key)


def mae(pred: Any, y: ArrayLike, *, weight: Any = None, key: Any = None) -> Estimate:
    """Mean absolute error, Σ w |y − median| / Σ w: of the median, the point that minimises it, or of the points given.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, or points `(N,)` or `(N, D)`.
      y: outcomes of the same shape.
      weight, key: as in `rmse`.
    Returns:
      An `Estimate`, in the units of `y`; several outputs are averaged.
    Raises:
      InputError: as `rmse`.
    References:
      gneiting2007, section 4.2. Checked against scikit-learn's mean_absolute_error.
    Example:
      >>> float(mae([0.0, 0.0], [3.0, -1.0]))
      2.0
    """
    weight = as_weight("mae", weight)
    if _forecast.is_forecast(pred):
        forecast, y = _forecast.relative(*prepared("mae", pred, y, weight))
        gap = y - forecast.quantile(0.5)
    else:
        gap = residual("mae", pred, y, weight)
    return mean(abs(gap), weight=weight, estimand="mean absolute error of the median", key=key)


def residual(name: str, pred: Any, y: Any, weight: Any = None) -> Any:
    """`y` minus the mean of the predictions or the points given, `(N,)` or `(N, D)`."""
    if _forecast.is_forecast(pred):
        forecast, y = prepared(name, pred, y, weight)
        return pred.residual(y) if hasattr(pred, "residual") else y - forecast.mean
    if weight is not None:
        pred, y = (_inputs._array(name, part) for part in (pred, y))
        if pred.shape[:1] == y.shape[:1] == np.shape(weight)[:1]:
            pred, y = (_inputs.live_rows(name, part, weight) for part in (pred, y))
    pred, y = _inputs._array(name, pred), _inputs._array(name, y)
    if pred.ndim == y.ndim + 1 and pred.shape[1:] == y.shape and pred.shape[0] > 0:  # draws, members first
        pred = pred.mean(0)
    gap = _inputs.points(name, pred, y)
    check_weight(name, weight, gap.shape[0])
    return gap


# Root of a mean


def _root(xp: Any, rows: Any, weight: Any) -> Any:
    total = weight.sum()
    square = (weight * rows).sum() / xp.where(total > 0, total, 1)
    return xp.where(square > 0, xp.sqrt(xp.where(square > 0, square, 1)), square)[()]


def _root_influence(xp: Any, rows: Any, weight: Any, value: Any) -> Any:
    return (rows - xp.square(value)) / (2 * xp.where(value > 0, value, 1))


ROOT = Statistic(_root, _root_influence)
