"""Scores of predictive distributions of numbers: one value an example, lower is better.

Scores of classes are in `class_scores`, of draws in `ensemble_scores` and `multivariate_scores`, of quantiles and
intervals in `quantile_scores`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from .. import laws
from .._checks import InputError, is_concrete
from .._typing import Array, ArrayLike
from ..predictive import Predictive
from . import _inputs, _route
from ._forecast import forecast, is_forecast, may_begin, relative
from .ensemble_scores import crps_ensemble


def log_score(pred: Any, y: ArrayLike) -> Array:
    """Negative log-density, or negative log-probability, of what came about; also called NLL.

    Nothing is clipped: an outcome that was given probability 0 scores infinity. Of several outputs the joint density
    is scored, with their dependence where the prediction has one.

    Args:
      pred: a `Predictive`, class probabilities `(N, C)` (or `(N,)`, P(1), for two classes), a numpyro distribution of
        batch shape `(N,)` or a frozen scipy distribution.
      y: outcomes `(N,)`, or `(N, D)` for several outputs, in the user's units; labels for classes.
    Returns:
      `(N,)`, in nats, joint over several outputs. A change of units of `y` by a factor c adds log c an
        output.
    Raises:
      InputError: shapes that do not fit, labels out of range, numbers that are not probabilities.
    References:
      gneiting2007, section 4.1. Checked against scipy.stats and numerical mixtures.
    Example:
      >>> import numpy as np
      >>> print(log_score(np.array([[0.5, 0.5], [0.25, 0.75]]), [0, 1]).round(4))
      [0.6931 0.2877]
    """
    if isinstance(pred, Predictive):
        return -pred.log_prob(y)
    if is_forecast(pred):
        law = forecast("log_score", pred)
        return -law.log_prob(law.check(y))
    return _route.run(_log_score, *_inputs.classes("log_score", pred, y))


def crps(pred: Any, y: ArrayLike) -> Array:
    """Continuous ranked probability score, ∫ (F(t) − 1{t ≥ y})² dt, of the exact predictive distribution.

    It generalises the absolute error: a certain prediction scores |y − prediction|. It is less strict about
    tails than `log_score`. In closed form where there is one (mixtures of normals too), else by quadrature.

    Args:
      pred: a regression `Predictive` (its exact mixture), a numpyro or frozen scipy distribution, or draws `(M, N)`
        or `(M, N, D)`, for which it is `crps_ensemble`.
      y: outcomes `(N,)` or `(N, D)`.
    Returns:
      `(N,)`, or for several outputs one an output, `(N, D)`; in the units of `y`.
    Raises:
      InputError: not a regression, shapes that do not fit, scales that are not positive.
    References:
      gneiting2005, eq. 5; grimit2006, eq. 5. Checked against numerical integration of the definition.
    Example:
      >>> import numpyro.distributions as dist
      >>> round(float(crps(dist.Normal(0.0, 1.0), 0.0)), 4)
      0.2337
    """
    if not is_forecast(pred):
        draws = _inputs._array("crps", pred)
        if draws.ndim == np.ndim(y):
            raise InputError(
                f"`crps` expected a Predictive, a distribution, or draws (M, N), members first, but got an array of "
                f"shape {draws.shape} for outcomes of shape {np.shape(y)}. The score of a point prediction is "
                "`absolute_error`."
            )
        return crps_ensemble(draws, y)
    begun = laws.crps(pred, y) if may_begin(pred, y) else None
    law = forecast("crps", pred)
    y = law.check(y)
    return law.crps(y) if begun is None else begun


def dawid_sebastiani(pred: Any, y: ArrayLike, *, joint: bool = False) -> Array:
    """(y − μ)²/σ² + log σ², or with `joint` (y − μ)ᵀ Σ⁻¹ (y − μ) + log det Σ: mean and covariance alone.

    Proper, and for a normal prediction twice the log score less D log 2π. It needs no density, so that draws will do,
    but it is not strict: predictions of the same two moments score the same. The moments of draws are those of the
    distribution that they are (divided by M); with few draws the variance is too small and the score too high.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, draws `(M, N)` or `(M, N, D)`, or a pair
        (mean, variance) `(N,)` or `(N, D)`, (mean, covariance) `(N, D)` and `(N, D, D)`.
      y: outcomes `(N,)` or `(N, D)`.
      joint: whether several outputs are scored together, by their covariance; else each by its variance.
    Returns:
      `(N,)` or `(N, D)`; `(N,)` with `joint`. A change of units of `y` by a factor c adds 2 log c an output.
    Raises:
      InputError: shapes that do not fit, a variance that is not positive, a covariance that is not positive definite
        (fewer than D + 1 draws).
    References:
      dawid1999. Checked against scipy's multivariate normal and scoringrules.
    Example:
      >>> round(float(dawid_sebastiani(([1.0], [4.0]), [3.0])[0]), 4)
      2.3863
    """
    name = "dawid_sebastiani"
    mean, spread, outcome, joint = _two_moments(name, pred, y, joint)
    if mean.shape != outcome.shape or spread.shape != (mean.shape + mean.shape[-1:] if joint else mean.shape):
        raise InputError(
            f"`{name}` expected a mean of the shape of `y` and a variance of that shape or a covariance (N, D, D), but "
            f"got {mean.shape}, {spread.shape} and `y` {outcome.shape}."
        )
    _check_spread(name, spread, joint)
    return _route.run(_dawid_sebastiani_joint if joint else _dawid_sebastiani, mean, spread, outcome)


def squared_error(pred: Any, y: ArrayLike) -> Array:
    """(y − mean)², the score of the mean alone.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, draws `(M, …)` with one more axis than
        `y`, members first, or point predictions of the shape of `y`.
      y: outcomes `(N,)` or `(N, D)`.
    Returns:
      `(N,)` or `(N, D)`, in squared units of `y`; lower is better.
    Raises:
      InputError: not a regression, shapes that differ, numbers that are not finite.
    References:
      gneiting2011. Checked against NumPy.
    Example:
      >>> squared_error([1.0, 2.0], [1.5, 2.0]).tolist()
      [0.25, 0.0]
    """
    return _route.run(_square, _gap("squared_error", pred, y, "mean"))


def absolute_error(pred: Any, y: ArrayLike) -> Array:
    """|y − median|, the score of the median alone: it, not the mean, is the best guess under this score.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, draws `(M, …)` with one more axis than
        `y`, members first, or point predictions of the shape of `y`.
      y: outcomes `(N,)` or `(N, D)`.
    Returns:
      `(N,)` or `(N, D)`, in the units of `y`; lower is better.
    Raises:
      InputError: not a regression, shapes that differ, numbers that are not finite.
    References:
      gneiting2011. Checked against NumPy.
    Example:
      >>> absolute_error([1.0, 2.0], [1.5, 2.0]).tolist()
      [0.5, 0.0]
    """
    return _route.run(_absolute, _gap("absolute_error", pred, y, "median"))


def _gap(name: str, pred: Any, y: Any, centre: str) -> Any:
    """`y` minus the point prediction."""
    if isinstance(pred, Predictive) and centre == "mean":
        return _inputs.regression(name, pred).residual(y)
    if is_forecast(pred):
        law = forecast(name, pred)
        law, y = relative(law, law.check(y))
        guess = law.mean if centre == "mean" else law.quantile(0.5)
    else:
        guess, y = _inputs.array(name, "pred", pred), _inputs.array(name, "y", y)
        guess, y = _inputs._flat(guess), _inputs._flat(y)
        guess, y = _inputs.floating(guess, y)
        if guess.ndim == y.ndim + 1:
            xp = jnp if not _route.on_host(guess) else np
            guess = guess.mean(0) if centre == "mean" else xp.median(guess, axis=0)
    if np.shape(guess) != y.shape and not (is_forecast(pred) and np.ndim(guess) == 0):
        raise InputError(
            f"`{name}` expected `pred` and `y` of one shape, (N,) or (N, D), or draws (M, N) with members first, but "
            f"got {np.shape(guess)} and {y.shape}."
        )
    guess, y = _inputs.floating(guess, y)
    return y - guess


def _two_moments(name: str, pred: Any, y: Any, joint: bool) -> tuple[Any, Any, Any, bool]:
    """Mean, variance or covariance, outcomes in their dtype, and whether it is a covariance."""
    if _inputs.is_pair(pred):
        mean, spread = (_inputs.array(name, "pred", each) for each in pred)
        y = _inputs.array(name, "y", y)
        joint = mean.ndim == 2 and spread.ndim == 3
    else:
        law = forecast(name, pred)
        law, y = relative(law, law.check(y))
        joint = joint and len(law.shape) == 2
        mean, spread = law.mean, law.covariance if joint else law.variance
    mean, spread = _inputs.floating(mean, spread)
    if mean.ndim == 0 and np.ndim(y):  # one prediction serves all outcomes
        xp = _route.numeric(mean)
        mean, spread = xp.broadcast_to(mean, y.shape), xp.broadcast_to(spread, y.shape)
    return mean, spread, _inputs.floating(mean, y)[1], joint


def _check_spread(name: str, spread: Any, joint: bool) -> None:
    if not is_concrete(spread):
        return
    values = np.asarray(spread, np.float64)
    if joint:
        try:
            np.linalg.cholesky(values)
            return
        except np.linalg.LinAlgError:
            row = int(np.argmin(np.linalg.eigvalsh(values)[..., 0]))
        raise InputError(
            f"`{name}` expected covariances that are positive definite, but that of row {row} is not. Covariances of "
            "draws need more draws than outputs; use joint=False otherwise."
        )
    bad = ~(values > 0)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"`{name}` expected variances above 0, but that of row {place[0] if place else 0} is {values[place]}: a "
            "prediction without spread has no Dawid–Sebastiani score."
        )


def _log_score(xp: Any, probs: Any, labels: Any) -> Any:
    chosen = xp.take_along_axis(probs, labels[:, None], axis=1)[:, 0]
    if xp is np:
        with np.errstate(divide="ignore"):
            return -np.log(chosen)
    return -xp.log(chosen)


def _dawid_sebastiani(xp: Any, mean: Any, variance: Any, y: Any) -> Any:
    return xp.square(y - mean) / variance + xp.log(variance)


def _dawid_sebastiani_joint(xp: Any, mean: Any, covariance: Any, y: Any) -> Any:
    whitened: Any
    lower = xp.linalg.cholesky(covariance)
    gap = (y - mean)[..., None]
    if xp is np:
        whitened = np.linalg.solve(lower, gap)[..., 0]
    else:
        from jax.scipy.linalg import solve_triangular

        whitened = solve_triangular(lower, gap, lower=True)[..., 0]
    diagonal = xp.diagonal(lower, axis1=-2, axis2=-1)
    return xp.square(whitened).sum(-1) + 2 * xp.log(diagonal).sum(-1)


def _square(xp: Any, gap: Any) -> Any:
    return xp.square(gap)


def _absolute(xp: Any, gap: Any) -> Any:
    return xp.abs(gap)
