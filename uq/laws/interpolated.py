"""The distribution through given quantiles: a linear CDF between them, exponential tails beyond.

With quantiles q₁ < … < q_Q at levels p₁ < … < p_Q the density is (p_{k+1} − p_k) / (q_{k+1} − q_k) between
neighbours. Below q₁ it is that of the first piece, falling off as e^(−β t) with β = density / p₁, so that the tail's
probability is p₁; above q_Q likewise. Everything is in closed form. Parameters are the Q quantiles, then the Q levels.
Every function takes the array module first: one text serves the compiled route and the float64 one on the host.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from .._typing import Array
from ._family import Family, register


class _Pieces(NamedTuple):
    """Arrays with a leading axis over quantiles (Q) or pieces (Q − 1), and the two tails."""

    quantile: Any
    level: Any
    width: Any
    mass: Any
    density: Any
    below: Any
    """Probability of the lower tail."""
    above: Any
    fall: Any
    """Rate of the lower tail."""
    rise: Any
    """Rate of the upper tail."""


def _pieces(xp: Any, parameters: tuple[Any, ...], y: Any = 0.0) -> _Pieces:
    """Pieces whose arrays broadcast against `y`, which may have more axes in front."""
    num = len(parameters) // 2
    shape = np.broadcast_shapes(*(np.shape(leaf) for leaf in parameters))
    shape = (1,) * (np.ndim(y) - len(shape)) + shape
    quantile = xp.stack([xp.broadcast_to(leaf, shape) for leaf in parameters[:num]])
    level = xp.stack([xp.broadcast_to(leaf, shape) for leaf in parameters[num:]])
    width, mass = quantile[1:] - quantile[:-1], level[1:] - level[:-1]
    kind = np.finfo(quantile.dtype)  # far out, neighbours may round to one number: the thinnest piece that is one
    width = xp.maximum(width, xp.maximum(kind.eps * xp.abs(quantile[1:]), kind.tiny))
    density = mass / width
    below, above = level[0], 1 - level[-1]
    return _Pieces(quantile, level, width, mass, density, below, above, density[0] / below, density[-1] / above)


def _before(xp: Any, p: _Pieces, y: Any) -> Any:
    """How far `y` lies below the first quantile, at least 0."""
    return xp.maximum(p.quantile[0] - y, 0)


def _beyond(xp: Any, p: _Pieces, y: Any) -> Any:
    return xp.maximum(y - p.quantile[-1], 0)


def _log_prob(xp: Any, y: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters, y)
    inside = (y >= p.quantile[:-1]) & (y < p.quantile[1:])
    middle = xp.where(inside, xp.log(p.density), 0).sum(0)
    lower = xp.log(p.density[0]) - p.fall * _before(xp, p, y)
    upper = xp.log(p.density[-1]) - p.rise * _beyond(xp, p, y)
    return xp.where(y < p.quantile[0], lower, xp.where(y >= p.quantile[-1], upper, middle))


def _cdf(xp: Any, y: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters, y)
    covered = xp.minimum(xp.maximum(y - p.quantile[:-1], 0), p.width)
    middle = p.below + (p.density * covered).sum(0)
    lower = p.below * xp.exp(-p.fall * _before(xp, p, y))
    upper = 1 - p.above * xp.exp(-p.rise * _beyond(xp, p, y))
    return xp.where(y < p.quantile[0], lower, xp.where(y >= p.quantile[-1], upper, middle))


def _sf(xp: Any, y: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters, y)
    covered = xp.minimum(xp.maximum(p.quantile[1:] - y, 0), p.width)
    middle = p.above + (p.density * covered).sum(0)
    lower = 1 - p.below * xp.exp(-p.fall * _before(xp, p, y))
    upper = p.above * xp.exp(-p.rise * _beyond(xp, p, y))
    return xp.where(y < p.quantile[0], lower, xp.where(y >= p.quantile[-1], upper, middle))


def _log_cdf(xp: Any, y: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters, y)
    tail = xp.log(p.below) - p.fall * _before(xp, p, y)
    body = _cdf(xp, xp.maximum(y, p.quantile[0]), *parameters)
    return xp.where(y < p.quantile[0], tail, xp.log(body))


def _log_sf(xp: Any, y: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters, y)
    tail = xp.log(p.above) - p.rise * _beyond(xp, p, y)
    body = _sf(xp, xp.minimum(y, p.quantile[-1]), *parameters)
    return xp.where(y >= p.quantile[-1], tail, xp.log(body))


def _icdf(xp: Any, tail: Any, upper: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters, tail)
    below, above = xp.where(upper, 1 - tail, tail), xp.where(upper, tail, 1 - tail)
    share = xp.clip((below - p.level[:-1]) / p.mass, 0, 1)
    middle = p.quantile[0] + (share * p.width).sum(0)
    lower = p.quantile[0] + xp.log(xp.where(below < p.below, below, p.below) / p.below) / p.fall
    upper_end = p.quantile[-1] - xp.log(xp.where(above < p.above, above, p.above) / p.above) / p.rise
    return xp.where(below < p.below, lower, xp.where(above < p.above, upper_end, middle))


def _crps(xp: Any, y: Any, *parameters: Any) -> Any:
    """∫ F² below `y` plus ∫ (1 − F)² above it: squares of lines, and of exponentials in the tails."""
    p = _pieces(xp, parameters, y)
    covered = xp.minimum(xp.maximum(y - p.quantile[:-1], 0), p.width)
    at = p.level[:-1] + p.density * covered
    total = (_square(p.level[:-1], at) * covered + _square(1 - at, 1 - p.level[1:]) * (p.width - covered)).sum(0)
    total = total + _tail_crps(xp, _before(xp, p, y), p.below, p.fall)
    return total + _tail_crps(xp, _beyond(xp, p, y), p.above, p.rise)


def _square(a: Any, b: Any) -> Any:
    """The mean of x² over [a, b]."""
    return (a * a + a * b + b * b) / 3


def _tail_crps(xp: Any, gap: Any, mass: Any, rate: Any) -> Any:
    """An exponential tail's part where the outcome lies `gap` out in it (0: not in it)."""
    return gap + 2 * mass * xp.expm1(-rate * gap) / rate + mass * mass / (2 * rate)


def _entropy(xp: Any, *parameters: Any) -> Any:
    p = _pieces(xp, parameters)
    total = -(p.mass * xp.log(p.density)).sum(0)
    return total + p.below * (1 - xp.log(p.density[0])) + p.above * (1 - xp.log(p.density[-1]))


def _moments(xp: Any, *parameters: Any) -> tuple[Any, Any]:
    p = _pieces(xp, parameters)
    middle = 0.5 * (p.quantile[1:] + p.quantile[:-1])
    low, high = p.quantile[0] - 1 / p.fall, p.quantile[-1] + 1 / p.rise
    mean = (p.mass * middle).sum(0) + p.below * low + p.above * high
    variance = (p.mass * ((middle - mean) ** 2 + p.width**2 / 12)).sum(0)
    variance = variance + p.below * ((low - mean) ** 2 + 1 / p.fall**2)
    return mean, variance + p.above * ((high - mean) ** 2 + 1 / p.rise**2)


def _cuts(*parameters: Any) -> Any:
    """The quantiles, and points along both tails."""
    p = _pieces(jnp, parameters)
    lower = [p.quantile[:1] - step / p.fall[None] for step in (1, 2, 4, 8, 16)]
    upper = [p.quantile[-1:] + step / p.rise[None] for step in (1, 2, 4, 8, 16)]
    return jnp.concatenate([*lower, p.quantile, *upper])


class _Host:
    """The same in float64, with the methods of a frozen scipy distribution."""

    def __init__(self, *parameters: Any) -> None:
        self.parameters = parameters

    def logpdf(self, y: Any) -> Any:
        return _log_prob(np, y, *self.parameters)

    def cdf(self, y: Any) -> Any:
        return _cdf(np, y, *self.parameters)

    def sf(self, y: Any) -> Any:
        return _sf(np, y, *self.parameters)

    def logcdf(self, y: Any) -> Any:
        return _log_cdf(np, y, *self.parameters)

    def logsf(self, y: Any) -> Any:
        return _log_sf(np, y, *self.parameters)

    def ppf(self, q: Any) -> Any:
        return _icdf(np, np.asarray(q, np.float64), False, *self.parameters)

    def isf(self, q: Any) -> Any:
        return _icdf(np, np.asarray(q, np.float64), True, *self.parameters)

    def mean(self) -> Any:
        return _moments(np, *self.parameters)[0]

    def var(self) -> Any:
        return _moments(np, *self.parameters)[1]

    def entropy(self) -> Any:
        return _entropy(np, *self.parameters)

    def crps(self, y: Any) -> Any:
        return _crps(np, y, *self.parameters)


def _parameters(d: Any) -> tuple[Any, ...]:
    quantiles: Array = d.quantiles
    num = quantiles.shape[-1]
    return (*(quantiles[..., k] for k in range(num)), *(np.float64(level) for level in d.levels))


INTERPOLATED = Family(
    parameters=_parameters,
    log_prob=functools.partial(_log_prob, jnp),
    cdf=functools.partial(_cdf, jnp),
    sf=functools.partial(_sf, jnp),
    log_cdf=functools.partial(_log_cdf, jnp),
    log_sf=functools.partial(_log_sf, jnp),
    icdf=functools.partial(_icdf, jnp),
    crps=functools.partial(_crps, jnp),
    entropy=functools.partial(_entropy, jnp),
    moments=functools.partial(_moments, jnp),
    host=_Host,
    cuts=_cuts,
)
register("QuantileInterpolation", INTERPOLATED)
