"""Student's t with a location and a scale, from tails without a mean to nearly normal.

Written in what tends to 0 with large degrees of freedom, so that neither values nor derivatives cancel in float32 up
to 1e7 of them; beyond, derivatives in them are those of the limit.

References:
  CRPS: jordan2019, appendix A, continued analytically to where the mean is infinite. Checked against scipy.stats.t and
  numerical integration of the definition.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._typing import Array
from . import _incomplete, _quantile
from ._family import register
from ._stirling import digamma_difference, log1p_less, log_gamma_difference
from .location_scale import LOG_2PI, located


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
    return half_step(0.5 * df) - 0.5 * LOG_2PI - jnp.where(near, body, tail)


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
    cos θ = cos θ₀ x^(3 / df), where the density is constant. It falls as df^−2 where df is so large that θ has no
    digits left.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)
    z, df, log_tail = jnp.broadcast_arrays(z, df, log_tail)
    held = jnp.minimum(df, 1e8)
    fall_off, df = jnp.square(held / df), held
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
    return fall_off * (weight * slope).sum(0)


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
    return half * difference - half_step(0.5 * df) + 0.5 * LOG_2PI


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


register("StudentT", STUDENT_T)
