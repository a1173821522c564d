"""The gamma distribution and its inverse, stable for shapes from 1e-2 to 1e7.

References:
  CRPS: jordan2019, appendix A, rearranged; the inverse's from the mean of the larger of two. Checked against
  scipy.stats and numerical integration of the definition.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array
from . import special
from ._family import register
from ._stirling import digamma_less_log, stirling
from .positive import HALF_LOG_2PI, floored, positive
from .student import ABOUT_ONE, half_step, interpolated_about_one

# Gamma


def _gamma_crps(y: Array, shape: Array, rate: Array) -> Array:
    """(y − m)(2 F − 1) + 2 y f(y) / rate − m Γ(a + ½) / (√π Γ(a + 1))."""
    inside, safe = floored(y)
    mean = shape / rate
    x = rate * safe
    lower, upper = jnp.exp(special.log_gammainc(shape, x)), jnp.exp(special.log_gammaincc(shape, x))
    kernel = jnp.exp(special.log_gamma_density(shape, x)) / rate
    sign = jnp.where(inside, lower - upper, -1)
    half_gap = jnp.exp(half_step(shape) - 0.5 * jnp.log(shape)) / math.sqrt(math.pi)
    return (y - mean) * sign + 2 * jnp.where(inside, kernel, 0) - mean * half_gap


def _gamma_entropy(shape: Array, rate: Array) -> Array:
    rest = stirling(shape) + (1 - shape) * digamma_less_log(shape)
    return HALF_LOG_2PI + 0.5 * jnp.log(shape) + rest - jnp.log(rate)


def _gamma_host(shape: Any, rate: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.gamma(shape, scale=1 / rate))


GAMMA = positive(
    parameters=lambda d: (d.concentration, d.rate),
    log_prob=lambda y, shape, rate: special.log_gamma_density(shape, rate * y) - jnp.log(y),
    cdf=lambda y, shape, rate: jnp.exp(special.log_gammainc(shape, rate * y)),
    sf=lambda y, shape, rate: jnp.exp(special.log_gammaincc(shape, rate * y)),
    log_cdf=lambda y, shape, rate: special.log_gammainc(shape, rate * y),
    log_sf=lambda y, shape, rate: special.log_gammaincc(shape, rate * y),
    icdf=lambda tail, upper, shape, rate: special.gammainc_inverse(shape, tail, upper) / rate,
    crps=_gamma_crps,
    entropy=_gamma_entropy,
    moments=lambda shape, rate: (shape / rate, shape / rate / rate),
    host=_gamma_host,
)


# InverseGamma: y = rate / G


def _inverse_gamma_crps(y: Array, shape: Array, rate: Array) -> Array:
    """As Gamma's: (y − m)(2 F − 1) + 2 m x^(a−1) e^(−x) / Γ(a) − m Γ(a − ½) / (√π Γ(a)), x = rate / y.

    The mean is infinite for a ≤ 1, though not the score for a > ½, which continues analytically; about a = 1 it is
    interpolated.
    """
    y, shape, rate = jnp.broadcast_arrays(y, shape, rate)
    near = jnp.abs(shape - 1) < 0.05
    safe = jnp.where(near | (shape <= 0.5), 2, shape).astype(shape.dtype)
    value = _inverse_gamma_closed(y, safe, rate)
    about = jax.lax.cond(jnp.any(near), _inverse_gamma_about_one, lambda y, a, b: 0 * y * a * b, y, shape, rate)
    value = jnp.where(near, about, value)
    return jnp.where(shape > 0.5, value, jnp.where(jnp.isnan(shape), jnp.nan, jnp.inf))


def _inverse_gamma_about_one(y: Array, shape: Array, rate: Array) -> Array:
    fixed = jnp.asarray(ABOUT_ONE, y.dtype).reshape((-1,) + (1,) * y.ndim)
    return interpolated_about_one(_inverse_gamma_closed(y, fixed, rate), shape)


def _inverse_gamma_closed(y: Array, shape: Array, rate: Array) -> Array:
    inside, safe = floored(y)
    mean = rate / (shape - 1)
    x = rate / safe
    upper, lower = jnp.exp(special.log_gammainc(shape, x)), jnp.exp(special.log_gammaincc(shape, x))
    kernel = jnp.exp(special.log_gamma_density(shape, x)) * safe / (shape - 1)
    sign = jnp.where(inside, lower - upper, -1)
    half_gap = jnp.exp(half_step(shape - 0.5) + 0.5 * jnp.log(shape - 0.5))  # Γ(a) / Γ(a − ½)
    return (y - mean) * sign + 2 * jnp.where(inside, kernel, 0) - mean / half_gap / math.sqrt(math.pi)


def _inverse_gamma_entropy(shape: Array, rate: Array) -> Array:
    rest = stirling(shape) - (1 + shape) * digamma_less_log(shape)
    return jnp.log(rate) - 1.5 * jnp.log(shape) + HALF_LOG_2PI + rest


def _inverse_gamma_moments(shape: Array, rate: Array) -> tuple[Array, Array]:
    over, twice = jnp.where(shape > 1, shape - 1, 1), jnp.where(shape > 2, shape - 2, 1)
    mean = jnp.where(shape > 1, rate / over, jnp.inf)
    return mean, jnp.where(shape > 2, jnp.square(rate / over) / twice, jnp.inf)


def _inverse_gamma_host(shape: Any, rate: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.invgamma(shape, scale=rate))


INVERSE_GAMMA = positive(
    parameters=lambda d: (d.concentration, d.rate),
    log_prob=lambda y, shape, rate: special.log_gamma_density(shape, rate / y) - jnp.log(y),
    cdf=lambda y, shape, rate: jnp.exp(special.log_gammaincc(shape, rate / y)),
    sf=lambda y, shape, rate: jnp.exp(special.log_gammainc(shape, rate / y)),
    log_cdf=lambda y, shape, rate: special.log_gammaincc(shape, rate / y),
    log_sf=lambda y, shape, rate: special.log_gammainc(shape, rate / y),
    icdf=lambda tail, upper, shape, rate: rate / special.gammainc_inverse(shape, tail, ~jnp.asarray(upper)),
    crps=_inverse_gamma_crps,
    entropy=_inverse_gamma_entropy,
    moments=_inverse_gamma_moments,
    host=_inverse_gamma_host,
)


register("Gamma", GAMMA)
register("InverseGamma", INVERSE_GAMMA)
