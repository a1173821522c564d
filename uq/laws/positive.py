"""Families of positive outcomes: LogNormal, Weibull, Exponential, HalfNormal; Gamma and its inverse in `gamma.py`.

Their CRPS is E|Y − y| − ½ E|Y − Y′|, with E|Y − y| = (y − mean)(2 F − 1) + 2 ∫ (mean share minus share) in a form
that does not cancel where the distribution is narrow. Outcomes at or below 0 are scored as any others.

References:
  Closed forms: jordan2019, appendix A, rearranged; Weibull from the mean of the smaller of two.
  Checked against scipy.stats and numerical integration of the definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erf, erfc, erfinv, gammaln, log_ndtr, ndtr, ndtri

from .._typing import Array
from . import special
from ._family import Family, register
from ._stirling import log1mexp
from .location_scale import log_normal_cdf, sided

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_EULER = float(np.euler_gamma)


def positive(**functions: Callable[..., Any]) -> Family:
    """A family whose functions need a `y` above 0: outside, what every such family says."""

    def guarded(name: str, outside: float) -> Callable[..., Array]:
        inner = functions[name]

        def function(y: Array, *parameters: Array) -> Array:
            inside = y > 0
            value = inner(jnp.where(inside, y, 1), *parameters)
            return jnp.where(inside | jnp.isnan(y), value + jnp.where(jnp.isnan(y), y, 0), outside)

        return function

    outside = {"log_prob": -jnp.inf, "cdf": 0.0, "sf": 1.0, "log_cdf": -jnp.inf, "log_sf": 0.0}
    kept = {name: value for name, value in functions.items() if name not in outside}
    made = {name: guarded(name, value) for name, value in outside.items()}
    kept["crps"] = _with_slope(kept["crps"], made["cdf"], made["sf"])
    return Family(**made, **kept, support=lambda *parameters: (0.0, jnp.inf))  # type: ignore[arg-type]


def _with_slope(crps: Any, cdf: Any, sf: Any) -> Callable[..., Array]:
    """A CRPS with the derivative 2 F − 1 by its outcome, which holds also where the density is infinite."""

    @jax.custom_jvp
    def score(y: Array, *parameters: Array) -> Array:
        return crps(y, *parameters)

    @score.defjvp
    def _score_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
        y, *parameters = primals
        value, moved = jax.jvp(lambda *parameters: crps(y, *parameters), tuple(parameters), tuple(tangents[1:]))
        return value, (cdf(y, *parameters) - sf(y, *parameters)) * tangents[0] + moved

    return score


def floored(y: Array) -> tuple[Array, Array]:
    """Whether `y` is above 0, and `y` or 1."""
    inside = y > 0
    return inside, jnp.where(inside, y, 1)


# LogNormal


def _log_normal_z(y: Array, loc: Array, scale: Array) -> Array:
    return (jnp.log(y) - loc) / scale


def _log_normal_crps(y: Array, loc: Array, scale: Array) -> Array:
    """(y − m)(2 Φ(z) − 1) + 2 m (Φ(z) − Φ(z − σ)) − m (2 Φ(σ/√2) − 1)."""
    inside, safe = floored(y)
    z = jnp.where(inside, _log_normal_z(safe, loc, scale), -40)
    near = scale < 1
    step = jnp.where(near, scale, 1)
    mean = _log_normal_share(loc, step, 0.0)
    nodes, mass = np.polynomial.legendre.leggauss(8)
    strip = jnp.zeros_like(z)
    for node, share in zip(nodes, mass, strict=True):
        strip = strip + 0.5 * float(share) * jnp.exp(-0.5 * jnp.square(z - (0.5 + 0.5 * float(node)) * step))
    strip = strip * step / math.sqrt(2 * math.pi)
    narrow = (y - mean) * erf(z / math.sqrt(2)) + 2 * mean * strip - mean * erf(0.5 * step)
    # Of a wide one the mean may be beyond all numbers, and is by far larger than the score.
    half_gap = _log_normal_share(loc, scale, math.log(2) + log_ndtr(-scale / math.sqrt(2)))
    wide = y * erf(z / math.sqrt(2)) + half_gap - _log_normal_share(loc, scale, math.log(2) + log_ndtr(z - scale))
    return jnp.where(near, narrow, wide)


def _log_normal_share(loc: Array, scale: Array, log_share: Any) -> Array:
    """The mean times exp(log_share)."""
    return jnp.exp(loc + 0.5 * jnp.square(scale) + log_share)


def _log_normal_cross(loc: Array, scale: Array, loc2: Array, scale2: Array) -> Array:
    """E|X − X′| less the means of those that are wide, which is small beside them.

    What is taken away belongs to one component each, and drops out of the CRPS of a mixture.
    """
    width = jnp.sqrt(jnp.square(scale) + jnp.square(scale2))
    gap = loc - loc2
    own = ((loc, scale, gap + jnp.square(scale)), (loc2, scale2, jnp.square(scale2) - gap))
    return sum((_log_normal_part(*each, width) for each in own), jnp.zeros_like(gap))


def _log_normal_part(loc: Array, scale: Array, gap: Array, width: Array) -> Array:
    """The mean times erf, or of wide ones minus the mean times erfc, of gap / width / √2."""
    near = scale < 2
    narrow = _log_normal_share(loc, jnp.where(near, scale, 1), 0.0) * erf(gap / width / math.sqrt(2))
    wide = _log_normal_share(loc, jnp.where(near, 1, scale), math.log(2) + log_ndtr(-gap / width))
    return jnp.where(near, narrow, -wide)


def _log_normal_moments(loc: Array, scale: Array) -> tuple[Array, Array]:
    square = jnp.square(scale)
    return jnp.exp(loc + 0.5 * square), -jnp.expm1(-square) * jnp.exp(2 * (loc + square))


def _log_normal_host(loc: Any, scale: Any) -> Any:
    from scipy import stats

    return stats.lognorm(s=scale, scale=np.exp(loc))


LOG_NORMAL = positive(
    parameters=lambda d: (d.loc, d.scale),
    log_prob=lambda y, loc, scale: (
        -0.5 * jnp.square(_log_normal_z(y, loc, scale)) - jnp.log(scale) - jnp.log(y) - HALF_LOG_2PI
    ),
    cdf=lambda y, loc, scale: ndtr(_log_normal_z(y, loc, scale)),
    sf=lambda y, loc, scale: ndtr(-_log_normal_z(y, loc, scale)),
    log_cdf=lambda y, loc, scale: log_normal_cdf(_log_normal_z(y, loc, scale)),
    log_sf=lambda y, loc, scale: log_normal_cdf(-_log_normal_z(y, loc, scale)),
    icdf=lambda tail, upper, loc, scale: jnp.exp(loc + sided(upper, tail) * scale * ndtri(tail)),
    crps=_log_normal_crps,
    cross=_log_normal_cross,
    entropy=lambda loc, scale: loc + jnp.log(scale) + HALF_LOG_2PI + 0.5,
    moments=_log_normal_moments,
    host=_log_normal_host,
)


# Weibull


def _rise(x: Array) -> Array:
    """1 − e^(−x); neither it nor its derivative cancels."""
    near = x < 0.5
    return jnp.where(near, -jnp.expm1(-jnp.where(near, x, 0)), 1 - jnp.exp(-x))


def _gamma_gap(num: int) -> tuple[float, ...]:
    """Coefficients of log Γ(1 + 2c) − 2 log Γ(1 + c) from c² on: ζ(n) (−1)^n (2^n − 2) / n."""
    zeta = [sum(k**-n for k in range(1, 40)) + 39.5 ** (1 - n) / (n - 1) for n in range(2, num)]
    return tuple((-1) ** n * (2.0**n - 2) / n * zeta[n - 2] for n in range(2, num))


_GAMMA_GAP = _gamma_gap(24)


def _weibull_x(y: Array, scale: Array, shape: Array) -> Array:
    return jnp.exp(shape * (jnp.log(y) - jnp.log(scale)))


def _weibull_log_prob(y: Array, scale: Array, shape: Array) -> Array:
    relative = jnp.log(y) - jnp.log(scale)
    return jnp.log(shape) - jnp.log(scale) + (shape - 1) * relative - jnp.exp(shape * relative)


def _weibull_log_cdf(y: Array, scale: Array, shape: Array) -> Array:
    """log(1 − e^(−x)), by log x where x is so small that it may underflow."""
    log_x = shape * (jnp.log(y) - jnp.log(scale))
    small = log_x < -7
    near = jnp.where(small, jnp.exp(log_x), 0)
    series = log_x - near * (0.5 - near / 24)
    return jnp.where(small, series, log1mexp(-jnp.exp(jnp.where(small, 0, log_x))))


def _weibull_crps(y: Array, scale: Array, shape: Array) -> Array:
    """(y − m)(2 F − 1) + 2 m (F − P(1 + 1/k, x)) − m (1 − 2^(−1/k)), from the mean of the smaller of two."""
    inside, safe = floored(y)
    mean = scale * jnp.exp(gammaln(1 + 1 / shape))
    x = _weibull_x(safe, scale, shape)
    below = jnp.where(inside, _rise(x), 0)
    share = jnp.where(inside, jnp.exp(special.log_gammainc(1 + 1 / shape, x)), 0)
    return (y - mean) * (2 * below - 1) + 2 * mean * (below - share) + mean * jnp.expm1(-math.log(2) / shape)


def _weibull_icdf(tail: Array, upper: Any, scale: Array, shape: Array) -> Array:
    x = -jnp.where(upper, jnp.log(tail), jnp.log1p(-jnp.where(upper, 0.5, tail)))
    return scale * jnp.exp(jnp.log(x) / shape)


def _weibull_moments(scale: Array, shape: Array) -> tuple[Array, Array]:
    one, two = gammaln(1 + 1 / shape), gammaln(1 + 2 / shape)
    mean = scale * jnp.exp(one)
    c = jnp.minimum(1 / shape, 0.2)
    series = jnp.zeros_like(c)
    for coefficient in _GAMMA_GAP[::-1]:
        series = (series + coefficient) * c
    gap = jnp.where(shape > 5, series * c, two - 2 * one)
    return mean, jnp.square(mean) * jnp.expm1(gap)


def _weibull_host(scale: Any, shape: Any) -> Any:
    from scipy import stats

    return stats.weibull_min(shape, scale=scale)


WEIBULL = positive(
    parameters=lambda d: (d.scale, d.concentration),
    log_prob=_weibull_log_prob,
    cdf=lambda y, scale, shape: _rise(_weibull_x(y, scale, shape)),
    sf=lambda y, scale, shape: jnp.exp(-_weibull_x(y, scale, shape)),
    log_cdf=_weibull_log_cdf,
    log_sf=lambda y, scale, shape: -_weibull_x(y, scale, shape),
    icdf=_weibull_icdf,
    crps=_weibull_crps,
    entropy=lambda scale, shape: _EULER * (1 - 1 / shape) + jnp.log(scale / shape) + 1,
    moments=_weibull_moments,
    host=_weibull_host,
)


# Exponential


def _exponential_crps(y: Array, rate: Array) -> Array:
    """y − 2 F / rate + 1 / (2 rate)."""
    inside, safe = floored(y)
    below = jnp.where(inside, _rise(rate * safe), 0)
    return jnp.where(inside, y, -y) + (0.5 - 2 * below) / rate


def _exponential_icdf(tail: Array, upper: Any, rate: Array) -> Array:
    return -jnp.where(upper, jnp.log(tail), jnp.log1p(-jnp.where(upper, 0.5, tail))) / rate


def _exponential_host(rate: Any) -> Any:
    from scipy import stats

    return stats.expon(scale=1 / rate)


EXPONENTIAL = positive(
    parameters=lambda d: (d.rate,),
    log_prob=lambda y, rate: jnp.log(rate) - rate * y,
    cdf=lambda y, rate: _rise(rate * y),
    sf=lambda y, rate: jnp.exp(-rate * y),
    log_cdf=lambda y, rate: log1mexp(-rate * y),
    log_sf=lambda y, rate: -rate * y,
    icdf=_exponential_icdf,
    crps=_exponential_crps,
    cross=lambda one, two: 1 / one + 1 / two - 2 / (one + two),
    entropy=lambda rate: 1 - jnp.log(rate),
    moments=lambda rate: (1 / rate, 1 / rate / rate),
    host=_exponential_host,
)


# HalfNormal

_ROOT = math.sqrt(2)


def _half_normal_crps(y: Array, scale: Array) -> Array:
    """y (2 F − 1) + 2 m e^(−z²/2) − 2 σ / √π."""
    inside, safe = floored(y)
    z = jnp.where(inside, safe / scale, 0)
    sign = jnp.where(inside, erf(z / _ROOT) - erfc(z / _ROOT), -1)
    mean = math.sqrt(2 / math.pi) * scale
    return y * sign + 2 * mean * jnp.exp(-0.5 * jnp.square(z)) - 2 / math.sqrt(math.pi) * scale


def _half_normal_icdf(tail: Array, upper: Any, scale: Array) -> Array:
    high = -ndtri(0.5 * jnp.where(upper, tail, 0.5))
    return scale * jnp.where(upper, high, _ROOT * erfinv(jnp.where(upper, 0.5, tail)))


def _half_normal_log_cdf(y: Array, scale: Array) -> Array:
    z = y / scale
    near = z < 1
    low, high = jnp.where(near, z, 1), jnp.where(near, 1, z)
    return jnp.where(near, jnp.log(erf(low / _ROOT)), jnp.log1p(-erfc(high / _ROOT)))


def _half_normal_log_sf(y: Array, scale: Array) -> Array:
    z = y / scale
    near = z < 1
    return jnp.where(near, jnp.log1p(-erf(jnp.where(near, z, 0) / _ROOT)), math.log(2) + log_ndtr(-z))


def _half_normal_host(scale: Any) -> Any:
    from scipy import stats

    return stats.halfnorm(scale=scale)


HALF_NORMAL = positive(
    parameters=lambda d: (d.scale,),
    log_prob=lambda y, scale: 0.5 * math.log(2 / math.pi) - jnp.log(scale) - 0.5 * jnp.square(y / scale),
    cdf=lambda y, scale: erf(y / scale / _ROOT),
    sf=lambda y, scale: erfc(y / scale / _ROOT),
    log_cdf=_half_normal_log_cdf,
    log_sf=_half_normal_log_sf,
    icdf=_half_normal_icdf,
    crps=_half_normal_crps,
    entropy=lambda scale: 0.5 * math.log(math.pi / 2) + 0.5 + jnp.log(scale),
    moments=lambda scale: (math.sqrt(2 / math.pi) * scale, (1 - 2 / math.pi) * jnp.square(scale)),
    host=_half_normal_host,
)

register("LogNormal", LOG_NORMAL)
register("Weibull", WEIBULL)
register("Exponential", EXPONENTIAL)
register("HalfNormal", HALF_NORMAL)
