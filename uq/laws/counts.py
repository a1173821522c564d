"""Families of counts: Poisson, negative binomial, binomial.

Probabilities are densities of gamma and beta variables and tails their incomplete functions (`special.py`), so that a
large mean or concentration costs no digits. What is common to all counts is in `_counts.py`.

References:
  Poisson CRPS: wei2014, with scaled Bessel functions. Checked against scipy.stats and sums over the lattice.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import digamma, i0e, i1e

from .._typing import Array
from . import _incomplete, _stirling
from ._counts import Count, family, spread
from ._family import register

# Poisson


def _poisson_log_pmf(k: Array, rate: Array) -> Array:
    positive = jnp.where(rate > 0, rate, 1)
    value = _incomplete.log_gamma_density(k + 1, positive, positive - k - 1) - jnp.log(positive)
    value = jnp.where(jnp.isnan(rate) | (rate < 0), jnp.nan, value)
    return jnp.where(rate == 0, jnp.where(k == 0, -rate, -jnp.inf), value)


def _poisson_tails(k: Array, rate: Array) -> tuple[Array, Array]:
    k, rate = jnp.broadcast_arrays(k, rate)
    lower, upper = _incomplete.gamma_tails(k + 1, rate, rate - k - 1)
    return upper, lower


def _poisson_spread(rate: Array) -> tuple[Array, Array]:
    def characteristic(t: Array) -> tuple[Array, Array]:
        share = 2 * jnp.minimum(rate, 1) / (1 + jnp.square(t))
        return -2 * share, share * t

    _, at_zero = spread(characteristic, rate, jnp.ones_like(rate))
    return rate * (i0e(2 * rate) + i1e(2 * rate)), at_zero


def _poisson_host(rate: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.poisson(rate))


_POISSON = Count(
    log_pmf=_poisson_log_pmf,
    tails=_poisson_tails,
    moments=lambda rate: (rate, rate),
    shortfall=lambda k, here, rate: rate * here,
    spread=_poisson_spread,
)
POISSON = family(_POISSON, lambda d: (d.rate,), _poisson_host)


# Negative binomial, by mean and concentration: variance = mean + mean² / concentration


@jax.custom_jvp
def _share(mean: Array, size: Array) -> Array:
    """mean / (mean + size), with a derivative that does not cancel."""
    return mean / (mean + size)


@_share.defjvp
def _share_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    mean, size = primals
    total = mean + size
    return mean / total, (size / total * tangents[0] - mean / total * tangents[1]) / total


@jax.custom_jvp
def _negative_binomial_log_pmf(k: Array, mean: Array, size: Array) -> Array:
    positive = jnp.where(mean > 0, mean, 1)
    x, y = positive / (positive + size), size / (positive + size)
    density = _incomplete.log_beta_density(k + 1, size, x, y, y * (k + 1 - positive))
    value = density - jnp.log(x) - jnp.log(k + size)
    value = jnp.where(jnp.isnan(mean) | (mean < 0), jnp.nan, value)
    return jnp.where(mean == 0, jnp.where(k == 0, 0 * size, -jnp.inf), value)


@_negative_binomial_log_pmf.defjvp
def _negative_binomial_log_pmf_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    k, mean, size = primals
    positive = jnp.where(mean > 0, mean, jnp.finfo(mean.dtype).tiny)
    total = positive + size
    by_k = digamma(k + size) - digamma(k + 1) - jnp.log1p(size / positive)
    by_mean = jnp.where(k == 0, -size / total, (k - positive) / positive * (size / total))
    large = jnp.maximum(size, _stirling.SHIFT)
    curve = jnp.where(
        size < _stirling.SHIFT,
        _stirling.digamma_difference(jnp.minimum(size, _stirling.SHIFT), k) - jnp.log1p(k / size),
        _stirling.digamma_less_log_difference(large, k),
    )
    by_size = curve + _stirling.log1p_less((k - positive) / total, (k + size) / total)
    slope = by_k * tangents[0] + by_mean * tangents[1] + by_size * tangents[2]
    return _negative_binomial_log_pmf(k, mean, size), slope


def _negative_binomial_tails(k: Array, mean: Array, size: Array) -> tuple[Array, Array]:
    k, mean, size = jnp.broadcast_arrays(k, mean, size)
    y = size / (mean + size)
    lower, upper = _incomplete.beta_tails(k + 1, size, _share(mean, size), y, y * (k + 1 - mean))
    return upper, lower


def _negative_binomial_spread(mean: Array, size: Array) -> tuple[Array, Array]:
    """φ = (1 − (mean / size) (e^iθ − 1))^−size."""
    mean, size = jnp.broadcast_arrays(mean, size)
    ratio = mean / size
    wide = 4 * ratio * (1 + ratio)

    def characteristic(t: Array) -> tuple[Array, Array]:
        share = 2 * ratio / (1 + jnp.square(t))
        return -size * jnp.log1p(wide / (1 + jnp.square(t))), size * jnp.arctan2(share * t, 1 + share)

    return spread(characteristic, mean, jnp.sqrt(1 + wide * jnp.maximum(size, 1)))


def _negative_binomial_moments(mean: Array, size: Array) -> tuple[Array, Array]:
    mean, size = jnp.broadcast_arrays(mean, size)
    return mean, mean * (1 + mean / size)


def _negative_binomial_host(mean: Any, size: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.nbinom(size, size / (mean + size)))


_NEGATIVE_BINOMIAL = Count(
    log_pmf=_negative_binomial_log_pmf,
    tails=_negative_binomial_tails,
    moments=_negative_binomial_moments,
    shortfall=lambda k, here, mean, size: mean * (1 + k / size) * here,
    spread=_negative_binomial_spread,
)
NEGATIVE_BINOMIAL = family(
    _NEGATIVE_BINOMIAL, lambda d: (d.concentration / d.rate, d.concentration), _negative_binomial_host
)


# Binomial, by the number of trials and both probabilities, so that either may be tiny


@jax.custom_jvp
def _binomial_log_pmf(k: Array, n: Array, p: Array, q: Array) -> Array:
    inside = (p > 0) & (q > 0)
    x, y = jnp.where(inside, p, 0.5), jnp.where(inside, q, 0.5)
    density = _incomplete.log_beta_density(k + 1, n - k + 1, x, y, (k + 1) * y - (n - k + 1) * x)
    value = density - jnp.log(n + 1) - jnp.log(x) - jnp.log(y)
    sure = jnp.where(k == jnp.where(p > 0, n, 0), 0, -jnp.inf)
    value = jnp.where(inside, value, sure)
    return jnp.where((p >= 0) & (q >= 0) & (n >= 0), value, jnp.nan)


@_binomial_log_pmf.defjvp
def _binomial_log_pmf_jvp(primals: Any, tangents: Any) -> tuple[Array, Array]:
    k, n, p, q = primals
    least = 1e-30  # at a probability of 0, n / least is finite, and so what is 0 times it
    x, y = jnp.maximum(p, least), jnp.maximum(q, least)
    by_p = jnp.where(k == 0, -n / y, jnp.where(k == n, n / x, (k * y - (n - k) * x) / x / y))
    by_k = digamma(n - k + 1) - digamma(k + 1) + jnp.log(x) - jnp.log(y)
    by_n = _stirling.digamma_difference(n - k + 1, k) + jnp.log(y)
    slope = by_k * tangents[0] + by_n * tangents[1] + by_p * tangents[2]
    return _binomial_log_pmf(k, n, p, q), slope


def _binomial_tails(k: Array, n: Array, p: Array, q: Array) -> tuple[Array, Array]:
    k, n, p, q = jnp.broadcast_arrays(k, n, p, q)
    left = jnp.maximum(n - k, 1e-3)
    lower, upper = _incomplete.beta_tails(k + 1, left, p, q, (k + 1) * q - left * p)
    return jnp.where(k >= n, 0, upper), jnp.where(k >= n, -jnp.inf, lower)


def _binomial_spread(n: Array, p: Array, q: Array) -> tuple[Array, Array]:
    """φ = (1 + p (e^iθ − 1))^n."""
    n, p, q = jnp.broadcast_arrays(n, p, q)

    def characteristic(t: Array) -> tuple[Array, Array]:
        square = jnp.square(t)
        near = 4 * p * q < 0.5 * (1 + square)
        share = jnp.where(near, 4 * p * q / (1 + square), 0)
        rest = jnp.where(near, 1, (square + jnp.square(q - p)) / (1 + square))
        phase = jnp.arctan2(2 * p * t / (1 + square), (square + q - p) / (1 + square))
        return n * (jnp.log1p(-share) + jnp.log(rest)), n * phase

    return spread(characteristic, n * p, jnp.sqrt(1 + 4 * n * p * q))


def _binomial_crps(y: Array, n: Array, p: Array, q: Array) -> Array:
    """By the rarer of successes and failures."""
    rare = p <= q
    assert _BINOMIAL_FAMILY.crps is not None
    return _BINOMIAL_FAMILY.crps(jnp.where(rare, y, n - y), n, jnp.where(rare, p, q), jnp.where(rare, q, p))


def _binomial_entropy(n: Array, p: Array, q: Array) -> Array:
    assert _BINOMIAL_FAMILY.entropy is not None
    return _BINOMIAL_FAMILY.entropy(n, jnp.minimum(p, q), jnp.maximum(p, q))


def _binomial_moments(n: Array, p: Array, q: Array) -> tuple[Array, Array]:
    n, p, q = jnp.broadcast_arrays(n, p, q)
    return n * p, n * p * q


def _binomial_parameters(d: Any) -> tuple[Any, ...]:
    if hasattr(type(d), "arg_constraints") and "logits" in type(d).arg_constraints:
        return d.total_count, sigmoid(d.logits), sigmoid(-d.logits)
    return d.total_count, d.probs, 1 - d.probs


def sigmoid(logits: Any) -> Any:
    return jax.nn.sigmoid(logits) if isinstance(logits, jax.Array) else 1 / (1 + np.exp(-np.asarray(logits)))


def _binomial_host(n: Any, p: Any, q: Any) -> Any:
    from scipy import stats

    from ._host_scipy import sound

    return sound(stats.binom(n, p))


_BINOMIAL = Count(
    log_pmf=_binomial_log_pmf,
    tails=_binomial_tails,
    moments=_binomial_moments,
    shortfall=lambda k, here, n, p, q: (n - k) * p * here,
    spread=_binomial_spread,
    last=lambda n, p, q: jnp.broadcast_arrays(n, p, q)[0],
)
_BINOMIAL_FAMILY = family(_BINOMIAL, _binomial_parameters, _binomial_host)
BINOMIAL = _BINOMIAL_FAMILY._replace(crps=_binomial_crps, entropy=_binomial_entropy)


register("Poisson", POISSON)
register("GammaPoisson", NEGATIVE_BINOMIAL)
register("BinomialProbs", BINOMIAL)
register("BinomialLogits", BINOMIAL)
