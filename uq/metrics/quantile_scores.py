"""Scores of quantiles and intervals: one value an example, lower is better.

All of them are weighted sums of pinball losses (`_pinball`).
"""

from __future__ import annotations

from typing import Any, overload

import numpy as np

from .._checks import InputError, check_level, is_concrete
from .._typing import Array, ArrayLike
from . import _inputs, _route
from ._forecast import forecast, is_forecast, location_scale, relative
from ._pinball import check_crossing, check_levels, rising, standardized, static, sum_of_pinballs

HUB_LEVELS = (0.01, 0.025, *(round(0.05 * k, 2) for k in range(1, 20)), 0.975, 0.99)
"""The 23 quantile levels of the epidemic forecast hubs: a median and eleven central intervals."""


def quantile_score(pred: Any, y: ArrayLike, *, level: Any) -> Array:
    """Pinball loss (1{y < q} − level)(q − y) of a quantile; for several levels, its mean over them.

    Minimised in expectation by the true quantile of that level. At level ½ it is half the absolute error. (Some papers
    double it.) Quantiles are scored one by one, so that they may cross.

    Args:
      pred: quantiles, of the shape of `y` for one level, `(Q, …)` for Q levels; or a regression `Predictive`, a
        numpyro or frozen scipy distribution. Infinite quantiles are legal and score infinity.
      y: outcomes `(N,)` or `(N, D)`.
      level: a probability in (0, 1), or several `(Q,)`.
    Returns:
      The shape of `y`, in its units.
    Raises:
      InputError: shapes that do not fit, NaN, a level outside (0, 1).
    References:
      gneiting2007, section 6.1; koenker1978. Checked against scikit-learn's mean_pinball_loss.
    Example:
      >>> quantile_score([1.0, 5.0], [2.0, 2.0], level=0.75).tolist()
      [0.75, 0.75]
    """
    levels = check_levels("quantile_score", level)
    return sum_of_pinballs("quantile_score", pred, y, levels, np.full(np.size(levels), 1 / np.size(levels)))


def crps_quantile(pred: Any, y: ArrayLike, *, level: Any) -> Array:
    """Continuous ranked probability score from quantiles: 2 ∫ pinball(level) d level by the trapezoid rule.

    Each level is weighted by half the distance between its neighbours, the pinball loss being 0 at levels 0 and 1, so
    that levels need not be equally spaced. Beyond the outermost levels nothing is known: a prediction with heavy tails
    is scored too low where few levels are extreme.

    Args:
      pred: quantiles `(Q, N)` or `(Q, N, D)` that rise with the level; or a regression `Predictive`, a numpyro or
        frozen scipy distribution (whose own `crps` is exact).
      y: outcomes `(N,)` or `(N, D)`.
      level: at least two rising probabilities in (0, 1), `(Q,)`.
    Returns:
      The shape of `y`, in its units.
    Raises:
      InputError: shapes that do not fit, NaN, levels that do not rise or are outside (0, 1), quantiles that cross.
    References:
      laio2007. Checked against numerical integration for many levels, equally spaced or not.
    Example:
      >>> level = [0.1, 0.3, 0.5, 0.7, 0.9]
      >>> crps_quantile([[-2.0], [-1.0], [0.0], [1.0], [2.0]], [0.0], level=level).round(2).tolist()
      [0.36]
    """
    levels = rising("crps_quantile", level, least=2)
    around = np.concatenate([[0.0], levels, [1.0]])
    check_crossing("crps_quantile", pred, levels)
    return sum_of_pinballs("crps_quantile", pred, y, levels, around[2:] - around[:-2])


def weighted_interval_score(pred: Any, y: ArrayLike, *, level: Any = HUB_LEVELS) -> Array:
    """(½ |y − median| + Σ_k α_k/2 · interval score_k) / (K + ½): median and K central intervals in one number.

    α_k is one minus the nominal coverage of interval k. It equals twice the mean pinball loss over the 2K + 1 levels,
    and for many equally spaced levels the continuous ranked probability score.

    Args:
      pred: quantiles `(2K + 1, N)` or `(2K + 1, N, D)` in rising order of their levels; or a regression `Predictive`,
        a numpyro or frozen scipy distribution.
      y: outcomes `(N,)` or `(N, D)`.
      level: the quantiles' levels, rising and symmetric about ½, which is one of them; by default the 23 of the
        epidemic forecast hubs.
    Returns:
      The shape of `y`, in its units.
    Raises:
      InputError: shapes that do not fit, NaN, levels that are not symmetric, intervals whose ends cross.
    References:
      bracher2021. Checked against a loop over intervals; scoringrules agrees where the median is the outcome.
    Example:
      >>> weighted_interval_score([[9.0], [10.0], [11.0]], [10.0], level=[0.25, 0.5, 0.75]).round(4).tolist()
      [0.3333]
    """
    levels = rising("weighted_interval_score", level)
    if not np.allclose(levels + levels[::-1], 1, atol=1e-9) or not len(levels) % 2:
        raise InputError(
            f"`weighted_interval_score` expected quantile levels that are symmetric about 0.5, itself one of them, but "
            f"they are {_inputs._row(levels)}."
        )
    check_crossing("weighted_interval_score", pred, levels)
    return sum_of_pinballs("weighted_interval_score", pred, y, levels, np.full(len(levels), 2 / len(levels)))


@overload
def interval_score(lower: Any, upper: ArrayLike, y: ArrayLike, *, level: Any) -> Array: ...
@overload
def interval_score(lower: Any, upper: ArrayLike | None = None, y: ArrayLike | None = None, *, level: Any) -> Array: ...
def interval_score(lower: Any, upper: Any = None, y: Any = None, *, level: Any) -> Array:
    """Width of a central interval plus 2/α times the distance by which the outcome missed it; α = 1 − level.

    Minimised in expectation by the interval between the quantiles α/2 and 1 − α/2; also called Winkler score. Called
    with a prediction, `interval_score(pred, y, level=…)` takes its central interval. For several levels it is the mean
    over them.

    Args:
      lower, upper: ends of the interval, of the shape of `y`; or `(L, …)` for L levels. Infinite ends are legal and
        score infinity. In place of both a pair (lower, upper), a regression `Predictive`, a numpyro or a frozen scipy
        distribution.
      y: outcomes `(N,)` or `(N, D)`.
      level: nominal coverage in (0, 1), 0.9 being a 90 % interval; one or several `(L,)`.
    Returns:
      The shape of `y`, in its units.
    Raises:
      InputError: shapes that do not fit, NaN, ends that cross, a level outside (0, 1).
    References:
      gneiting2007, eq. 43. Checked against a loop, scoringrules, and as a sum of two pinball losses.
    Example:
      >>> float(interval_score(0.0, 1.0, 2.0, level=0.5))
      5.0
    """
    name = "interval_score"
    levels = check_levels(name, level)
    if y is None:
        if upper is None:
            raise InputError("`interval_score` expected outcomes `y`: interval_score(lower, upper, y, level=…).")
        upper, y = None, upper
    if upper is None and not _inputs.is_pair(lower):
        return _interval_score_of_forecast(name, lower, y, levels)
    ends = lower if upper is None else (lower, upper)
    low, high = (
        _inputs.array(name, what, end, infinite=True) for what, end in zip(("lower", "upper"), ends, strict=True)
    )
    y = _inputs.array(name, "y", y)
    if low.shape != high.shape or low.shape != np.shape(levels) + y.shape:
        raise InputError(
            f"`{name}` expected `lower` and `upper` of shape {np.shape(levels) + y.shape}, that of `y` (after the "
            f"levels, where there are several), but got {low.shape} and {high.shape}."
        )
    check_order(name, low, high)
    low, high, y = _inputs.floating(low, high, y)
    return _route.run(_interval, low, high, y, level=static(levels))


def interval_width(pred: Any, *, level: float = 0.9) -> Array:
    """Width of the central interval; narrower is better among predictions that keep their coverage.

    Args:
      pred: a regression `Predictive`, a numpyro or frozen scipy distribution, draws `(M, N, …)`, or a pair
        (lower, upper).
      level: the interval's nominal coverage, for a prediction; a pair has its own.
    Returns:
      `(N,)` or `(N, D)`, in the units of `y`.
    Raises:
      InputError: a level outside (0, 1), ends that cross or differ in shape.
    References:
      gneiting2007b, on sharpness. Checked against scipy.stats.
    Example:
      >>> interval_width(([0.0, 1.0], [2.0, 1.5])).tolist()
      [2.0, 0.5]
    """
    name = "interval_width"
    check_level("level", level)
    if _inputs.is_pair(pred):
        low, high = (
            _inputs._flat(_inputs.array(name, what, end, infinite=True))
            for what, end in zip(("lower", "upper"), pred, strict=True)
        )
        if low.shape != high.shape:
            raise InputError(
                f"`{name}` expected lower and upper ends of one shape, but got {low.shape} and {high.shape}."
            )
        check_order(name, low, high)
        return _route.run(_width, *_inputs.floating(low, high))
    if not is_forecast(pred) and len(shape := _inputs._array(name, pred).shape) not in (2, 3):
        raise InputError(
            f"`{name}` expected a Predictive, a distribution or a pair (lower, upper), or draws of shape (M, N) or "
            f"(M, N, D), but got shape {shape}."
        )
    law = forecast(name, pred)
    if hasattr(law, "width"):
        return law.width(level)
    low, high = law.quantile([(1 - level) / 2, (1 + level) / 2])
    return high - low


def _ends(name: str, ends: Any) -> tuple[Any, Any]:
    low, high = ends
    return _inputs.array(name, "lower", low, infinite=True), _inputs.array(name, "upper", high, infinite=True)


def check_order(name: str, low: Any, high: Any) -> None:
    """A sentence where an interval's lower end is above its upper one."""
    if not is_concrete((low, high)):
        return
    crossed = np.asarray(low) > np.asarray(high)
    if crossed.any():
        place = tuple(int(i) for i in np.argwhere(crossed)[0])
        where = f"row {place[0] if len(place) == 1 else place}" if place else "it"
        raise InputError(
            f"`{name}` expected (lower, upper) with lower ≤ upper, but {where} is "
            f"({np.asarray(low)[place]}, {np.asarray(high)[place]})."
        )


def _interval_score_of_forecast(name: str, pred: Any, y: Any, levels: np.ndarray) -> Array:
    if not is_forecast(pred):
        raise InputError(f"`{name}` expected a Predictive, a distribution, or two ends: {name}(lower, upper, y, …).")
    law = forecast(name, pred)
    y = law.check(y)
    tail = (1 - np.atleast_1d(levels)) / 2
    family = location_scale(pred)
    if family is not None and levels.ndim:
        loc, scale, icdf = family
        both = np.concatenate([tail, 1 - tail])
        knots = np.concatenate([icdf(tail), icdf(tail, upper=True)])
        penalty = np.tile(1 / tail / len(tail), 2)
        return standardized(loc, scale, y, knots, both * penalty, (1 - both) * penalty)
    law, y = relative(law, y)
    ends = law.quantile(np.concatenate([tail, 1 - tail]))
    low, high = ends[: len(tail)], ends[len(tail) :]
    low, high = (low, high) if levels.ndim else (low[0], high[0])
    low, high, y = _inputs.floating(low, high, y)
    return _route.run(_interval, low, high, y, level=static(levels))


def _interval(xp: Any, low: Any, high: Any, y: Any, *, level: Any) -> Any:
    if not isinstance(level, tuple):
        return _one_interval(xp, low, high, y, level)
    total = xp.zeros(y.shape, y.dtype)
    for row, each in enumerate(level):
        total = total + _one_interval(xp, low[row], high[row], y, each)
    return total / len(level)


def _one_interval(xp: Any, low: Any, high: Any, y: Any, level: float) -> Any:
    missed = xp.where(y < low, low - y, 0) + xp.where(y > high, y - high, 0)
    return (high - low) + 2 / (1 - level) * missed


def _width(xp: Any, low: Any, high: Any) -> Any:
    return high - low
