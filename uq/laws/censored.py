"""A normal clipped to known limits: a density between them, a probability at each (infinite limits have none).

`log_prob` is a log-density between the limits and a log-probability at them. Parameters are mean and standard deviation
before clipping, then the limits. Every function takes the array module and its normal distribution first: one text
serves the compiled route and the float64 one on the host.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import jax.scipy.special as jsp
import numpy as np

from ._family import Family, register

_LOG_2PI = math.log(2 * math.pi)


class _Normal(NamedTuple):
    """An array module with the standard normal's functions."""

    xp: Any
    ndtr: Any
    log_ndtr: Any
    ndtri: Any

    def pdf(self, z: Any) -> Any:
        return self.xp.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


_COMPILED = _Normal(jnp, jsp.ndtr, jsp.log_ndtr, jsp.ndtri)


def _log_prob(n: _Normal, y: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    inside = -0.5 * ((y - loc) / scale) ** 2 - n.xp.log(scale) - 0.5 * _LOG_2PI
    inside = n.xp.where((y < low) | (y > high), -math.inf, inside)
    at_low, at_high = n.log_ndtr(_z(n, low, loc, scale)), n.log_ndtr(-_z(n, high, loc, scale))
    return n.xp.where(y == low, at_low, n.xp.where(y == high, at_high, inside))


def _z(n: _Normal, limit: Any, loc: Any, scale: Any) -> Any:
    """A limit in standard units; an infinite one stays so without an undefined gradient."""
    finite = n.xp.isfinite(limit)
    return n.xp.where(finite, (n.xp.where(finite, limit, 0) - loc) / scale, limit)


def _cdf(n: _Normal, y: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    return n.xp.where(y < low, 0, n.xp.where(y >= high, 1, n.ndtr((y - loc) / scale)))


def _sf(n: _Normal, y: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    return n.xp.where(y < low, 1, n.xp.where(y >= high, 0, n.ndtr((loc - y) / scale)))


def _log_cdf(n: _Normal, y: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    return n.xp.where(y < low, -math.inf, n.xp.where(y >= high, 0, n.log_ndtr((y - loc) / scale)))


def _log_sf(n: _Normal, y: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    return n.xp.where(y < low, 0, n.xp.where(y >= high, -math.inf, n.log_ndtr((loc - y) / scale)))


def _icdf(n: _Normal, tail: Any, upper: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    point = n.ndtri(tail)
    return n.xp.clip(loc + n.xp.where(upper, -point, point) * scale, low, high)


def _crps(n: _Normal, y: Any, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    """∫ Φ² from the lower limit to y, ∫ (1 − Φ)² from y to the upper one, and the way to an outcome beyond them."""
    held = n.xp.clip(y, low, high)
    z, a, b = (held - loc) / scale, _z(n, low, loc, scale), _z(n, high, loc, scale)
    value = _square_area(n, z) - _square_area(n, a) + _square_area(n, -z) - _square_area(n, -b)
    return scale * value + n.xp.abs(y - held)


def _square_area(n: _Normal, z: Any) -> Any:
    """∫ Φ² from −∞ to z: z Φ² + 2 φ Φ − Φ(√2 z) / √π."""
    finite = n.xp.isfinite(z)
    z = n.xp.where(finite, z, 0)
    below = n.ndtr(z)
    area = z * below**2 + 2 * n.pdf(z) * below - n.ndtr(math.sqrt(2) * z) / math.sqrt(math.pi)
    return n.xp.where(finite, area, 0)


class _Parts(NamedTuple):
    at_low: Any
    at_high: Any
    between: Any
    first: Any
    """∫ z φ between the limits."""
    second: Any
    """∫ z² φ between the limits."""


def _parts(n: _Normal, loc: Any, scale: Any, low: Any, high: Any) -> _Parts:
    a, b = _z(n, low, loc, scale), _z(n, high, loc, scale)
    at_low, at_high = n.ndtr(a), n.ndtr(-b)
    between = n.xp.where(a > 0, n.ndtr(-a) - n.ndtr(-b), n.ndtr(b) - n.ndtr(a))
    near, far = (n.xp.where(n.xp.isfinite(z), z, 0) for z in (a, b))
    pdf_a = n.xp.where(n.xp.isfinite(a), n.pdf(near), 0)
    pdf_b = n.xp.where(n.xp.isfinite(b), n.pdf(far), 0)
    return _Parts(at_low, at_high, between, pdf_a - pdf_b, between + near * pdf_a - far * pdf_b)


def _moments(n: _Normal, loc: Any, scale: Any, low: Any, high: Any) -> tuple[Any, Any]:
    p = _parts(n, loc, scale, low, high)
    # From the mean before clipping, so that a large offset loses nothing.
    down = n.xp.where(n.xp.isfinite(low), n.xp.where(n.xp.isfinite(low), low, 0) - loc, 0)
    up = n.xp.where(n.xp.isfinite(high), n.xp.where(n.xp.isfinite(high), high, 0) - loc, 0)
    shift = down * p.at_low + up * p.at_high + scale * p.first
    variance = (down - shift) ** 2 * p.at_low + (up - shift) ** 2 * p.at_high
    variance = variance + shift**2 * p.between - 2 * shift * scale * p.first + scale**2 * p.second
    mean = loc + shift
    # Where most outcomes are at a limit, what they exceed it by: the sum above would cancel.
    a, b = _z(n, low, loc, scale), _z(n, high, loc, scale)
    for at_limit, near, far, limit, sign in ((a > 0, a, b, low, 1), (b < 0, -b, -a, high, -1)):
        first, second = _beyond(n, n.xp.where(at_limit, near, 1), n.xp.where(at_limit, far, math.inf))
        mean = n.xp.where(at_limit, n.xp.where(at_limit, limit, 0) + sign * scale * first, mean)
        variance = n.xp.where(at_limit, scale**2 * second, variance)
    return mean, variance


def _beyond(n: _Normal, near: Any, far: Any) -> tuple[Any, Any]:
    """Mean and variance of what a standard normal exceeds `near` by, and at most by `far − near`."""

    def beyond(z: Any) -> tuple[Any, Any]:
        tail, density = n.ndtr(-z), n.pdf(z)
        return density - z * tail, (1 + z * z) * tail - z * density

    ends = n.xp.isfinite(far)
    end = n.xp.where(ends, far, near + 1)
    (first, second), (first_far, second_far) = beyond(near), beyond(end)
    first = n.xp.maximum(first - n.xp.where(ends, first_far, 0), 0)
    second = second - n.xp.where(ends, second_far + 2 * (end - near) * first_far, 0)
    return first, n.xp.maximum(second - first * first, 0)


def _entropy(n: _Normal, loc: Any, scale: Any, low: Any, high: Any) -> Any:
    """Differential between the limits, −p log p at each."""
    p = _parts(n, loc, scale, low, high)
    value = p.between * (n.xp.log(scale) + 0.5 * _LOG_2PI) + 0.5 * p.second
    for mass in (p.at_low, p.at_high):
        value = value - n.xp.where(mass > 0, mass * n.xp.log(n.xp.where(mass > 0, mass, 1)), 0)
    return value


class _Host:
    """The same in float64, with the methods of a frozen scipy distribution."""

    def __init__(self, *parameters: Any) -> None:
        from scipy.special import log_ndtr, ndtr, ndtri

        self.normal, self.parameters = _Normal(np, ndtr, log_ndtr, ndtri), parameters

    def logpdf(self, y: Any) -> Any:
        return _log_prob(self.normal, y, *self.parameters)

    def cdf(self, y: Any) -> Any:
        return _cdf(self.normal, y, *self.parameters)

    def sf(self, y: Any) -> Any:
        return _sf(self.normal, y, *self.parameters)

    def logcdf(self, y: Any) -> Any:
        return _log_cdf(self.normal, y, *self.parameters)

    def logsf(self, y: Any) -> Any:
        return _log_sf(self.normal, y, *self.parameters)

    def ppf(self, q: Any) -> Any:
        return _icdf(self.normal, q, False, *self.parameters)

    def isf(self, q: Any) -> Any:
        return _icdf(self.normal, q, True, *self.parameters)

    def mean(self) -> Any:
        return _moments(self.normal, *self.parameters)[0]

    def var(self) -> Any:
        return _moments(self.normal, *self.parameters)[1]

    def entropy(self) -> Any:
        return _entropy(self.normal, *self.parameters)

    def crps(self, y: Any) -> Any:
        return _crps(self.normal, y, *self.parameters)

    def atoms(self) -> tuple[Any, Any]:
        return self.parameters[2], self.parameters[3]


CENSORED = Family(
    parameters=lambda d: (d.loc, d.scale, d.low, d.high),
    log_prob=functools.partial(_log_prob, _COMPILED),
    cdf=functools.partial(_cdf, _COMPILED),
    sf=functools.partial(_sf, _COMPILED),
    log_cdf=functools.partial(_log_cdf, _COMPILED),
    log_sf=functools.partial(_log_sf, _COMPILED),
    icdf=functools.partial(_icdf, _COMPILED),
    crps=functools.partial(_crps, _COMPILED),
    entropy=functools.partial(_entropy, _COMPILED),
    moments=functools.partial(_moments, _COMPILED),
    host=_Host,
    support=lambda loc, scale, low, high: (low, high),
    atoms=lambda loc, scale, low, high: (low, high),
)
register("CensoredNormal", CENSORED)
