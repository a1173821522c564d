"""The order statistic behind every split-type guarantee, exact for finite samples, and what it promises."""

from __future__ import annotations

import math
import sys
import warnings
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._checks import InputError, UQWarning, check_level, is_concrete
from .._typing import Array, ArrayLike
from ..metrics import Bounds


def fraction(level: float) -> Fraction:
    """The level as the fraction that was meant: 0.9 is 9/10, whatever its last bits are."""
    if not is_concrete(level):
        raise InputError("`level` decides which order statistic is taken: under jit, make it a static argument.")
    check_level("level", level)
    if np.ndim(level):
        raise InputError(f"`level` expected one level, but has shape {np.shape(level)}.")
    value = np.asarray(level)
    exact = Fraction(float(value) if value.dtype == np.float64 else float(str(value)))
    meant = exact.limit_denominator(10**6)
    return meant if 0 < meant < 1 and abs(meant - exact) < Fraction(1, 10**12) else exact


def rank(num: int, level: float) -> int:
    """Which of `num` sorted scores bounds a new one with probability `level` at least: ⌈(num + 1) · level⌉, exactly.

    It may be num + 1, which no score has: then the bound is infinite. (vovk2005, section 2.2; lei2018, section 2.)
    """
    return math.ceil((num + 1) * fraction(level))


def smallest_size(level: float) -> int:
    """The fewest calibration examples with which a bound at `level` is finite: level / (1 − level), rounded up."""
    exact = fraction(level)
    return math.ceil(exact / (1 - exact))


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
    return jnp.asarray(limit(jnp.asarray(scores), level, name=name))


def limit(scores: Any, level: float, *, name: str = "scores") -> Any:
    """`threshold`, computed where the scores are: numpy, in its own precision, for numpy."""
    num = scores.shape[0]
    place = rank(num, level)
    if place > num:
        warn_too_few(num, level, name)
        xp = jnp if isinstance(scores, jax.Array) else np
        return xp.full(scores.shape[1:], np.inf, scores.dtype)
    return order_statistic(scores, place)


def order_statistic(scores: Any, place: int) -> Any:
    """The score that is number `place` of each column, from the smallest, which is number 1."""
    if not is_concrete(scores):
        return jnp.sort(scores, axis=0)[place - 1]
    found = np.partition(np.asarray(scores), place - 1, axis=0)[place - 1]  # selection, not a sort
    return jnp.asarray(found) if isinstance(scores, jax.Array) else found


def warn_too_few(num: int, level: float, name: str) -> None:
    """Say that `num` examples are too few for `level`, and how many are enough."""
    enough = smallest_size(level)
    said = f"{num} calibration {name} are" if num != 1 else f"1 calibration {name.removesuffix('s')} is"
    more = f"{enough} are" if enough != 1 else "1 is"
    warnings.warn(
        f"{said} too few for level {level:g}: the bound is infinite. {more} enough.", UQWarning, stacklevel=_depth()
    )


def _depth() -> int:
    """How far up the first caller outside this package is."""
    frame, depth = sys._getframe(2), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith(__package__):
        frame, depth = frame.f_back, depth + 1
    return depth


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
    return weighted_limit(jnp.asarray(scores), jnp.asarray(weight), jnp.asarray(own), level)


def weighted_limit(scores: Any, weight: Any, own: Any, level: float) -> Any:
    """`weighted_threshold`, computed where the scores are: numpy, in its own precision, for numpy."""
    xp: Any = jnp if isinstance(scores, jax.Array) else np
    weight, own = (xp.asarray(each).astype(scores.dtype) for each in (weight, own))
    top = weight.max()
    top = xp.where(top > 0, top, 1)  # equal weights become 1, whose sums are exact
    order = xp.argsort(scores)
    ordered, cumulated = scores[order], xp.cumsum(weight[order] / top)
    need = xp.asarray(float(fraction(level)), scores.dtype) * (cumulated[-1] + own / top)
    need = need * (1 - (1e-12 if scores.dtype.itemsize == 8 else 4e-7))  # rounding of the sums
    place = xp.searchsorted(cumulated, need, side="left")
    beyond = (place >= len(ordered)) | ~(need > 0)
    return xp.where(beyond, np.inf, ordered[xp.minimum(place, len(ordered) - 1)])


def realised_coverage(num: int, level: float, *, confidence: float = 0.95) -> Bounds:
    """Where the coverage of one calibration set of `num` scores without ties lies, over the draw of that set.

    Given the calibration set, coverage of new examples is Beta(k, n + 1 − k) with k = `rank(n, level)`; these are the
    ends of its central interval. 1 where the bound is infinite. (vovk2012, proposition 2a.)
    """
    from scipy import special

    place = rank(num, level)
    check_level("confidence", confidence)
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
