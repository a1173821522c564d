"""The Beta family, on fractions, stable for concentrations from 1e-2 to 1e7.

References:
  Mean absolute deviation and Gini difference in closed form: jordan2019, appendix A. Checked against scipy.stats and
  quadrature of the definition.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from .._typing import Array
from . import _incomplete, _quantile
from ._family import Family, register
from ._stirling import digamma_less_log


def _log_density(y: Array, a: Array, b: Array) -> Array:
    """log of y^a (1 − y)^b / B(a, b), for y inside (0, 1)."""
    y, a, b = jnp.broadcast_arrays(y, a, b)
    return _incomplete.log_beta_density(a, b, y, 1 - y, a * (1 - y) - b * y)


def _log_prob(y: Array, a: Array, b: Array) -> Array:
    inside = (y > 0) & (y < 1)
    point = jnp.where(inside | jnp.isnan(y), y, 0.5)
    value = _log_density(point, a, b) - jnp.log(point) - jnp.log1p(-point)
    value = jnp.where(y == 0, _at_end(a, b), jnp.where(y == 1, _at_end(b, a), value))
    return jnp.where((y < 0) | (y > 1), -jnp.inf, value)


def _at_end(own: Array, other: Array) -> Array:
    """Log-density at the end of the support that `own` governs."""
    return jnp.where(own == 1, jnp.log(other), jnp.where(own < 1, jnp.inf, -jnp.inf))


def _tails(y: Array, a: Array, b: Array) -> tuple[Array, Array]:
    y, a, b = jnp.broadcast_arrays(jnp.clip(y, 0, 1), a, b)
    return _incomplete.beta_tails(a, b, y, 1 - y, a * (1 - y) - b * y)


def _icdf_log(log_tail: Array, upper: Any, a: Array, b: Array) -> Array:
    log_tail, upper, a, b = jnp.broadcast_arrays(log_tail, jnp.asarray(upper), a, b)
    return jax.nn.sigmoid(_quantile.beta_quantile(a, b, log_tail, upper) + jnp.log(a) - jnp.log(b))


def _at_mean(a: Array, b: Array) -> Array:
    """`_log_density` at the mean."""
    total = a + b
    return _incomplete.log_beta_density(a, b, a / total, b / total, jnp.zeros_like(total))


def _crps(y: Array, a: Array, b: Array) -> Array:
    """E|Y − y| − ½ E|Y − Y′|, each by densities of logit Y instead of differences of distribution functions."""
    total = a + b
    below, above = (jnp.exp(part) for part in _tails(y, a, b))
    inside = (y > 0) & (y < 1)
    here = jnp.where(inside, jnp.exp(_log_density(jnp.where(inside, y, 0.5), a, b)), 0)
    inner = jnp.clip(y, 0, 1)
    gap = (b * inner - a * (1 - inner)) / total + (y - inner)  # y less the mean, also where both are close to 1
    distance = gap * (below - above) + 2 * here / total
    return distance - 2 * jnp.exp(2 * _at_mean(a, b) - _at_mean(2 * a, 2 * b)) / total


def _entropy(a: Array, b: Array) -> Array:
    """log B(a, b) − (a − 1) ψ(a) − (b − 1) ψ(b) + (a + b − 2) ψ(a + b), every logarithm of a parameter cancelled."""
    total = a + b
    rest = (total - 2) * digamma_less_log(total) - (a - 1) * digamma_less_log(a) - (b - 1) * digamma_less_log(b)
    return jnp.log(a / total) + jnp.log(b / total) - _at_mean(a, b) + rest


def _moments(a: Array, b: Array) -> tuple[Array, Array]:
    total = a + b
    return a / total, (a / total) * (b / total) / (total + 1)


def _host(a: Any, b: Any) -> Any:
    from scipy import stats

    return stats.beta(a, b)


BETA = Family(
    parameters=lambda d: (d.concentration1, d.concentration0),
    log_prob=_log_prob,
    cdf=lambda y, a, b: jnp.exp(_tails(y, a, b)[0]),
    sf=lambda y, a, b: jnp.exp(_tails(y, a, b)[1]),
    log_cdf=lambda y, a, b: _tails(y, a, b)[0],
    log_sf=lambda y, a, b: _tails(y, a, b)[1],
    icdf=lambda tail, upper, a, b: _icdf_log(jnp.log(tail), upper, a, b),
    icdf_log=_icdf_log,
    moments=_moments,
    host=_host,
    crps=_crps,
    entropy=_entropy,
    support=lambda a, b: (0.0, 1.0),
    mirror=lambda a, b: (b, a),
)
register("Beta", BETA)
