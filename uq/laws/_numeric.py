"""CRPS, entropy and moments of families without closed forms, by fixed quadrature or summation.

Continuous families are integrated over probability u, graded towards both ends so that tails like u^(−1/ν) are
resolved; the functions are cached by family, so that programs are compiled once.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from ._family import Family

_NODES = 40
_LEAST = 1e-30
"""Tails below it weigh nothing."""


def _graded() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes u in (0, 1), their complements 1 − u, and weights: Gauss–Legendre under u = t³ (10 − 15 t + 6 t²)."""
    t, mass = np.polynomial.legendre.leggauss(_NODES)
    t, mass = (t + 1) / 2, mass / 2
    rise = t**3 * (10 - 15 * t + 6 * t**2)
    return rise, rise[::-1].copy(), mass * 30 * t**2 * (1 - t) ** 2


_RISE, _FALL, _MASS = _graded()


def _column(values: np.ndarray, like: Array, rank: int) -> Array:
    return jnp.asarray(values, like.dtype).reshape((-1,) + (1,) * rank)


def _quantile(family: Family, below: Array, above: Array, parameters: tuple[Array, ...]) -> Array:
    """The point with probability `below` below it and `above` above it; the smaller one decides."""
    upper = above < below
    return family.icdf(jnp.where(upper, above, below), upper, *parameters)


@functools.cache
def crps_of(family: Family) -> Callable[..., Array]:
    """`crps(y, *parameters)` of a family: 2 ∫ (1{y ≤ Q(u)} − u)(Q(u) − y) du, cut at u = F(y) and at the seam."""

    def crps(y: Array, *parameters: Array) -> Array:
        at_y = _tails(family, y, parameters)
        rank = max(jnp.ndim(leaf) for leaf in (at_y[0], *parameters))
        first, last = at_y, at_y
        middle: Any = 0.0
        if family.seam is not None:
            seam = jax.lax.stop_gradient(family.seam(*parameters))
            at_seam = _tails(family, seam, parameters)
            first = jnp.minimum(at_y[0], at_seam[0]), jnp.maximum(at_y[1], at_seam[1])
            last = jnp.maximum(at_y[0], at_seam[0]), jnp.minimum(at_y[1], at_seam[1])
            middle = _part(family, y, first, last, seam < y, parameters, rank)
        lower = _part(family, y, (0, 1), first, True, parameters, rank)
        return 2 * (lower + middle + _part(family, y, last, (1, 0), False, parameters, rank))

    return crps


def _tails(family: Family, y: Array, parameters: tuple[Array, ...]) -> tuple[Array, Array]:
    """The probability below and above a point."""
    below, above = (jax.lax.stop_gradient(part(y, *parameters)) for part in (family.cdf, family.sf))
    return below, above


def _part(
    family: Family,
    y: Array,
    start: tuple[Any, Any],
    end: tuple[Any, Any],
    left: Any,
    parameters: tuple[Array, ...],
    rank: int,
) -> Array:
    """Half the CRPS from the levels between two points, by the tails of both: all to one side of `y`."""
    length = jnp.where(end[0] < start[1], end[0] - start[0], start[1] - end[1])
    rise, fall, mass = (_column(part, length, rank) for part in (_RISE, _FALL, _MASS))
    length = length[None]
    below, above = start[0] + length * rise, end[1] + length * fall
    # Far out the square of a tail is no number: what it weighs is nothing, whereas the quantile may be infinite.
    weight = length * jnp.where(left, below, above)
    live = ~(weight <= 0)  # what is not a number stays that
    quantile = _quantile(family, jnp.where(live, below, 0.5), jnp.where(live, above, 0.5), parameters)
    return (mass * jnp.where(live, weight * jnp.maximum(jnp.where(left, y - quantile, quantile - y), 0), 0)).sum(0)


@functools.cache
def entropy_of(family: Family) -> Callable[..., Array]:
    """`entropy(*parameters)` of a family: −∫ log f(Q(u)) du."""

    def entropy(*parameters: Array) -> Array:
        points, mass = _points(family, parameters)
        value = family.log_prob(points, *parameters)
        if family.seam is not None:  # a point rounded onto a pole: what lies so near weighs nothing
            value = jnp.where(jnp.isfinite(value), value, 0)
        return -(mass * value).sum(0)

    return entropy


@functools.cache
def moments_of(family: Family) -> Callable[..., tuple[Array, Array]]:
    """`moments(*parameters)` of a family: mean ∫ Q(u) du, variance ∫ (Q(u) − mean)² du."""

    def moments(*parameters: Array) -> tuple[Array, Array]:
        points, mass = _points(family, parameters)
        anchor = jax.lax.stop_gradient(points[_NODES // 2])
        mean = anchor + (mass * (points - anchor)).sum(0)
        return mean, (mass * jnp.square(points - mean)).sum(0)

    return moments


def _halves() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tails u in (0, ½), for both sides, and weights: graded to the outer ends, with a seam at the median."""
    t, mass = np.polynomial.legendre.leggauss(_NODES // 2)
    t, mass = (t + 1) / 2, mass / 2
    tail, mass = 0.5 * t**3, 1.5 * mass * t**2
    return np.concatenate([tail, tail[::-1]]), np.arange(_NODES) >= _NODES // 2, np.concatenate([mass, mass[::-1]])


_TAIL, _UPPER, _HALF_MASS = _halves()


def _points(family: Family, parameters: tuple[Array, ...]) -> tuple[Array, Array]:
    """Quantiles along a new leading axis, rising, and their weights."""
    rank = max(jnp.ndim(leaf) for leaf in parameters)
    if family.seam is not None:  # graded towards it as well, from both sides
        below, above = _tails(family, jax.lax.stop_gradient(family.seam(*parameters)), parameters)
        rise, fall, mass = (_column(part, parameters[0], rank) for part in (_RISE, _FALL, _MASS))
        low = _quantile(family, jnp.maximum(below * rise, _LEAST), above + below * fall, parameters)
        high = _quantile(family, below + above * fall, jnp.maximum(above * rise, _LEAST), parameters)
        return jnp.concatenate([low, high[::-1]]), jnp.concatenate([below * mass, (above * mass)[::-1]])
    tail, mass = (_column(part, parameters[0], rank) for part in (_TAIL, _HALF_MASS))
    return family.icdf(tail, jnp.asarray(_UPPER).reshape(tail.shape), *parameters), mass
