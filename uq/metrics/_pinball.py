"""Weighted sums of pinball losses: what all scores of quantiles and intervals are made of.

For a family of one location and scale such a sum is a piecewise linear function of the standardised outcome, found by
one search instead of one pass a level.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .._checks import InputError, check_level, is_concrete
from .._typing import Array
from . import _inputs, _route
from ._forecast import forecast, is_forecast, location_scale, relative
from ._knots import place


def check_levels(name: str, level: Any) -> np.ndarray:
    """Levels as float64 on the host: one, or several (Q,)."""
    if not is_concrete(level):
        raise InputError(f"`{name}` expected `level` as plain numbers, but it is traced; make it a static argument.")
    check_level("level", level)
    levels = np.asarray(level, np.float64)
    if levels.ndim > 1:
        raise InputError(f"`{name}` expected one level or several (Q,), but `level` has shape {levels.shape}.")
    return levels


def rising(name: str, level: Any, *, least: int = 1) -> np.ndarray:
    levels = check_levels(name, level)
    if levels.ndim == 0 or levels.size < least or (np.diff(levels) <= 0).any():
        raise InputError(f"`{name}` expected several levels (Q,) in rising order, but `level` is {level}.")
    return levels


def static(levels: np.ndarray) -> Any:
    return float(levels) if levels.ndim == 0 else tuple(levels.tolist())


def check_crossing(name: str, pred: Any, levels: np.ndarray) -> None:
    if is_forecast(pred) or not is_concrete(pred):
        return
    values = np.asarray(_inputs._array(name, pred))
    if values.shape[:1] == (len(levels),) and values.size and (values[1:] < values[:-1]).any():
        place = tuple(int(i) for i in np.argwhere(values[1:] < values[:-1])[0])
        raise InputError(
            f"`{name}` expected quantiles that rise with their level, but those of levels {levels[place[0]]:g} and "
            f"{levels[place[0] + 1]:g} cross in row {place[1] if len(place) > 1 else 0}. Sort them over the first axis."
        )


def sum_of_pinballs(name: str, pred: Any, y: Any, levels: np.ndarray, coefficient: np.ndarray) -> Array:
    """Σ_k c_k pinball(level_k) of quantiles or of a predictive distribution."""
    settings = {"level": static(levels), "coefficient": tuple(coefficient.tolist())}
    if is_forecast(pred):
        law = forecast(name, pred)
        y = law.check(y)
        family = location_scale(pred)
        if family is not None and levels.size > 1:
            loc, scale, icdf = family
            return standardized(loc, scale, y, icdf(levels), levels * coefficient, (1 - levels) * coefficient)
        law, y = relative(law, y)
        quantiles = law.quantile(levels if levels.ndim else float(levels))
    else:
        y = _inputs.array(name, "y", y)
        quantiles = _inputs.array(name, "quantiles", pred, infinite=True)
        if quantiles.shape != levels.shape + y.shape:
            raise InputError(
                f"`{name}` expected quantiles of shape {levels.shape + y.shape}, that of `y` after the levels, but got "
                f"{quantiles.shape}."
            )
    quantiles, y = _inputs.floating(quantiles, y)
    return _route.run(_pinballs, quantiles, y, **settings)


def standardized(loc: Any, scale: Any, y: Any, knots: Any, below: Any, above: Any) -> Array:
    """Σ_k scale · (below_k (u − z_k)₊ + above_k (z_k − u)₊) at u = (y − loc) / scale."""
    order = np.argsort(knots)
    knots, below, above = knots[order], below[order], above[order]
    under = np.concatenate([[0.0], np.cumsum(below)])
    over = np.concatenate([np.cumsum(above[::-1])[::-1], [0.0]])
    under_at = np.concatenate([[0.0], np.cumsum(below * knots)])
    over_at = np.concatenate([np.cumsum((above * knots)[::-1])[::-1], [0.0]])
    loc, scale, y = _inputs.floating(loc, scale, y)
    table = (tuple(knots.tolist()), tuple((under - over).tolist()), tuple((over_at - under_at).tolist()))
    return _route.run(_piecewise, loc, scale, y, table=table)


def _piecewise(xp: Any, loc: Any, scale: Any, y: Any, *, table: tuple[tuple[float, ...], ...]) -> Any:
    knots, slope, offset = table[0], *(xp.asarray(each, y.dtype) for each in table[1:])
    gap = y - loc
    piece = place(xp, knots, gap / scale)
    return slope.take(piece) * gap + offset.take(piece) * scale


def _pinballs(xp: Any, quantiles: Any, y: Any, *, level: Any, coefficient: tuple[float, ...]) -> Any:
    if not isinstance(level, tuple):
        return coefficient[0] * _pinball(xp, quantiles, y, level)
    total = xp.zeros(y.shape, y.dtype)
    for row, (each, factor) in enumerate(zip(level, coefficient, strict=True)):  # one level at a time: no (Q, N) array
        total = total + factor * _pinball(xp, quantiles[row], y, each)
    return total


def _pinball(xp: Any, quantile: Any, y: Any, level: float) -> Any:
    gap = y - quantile
    return xp.where(gap >= 0, level * gap, (level - 1) * gap)
