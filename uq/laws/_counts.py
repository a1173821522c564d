"""From the few functions that make a family of counts to all that a `Family` answers.

Probabilities and tails are smooth in the count: the quantile is found on the smooth curve and settled on the lattice.
Of the CRPS E|Y − y| − ½ E|Y − Y′| the first part is a cdf and a probability, the second an integral over the
characteristic function, without a sum over the lattice.

Checked against sums over the lattice in float64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from . import _quantile
from ._family import Family

_EXACT = 64
"""So many terms of an entropy are summed one by one; the rest is an integral."""
_BEYOND = 1e-10
"""Tails left out of an entropy."""
MOST = 1e18
"""Larger outcomes count as this one."""


class Count(NamedTuple):
    """What a family of counts has to say; all functions take `k ≥ 0` first, whole or not, and the parameters."""

    log_pmf: Callable[..., Array]
    tails: Callable[..., tuple[Array, Array]]
    """log P(Y ≤ k) and log P(Y > k)."""
    moments: Callable[..., tuple[Array, Array]]
    shortfall: Callable[..., Array]
    """Σ_{j ≤ k} (mean − j) P(Y = j), given `k`, P(Y = k), and the parameters."""
    spread: Callable[..., tuple[Array, Array]]
    """½ E|Y − Y′|, and where the mean is below 1, the CRPS at 0."""
    last: Callable[..., Array] | None = None
    """The largest count."""


def family(count: Count, parameters: Callable[[Any], tuple[Any, ...]], host: Callable[..., Any]) -> Family:
    def top(*parameters: Array) -> Any:
        return jnp.inf if count.last is None else count.last(*parameters)

    def whole(y: Array, *parameters: Array) -> Array:
        last = MOST if count.last is None else count.last(*parameters)
        return jnp.clip(jnp.floor(y), 0, last)

    def log_prob(y: Array, *parameters: Array) -> Array:
        inside = (y >= 0) & (y <= top(*parameters)) & (y == jnp.floor(y)) & (y < jnp.inf)
        value = count.log_pmf(jnp.where(inside, y, 0), *parameters)
        return jnp.where(inside | jnp.isnan(y), value + 0 * jnp.where(jnp.isnan(y), y, 0), -jnp.inf)

    def log_cdf(y: Array, *parameters: Array) -> Array:
        value = count.tails(whole(y, *parameters), *parameters)[0]
        return jnp.where(y < 0, -jnp.inf, jnp.where(y >= top(*parameters), unless_nan(value, 0), value))

    def log_sf(y: Array, *parameters: Array) -> Array:
        value = count.tails(whole(y, *parameters), *parameters)[1]
        return jnp.where(y < 0, unless_nan(value, 0), jnp.where(y >= top(*parameters), -jnp.inf, value))

    def icdf(tail: Array, upper: Any, *parameters: Array) -> Array:
        return _icdf(count, tail, upper, parameters)

    def crps(y: Array, *parameters: Array) -> Array:
        mean, _ = count.moments(*parameters)
        below, above = jnp.exp(log_cdf(y, *parameters)), jnp.exp(log_sf(y, *parameters))
        k = whole(y, *parameters)
        here = jnp.where(y < 0, 0, jnp.exp(count.log_pmf(k, *parameters)))
        short = jnp.where(y >= top(*parameters), 0, count.shortfall(k, here, *parameters))
        half_gap, at_zero = count.spread(*parameters)
        far = (y - mean) * (below - above) + 2 * short - half_gap
        # Small means: E|Y| and ½ E|Y − Y′| nearly cancel, and their difference is integrated instead.
        part = jnp.where(k == 0, 0, mean * below - short)
        return jnp.where(mean < 1, at_zero + y * (below - above) - 2 * part, far)

    return Family(
        parameters=parameters,
        log_prob=log_prob,
        cdf=lambda y, *parameters: jnp.exp(log_cdf(y, *parameters)),
        sf=lambda y, *parameters: jnp.exp(log_sf(y, *parameters)),
        log_cdf=log_cdf,
        log_sf=log_sf,
        icdf=icdf,
        moments=count.moments,
        host=host,
        crps=crps,
        entropy=lambda *parameters: _entropy(count, icdf, parameters),
        discrete=True,
        support=lambda *parameters: (0.0, top(*parameters)),
    )


def _icdf(count: Count, tail: Array, upper: Any, parameters: tuple[Array, ...]) -> Array:
    """The smallest k with P(Y ≤ k) ≥ tail, or with P(Y > k) ≤ tail where `upper`; no derivative."""
    given = jax.lax.stop_gradient(jnp.broadcast_arrays(tail, jnp.asarray(upper), *parameters))
    tail, upper, parameters = given[0], given[1], (*given[2:],)
    mean, variance = count.moments(*parameters)
    last = jnp.full_like(mean, MOST) if count.last is None else count.last(*parameters)
    log_tail = jnp.log(tail)
    side, goal = _quantile.smaller(log_tail, upper)

    # A gamma variable of the same mean and variance is about there.
    shape = jnp.square(mean) / jnp.maximum(variance, 1e-6 * mean)
    start = mean * jnp.exp(_quantile.gamma_start(shape, goal, side)[0] - jnp.log(shape))
    start = jnp.clip(jnp.where(jnp.isnan(start), 0, start), 0, jnp.maximum(last - 0.5, 0))

    def tail_at(sigma: Array) -> tuple[Array, Array, Array]:
        def value(k: Array) -> Array:
            down, up = count.tails(k, *parameters)
            return jnp.where(side, up, down)

        k = (start + 1) * jnp.exp(sigma) - 1
        value_at, slope = jax.jvp(value, (k,), (k + 1,))
        return value_at, slope, jnp.zeros_like(slope)

    low, high = jnp.log(0.5 / (start + 1)), jnp.log((last + 0.5) / (start + 1))
    sigma = _quantile.solve(tail_at, jnp.zeros_like(start), goal, side, low, high, steps=10)
    near = jnp.ceil((start + 1) * jnp.exp(sigma) - 1)
    k = settle(lambda k: has_reached(count.tails(k, *parameters), log_tail, upper) | (k >= last), near, last)
    k = jnp.where((log_tail == -jnp.inf) & upper | (log_tail == 0) & ~upper, _endless(last), k)
    k = jnp.where((log_tail == -jnp.inf) & ~upper | (log_tail == 0) & upper, jnp.zeros_like(k), k)
    return jnp.where((tail >= 0) & (tail <= 1) & ~jnp.isnan(mean), k, jnp.nan)


def _endless(last: Array) -> Array:
    return jnp.where(last >= MOST, jnp.inf, last)


def unless_nan(value: Array, other: float) -> Array:
    """`other` in place of every number; nan stays."""
    return jnp.where(jnp.isnan(value), value, other)


def has_reached(tails: tuple[Array, Array], log_tail: Array, upper: Array) -> Array:
    return jnp.where(upper, tails[1] <= log_tail, tails[0] >= log_tail)


def settle(reached: Callable[[Array], Array], near: Array, last: Array) -> Array:
    """The smallest of the counts from `near` − 2 to `near` + 2 where `reached`, a step from false to true."""
    near = jnp.where(jnp.isnan(near), 0, near)
    steps = jnp.arange(-2, 3, dtype=near.dtype).reshape((-1,) + (1,) * near.ndim)
    k = jnp.clip(near + steps, 0, last)
    return jnp.where(reached(k), k, jnp.clip(near + 3, 0, last)).min(0)


def _entropy(count: Count, icdf: Callable[..., Array], parameters: tuple[Array, ...]) -> Array:
    """−Σ p log p: term by term at first, then the integral with Euler and Maclaurin's correction, spaced by log k."""
    parameters = (*jnp.broadcast_arrays(*parameters),)
    column = (-1,) + (1,) * parameters[0].ndim
    low, high = icdf(jnp.asarray(_BEYOND, parameters[0].dtype), jnp.asarray([False, True]).reshape(column), *parameters)

    def term(k: Array) -> Array:
        value = count.log_pmf(k, *parameters)
        return -jnp.exp(value) * jnp.maximum(value, jnp.finfo(value.dtype).min)

    first = low + jnp.arange(_EXACT, dtype=low.dtype).reshape(column)
    inside = first <= high
    summed = jnp.where(inside, term(jnp.where(inside, first, low)), 0).sum(0)

    cut = low + (_EXACT - 0.5)
    end = jnp.maximum(high + 0.5, cut)
    nodes, mass = np.polynomial.legendre.leggauss(128)
    span = jnp.log(end / cut)
    k = cut * jnp.exp(span * jnp.asarray(0.5 * nodes + 0.5, low.dtype).reshape(column))
    if count.last is not None:
        k = jnp.minimum(k, count.last(*parameters))
    integral = (jnp.asarray(0.5 * mass, low.dtype).reshape(column) * term(k) * k).sum(0) * span
    longer = high > cut
    edge = jnp.where(longer, cut, low + 0.5)
    slope = term(edge + 0.5) - term(edge - 0.5)
    return summed + jnp.where(longer, integral + slope / 24, 0)


def spread(characteristic: Callable[[Array], tuple[Array, Array]], mean: Array, scale: Array) -> tuple[Array, Array]:
    """½ E|Y − Y′| = (1/2π) ∫ (1 − |φ|²) dt, and the CRPS at 0, (1/2π) ∫ |1 − φ|² dt, over t > 0.

    Parseval's identity for |n| and for P(Y > n), with t the cotangent of half the angle. `characteristic` returns
    log |φ|² and the phase of φ as functions of t; `scale` is about where |φ|² rises to 1. By the trapezoidal rule
    under t = scale · exp(½ π sinh s). The second only for means below 1, where φ does not oscillate.
    """
    step, far = (0.05, 3.9) if scale.dtype == jnp.float64 else (0.1, 3.2)
    s = np.arange(-far, far + step / 2, step)
    log_t, mass = 0.5 * np.pi * np.sinh(s), step * 0.25 * np.cosh(s)
    column = (-1,) + (1,) * scale.ndim
    t = jax.lax.stop_gradient(scale) * jnp.exp(jnp.asarray(log_t, scale.dtype)).reshape(column)
    weight = jnp.asarray(mass, scale.dtype).reshape(column) * t
    log_square, phase = characteristic(t)
    near = jnp.square(jnp.expm1(0.5 * log_square)) + 4 * jnp.exp(0.5 * log_square) * jnp.square(jnp.sin(0.5 * phase))
    return (weight * -jnp.expm1(log_square)).sum(0), (weight * jnp.where(mean < 1, near, 0)).sum(0)
