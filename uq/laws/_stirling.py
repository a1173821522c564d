"""Elementary functions and the complete gamma function without cancellation: small differences of large values."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln

from .._typing import Array

SHIFT = 8
"""From here on the asymptotic series below are exact in float64."""
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360)
_DIGAMMA = (0.0, -1 / 12, 1 / 120, -1 / 252, 1 / 240, -1 / 132, 691 / 32760)
_LOG1P = tuple(1 / (2 * j + 3) for j in range(11))
_EXPM1 = tuple(1 / math.factorial(j + 2) for j in range(14))
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


# Elementary functions


def _terms(coefficients: tuple[float, ...], single: int, like: Array) -> tuple[float, ...]:
    """As many terms as the precision needs: all in float64, `single` in float32."""
    return coefficients if like.dtype == jnp.float64 else coefficients[:single]


def _polynomial(coefficients: tuple[float, ...], t: Array) -> Array:
    total = jnp.full_like(t, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * t + coefficient
    return total


def _polynomial_difference(coefficients: tuple[float, ...], t: Array, gap: Array) -> Array:
    """p(t + gap) − p(t)."""
    total, difference = jnp.full_like(t, coefficients[-1]), jnp.zeros_like(t)
    for coefficient in coefficients[-2::-1]:
        difference = t * difference + gap * total
        total = total * (t + gap) + coefficient
    return difference


def log1p_less(z: Array, one_plus: Array) -> Array:
    """log(1 + z) − z, to full relative precision; `one_plus` is 1 + z, precise where z is close to −1."""
    near = jnp.abs(z) < 0.3
    small = jnp.where(near, z, 0)
    r = small / (2 + small)
    series = 2 * r * r * r * _polynomial(_terms(_LOG1P, 5, z), r * r) - small * r
    far = jnp.where(near, 1, one_plus)
    return jnp.where(near, series, jnp.log(far) - jnp.where(near, 0, z))


def expm1_less(v: Array) -> Array:
    """e^v − 1 − v, to full relative precision."""
    near = jnp.abs(v) < 0.5
    small = jnp.where(near, v, 0)
    far = jnp.where(near, 1, v)
    return jnp.where(near, small * small * _polynomial(_terms(_EXPM1, 7, v), small), jnp.expm1(far) - far)


def log1mexp(value: Array) -> Array:
    """log(1 − e^value) for value ≤ 0."""
    near = value > -math.log(2)
    close = jnp.log(-jnp.expm1(jnp.where(near, value, -1)))
    return jnp.where(near, close, jnp.log1p(-jnp.exp(jnp.where(near, -1, value))))


def log_ratio(z: Array, one_plus: Array) -> Array:
    """log(1 + z), by the more precise of its two arguments."""
    near = jnp.abs(z) < 0.5
    return jnp.where(near, jnp.log1p(jnp.where(near, z, 0)), jnp.log(jnp.where(near, 1, one_plus)))


# Remainders of Stirling's series


def _steps(like: Array) -> Array:
    """0, 1, …, SHIFT − 1 on a new leading axis."""
    return jnp.arange(SHIFT, dtype=like.dtype).reshape((-1,) + (1,) * like.ndim)


@jax.custom_jvp
def stirling(a: Array) -> Array:
    """log Γ(a) − (a − ½) log a + a − ½ log 2π."""
    large = jnp.where(a < SHIFT, SHIFT, a)
    small = jnp.where(a < SHIFT, a, 1)
    direct = gammaln(small) - (small - 0.5) * jnp.log(small) + small - _HALF_LOG_2PI
    return jnp.where(a < SHIFT, direct, _polynomial(_terms(_STIRLING, 3, a), 1 / (large * large)) / large)


@stirling.defjvp
def _stirling_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (a,) = primals
    return stirling(a), (digamma_less_log(a) + 0.5 / a) * tangents[0]


def digamma_less_log(a: Array) -> Array:
    """ψ(a) − log a."""
    large = jnp.where(a < SHIFT, SHIFT, a)
    small = jnp.where(a < SHIFT, a, 1)
    series = _polynomial(_terms(_DIGAMMA, 4, a), 1 / (large * large)) - 0.5 / large
    return jnp.where(a < SHIFT, digamma(small) - jnp.log(small), series)


def _stirling_difference(a: Array, b: Array) -> Array:
    """`stirling(a + b) − stirling(a)` for a ≥ SHIFT."""
    first, last = 1 / a, 1 / (a + b)
    gap = -b * first * last
    rest = _polynomial_difference(_terms(_STIRLING, 3, a), first * first, gap * (first + last))
    return gap * _polynomial(_terms(_STIRLING, 3, a), last * last) + first * rest


def digamma_less_log_difference(a: Array, b: Array) -> Array:
    """`digamma_less_log(a + b) − digamma_less_log(a)` for a ≥ SHIFT."""
    first, last = 1 / a, 1 / (a + b)
    gap = -b * first * last
    return _polynomial_difference(_terms(_DIGAMMA, 4, a), first * first, gap * (first + last)) - 0.5 * gap


# Differences of the complete functions


@jax.custom_jvp
def log_gamma_difference(a: Array, b: Array) -> Array:
    """log Γ(a + b) − log Γ(a)."""
    up = jnp.where(a < SHIFT, jnp.log1p(b / (a + _steps(a + b))).sum(0), 0)
    a = jnp.where(a < SHIFT, a + SHIFT, a)
    whole = b * jnp.log(a + b) + a * log1p_less(b / a, (a + b) / a) - 0.5 * jnp.log1p(b / a)
    return whole + _stirling_difference(a, b) - up


@log_gamma_difference.defjvp
def _log_gamma_difference_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    a, b = primals
    return log_gamma_difference(a, b), digamma_difference(a, b) * tangents[0] + digamma(a + b) * tangents[1]


def digamma_difference(a: Array, b: Array) -> Array:
    """ψ(a + b) − ψ(a)."""
    shifted = a + _steps(a + b)
    up = jnp.where(a < SHIFT, (b / (shifted * (shifted + b))).sum(0), 0)
    a = jnp.where(a < SHIFT, a + SHIFT, a)
    return jnp.log1p(b / a) + digamma_less_log_difference(a, b) + up
