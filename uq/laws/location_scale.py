"""Families on the real line with a location and a scale: Normal, Laplace, Logistic, Gumbel; StudentT in `student.py`.

Each is written for z = (y − loc) / scale; `located` does the rest.

References:
  Closed forms of the CRPS: gneiting2005, eq. 5 (normal); jordan2019, appendix A (others). Checked against scipy.stats
  and numerical integration of the definition.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import softplus
from jax.scipy.special import erf, log_ndtr, ndtr, ndtri

from .._typing import Array
from ._family import Family, register
from ._stirling import log1mexp

LOG_2PI = math.log(2 * math.pi)
_SQRT_2PI = math.sqrt(2 * math.pi)
_EULER = float(np.euler_gamma)


def sided(upper: Any, like: Array) -> Array:
    """−1 where `upper`, 1 elsewhere."""
    return jnp.where(upper, -1, 1).astype(like.dtype)


def located(
    *,
    log_prob: Callable[..., Array],
    cdf: Callable[..., Array],
    sf: Callable[..., Array],
    log_cdf: Callable[..., Array],
    log_sf: Callable[..., Array],
    quantile: Callable[..., Array],
    crps: Callable[..., Array],
    entropy: Callable[..., Any],
    moments: Callable[..., tuple[Any, Any]],
    host: Callable[..., Any],
    shapes: tuple[str, ...] = (),
    **more: Any,
) -> Family:
    """A family with parameters `(*shapes, loc, scale)`, from functions of z and of its shapes at loc 0 and scale 1."""

    def at(function: Callable[..., Array], y: Array, parameters: tuple[Array, ...]) -> tuple[Array, Array]:
        *shape, loc, scale = parameters
        return function((y - loc) / scale, *shape), scale

    def density(y: Array, *parameters: Array) -> Array:
        value, scale = at(log_prob, y, parameters)
        return value - jnp.log(scale)

    def icdf(tail: Array, upper: Any, *parameters: Array) -> Array:
        *shape, loc, scale = parameters
        return loc + scale * quantile(tail, upper, *shape)

    def score(y: Array, *parameters: Array) -> Array:
        value, scale = at(crps, y, parameters)
        return value * scale

    def information(*parameters: Array) -> Array:
        *shape, loc, scale = parameters
        return entropy(*shape) + jnp.log(scale) + 0 * loc

    def both(*parameters: Array) -> tuple[Array, Array]:
        *shape, loc, scale = parameters
        mean, variance = moments(*shape)
        return loc + scale * mean, jnp.square(scale) * variance + 0 * loc

    return Family(
        parameters=lambda d: (*(getattr(d, name) for name in shapes), d.loc, d.scale),
        log_prob=density,
        cdf=lambda y, *parameters: at(cdf, y, parameters)[0],
        sf=lambda y, *parameters: at(sf, y, parameters)[0],
        log_cdf=lambda y, *parameters: at(log_cdf, y, parameters)[0],
        log_sf=lambda y, *parameters: at(log_sf, y, parameters)[0],
        icdf=icdf,
        crps=score,
        entropy=information,
        moments=both,
        host=host,
        **more,
    )


# Normal


def log_normal_cdf(z: Array) -> Array:
    """log Φ(z); jax's own loses digits from z of about 3, where Φ is nearly 1."""
    high = z > 1
    return jnp.where(high, jnp.log1p(-ndtr(-jnp.where(high, z, 1))), log_ndtr(jnp.where(high, 1, z)))


def absolute_normal(gap: Array, scale: Array) -> Array:
    """E|X| for X ~ N(gap, scale²)."""
    z = gap / scale
    return gap * erf(z / math.sqrt(2)) + 2 * scale * jnp.exp(-0.5 * jnp.square(z)) / _SQRT_2PI


def _normal_cross(loc: Array, scale: Array, loc2: Array, scale2: Array) -> Array:
    return absolute_normal(loc - loc2, jnp.sqrt(jnp.square(scale) + jnp.square(scale2)))


@jax.custom_jvp
def normal_quantile_log(log_tail: Array) -> Array:
    """Φ⁻¹(exp(log_tail)), also where the exponential underflows: Newton's method on log Φ, which is concave."""
    near = log_tail > -10
    size = -2 * jnp.where(near, -10.0, log_tail).astype(log_tail.dtype)
    z = -jnp.sqrt(size - jnp.log(2 * math.pi * size))

    def step(_: Any, z: Array) -> Array:
        value = log_ndtr(z)
        return z - (value - log_tail) * jnp.exp(value + 0.5 * jnp.square(z) + 0.5 * LOG_2PI)

    z = jax.lax.fori_loop(0, 4, step, z)
    return jnp.where(near, ndtri(jnp.exp(log_tail)), z)


@normal_quantile_log.defjvp
def _normal_quantile_log_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z = normal_quantile_log(*primals)
    return z, tangents[0] * jnp.exp(primals[0] + 0.5 * jnp.square(z) + 0.5 * LOG_2PI)


def _normal_icdf_log(log_tail: Array, upper: Any, loc: Array, scale: Array) -> Array:
    return loc + sided(upper, log_tail) * scale * normal_quantile_log(log_tail)


def _normal_host(loc: Any, scale: Any) -> Any:
    from .host import Normal

    return Normal(loc, scale)


NORMAL = located(
    log_prob=lambda z: -0.5 * jnp.square(z) - 0.5 * LOG_2PI,
    cdf=ndtr,
    sf=lambda z: ndtr(-z),
    log_cdf=log_normal_cdf,
    log_sf=lambda z: log_normal_cdf(-z),
    quantile=lambda tail, upper: sided(upper, tail) * ndtri(tail),
    crps=lambda z: z * erf(z / math.sqrt(2)) + 2 * jnp.exp(-0.5 * jnp.square(z)) / _SQRT_2PI - 1 / math.sqrt(math.pi),
    entropy=lambda: 0.5 * (LOG_2PI + 1),
    moments=lambda: (0, 1),
    host=_normal_host,
    cross=_normal_cross,
    icdf_log=_normal_icdf_log,
)


# Laplace


def _laplace_half(z: Array) -> Array:
    """½ e^(−|z|), with the derivative of z ≥ 0 at 0."""
    return 0.5 * jnp.exp(-jnp.where(z < 0, -z, z))


def _laplace_log_cdf(z: Array) -> Array:
    return jnp.where(z < 0, z - math.log(2), jnp.log1p(-_laplace_half(z)))


def _laplace_quantile(tail: Array, upper: Any) -> Array:
    low = tail < 0.5
    near, far = jnp.where(low, tail, 0.5), jnp.where(low, 0.5, 1 - tail)
    return sided(upper, tail) * jnp.where(low, jnp.log(2 * near), -jnp.log(2 * far))


def _laplace_icdf_log(log_tail: Array, upper: Any, loc: Array, scale: Array) -> Array:
    half = math.log(2)
    low = log_tail < -half
    above = log1mexp(jnp.where(low, -half, log_tail).astype(log_tail.dtype))
    return loc + sided(upper, log_tail) * scale * jnp.where(low, log_tail + half, -half - above)


def _laplace_cross(loc: Array, scale: Array, loc2: Array, scale2: Array) -> Array:
    """d + (a³ e^(−d/a) − b³ e^(−d/b)) / (a² − b²) for d = |loc − loc2|: a mean of a derivative where a is near b."""
    gap = jnp.abs(loc - loc2)
    a, b = jnp.square(scale), jnp.square(scale2)
    far = jnp.abs(a - b) > 0.3 * (a + b)
    apart = jnp.where(far, a - b, 1)
    direct = (a * scale * jnp.exp(-gap / scale) - b * scale2 * jnp.exp(-gap / scale2)) / apart
    close = jnp.zeros_like(direct)
    for node, mass in zip(*_FIVE, strict=True):
        size = jnp.sqrt(b + node * (a - b))
        close = close + mass * 0.5 * (3 * size + gap) * jnp.exp(-gap / size)
    return gap + jnp.where(far, direct, close)


_FIVE = [[float(0.5 + 0.5 * x) for x in np.polynomial.legendre.leggauss(5)[0]]]
_FIVE += [[float(0.5 * x) for x in np.polynomial.legendre.leggauss(5)[1]]]


def _laplace_host(loc: Any, scale: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.laplace(loc, scale))


LAPLACE = located(
    log_prob=lambda z: -jnp.abs(z) - math.log(2),
    cdf=lambda z: jnp.where(z < 0, _laplace_half(z), 1 - _laplace_half(z)),
    sf=lambda z: jnp.where(z < 0, 1 - _laplace_half(z), _laplace_half(z)),
    log_cdf=_laplace_log_cdf,
    log_sf=lambda z: jnp.where(z < 0, jnp.log1p(-_laplace_half(z)), -z - math.log(2)),
    quantile=_laplace_quantile,
    crps=lambda z: jnp.abs(z) + jnp.exp(-jnp.abs(z)) - 0.75,
    entropy=lambda: 1 + math.log(2),
    moments=lambda: (0, 2),
    host=_laplace_host,
    cross=_laplace_cross,
    icdf_log=_laplace_icdf_log,
)


# Logistic


def _logistic_host(loc: Any, scale: Any) -> Any:
    from scipy import stats

    return stats.logistic(loc, scale)


LOGISTIC = located(
    log_prob=lambda z: -softplus(z) - softplus(-z),
    cdf=lambda z: jnp.exp(-softplus(-z)),
    sf=lambda z: jnp.exp(-softplus(z)),
    log_cdf=lambda z: -softplus(-z),
    log_sf=lambda z: -softplus(z),
    quantile=lambda tail, upper: sided(upper, tail) * (jnp.log(tail) - jnp.log1p(-tail)),
    crps=lambda z: softplus(z) + softplus(-z) - 1,
    entropy=lambda: 2,
    moments=lambda: (0, math.pi**2 / 3),
    host=_logistic_host,
    icdf_log=lambda log_tail, upper, loc, scale: loc + sided(upper, log_tail) * scale * (log_tail - log1mexp(log_tail)),
)


# Gumbel


def _gumbel_rate(z: Array) -> Array:
    """e^(−z), not beyond where the cdf is 0."""
    return jnp.exp(jnp.minimum(-z, 80))


def _gumbel_quantile(tail: Array, upper: Any) -> Array:
    rate = -jnp.where(upper, jnp.log1p(-tail), jnp.log(jnp.where(upper, 0.5, tail)))
    return -jnp.log(rate)


def _entire_exponential_integral(rate: Array, z: Array) -> Array:
    """E₁(x) + γ + log x at x = e^(−z), an entire function of x.

    A fixed number of terms of the series up to x = 2 and of the continued fraction beyond: jax's exp1 does not return
    for some arguments in float32.

    References:
      abramowitz1964, eq. 5.1.11 and 5.1.22. Checked against scipy.special.exp1.
    """
    low = rate <= 2
    x = jnp.where(low, rate, 0)
    series = jnp.zeros_like(x)
    for k in range(25, 0, -1):
        series = x * ((1 / k if k % 2 else -1 / k) / math.factorial(k) + series)
    x = jnp.where(low, 2, rate)
    fraction = x + 81
    for k in range(40, 0, -1):
        fraction = x + (2 * k - 1) - k * k / fraction
    return jnp.where(low, series, jnp.exp(-x) / fraction + _EULER - z)


@jax.custom_jvp
def _gumbel_crps(z: Array) -> Array:
    return z - _EULER - math.log(2) + 2 * _entire_exponential_integral(_gumbel_rate(z), z)


@_gumbel_crps.defjvp
def _gumbel_crps_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (z,) = primals
    return _gumbel_crps(z), (2 * jnp.exp(-_gumbel_rate(z)) - 1) * tangents[0]


def _gumbel_host(loc: Any, scale: Any) -> Any:
    from scipy import stats

    return stats.gumbel_r(loc, scale)


GUMBEL = located(
    log_prob=lambda z: -z - jnp.exp(-z),
    cdf=lambda z: jnp.exp(-_gumbel_rate(z)),
    sf=lambda z: -jnp.expm1(-_gumbel_rate(z)),
    log_cdf=lambda z: -jnp.exp(-z),
    log_sf=lambda z: log1mexp(-_gumbel_rate(z)),
    quantile=_gumbel_quantile,
    crps=_gumbel_crps,
    entropy=lambda: 1 + _EULER,
    moments=lambda: (_EULER, math.pi**2 / 6),
    host=_gumbel_host,
)


def _normal_marginals(d: Any) -> tuple[Any, Any]:
    xp = jnp if isinstance(d.scale_tril, jax.Array) else np
    return d.loc, xp.sqrt(xp.square(d.scale_tril).sum(-1))


register("Normal", NORMAL)
register("MultivariateNormal", NORMAL._replace(parameters=_normal_marginals))
register("Laplace", LAPLACE)
register("Logistic", LOGISTIC)
register("Gumbel", GUMBEL)
