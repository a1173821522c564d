"""The continuous ranked probability score of a part of the line: of extremes, or of a range that matters."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, is_concrete
from .._typing import Array, ArrayLike
from . import _inputs, _route
from ._forecast import forecast, is_forecast
from .ensemble_scores import crps_ensemble

_TAILS = (1e-6, 1e-4, 1e-3, 0.01, 0.025)
_LEVELS = (*_TAILS, *(round(0.05 * k, 2) for k in range(1, 20)), *(1 - tail for tail in reversed(_TAILS)))
_NODES, _MASS = np.polynomial.legendre.leggauss(4)
_CELLS = 2048
"""Steps of a distribution over whole numbers that are summed one by one; wider ones by equal groups of steps."""


def threshold_weighted_crps(
    pred: Any,
    y: ArrayLike,
    *,
    lower: ArrayLike = -np.inf,
    upper: ArrayLike = np.inf,
    estimator: str = "empirical",
    member_weight: ArrayLike | None = None,
) -> Array:
    """∫ from `lower` to `upper` of (F(t) − 1{t ≥ y})² dt: how well probabilities in that range were predicted.

    `lower` alone scores what is above a threshold, `upper` alone what is below, both what is between. It equals
    the continuous ranked probability score after prediction and outcome are clipped to the range, and stays proper,
    where scoring only the examples whose outcome was extreme does not. For draws it is that, exactly; for
    distributions Gauss–Legendre quadrature between quantiles, to about 1e-6 of the spread, or for whole numbers a sum
    (exact while the distribution spreads over fewer than 2,048 of them).

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, or draws `(M, …)`, members first.
      y: outcomes `(N,)` or `(N, D)`.
      lower, upper: ends of the range, in the units of `y`: a number each, or an array of the shape of `y`.
      estimator, member_weight: for draws, as in `crps_ensemble`.
    Returns:
      The shape of `y`, in its units; lower is better.
    Raises:
      InputError: shapes that do not fit, NaN, `lower` not below `upper`.
    References:
      gneiting2011b; allen2023, for clipping as a chaining function. Checked against quadrature of the definition for
      normal, Student t, gamma and Poisson laws and mixtures, and scoringrules for draws.
    Example:
      >>> threshold_weighted_crps([[0.0], [4.0]], [3.0], lower=2.0).tolist()
      [0.5]
    """
    name = "threshold_weighted_crps"
    if not is_forecast(pred):
        draws, y = _inputs._array(name, pred), _inputs.array(name, "y", y)
        low, high = _range(name, lower, upper, y)
        draws, y, low, high = _inputs.floating(draws, y, low, high)
        clipped = _route.run(_clip, draws, y, low, high)
        return crps_ensemble(*clipped, estimator=estimator, member_weight=member_weight)
    if estimator != "empirical" or member_weight is not None:
        raise InputError(f"`{name}` takes `estimator` and `member_weight` for draws only.")
    law = forecast(name, pred)
    y = law.check(y)
    low, high = _range(name, lower, upper, y)
    if isinstance(law.cdf(y), np.ndarray):
        return _route.like(_integral(np, law, y, np.asarray(low), np.asarray(high)), law.cdf(y))
    kind = jnp.result_type(law.cdf(y))
    return _compiled(pred, *(jnp.asarray(each, kind) for each in (y, low, high)))


@jax.jit
def _compiled(pred: Any, y: Array, low: Array, high: Array) -> Array:
    return _integral(jnp, forecast("threshold_weighted_crps", pred), y, low, high)


def _range(name: str, lower: Any, upper: Any, y: Any) -> tuple[Any, Any]:
    ends = [_inputs.array(name, what, end, infinite=True) for what, end in (("lower", lower), ("upper", upper))]
    for what, end in zip(("lower", "upper"), ends, strict=True):
        if end.shape not in ((), y.shape):
            raise InputError(f"`{name}` expected `{what}` to be a number or of shape {y.shape}, but it is {end.shape}.")
    if is_concrete(ends) and not (np.asarray(ends[0]) < np.asarray(ends[1])).all():
        raise InputError(f"`{name}` expected `lower` below `upper`, but they are {lower} and {upper}.")
    # A plain number takes the dtype of the outcomes, as it would in any arithmetic with them.
    kind = y.dtype if jnp.issubdtype(y.dtype, jnp.floating) else None
    low, high = (
        np.asarray(end, kind) if isinstance(given, int | float) else end
        for end, given in zip(ends, (lower, upper), strict=True)
    )
    return low, high


def _clip(xp: Any, draws: Any, y: Any, low: Any, high: Any) -> tuple[Any, Any]:
    return xp.clip(draws, low, high), xp.clip(y, low, high)


def _integral(xp: Any, law: Any, y: Any, low: Any, high: Any) -> Any:
    return (_over_steps if law.discrete else _over_panels)(xp, law, y, low, high)


def _over_panels(xp: Any, law: Any, y: Any, low: Any, high: Any) -> Any:
    """Between neighbouring quantiles and the outcome, where the integrand is smooth."""
    cuts = law.quantile(_LEVELS)
    cuts = cuts if xp is np else jax.lax.stop_gradient(cuts)  # the integral does not depend on where it is cut
    cuts = cuts.reshape(-1, *([1] * y.ndim)) if cuts.ndim == 1 else cuts  # one prediction for all
    inner = xp.broadcast_to(cuts, (len(_LEVELS), *y.shape)).astype(y.dtype)
    ends = xp.clip(xp.sort(xp.concatenate([inner, y[None]]), axis=0), low, high)
    start, stop = ends[:-1], ends[1:]
    middle, half = 0.5 * (start + stop), 0.5 * (stop - start)
    happened = middle >= y

    def add(total: Any, one: Any) -> Any:
        middle, half, happened = one
        for node, mass in zip(_NODES.tolist(), _MASS.tolist(), strict=True):
            probability = law.cdf(middle + node * half)
            total = total + mass * half * xp.square(xp.where(happened, 1 - probability, probability))
        return total

    return _accumulate(xp, add, xp.zeros(y.shape, y.dtype), (middle, half, happened))


def _over_steps(xp: Any, law: Any, y: Any, low: Any, high: Any) -> Any:
    """Over the steps [k, k + 1) on which F is constant; in equal groups where there are very many."""
    first, last = (xp.broadcast_to(each, y.shape).astype(y.dtype) for each in law.quantile([1e-7, 1 - 1e-7]))
    count = _CELLS if xp is jnp else min(_CELLS, int((last - first).max()) + 1)
    width = xp.maximum(xp.ceil((last - first + 1) / count), 1)

    def overlap(start: Any, stop: Any) -> Any:
        return xp.maximum(xp.minimum(stop, high) - xp.maximum(start, low), 0)

    def add(total: Any, step: Any) -> Any:
        start = first + step * width
        stop = xp.where(start <= last, start + width, start)
        probability = law.cdf(xp.floor(start + 0.5 * (width - 1)))
        before = overlap(start, xp.minimum(stop, xp.maximum(start, y)))
        after = overlap(xp.maximum(start, xp.minimum(stop, y)), stop)
        return total + before * xp.square(probability) + after * xp.square(1 - probability)

    end = first + width * xp.ceil((last - first + 1) / width)
    outside = overlap(end, xp.maximum(end, y)) + overlap(xp.minimum(y, first), first)  # where F is 1, and 0
    return _accumulate(xp, add, outside, xp.arange(count, dtype=y.dtype))


def _accumulate(xp: Any, add: Any, total: Any, rows: Any) -> Any:
    if xp is np:
        for one in zip(*rows, strict=True) if isinstance(rows, tuple) else rows:
            total = add(total, one)
        return total
    return jax.lax.scan(lambda carry, one: (jax.checkpoint(add)(carry, one), None), total, rows)[0]
