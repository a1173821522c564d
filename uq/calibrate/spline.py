"""Spline calibration: a smooth curve through the log-odds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._checks import check_count
from .._typing import Array
from . import _one_vs_rest, _steps
from ._one_vs_rest import Event, search
from ._recalibrator import Fitted, Recalibrator
from ._search import Found, fitted, log_loss, logistic, sigmoid

_SPREAD = 10.0
_MOST_GROUPS = 2000
_ROUGHNESS = (1e3, 1e2, 1e1, 1e0, 1e-1)
"""Penalties tried, in rows of data."""


class SplineState(NamedTuple):
    """What `spline` learns, one curve a class, or one for two classes."""

    knots: Any
    """Log-odds where pieces meet, `(K, L)`; the last one is repeated to a length of 4ⁿ."""
    pieces: Any
    """Coefficients of each piece in t − its left knot, constant first, `(K, L, 4)`; the last one is straight."""
    slope: Any
    """Of the straight line below the first knot, `(K,)`."""
    fitted: Fitted
    """How the searches went, `(K,)`."""


class _Basis(NamedTuple):
    """A family of curves that are linear in their parameters, and straight beyond the knots."""

    design: Callable[[np.ndarray], np.ndarray]
    """Values of the basis functions at log-odds, `(n, P)`."""
    rough: np.ndarray
    """∫ f″² as a quadratic form, `(P, P)`; of the slopes' jumps between knots for quadratic curves."""
    identity: np.ndarray
    """Parameters of f(t) = t."""
    positive: np.ndarray
    """Which parameters may not be below 0."""
    pieces: Callable[[np.ndarray], tuple[np.ndarray, float]]
    """Coefficients `(L, 4)` and first slope from parameters."""


def spline(*, knots: int = 6, monotone: bool = True) -> Recalibrator:
    """New log-odds are a smooth curve of the old ones, straight beyond the outermost knots.

    Between `platt`, which cannot bend, and `isotonic`, which jumps. The penalty on roughness is chosen among five by
    AIC; as it grows, the curve becomes a straight line. Beyond 2,000 distinct predictions, neighbours are taken
    together. With more than two classes, each is mapped against the rest and
    probabilities are divided by their sum.

    Args:
      knots: at most as many, at quantiles of the predictions.
      monotone: whether the curve must not fall: its slope is linear between knots and not negative. False gives a
        natural cubic spline, which is smoother and may fall where rows are few.
    Returns:
      A `Recalibrator` for "binary" and "multiclass" predictions; its state is a `SplineState`.
    Raises:
      InputError: fewer than 2 knots; in `fit`, a class of which there is no outcome, labels out of range, shapes that
        do not fit.
    References:
      lucena2018 (natural cubic splines of the score in a logistic regression); hastie2009, section 5.2.1;
      ramsay1988 (monotone splines). Checked against scipy.interpolate.CubicSpline, and scipy.optimize.minimize on the
      plain objective.
    Example:
      >>> import numpy as np
      >>> p = np.linspace(0.05, 0.95, 200)
      >>> y = (np.arange(200) * 37 % 100 < 100 * p**2).astype(int)  # the truth is p²
      >>> map = spline()
      >>> np.asarray(map.apply(map.fit(p, y), np.array([0.3, 0.5, 0.7])).mean, float).round(1).tolist()
      [0.1, 0.3, 0.5]
    """
    check_count("knots", knots, least=2)

    def learn(data: Event) -> SplineState:
        return _learn(data, knots, monotone)

    return _one_vs_rest.recalibrator("spline", learn, _curve)


def _learn(data: Event, count: int, monotone: bool) -> SplineState:
    data = _grouped(data)
    knots = _knots(data, count)
    basis = (_monotone if monotone else _natural)(knots)
    design = basis.design(data.odds)
    total = data.weight.sum()
    prior = np.eye(len(basis.identity)) / (_SPREAD**2 * total)
    best, least = None, np.inf
    for roughness in _ROUGHNESS:
        penalty = prior + roughness / total * basis.rough
        found = logistic(design, data.rate, data.weight, basis.identity, penalty, basis.positive)
        loss = _mean_loss(design @ found.at, data)
        criterion = total * loss + _freedom(found.at, design, data, penalty, basis.positive)
        if criterion < least:
            best, least = found._replace(loss=loss), criterion
    assert best is not None
    pieces, slope = basis.pieces(best.at)
    how = fitted("spline", Found(*best), _mean_loss(data.odds, data))
    return SplineState(knots, pieces, np.asarray(slope), how)


def _curve(state: SplineState, odds: Array) -> Array:
    at = search(state.knots, odds) - 1
    piece = jnp.maximum(at, 0)
    t = odds - state.knots[piece]
    a, b, c, d = jnp.moveaxis(state.pieces[piece], -1, 0)
    return jnp.where(at < 0, a + state.slope * t, a + t * (b + t * (c + t * d)))


def _grouped(data: Event) -> Event:
    """Neighbouring predictions together where there are very many: a smooth curve does not tell them apart."""
    if len(data.odds) <= _MOST_GROUPS:
        return data
    cuts = _steps.equal_mass(data, _MOST_GROUPS)
    weight = _steps.sums(data.weight, cuts)
    odds = _steps.sums(data.weight * data.odds, cuts) / weight
    return Event(odds, weight, _steps.sums(data.happened, cuts), sigmoid(odds))


def _knots(data: Event, count: int) -> np.ndarray:
    """At quantiles of the predictions from 2 % to 98 %, distinct; two where all predictions are equal."""
    upto = (np.cumsum(data.weight) - data.weight / 2) / data.weight.sum()
    knots = np.unique(np.interp(np.linspace(0.02, 0.98, count), upto, data.odds))
    span = knots[-1] - knots[0]
    if span < 1e-3:
        return knots[0] + np.array([-0.5, 0.5])
    return knots[np.concatenate([[True], np.diff(knots) > 1e-3 * span])]


def _natural(knots: np.ndarray) -> _Basis:
    """Natural cubic splines by their values at the knots."""
    from scipy.interpolate import CubicSpline

    size = len(knots)
    if size == 2:
        return _monotone(knots)._replace(positive=np.zeros(3, bool))
    cardinal = CubicSpline(knots, np.eye(size), bc_type="natural")
    ends = cardinal(knots[[0, -1]], 1)
    bend = cardinal(knots, 2)
    gap = np.diff(knots)[:, None, None]
    left, right = bend[:-1], bend[1:]

    def outer(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return a[:, :, None] * b[:, None, :]

    rough = (gap / 6 * (2 * outer(left, left) + outer(left, right) + outer(right, left) + 2 * outer(right, right))).sum(
        0
    )

    def design(odds: np.ndarray) -> np.ndarray:
        inside = np.clip(odds, knots[0], knots[-1])
        below, above = np.minimum(odds - knots[0], 0), np.maximum(odds - knots[-1], 0)
        return cardinal(inside) + below[:, None] * ends[0] + above[:, None] * ends[1]

    def pieces(values: np.ndarray) -> tuple[np.ndarray, float]:
        cubic = (cardinal.c @ values)[::-1].T
        return np.concatenate([cubic, [[values[-1], ends[1] @ values, 0, 0]]]), float(ends[0] @ values)

    return _Basis(design, rough, knots.copy(), np.zeros(size, bool), pieces)


def _monotone(knots: np.ndarray) -> _Basis:
    """Curves by their value at the first knot and their slopes at all, linear between."""
    gap = np.diff(knots)
    size = len(knots)

    def area(odds: np.ndarray) -> np.ndarray:
        """∫ of each knot's hat function from the first knot, `(n, L)`; the outermost hats stay 1 outside."""
        out = np.zeros((len(odds), size))
        for j, width in enumerate(gap):
            t = np.clip(odds - knots[j], 0, width)
            out[:, j + 1] += t * t / (2 * width)
            out[:, j] += t - t * t / (2 * width)
        out[:, 0] += np.minimum(odds - knots[0], 0)
        out[:, -1] += np.maximum(odds - knots[-1], 0)
        return out

    def design(odds: np.ndarray) -> np.ndarray:
        return np.concatenate([np.ones((len(odds), 1)), area(odds)], 1)

    def pieces(at: np.ndarray) -> tuple[np.ndarray, float]:
        values, slopes = design(knots) @ at, at[1:]
        bend = np.append(np.diff(slopes) / (2 * gap), 0)
        return np.stack([values, slopes, bend, np.zeros(size)], 1), float(slopes[0])

    jumps = np.diff(np.eye(size), axis=0)
    rough = np.zeros((size + 1, size + 1))
    rough[1:, 1:] = jumps.T @ (jumps / gap[:, None])
    identity = np.concatenate([knots[:1], np.ones(size)])
    return _Basis(design, rough, identity, np.arange(size + 1) > 0, pieces)


def _freedom(at: np.ndarray, design: np.ndarray, data: Event, penalty: np.ndarray, positive: np.ndarray) -> float:
    """Effective number of parameters: the trace of the data's share of the curvature, of those not held at 0."""
    free = ~(positive & (at <= 0))
    p = sigmoid(design @ at)
    spread = data.weight * p * (1 - p) / data.weight.sum()
    curve = (design[:, free].T * spread) @ design[:, free]
    return float(np.trace(np.linalg.lstsq(curve + penalty[np.ix_(free, free)], curve, rcond=None)[0]))


def _mean_loss(odds: Any, data: Event) -> float:
    return float(np.average(log_loss(odds, data.rate), weights=data.weight))
