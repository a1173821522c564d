"""Families on the real line with a location and a scale: Normal, StudentT, Laplace, Logistic, Gumbel.

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
from . import _incomplete, _quantile
from ._family import Family, register
from ._stirling import digamma_difference, log1mexp, log1p_less, log_gamma_difference

_LOG_2PI = math.log(2 * math.pi)
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
        return z - (value - log_tail) * jnp.exp(value + 0.5 * jnp.square(z) + 0.5 * _LOG_2PI)

    z = jax.lax.fori_loop(0, 4, step, z)
    return jnp.where(near, ndtri(jnp.exp(log_tail)), z)


@normal_quantile_log.defjvp
def _normal_quantile_log_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z = normal_quantile_log(*primals)
    return z, tangents[0] * jnp.exp(primals[0] + 0.5 * jnp.square(z) + 0.5 * _LOG_2PI)


def _normal_icdf_log(log_tail: Array, upper: Any, loc: Array, scale: Array) -> Array:
    return loc + sided(upper, log_tail) * scale * normal_quantile_log(log_tail)


def _normal_host(loc: Any, scale: Any) -> Any:
    from .host import Normal

    return Normal(loc, scale)


NORMAL = located(
    log_prob=lambda z: -0.5 * jnp.square(z) - 0.5 * _LOG_2PI,
    cdf=ndtr,
    sf=lambda z: ndtr(-z),
    log_cdf=log_normal_cdf,
    log_sf=lambda z: log_normal_cdf(-z),
    quantile=lambda tail, upper: sided(upper, tail) * ndtri(tail),
    crps=lambda z: z * erf(z / math.sqrt(2)) + 2 * jnp.exp(-0.5 * jnp.square(z)) / _SQRT_2PI - 1 / math.sqrt(math.pi),
    entropy=lambda: 0.5 * (_LOG_2PI + 1),
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

    from ._host_objects import sound

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


# Student's t


@jax.custom_jvp
def half_step(a: Array) -> Array:
    """log Γ(a + ½) − log Γ(a) − ½ log a, which vanishes like −1 / (8 a); nor do its derivatives cancel."""
    large = jnp.where(a < 8, 8, a).astype(a.dtype)
    u = 1 / large
    square = jnp.square(u)
    series = u * (-1 / 8 + square * (1 / 192 + square * (-1 / 640 + square * (17 / 14336 - square * 31 / 18432))))
    small = jnp.where(a < 8, a, 1).astype(a.dtype)
    return jnp.where(a < 8, log_gamma_difference(small, jnp.full_like(a, 0.5)) - 0.5 * jnp.log(small), series)


@half_step.defjvp
def _half_step_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    (a,) = primals
    large = jnp.where(a < 8, 8, a).astype(a.dtype)
    square = 1 / jnp.square(large)
    series = square * (1 / 8 + square * (-1 / 64 + square * (1 / 128 - square * (17 / 2048 - square * 31 / 2048))))
    small = jnp.where(a < 8, a, 1).astype(a.dtype)
    slope = jnp.where(a < 8, digamma_difference(small, jnp.full_like(a, 0.5)) - 0.5 / small, series)
    return half_step(a), slope * tangents[0]


def _t_log_prob(z: Array, df: Array) -> Array:
    """In ½ z² plus what tends to 0 with large df, so that neither it nor its derivative cancels there."""
    w = jnp.square(z) / df
    near = w < 0.5
    small = jnp.where(near, w, 0)
    body = 0.5 * jnp.square(z) + 0.5 * w + 0.5 * (df + 1) * log1p_less(small, 1 + small)
    tail = 0.5 * (df + 1) * jnp.log1p(jnp.where(near, 0, w))
    return half_step(0.5 * df) - 0.5 * _LOG_2PI - jnp.where(near, body, tail)


def _t_edges(z: Array, df: Array) -> tuple[Array, ...]:
    """a, b, x, 1 − x and a (1 − x) − b x of the beta variable df / (df + T²)."""
    z, df = jnp.broadcast_arrays(z, df)
    square = jnp.square(z)
    root = jnp.square(z / jnp.sqrt(df))
    x, y = 1 / (1 + root), root / (1 + root)
    return 0.5 * df, jnp.full_like(df, 0.5), x, y, 0.5 * (square - 1) * x


@jax.custom_jvp
def _t_log_tail(z: Array, df: Array) -> Array:
    """log P(T > z) for z ≥ 0."""
    a, b, x, y, excess = _t_edges(jnp.maximum(z, jnp.finfo(z.dtype).tiny ** 0.25), df)
    return _incomplete.beta_tails(a, b, x, y, excess)[0] - math.log(2)


@_t_log_tail.defjvp
def _t_log_tail_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, df = primals
    value = _t_log_tail(z, df)
    return value, -jnp.exp(_t_log_prob(z, df) - value) * tangents[0] + _t_slope(z, df, value) * tangents[1]


def _t_slope(z: Array, df: Array, log_tail: Array) -> Array:
    """d log P(T > z) / d df: the mean of that of the log-density over the tail.

    With t = √df tan θ the density is cos(θ)^(df − 1), log-concave for df > 1. Smaller df are integrated in
    cos θ = cos θ₀ x^(3 / df), where the density is constant.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    z, df, log_tail = jnp.broadcast_arrays(z, df, log_tail)
    shape = (-1,) + (1,) * z.ndim
    share = jnp.asarray(0.5 * nodes + 0.5, z.dtype).reshape(shape)
    mass = jnp.asarray(0.5 * weights, z.dtype).reshape(shape)
    start = jnp.arctan2(z, jnp.sqrt(df))
    co_start = jnp.arctan2(jnp.sqrt(df), z)  # π/2 − start
    # Large df: straight in θ, to where the density has fallen by e^−25.
    drop = 25 / jnp.maximum(df - 1, 1)
    fall = jnp.cos(start) * jnp.exp(-drop)
    end = jnp.where(fall < 1e-4, 0, jnp.arcsin(jnp.clip(fall, 0, 1)))  # π/2 − θ there
    straight = end + (co_start - end) * (1 - share)
    # Small df: φ = π/2 − θ from 0, graded.
    graded = co_start * share**3
    large = df > 30
    phi = jnp.where(large, straight, graded)
    width = jnp.where(large, (co_start - end) * mass, co_start * 3 * jnp.square(share) * mass)
    t = jnp.sqrt(df) / jnp.tan(phi)
    # dt = −√df / sin² φ dφ
    log_density = _t_log_prob(t, df[None]) + 0.5 * jnp.log(df) - 2 * jnp.log(jnp.sin(phi))
    slope = jax.jvp(lambda v: _t_log_prob(t, v), (jnp.broadcast_to(df, t.shape),), (jnp.ones_like(t),))[1]
    weight = width * jnp.exp(log_density - log_tail)
    return (weight * slope).sum(0)


def _t_size(z: Array) -> Array:
    return jnp.where(z < 0, -z, z)  # the derivative at 0 is that of z ≥ 0


def _t_cdf(z: Array, df: Array) -> Array:
    tail = jnp.exp(_t_log_tail(_t_size(z), df))
    return jnp.where(z < 0, tail, 1 - tail)


def _t_log_cdf(z: Array, df: Array) -> Array:
    tail = _t_log_tail(_t_size(z), df)
    return jnp.where(z < 0, tail, jnp.log1p(-jnp.exp(tail)))


@jax.custom_jvp
def _t_upper(tail: Array, df: Array) -> Array:
    """The z ≥ 0 with P(T > z) = tail ≤ ½."""
    a = 0.5 * df
    twice = jnp.log(jnp.minimum(2 * tail, 1))
    return jnp.exp(-0.5 * _quantile.beta_quantile(a, jnp.full_like(a, 0.5), twice, jnp.zeros_like(a, bool)))


@_t_upper.defjvp
def _t_upper_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    tail, df = primals
    z = _t_upper(tail, df)
    density = jnp.exp(_t_log_prob(z, df))
    return z, (_t_slope(z, df, jnp.log(tail)) * tail * tangents[1] - tangents[0]) / density


def _t_quantile(tail: Array, upper: Any, df: Array) -> Array:
    tail, df, upper = jnp.broadcast_arrays(tail, df, upper)
    flip = tail > 0.5
    size = _t_upper(jnp.where(flip, 1 - tail, tail), df)
    return jnp.where(upper ^ flip, size, -size)


@jax.custom_jvp
def _t_crps_closed(z: Array, df: Array) -> Array:
    """z (2 F − 1) + 2 f (df + z²) / (df − 1) − a constant, for df > 1."""
    tail = jnp.exp(_t_log_tail(_t_size(z), df))
    density = jnp.exp(_t_log_prob(z, df))
    constant = jnp.exp(2 * half_step(0.5 * df) - half_step(df - 0.5)) / math.sqrt(math.pi)
    constant = constant * jnp.sqrt(1 + 0.5 / (df - 0.5)) * (1 + 1 / (df - 1))
    return jnp.abs(z) * (1 - 2 * tail) + 2 * density * (1 + (1 + jnp.square(z)) / (df - 1)) - constant


@_t_crps_closed.defjvp
def _t_crps_closed_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    z, df = primals
    value, by_df = jax.jvp(lambda v: _t_crps_closed.fun(z, v), (df,), (tangents[1],))
    return value, (_t_cdf(z, df) - _t_cdf(-z, df)) * tangents[0] + by_df


def _t_crps(z: Array, df: Array) -> Array:
    """The closed form, which holds by continuation for df > ½; interpolated about df = 1, where it is ∞ − ∞."""
    z, df = jnp.broadcast_arrays(z, df)
    near = jnp.abs(df - 1) < 0.05
    value = _t_crps_closed(z, jnp.where(near | (df <= 0.5), 2, df).astype(df.dtype))
    about = jax.lax.cond(jnp.any(near), _t_crps_about_one, lambda z, df: 0 * z * df, z, df)
    value = jnp.where(near, about, value)
    return jnp.where(df > 0.5, value, jnp.where(jnp.isnan(df), jnp.nan, jnp.inf))


ABOUT_ONE = (0.85, 0.95, 1.05, 1.15)
"""Where scores are computed whose closed form is ∞ − ∞ at 1."""


def interpolated_about_one(each: Array, a: Array) -> Array:
    """Cubic interpolation in `a` of (a − ½) times a score, given at `ABOUT_ONE` along the leading axis."""
    total = jnp.zeros_like(a)
    for k, point in enumerate(ABOUT_ONE):
        share = jnp.ones_like(a)
        for other in (*ABOUT_ONE[:k], *ABOUT_ONE[k + 1 :]):
            share = share * (a - other) / (point - other)
        total = total + share * (point - 0.5) * each[k]
    return total / (jnp.where(jnp.abs(a - 1) < 0.1, a, 1) - 0.5)


def _t_crps_about_one(z: Array, df: Array) -> Array:
    points = jnp.asarray(ABOUT_ONE, z.dtype).reshape((-1,) + (1,) * z.ndim)
    return interpolated_about_one(_t_crps_closed(z, points), df)


def _t_entropy(df: Array) -> Array:
    half = 0.5 * (df + 1)
    difference = digamma_difference(0.5 * df, jnp.full_like(df, 0.5))
    # −log of the density at 0, plus (df + 1)/2 · E log(1 + T²/df)
    return half * difference - half_step(0.5 * df) + 0.5 * _LOG_2PI


def _t_moments(df: Array) -> tuple[Array, Array]:
    mean = jnp.where(df > 1, 0, jnp.where(df > 0, jnp.inf, jnp.nan)).astype(df.dtype)
    variance = jnp.where(df > 2, 1 + 2 / (jnp.where(df > 2, df, 3) - 2), jnp.where(df > 1, jnp.inf, jnp.nan))
    return mean, variance.astype(df.dtype)


def _t_host(df: Any, loc: Any, scale: Any) -> Any:
    from scipy import stats

    return stats.t(df, loc, scale)


STUDENT_T = located(
    log_prob=_t_log_prob,
    cdf=_t_cdf,
    sf=lambda z, df: _t_cdf(-z, df),
    log_cdf=_t_log_cdf,
    log_sf=lambda z, df: _t_log_cdf(-z, df),
    quantile=_t_quantile,
    crps=_t_crps,
    entropy=_t_entropy,
    moments=_t_moments,
    host=_t_host,
    shapes=("df",),
)


def _normal_marginals(d: Any) -> tuple[Any, Any]:
    xp = jnp if isinstance(d.scale_tril, jax.Array) else np
    return d.loc, xp.sqrt(xp.square(d.scale_tril).sum(-1))


register("Normal", NORMAL)
register("MultivariateNormal", NORMAL._replace(parameters=_normal_marginals))
register("StudentT", STUDENT_T)
register("Laplace", LAPLACE)
register("Logistic", LOGISTIC)
register("Gumbel", GUMBEL)
