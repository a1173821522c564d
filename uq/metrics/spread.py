"""How wide predictions are, how differently wide, and whether errors are as large as said."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError
from .._typing import ArrayLike
from . import _forecast, _route
from ._estimate import Estimate, Statistic, check_weight, summarize
from .pit import as_weight, live_draws, prepared
from .points import ROOT


def sharpness(pred: Any, *, weight: Any = None, key: Any = None) -> Estimate:
    """Root-mean predicted variance, √(Σ w σ² / Σ w): how concentrated predictions are; needs no outcome.

    Smaller is better only among models that are calibrated: it can be made 0 at will. Over several outputs variances
    are averaged, so give those comparable units.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, or draws `(M, N)` or `(M, N, D)`.
      weight: `(N,)`, case weights; 0 leaves a row out.
      key: None, or a key, seed or `Resample` for a bootstrap interval.
    Returns:
      An `Estimate`, in the units of `y`.
    Raises:
      InputError: not a regression.
    References:
      gneiting2007b (the notion); kuleshov2018 (the formula). Checked against the value that uncertainty-toolbox tests.
    Example:
      >>> from scipy import stats
      >>> float(sharpness(stats.norm([0.0, 5.0], [1.0, 7.0])))
      5.0
    """
    weight = as_weight("sharpness", weight)
    variance = _variance("sharpness", pred, weight).mean(1)
    return summarize(ROOT, variance, weight=weight, estimand="root-mean predicted variance", key=key)


def dispersion(pred: Any, *, weight: Any = None, key: Any = None) -> Estimate:
    """Coefficient of variation of the predicted standard deviations, sd(σ) / mean(σ).

    0 says that every example is given the same uncertainty, whatever it is: such a model may be calibrated on average
    and yet cannot tell hard from easy. The variance has divisor Σ w − 1. Several outputs are averaged.

    Args:
      pred, weight, key: as in `sharpness`.
    Returns:
      An `Estimate`, without unit.
    Raises:
      InputError: not a regression; fewer than two examples.
    References:
      levi2022. Checked against numpy's standard deviation.
    Example:
      >>> from scipy import stats
      >>> round(float(dispersion(stats.norm([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]))), 6)
      0.5
    """
    weight = as_weight("dispersion", weight)
    variance = _variance("dispersion", pred, weight)
    if variance.shape[0] < 2:
        raise InputError("`dispersion` expected at least two examples, but there is one.")
    xp = np if _route.on_host(variance) else jnp
    said = "coefficient of variation of predicted standard deviations"
    return summarize(_DISPERSION, xp.sqrt(variance), weight=weight, estimand=said, key=key)


def spread_skill(pred: Any, y: ArrayLike, *, weight: Any = None, key: Any = None) -> Estimate:
    """Ratio of spread to error, √(mean predicted variance / mean squared error of the mean); 1 is right.

    Below 1, predictions are too sure. For M draws the variance is the unbiased one times (M + 1) / M, so that a right
    ensemble has 1 for every M. Over several outputs both means are over all, so give those comparable units.

    Args:
      pred, y, weight, key: as in `ence`.
    Returns:
      An `Estimate`, without unit; infinite where every error is 0.
    Raises:
      InputError: shapes that differ; a single draw.
    References:
      fortin2014. Checked against a loop and by simulation.
    Example:
      >>> from scipy import stats
      >>> float(spread_skill(stats.norm([0.0, 0.0], 1.0), [2.0, -2.0]))
      0.5
    """
    weight = as_weight("spread_skill", weight)
    variance, square, _ = moments("spread_skill", pred, y, weight)
    rows = (variance.mean(1), square.mean(1))
    return summarize(_RATIO, rows, weight=weight, estimand="spread over root-mean-square error", key=key)


def _variance(name: str, pred: Any, weight: Any) -> Any:
    """Predicted variance, `(N, D)`."""
    if not _forecast.is_forecast(pred):
        pred = live_draws(name, pred, weight)
    forecast = _forecast.forecast(name, pred)
    if not forecast.shape:
        raise InputError(f"`{name}` expected predictions of N examples, but got a distribution of no batch shape.")
    check_weight(name, weight, forecast.shape[0])
    return _columns(forecast.variance, forecast.shape)


def _columns(values: Any, shape: tuple[int, ...]) -> Any:
    """`(N, D)` from what broadcasts to the shape of the outcomes."""
    xp = jnp if isinstance(values, jax.Array) else np
    return xp.broadcast_to(values, shape).reshape(shape[0], -1)


def moments(name: str, pred: Any, y: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Variance and squared error, each `(N, D)`, and the forecast."""
    forecast, y = prepared(name, pred, y, weight)
    gap = pred.residual(y) if hasattr(pred, "residual") else y - forecast.mean
    variance = forecast.variance
    draws = getattr(forecast, "draws", None)
    if draws is not None:
        if len(draws) < 2:
            raise InputError(f"`{name}` expected at least two draws, but there is one, whose spread is unknown.")
        variance = variance * ((len(draws) + 1) / (len(draws) - 1))
    return _columns(variance, forecast.shape), _columns(gap * gap, forecast.shape), forecast


def _average(xp: Any, values: Any, weight: Any) -> Any:
    total = weight.sum()
    return (weight * values).sum() / xp.where(total > 0, total, 1)


def _dispersion(xp: Any, rows: Any, weight: Any) -> Any:
    total = weight.sum()
    centre = (weight[:, None] * rows).sum(0) / total
    variance = (weight[:, None] * xp.square(rows - centre)).sum(0) / (total - 1)
    return (xp.where(variance > 0, xp.sqrt(xp.where(variance > 0, variance, 1)), 0) / centre).mean()


def _dispersion_influence(xp: Any, rows: Any, weight: Any, value: Any) -> Any:
    total = weight.sum()
    centre = (weight[:, None] * rows).sum(0) / total
    square = xp.square(rows - centre)
    variance = (weight[:, None] * square).sum(0) / (total - 1)
    spread = xp.sqrt(xp.where(variance > 0, variance, 1))
    moved = (square - variance) / (2 * spread * centre) - spread * (rows - centre) / xp.square(centre)
    return xp.where(variance > 0, moved, 0).mean(1)


_DISPERSION = Statistic(_dispersion, _dispersion_influence)


def _ratio(xp: Any, rows: Any, weight: Any) -> Any:
    spread, error = (_average(xp, part, weight) for part in rows)
    return xp.where(error > 0, xp.sqrt(spread / xp.where(error > 0, error, 1)), xp.inf)[()]


def _ratio_influence(xp: Any, rows: Any, weight: Any, value: Any) -> Any:
    spread, error = (_average(xp, part, weight) for part in rows)
    spread, error = xp.where(spread > 0, spread, 1), xp.where(error > 0, error, 1)
    return value * ((rows[0] - spread) / (2 * spread) - (rows[1] - error) / (2 * error))


_RATIO = Statistic(_ratio, _ratio_influence)
