"""The order statistic behind every split-type guarantee, exact for finite samples, and what it promises."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, check_level, is_concrete
from .._typing import Array, ArrayLike
from ..metrics import Bounds

_SLACK = 1e-9
"""Levels are decimals: 0.9 · 10 is 9, whatever the last bits of 0.9 are."""


def rank(num: int, level: float) -> int:
    """Which of `num` sorted scores bounds a new one with probability `level` at least: ⌈(num + 1) · level⌉.

    It may be num + 1, which no score has: then the bound is infinite. (vovk2005, section 2.2; lei2018, section 2.)
    """
    check_level("level", level)
    return math.ceil((num + 1) * float(level) - _SLACK)


def smallest_size(level: float) -> int:
    """The fewest calibration examples with which a bound at `level` is finite: level / (1 − level), rounded up."""
    check_level("level", level)
    exact = Fraction(float(level)).limit_denominator(10**9)
    return max(1, math.ceil(exact / (1 - exact)))


def threshold(scores: ArrayLike, level: float, *, name: str = "scores") -> Array:
    """The score that a new one does not exceed with probability `level` at least; infinite where there are too few.

    Args:
      scores: calibration scores `(n,)` or `(n, …)`, one column each, higher is less conforming; not sorted. +inf is a
        score like another; NaN is not.
      level: in (0, 1), one number.
    Returns:
      Order statistic number `rank(n, level)` of each column, `(…)`; +inf where that is n + 1, with a warning that
      says how many examples are enough.
    """
    scores = jnp.asarray(scores)
    num = scores.shape[0]
    place = rank(num, level)
    if place > num:
        warn_too_few(num, level, name)
        return jnp.full(scores.shape[1:], jnp.inf, scores.dtype)
    if is_concrete(scores):  # selection, not a sort
        return jnp.asarray(np.partition(np.asarray(scores), place - 1, axis=0)[place - 1])
    return jnp.sort(scores, axis=0)[place - 1]


def warn_too_few(num: int, level: float, name: str) -> None:
    """Say that `num` examples are too few for `level`, and how many are enough."""
    warnings.warn(
        f"{num} calibration {name} are too few for level {level:g}: the bound is infinite. "
        f"{smallest_size(level)} are enough.",
        UQWarning,
        stacklevel=4,
    )


def weighted_threshold(scores: ArrayLike, weight: ArrayLike, own: ArrayLike, level: float) -> Array:
    """The quantile of weighted scores to which each test example adds a score of +inf with its own weight.

    Args:
      scores: `(n,)`.
      weight: `(n,)`, likelihood ratios or group indicators; only ratios to `own` matter.
      own: weights of the test examples, `(N,)` or `()`.
      level: in (0, 1).
    Returns:
      `(N,)` or `()`: the smallest score s with Σ weight[scores ≤ s] ≥ level · (Σ weight + own); +inf where there is
      none. With equal weights it is `threshold`.
    References:
      tibshirani2019, eq. 7.
    """
    check_level("level", level)
    scores, weight, own = jnp.asarray(scores), jnp.asarray(weight), jnp.asarray(own)
    order = jnp.argsort(scores)
    ordered, cumulated = scores[order], jnp.cumsum(weight[order])
    need = level * (cumulated[-1] + own)
    need = need - _SLACK * jnp.maximum(need, 1) if cumulated.dtype == jnp.float64 else need * (1 - 4e-7)
    place = jnp.searchsorted(cumulated, need, side="left")
    beyond = place >= ordered.shape[0]
    return jnp.where(beyond, jnp.inf, ordered[jnp.minimum(place, ordered.shape[0] - 1)])


def realised_coverage(num: int, level: float, *, confidence: float = 0.95) -> Bounds:
    """Where the coverage of one calibration set of `num` scores without ties lies, over the draw of that set.

    Given the calibration set, coverage of new examples is Beta(k, n + 1 − k) with k = `rank(n, level)`; these are the
    ends of its central interval. 1 where the bound is infinite. (vovk2012, proposition 2a.)
    """
    from scipy import special

    place = rank(num, level)
    if place > num:
        return Bounds(1.0, 1.0)
    tail = (1 - confidence) / 2
    low, high = special.betaincinv(place, num + 1 - place, [tail, 1 - tail])
    return Bounds(float(low), float(high))


def check_scores(name: str, scores: Any, *, ndim: int | None = None) -> Any:
    """Scores as an array without NaN, of at least one example."""
    scores = jnp.asarray(scores) if not isinstance(scores, np.ndarray) else scores
    if scores.ndim == 0 or scores.shape[0] == 0 or (ndim is not None and scores.ndim != ndim):
        raise InputError(f"`{name}` expected at least one score an example, but has shape {scores.shape}.")
    if is_concrete(scores) and np.isnan(np.asarray(scores)).any():
        where = np.flatnonzero(np.isnan(np.asarray(scores)).reshape(len(scores), -1).any(1))
        raise InputError(f"`{name}` expected numbers, but is NaN in row {where[0]}.")
    return scores
