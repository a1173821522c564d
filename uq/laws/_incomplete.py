"""Incomplete gamma and beta functions by quadrature of a log-concave density: one scheme for all parameters.

In s = log t a gamma density is exp(a s − e^s) / Γ(a), in s = logit t a beta density e^(a s) / (1 + e^s)^(a + b) / B:
log-concave whatever a and b are. A tail is therefore the density at its edge, in the saddle-point form that
does not cancel (loader2000), times the integral of exp(−H(u)), H convex and rising from 0, over the distance u from
the edge. A Gauss–Legendre rule up to where H is about −log ε adds positive terms only. Below the mean, one step of
the recurrence a → a + 1 is taken first, so that small parameters decay as fast as others. The same nodes give the
derivatives in the parameters, as means of log t and log(1 − t) over the tail.

Only the smaller tail is integrated; the other is its complement.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from ._stirling import digamma_less_log, expm1_less, log1mexp, log1p_less, log_ratio, stirling

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


# Densities of log t and logit t


@jax.custom_jvp
def log_gamma_density(a: Array, x: Array, excess: Array) -> Array:
    """log x^a e^(−x) / Γ(a), `excess` being x − a."""
    whole = a * log1p_less(excess / a, x / a)
    return whole + 0.5 * jnp.log(a) - _HALF_LOG_2PI - stirling(a)


@log_gamma_density.defjvp
def _log_gamma_density_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    a, x, excess = primals
    by_a = log_ratio(excess / a, x / a) - digamma_less_log(a)
    return log_gamma_density(a, x, excess), by_a * tangents[0] - excess / x * tangents[1]


@jax.custom_jvp
def log_beta_density(a: Array, b: Array, x: Array, y: Array, excess: Array) -> Array:
    """log x^a y^b / B(a, b), y being 1 − x and `excess` a y − b x."""
    n = a + b
    whole = a * log1p_less(-excess / a, x * (n / a)) + b * log1p_less(excess / b, y * (n / b))
    half = 0.5 * (jnp.log(jnp.minimum(a, b)) + jnp.log(jnp.maximum(a, b) / n)) - _HALF_LOG_2PI
    return whole + half + stirling(n) - stirling(a) - stirling(b)


@log_beta_density.defjvp
def _log_beta_density_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    a, b, x, y, excess = primals
    n = a + b
    by_a = log_ratio(-excess / a, x * (n / a)) - digamma_less_log(a) + digamma_less_log(n)
    by_b = log_ratio(excess / b, y * (n / b)) - digamma_less_log(b) + digamma_less_log(n)
    out = by_a * tangents[0] + by_b * tangents[1] + excess / (x * y) * tangents[2]
    return log_beta_density(a, b, x, y, excess), out


# Quadrature


def _nodes(like: Array) -> tuple[Array, Array, float]:
    """Nodes and weights on (0, 1) along a new leading axis, and how far H has to be followed."""
    size, far = (64, 40.0) if like.dtype == jnp.float64 else (32, 20.0)
    nodes, mass = np.polynomial.legendre.leggauss(size)
    shape = (-1,) + (1,) * like.ndim
    return (
        jnp.asarray(0.5 * nodes + 0.5, like.dtype).reshape(shape),
        jnp.asarray(0.5 * mass, like.dtype).reshape(shape),
        far,
    )


def _reach(height: Callable[[Array], tuple[Array, Array]], start: Array, far: float) -> Array:
    """The u where H, convex and rising from 0, is about `far`: Newton's method on log H as a function of log u."""

    def step(_: Any, u: Array) -> Array:
        value, slope = height(u)
        power = jnp.maximum(u * slope / value, 1)
        return u * jnp.exp(jnp.clip((math.log(far) - jnp.log(value)) / power, -2.0, 2.0))

    return jax.lax.fori_loop(0, 4, step, start)


def _gamma_integrals(a: Array, x: Array, excess: Array) -> tuple[Array, Array, Array]:
    """Of the smaller tail: log of tail over density, density over tail, and E |log t / x| over the tail."""
    nodes, mass, far = _nodes(a)
    lower = excess <= 0
    sign = jnp.where(lower, -1, 1).astype(a.dtype)
    rate = jnp.where(lower, 1 - excess, excess)

    def height(u: Array) -> tuple[Array, Array]:
        v = sign * u
        return rate * u + x * expm1_less(v), rate + x * sign * jnp.expm1(v)

    start = 2 * far / (rate + jnp.sqrt(rate * rate + 2 * far * x))
    steep = far / x
    start = jnp.where(lower, start, jnp.minimum(start, jnp.log1p(steep + jnp.sqrt(2 * steep))))
    end = jax.lax.stop_gradient(_reach(height, start, far))
    u = end * nodes
    weight = mass * end * jnp.exp(-rate * u - x * expm1_less(sign * u))
    first, second = weight.sum(0), (weight * u).sum(0)
    low = 1 + x * first
    tail = jnp.where(lower, jnp.log1p(x * first) - jnp.log(a), jnp.log(first))
    return (
        tail,
        jnp.where(lower, a / low, 1 / first),
        jnp.where(lower, 1 / a + x * second / low, second / first),
    )


def _beta_integrals(a: Array, b: Array, x: Array, y: Array, excess: Array) -> tuple[Array, ...]:
    """Of the lower tail, for x at most the mean: log of tail over density, density over tail, two derivatives.

    The derivatives are those of the first by a and by b, x held.
    """
    nodes, mass, far = _nodes(a)
    n, rate = a + b + 1, excess + y
    left = x < 0.5
    sign = jnp.where(left, -1, 1).astype(a.dtype)
    q = jnp.where(left, x, y)

    def cumulant(u: Array) -> tuple[Array, Array]:
        """log(y + x e^−u) + x u, and its derivative."""
        v = jnp.minimum(sign * u, 80)
        w = q * jnp.expm1(v)
        near = jnp.abs(v) < 0.5
        small, far_w = jnp.where(near, v, 0), jnp.where(near, 0, w)
        series = log1p_less(jnp.where(near, w, 0), jnp.where(near, 1 + w, 1)) + q * expm1_less(small)
        return jnp.where(near, series, jnp.log1p(far_w) - q * v), sign * q * (1 - q) * jnp.expm1(v) / (1 + w)

    def height(u: Array) -> tuple[Array, Array]:
        value, slope = cumulant(u)
        return rate * u + n * value, rate + n * slope

    start = 2 * far / (rate + jnp.sqrt(rate * rate + 2 * far * n * x * y))
    steep = far / (n * y)
    start = jnp.where(left, start, jnp.minimum(start, jnp.log1p(steep + jnp.sqrt(2 * steep))))
    end = jnp.minimum(jax.lax.stop_gradient(_reach(height, start, far)), 80)
    u = end * nodes
    bend = cumulant(u)[0]
    weight = mass * end * jnp.exp(-rate * u - n * bend)
    first, second, third = weight.sum(0), (weight * u).sum(0), (weight * bend).sum(0)
    above = (a + b) * x * first
    whole = 1 + above
    by_a = (a + b + b * above) / (a * (a + b) * whole) + (a + b) * x * (y * second + third) / whole
    by_b = x * (first + (a + b) * (x * second - third)) / whole
    return jnp.log1p(above) - jnp.log(a), a / whole, -by_a, by_b


# Tails


def _inside(x: Array, low: float, high: float) -> Array:
    return jnp.where((x > low) & (x < high), x, jnp.where(jnp.isnan(x), x, 0.5))


def _gamma_core(a: Array, x: Array, excess: Array) -> tuple[Array, ...]:
    """log of the smaller tail, whether it is the lower, and the logarithm's derivatives by a and by log x."""
    tail, hazard, distance = _gamma_integrals(a, x, excess)
    lower = excess <= 0
    sign = jnp.where(lower, -1, 1).astype(a.dtype)
    by_a = log_ratio(excess / a, x / a) - digamma_less_log(a) + sign * distance
    return log_gamma_density(a, x, excess) + tail, lower, by_a, -sign * hazard


@jax.custom_jvp
def gamma_tails(a: Array, x: Array, excess: Array) -> tuple[Array, Array]:
    """log P(a, x) and log Q(a, x); `excess` is x − a."""
    x, excess, below, above = _gamma_interior(a, x, excess)
    small, lower, _, _ = _gamma_core(a, x, excess)
    return _sorted(small, lower, below, above)


@gamma_tails.defjvp
def _gamma_tails_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    a, x, excess = primals
    x, excess, below, above = _gamma_interior(a, x, excess)
    small, lower, by_a, by_log_x = _gamma_core(a, x, excess)
    slope = by_a * tangents[0] + by_log_x / x * tangents[1]
    return _sorted(small, lower, below, above), _slopes(small, lower, below | above, slope)


def _gamma_interior(a: Array, x: Array, excess: Array) -> tuple[Array, ...]:
    """Arguments strictly inside (0, inf), and where they were not."""
    info = jnp.finfo(a.dtype)
    below, above = x < info.tiny, x > math.sqrt(info.max)
    out = below | above
    return jnp.where(out, a, x), jnp.where(out, 0, excess), below, above


def _sorted(small: Array, lower: Array, below: Array, above: Array) -> tuple[Array, Array]:
    """(log lower tail, log upper tail) from the smaller."""
    large = log1mexp(jnp.minimum(small, 0))
    down, up = jnp.where(lower, small, large), jnp.where(lower, large, small)
    down = jnp.where(below, -jnp.inf, jnp.where(above, 0, down))
    up = jnp.where(above, -jnp.inf, jnp.where(below, 0, up))
    return down, up


def _slopes(small: Array, lower: Array, out: Array, slope: Array) -> tuple[Array, Array]:
    """Tangents of `_sorted`, from that of the smaller tail's logarithm."""
    ratio = -jnp.exp(small - log1mexp(jnp.minimum(small, 0)))
    down, up = jnp.where(lower, slope, ratio * slope), jnp.where(lower, ratio * slope, slope)
    return jnp.where(out, 0, down), jnp.where(out, 0, up)


def _beta_core(a: Array, b: Array, x: Array, y: Array, excess: Array) -> tuple[Array, ...]:
    """log of the smaller tail, whether it is the lower, and its derivatives by a, by b and by logit x."""
    lower = excess >= 0
    small_a, small_b = jnp.where(lower, a, b), jnp.where(lower, b, a)
    small_x, small_y = jnp.where(lower, x, y), jnp.where(lower, y, x)
    rise = jnp.abs(excess)
    tail, hazard, by_a, by_b = _beta_integrals(small_a, small_b, small_x, small_y, rise)
    n, base = a + b, digamma_less_log(a + b)
    by_a = by_a + log_ratio(-rise / small_a, small_x * (n / small_a)) - digamma_less_log(small_a) + base
    by_b = by_b + log_ratio(rise / small_b, small_y * (n / small_b)) - digamma_less_log(small_b) + base
    first, second = jnp.where(lower, by_a, by_b), jnp.where(lower, by_b, by_a)
    log_small = log_beta_density(a, b, x, y, excess) + tail
    return log_small, lower, first, second, jnp.where(lower, hazard, -hazard)


@jax.custom_jvp
def beta_tails(a: Array, b: Array, x: Array, y: Array, excess: Array) -> tuple[Array, Array]:
    """log I and log(1 − I) of I_x(a, b); y is 1 − x, `excess` a y − b x."""
    x, y, excess, below, above = _beta_interior(a, b, x, y, excess)
    small, lower, *_ = _beta_core(a, b, x, y, excess)
    return _sorted(small, lower, below, above)


@beta_tails.defjvp
def _beta_tails_jvp(primals: Any, tangents: Any) -> tuple[Any, Any]:
    a, b, *point = primals
    x, y, excess, below, above = _beta_interior(a, b, *point)
    small, lower, by_a, by_b, by_logit = _beta_core(a, b, x, y, excess)
    slope = by_a * tangents[0] + by_b * tangents[1] + by_logit / x / y * tangents[2]
    return _sorted(small, lower, below, above), _slopes(small, lower, below | above, slope)


def _beta_interior(a: Array, b: Array, x: Array, y: Array, excess: Array) -> tuple[Array, ...]:
    """Arguments strictly inside (0, 1), and where they were not."""
    tiny = jnp.finfo(a.dtype).tiny
    below, above = x < tiny, y < tiny
    out = below | above
    return jnp.where(out, 0.5, x), jnp.where(out, 0.5, y), jnp.where(out, 0.5 * (a - b), excess), below, above
