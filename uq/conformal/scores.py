"""Scores: how ill an outcome conforms to its prediction, and the intervals that follow."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from .. import _member_laws, laws
from .._checks import InputError, is_concrete
from ..metrics import _forecast, _inputs, _route
from ..predictive import Predictive
from ._procedure import Score, kept, xp_of

Side = Literal["both", "lower", "upper"]
_SIDES = ("both", "lower", "upper")


@kept
def absolute(side: Side = "both") -> Score:
    """|y − mean|: intervals of one width for all examples.

    Args:
      side: "both"; "lower" or "upper" for a bound on that side alone, which spends the whole of 1 − level there.

    Predictions: anything with a mean, or points `(N,)` or `(N, D)`; an array with one axis more than the outcomes is
    draws, `(M, N)` or `(M, N, D)`.

    Raises:
      InputError: an unknown side.
    References:
      vovk2005, section 2.3; lei2018, section 2.2. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split(uq.conformal.absolute())
      >>> state = procedure.fit(np.array([1.0, 2.0, 3.0]), np.array([1.5, 1.0, 3.25]))
      >>> lower, upper = procedure.apply(state, np.array([10.0]), level=0.75)
      >>> float(lower[0]), float(upper[0])
      (9.0, 11.0)
    """
    _inputs.choice("absolute", "side", side, _SIDES)

    def parts(pred: Any, ndim: int) -> tuple:
        return (_points("absolute", pred, ndim),)

    def of(parts: tuple, y: Any) -> Any:
        return _sided(y - parts[0], side)

    def ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        (mean,) = parts
        return _one_sided(mean - q, mean + q, side)

    return Score("absolute", parts, of, ends, _mean_of_each)


@kept
def normalized(side: Side = "both") -> Score:
    """|y − mean| / stddev: widths follow the predicted standard deviation.

    Where that is 0, only the mean itself conforms. It is as good as the predicted spread tells hard examples from
    easy ones; if it does not, intervals are longer than those of `absolute` and no less valid.

    Args:
      side: as in `absolute`.

    Predictions: anything with a mean and a variance, draws `(M, N)` or `(M, N, D)`, or a pair of arrays (mean, stddev).

    Raises:
      InputError: an unknown side, a negative standard deviation.
    References:
      papadopoulos2008; lei2018, section 5.2. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split(uq.conformal.normalized())
      >>> state = procedure.fit((np.zeros(3), np.array([1.0, 2.0, 4.0])), np.array([1.0, 3.0, 2.0]))
      >>> procedure.apply(state, (np.zeros(1), np.full(1, 10.0)), level=0.75).upper.tolist()
      [15.0]
    """
    _inputs.choice("normalized", "side", side, _SIDES)

    def parts(pred: Any, ndim: int) -> tuple:
        return _moments("normalized", pred, ndim)

    def of(parts: tuple, y: Any) -> Any:
        return ratio(_sided(y - parts[0], side), parts[1])

    def ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        mean, scale = parts
        half = times(q, scale)
        return _one_sided(mean - half, mean + half, side)

    return Score("normalized", parts, of, ends, _mixture_moments)


@kept
def gamma() -> Score:
    """|y − mean| / mean, for positive outcomes: widths are a fraction of the prediction, and ends not below 0.

    Predictions: as in `absolute`; means must be positive.

    Raises:
      InputError: predictions that are not positive.
    References:
      cordier2023. Checked against plain Python.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> procedure = uq.conformal.split(uq.conformal.gamma())
      >>> state = procedure.fit(np.array([1.0, 2.0, 4.0]), np.array([1.5, 1.5, 5.0]))
      >>> lower, upper = procedure.apply(state, np.array([10.0]), level=0.75)
      >>> float(lower[0]), float(upper[0])
      (5.0, 15.0)
    """

    def parts(pred: Any, ndim: int) -> tuple:
        mean = _points("gamma", pred, ndim)
        if is_concrete(mean) and not (np.asarray(mean) > 0).all():
            worst = np.asarray(mean).min()
            raise InputError(f"`gamma` expected positive predictions, but the smallest is {worst:.4g}: use `absolute`.")
        return (mean,)

    def of(parts: tuple, y: Any) -> Any:
        if is_concrete(y) and not (np.asarray(y) >= 0).all():
            raise InputError(
                f"`gamma` expected outcomes that are not negative, but the smallest is {np.asarray(y).min():.4g}."
            )
        return abs(y - parts[0]) / parts[0]

    def ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        (mean,) = parts
        half = q * mean
        return xp_of(mean, half).maximum(mean - half, 0), mean + half

    return Score("gamma", parts, of, ends, _mean_of_each)


@kept
def distributional(side: Side = "both") -> Score:
    """How far out in its own predictive distribution an outcome lies: |F(y) − ½|, by the smaller of the two tails.

    The interval runs between quantiles of the prediction at recalibrated levels, and is as skewed as it is. If the
    predictive is right, it is its central interval. For outcomes with probability of their own (counts, draws) tails
    include them: P(Y ≤ y) and P(Y ≥ y). An outcome beyond all draws has tail 0: as soon as the level reaches such
    scores, intervals are infinite.

    Args:
      side: "both"; "upper" for a bound from above, by P(Y ≥ y); "lower" likewise.

    Predictions: a `Predictive`, a numpyro or frozen scipy distribution, draws `(M, N)` or `(M, N, D)`.

    Raises:
      InputError: an unknown side, plain points.
    References:
      chernozhukov2021. Checked against scipy quantiles.
    Example:
      >>> import numpy as np
      >>> import uq
      >>> from scipy import stats
      >>> procedure = uq.conformal.split(uq.conformal.distributional())
      >>> state = procedure.fit(stats.expon(scale=np.ones(3)), stats.expon.ppf([0.1, 0.75, 0.6]))
      >>> ends = procedure.apply(state, stats.expon(scale=[1.0]), level=0.75)
      >>> [round(float(stats.expon.cdf(end)[0]), 6) for end in ends]
      [0.1, 0.9]
    """
    _inputs.choice("distributional", "side", side, _SIDES)

    def parts(pred: Any, ndim: int) -> tuple:
        if not _forecast.is_forecast(pred) and np.ndim(pred) != ndim + 1:
            raise InputError(
                f"`distributional` expected a Predictive, a distribution or draws with {ndim + 1} axes, members "
                f"first, but got an array of shape {np.shape(pred)}."
            )
        return (_forecast.forecast("distributional", pred),)

    def of(parts: tuple, y: Any) -> Any:
        (forecast,) = parts
        y = forecast.check(y)
        lower, upper = tails(forecast, y)
        if side == "both":
            return -xp_of(lower, upper).minimum(lower, upper)
        return -(upper if side == "upper" else lower)

    def ends(parts: tuple, q: Any) -> tuple[Any, Any]:
        (forecast,) = parts
        lower = at_tail(forecast, -q, upper=False) if side != "upper" else None
        upper = at_tail(forecast, -q, upper=True) if side != "lower" else None
        known: Any = upper if lower is None else lower
        none = xp_of(known).full(known.shape, np.inf, known.dtype)
        return (-none if lower is None else lower), (none if upper is None else upper)

    return Score("distributional", parts, of, ends)


# Tails of any forecast, kept as tails: 1 − 1e-9 has no digits left


def tails(forecast: Any, y: Any) -> tuple[Any, Any]:
    """P(Y ≤ y) and P(Y ≥ y), each precise where it is small."""
    pred = getattr(forecast, "pred", None)
    if isinstance(pred, Predictive):
        lower = pred.cdf(y)
        above = pred.sf(jnp.asarray(y) - 1) if forecast.discrete else pred.sf(y)
        if hasattr(pred._base, "at_limit"):  # probability at a limit of its own
            above = jnp.maximum(above, 1 - pred.cdf_below(y))
        return lower, above
    draws = getattr(forecast, "draws", None)
    if draws is not None:
        draws, y = _inputs.floating(draws, y)
        return (draws <= y).mean(0, dtype=draws.dtype), (draws >= y).mean(0, dtype=draws.dtype)
    before = y - 1 if forecast.discrete else y
    if hasattr(forecast, "frozen"):
        return forecast.cdf(y), forecast.frozen.sf(before)
    return forecast.cdf(y), forecast._law("sf", before)


def at_tail(forecast: Any, tail: Any, *, upper: bool) -> Any:
    """The outermost y on one side whose own tail, y included, is at least `tail`; infinite where that is not positive.

    Args:
      tail: broadcasts against the outcomes.
    """
    atoms = hasattr(getattr(getattr(forecast, "pred", None), "_base", None), "at_limit")
    if forecast.discrete or hasattr(forecast, "draws") or atoms:
        tail = tail * (1 - 1e-5)  # an outcome whose tail is that of the threshold is inside, whatever the rounding
    xp = xp_of(tail) if not isinstance(getattr(forecast, "pred", None), Predictive) else jnp
    known = xp.asarray(tail > 0)
    tail = xp.where(known, tail, 0.25)
    found = _quantile_at(forecast, tail, upper)
    xp = xp_of(found)
    known = xp.broadcast_to(xp.asarray(known), found.shape)
    return xp.where(known, found, xp.asarray(np.inf if upper else -np.inf, found.dtype))


def _quantile_at(forecast: Any, tail: Any, upper: bool) -> Any:
    pred = getattr(forecast, "pred", None)
    if isinstance(pred, Predictive):
        tail = jnp.broadcast_to(jnp.asarray(tail, pred.outputs.dtype), forecast.shape)
        return pred._from_base(pred._run(_member_laws.quantile, tail, jnp.full(forecast.shape, upper)))
    draws = getattr(forecast, "draws", None)
    if draws is not None:
        xp, size = xp_of(draws, tail), draws.shape[0]
        place = xp.clip(xp.ceil(size * xp.broadcast_to(xp.asarray(tail), forecast.shape)).astype(int) - 1, 0, size - 1)
        place = size - 1 - place if upper else place
        return xp.take_along_axis(xp.sort(xp.asarray(draws), axis=0), place[None], axis=0)[0]
    if hasattr(forecast, "frozen"):
        tail = np.asarray(tail, np.float64)
        if not upper:
            return np.broadcast_to(forecast.frozen.ppf(tail), forecast.shape)
        return np.broadcast_to(forecast.frozen.isf(tail), forecast.shape)
    parameters = jax.tree.leaves(forecast.d)
    if _route.on_host(parameters, tail):
        found = _route.like(laws.host.tail(forecast.d, np.asarray(tail, np.float64), upper), *parameters)
    else:
        found = laws.tail(forecast.d, jnp.asarray(tail, jnp.result_type(float)), upper)
    return xp_of(found).broadcast_to(found, forecast.shape)


# What is given, and small sums


def _points(name: str, pred: Any, ndim: int) -> Any:
    """Means `(N,)` or `(N, D)` of a forecast, or points as they are; one axis more are draws."""
    if _forecast.is_forecast(pred):
        return _forecast.forecast(name, pred).mean
    points = _inputs.array(name, "pred", pred)
    if points.ndim == ndim + 1:
        return _forecast.forecast(name, points).mean
    if points.ndim != ndim:
        raise InputError(
            f"`{name}` expected points with {ndim} axes, as the outcomes have, or draws with one more, but got shape "
            f"{points.shape}."
        )
    return _inputs.floating(points)[0]


def _moments(name: str, pred: Any, ndim: int) -> tuple[Any, Any]:
    if isinstance(pred, Predictive):
        forecast = _forecast.forecast(name, pred)
        mean, scale = forecast.mean, pred.stddev
    elif _inputs.is_pair(pred):
        mean, scale = arrays(name, pred, ("mean", "stddev"), ndim)
    elif _forecast.is_forecast(pred) or np.ndim(pred) == ndim + 1:
        forecast = _forecast.forecast(name, pred)
        mean, variance = forecast.mean, forecast.variance
        scale = xp_of(variance).sqrt(variance)
    else:
        raise InputError(
            f"`{name}` expected a Predictive, a distribution, draws with {ndim + 1} axes or a pair (mean, stddev), but "
            f"got an array of shape {np.shape(pred)}, which has no spread."
        )
    if is_concrete(scale) and not (np.asarray(scale) >= 0).all():
        row = np.flatnonzero(~(np.asarray(scale) >= 0).reshape(len(scale), -1).all(1))[0]
        raise InputError(
            f"`{name}` expected standard deviations that are not negative, but row {row} has {scale[row]}."
        )
    return _inputs.floating(mean, scale)


def arrays(name: str, pair: Any, names: tuple[str, ...], ndim: int, *, infinite: bool = False) -> tuple[Any, ...]:
    """Arrays of one shape and dtype, `(N,)` or `(N, D)`."""
    each = [_inputs.array(name, what, value, infinite=infinite) for what, value in zip(names, pair, strict=True)]
    each = [array[..., 0] if array.ndim == ndim + 1 and array.shape[-1] == 1 else array for array in each]
    if any(array.shape != each[0].shape or array.ndim != ndim for array in each):
        shapes = " and ".join(str(array.shape) for array in each)
        raise InputError(
            f"`{name}` expected {' and '.join(names)} of one shape with {ndim} ax{'is' if ndim == 1 else 'es'}, but "
            f"got {shapes}."
        )
    return _inputs.floating(*each)


def _sided(residual: Any, side: str) -> Any:
    return abs(residual) if side == "both" else (residual if side == "upper" else -residual)


def _one_sided(lower: Any, upper: Any, side: str) -> tuple[Any, Any]:
    xp = xp_of(lower, upper)
    return (
        xp.full_like(lower, -np.inf) if side == "upper" else lower,
        xp.full_like(upper, np.inf) if side == "lower" else upper,
    )


def ratio(residual: Any, scale: Any) -> Any:
    """residual / scale; where scale is 0, 0 for no residual and infinite for any other."""
    xp = xp_of(residual, scale)
    none = scale == 0
    beyond = xp.where(residual > 0, np.inf, xp.where(residual < 0, -np.inf, xp.zeros_like(residual)))
    return xp.where(none, beyond, residual / xp.where(none, 1, scale))


def times(q: Any, scale: Any) -> Any:
    """q · scale, infinite for infinite q also where scale is 0."""
    xp = xp_of(q, scale)
    endless = xp.isinf(q)
    return xp.where(endless, q, xp.where(endless, 0, q) * scale)


def _mean_of_each(parts: tuple, weight: Any) -> tuple:
    return tuple((weight * part).sum(0) for part in parts)


def _mixture_moments(parts: tuple, weight: Any) -> tuple:
    mean, scale = parts
    centre = (weight * mean).sum(0)
    return centre, xp_of(mean).sqrt((weight * (scale**2 + (mean - centre) ** 2)).sum(0))
