"""Inverses of the incomplete gamma and beta functions, by Halley's method on the logarithm of the tail.

The unknown is σ = log(x / a) for gamma, and the log-odds of x over those of the mean for beta. There the logarithm of
a tail is concave, so that Newton's method converges from one side whatever the start, and x − mean keeps its digits.
A bracket guards the first steps. Derivatives are those of the implicit function.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln, ndtri

from .._typing import Array
from . import _incomplete
from ._stirling import log1mexp, log_gamma_difference

_EXACT = 40.0
"""Closer than exp(−40) to an end of the support a tail is a power, to the last digit."""


@jax.custom_jvp
def gamma_quantile(a: Array, log_tail: Array, upper: Array) -> Array:
    """log(x / a) where the lower tail of a gamma variable, or the `upper`, is exp(log_tail)."""
    side, goal = smaller(log_tail, upper)
    start, near_zero = gamma_start(a, goal, side)

    def tail(sigma: Array) -> tuple[Array, Array, Array]:
        x, excess = a * jnp.exp(sigma), a * jnp.expm1(sigma)
        value = _pick(_incomplete.gamma_tails(a, x, excess), side)
        slope = _slope(_incomplete.log_gamma_density(a, x, excess), value, side)
        return value, slope, -excess - slope

    limit, log_a = math.log(float(jnp.finfo(a.dtype).max)) - 1, jnp.log(a)
    sigma = solve(tail, start - log_a, goal, side, -log_a - limit, -log_a + 0.5 * limit)
    return _edges(jnp.where(near_zero, start - log_a, sigma), log_tail, upper)


@gamma_quantile.defjvp
def _gamma_quantile_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    a, log_tail, upper = primals
    sigma = gamma_quantile(a, log_tail, upper)
    x, excess = a * jnp.exp(sigma), a * jnp.expm1(sigma)

    def tail(a: Array, x: Array) -> Array:
        return _pick(_incomplete.gamma_tails(a, x, excess), upper)

    value, moved = jax.jvp(tail, (a, x), (tangents[0], jnp.zeros_like(x)))
    slope = _slope(_incomplete.log_gamma_density(a, x, excess), value, upper)
    return sigma, (tangents[1] - moved) / slope - tangents[0] / a


@jax.custom_jvp
def beta_quantile(a: Array, b: Array, log_tail: Array, upper: Array) -> Array:
    """log of x / (1 − x) · b / a where the lower tail of a beta variable, or the `upper`, is exp(log_tail)."""
    side, goal = smaller(log_tail, upper)
    first, second = jnp.where(side, b, a), jnp.where(side, a, b)
    centre = jnp.log(second) - jnp.log(first)
    start, at_end = _beta_start(first, second, goal)

    def tail(sigma: Array) -> tuple[Array, Array, Array]:
        x, y, excess = _at_odds(first, second, sigma)
        value = _incomplete.beta_tails(first, second, x, y, excess)[0]
        slope = jnp.exp(_incomplete.log_beta_density(first, second, x, y, excess) - value)
        return value, slope, excess - slope

    limit = math.log(float(jnp.finfo(a.dtype).max)) - 1
    sigma = solve(tail, start + centre, goal, jnp.zeros_like(side), centre - limit, centre + limit)
    sigma = jnp.where(at_end, start + centre, sigma)
    return _edges(jnp.where(side, -sigma, sigma), log_tail, upper)


@beta_quantile.defjvp
def _beta_quantile_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    a, b, log_tail, upper = primals
    sigma = beta_quantile(a, b, log_tail, upper)
    x, y, excess = _at_odds(a, b, sigma)

    def tail(a: Array, b: Array) -> Array:
        return _pick(_incomplete.beta_tails(a, b, x, y, excess), upper)

    value, moved = jax.jvp(tail, (a, b), (tangents[0], tangents[1]))
    slope = _slope(_incomplete.log_beta_density(a, b, x, y, excess), value, upper)
    return sigma, (tangents[2] - moved) / slope - tangents[0] / a + tangents[1] / b


def _at_odds(a: Array, b: Array, sigma: Array) -> tuple[Array, Array, Array]:
    """x, 1 − x and a (1 − x) − b x, from log of the odds over those of the mean."""
    shift = sigma + jnp.log(a) - jnp.log(b)
    near = jnp.abs(sigma) < 1
    ratio = jnp.where(near, jnp.exp(jnp.where(near, sigma, 0)), 1)
    x = jnp.where(near, a * ratio / (a * ratio + b), jax.nn.sigmoid(shift))
    y = jnp.where(near, b / (a * ratio + b), jax.nn.sigmoid(-shift))
    gap = jnp.expm1(jnp.where(near, sigma, 0))
    return x, y, jnp.where(near, -a * gap * y, a * y - b * x)


def _pick(tails: tuple[Array, Array], upper: Array) -> Array:
    return jnp.where(upper, tails[1], tails[0])


def _slope(log_density: Array, log_tail: Array, upper: Array) -> Array:
    """Derivative of a tail's logarithm."""
    return jnp.where(upper, -1, 1).astype(log_tail.dtype) * jnp.exp(log_density - log_tail)


def smaller(log_tail: Array, upper: Array) -> tuple[Array, Array]:
    """The same point by its smaller tail: which side, and log of the tail, finite."""
    flip = log_tail > -math.log(2)
    goal = jnp.where(flip, log1mexp(jnp.minimum(log_tail, 0)), log_tail)
    return upper ^ flip, jnp.maximum(goal, jnp.finfo(goal.dtype).min)


def _edges(sigma: Array, log_tail: Array, upper: Array) -> Array:
    """The ends of the support at tails of 0 and 1; nan beyond."""
    sign = jnp.where(upper, -1, 1).astype(sigma.dtype)
    sigma = jnp.where(log_tail == -jnp.inf, -sign * jnp.inf, jnp.where(log_tail == 0, sign * jnp.inf, sigma))
    return jnp.where(log_tail <= 0, sigma, jnp.nan)


def solve(
    tail: Callable[[Array], tuple[Array, Array, Array]],
    start: Array,
    goal: Array,
    upper: Array,
    low: Any,
    high: Any,
    steps: int = 12,
) -> Array:
    """Where the logarithm of a tail is `goal`, between `low` and `high`.

    `tail` returns it with its derivative and the ratio of the second derivative to that. Halley's method; a step out
    of the bracket becomes a bisection, but for one that rounding explains.
    """

    def step(_: Any, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        sigma, low, high = state
        value, slope, bend = tail(sigma)
        gap = value - goal
        right = (gap > 0) == upper  # the root is to the right
        low, high = jnp.where(right, sigma, low), jnp.where(right, high, sigma)
        moved = sigma - gap / slope / jnp.clip(1 - 0.5 * gap * bend / slope, 0.3, 3.0)
        inside = (moved >= low) & (moved <= high) | (jnp.abs(moved - sigma) < 0.01)
        return jnp.where(inside, jnp.clip(moved, low, high), 0.5 * (low + high)), low, high

    low, high = jnp.broadcast_to(low, goal.shape), jnp.broadcast_to(high, goal.shape)
    return jax.lax.fori_loop(0, steps, step, (jnp.clip(start, low, high), low, high))[0]


def _normal_quantile(log_tail: Array) -> Array:
    """About Φ⁻¹ of exp(log_tail)."""
    far = log_tail < -80
    size = -2 * jnp.where(far, log_tail, -1)
    return jnp.where(far, -jnp.sqrt(size - jnp.log(2 * math.pi * size)), ndtri(jnp.exp(jnp.maximum(log_tail, -80))))


def gamma_start(a: Array, goal: Array, upper: Array) -> tuple[Array, Array]:
    """About log of the gamma quantile: a power near 0, Wilson and Hilferty's cube, an exponential tail.

    And whether it is so close to 0 that the power is exact.
    """
    z = _normal_quantile(goal)
    root = 1 - 1 / (9 * a) + jnp.where(upper, -z, z) / (3 * jnp.sqrt(a))
    cube = jnp.log(a) + 3 * jnp.log(jnp.maximum(root, 1e-30))
    power = (jnp.where(upper, log1mexp(goal), goal) + gammaln(a + 1)) / a
    large = jnp.where(upper, cube, jnp.maximum(power, cube))
    small = jnp.where(upper & (power > -1), _gamma_far(a, goal), power)
    return jnp.where(a >= 1, large, small), power < -_EXACT


def _gamma_far(a: Array, goal: Array) -> Array:
    """About log of the point beyond which a gamma variable of shape below 1 has probability exp(goal)."""
    level = -goal - gammaln(a)
    first = jnp.maximum(level - (1 - a) * jnp.log(jnp.maximum(level, 0.5)), 0.3)
    return jnp.log(jnp.maximum(level - (1 - a) * jnp.log(first), 0.3))


def _beta_start(a: Array, b: Array, goal: Array) -> tuple[Array, Array]:
    """About logit of the beta quantile of a lower tail: powers near 0 and 1, or a normal one in the logit.

    And whether it is so close to 0 or 1 that the power is exact. abramowitz1964, eq. 26.5.22.
    """
    z = -_normal_quantile(goal)
    centre = (z * z - 3) / 6
    large_a, large_b = 2 * jnp.maximum(a, 1) - 1, 2 * jnp.maximum(b, 1) - 1
    h = 2 / (1 / large_a + 1 / large_b)
    spread = z * jnp.sqrt(jnp.maximum(h + centre, 0)) / h
    w = spread - (1 / large_b - 1 / large_a) * (centre + 5 / 6 - 2 / (3 * h))
    normal = jnp.log(a) - jnp.log(b) - 2 * w

    few, many = jnp.minimum(a, b), jnp.maximum(a, b)
    log_beta = gammaln(few) - log_gamma_difference(many, few)
    low = jnp.minimum((goal + jnp.log(a) + log_beta) / a, 0)
    high = jnp.minimum((log1mexp(goal) + jnp.log(b) + log_beta) / b, 0)
    by_low = low - log1mexp(jnp.minimum(low, -1e-6))
    by_high = log1mexp(jnp.minimum(high, -1e-6)) - high
    at_low = low + jnp.log(jnp.maximum(b, 1)) < -_EXACT
    at_high = high + jnp.log(jnp.maximum(a, 1)) < -_EXACT

    narrow = -jnp.exp(_gamma_far(jnp.minimum(b, 1), goal)) / (a + 0.5 * (b - 1))  # log x, for b < 1 ≤ a
    by_narrow = narrow - log1mexp(jnp.minimum(narrow, -1e-30))
    by_high = jnp.where((a >= 1) & (high + jnp.log(a) > -0.7), by_narrow, by_high)
    small = jnp.where((a < 1) & ((b >= 1) | (low < -0.7)), by_low, by_high)
    start = jnp.where((a >= 1) & (b >= 1), normal, small)
    return jnp.where(at_low, by_low, jnp.where(at_high, by_high, start)), at_low | at_high
