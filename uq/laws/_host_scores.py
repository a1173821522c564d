"""CRPS, entropy and moments of frozen scipy distributions in float64: closed forms by name, else numerically."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

_LATTICE = 200_000
"""Whole numbers summed over at most, one by one."""


# Closed forms for loc 0 and scale 1: `(law, z, *shapes)`, with the standard law where it helps


def _norm(z: Any) -> Any:
    from ._host_objects import Normal

    return Normal(0.0, 1.0).crps(z)


def _t(z: Any, df: Any) -> Any:
    """By continuation also where the mean is infinite, ½ < df ≤ 1."""
    from scipy import stats
    from scipy.special import betaln

    v = np.where(df > 0.5, np.where(np.abs(df - 1) < 1e-6, 1 + 1e-6, df), 2.0)
    law = stats.t(v)
    constant = np.exp(betaln(0.5, v - 0.5) - 2 * betaln(0.5, v / 2)) * 2 * np.sqrt(v) / (v - 1)
    value = z * (law.cdf(z) - law.sf(z)) + 2 * law.pdf(z) * (v + np.square(z)) / (v - 1) - constant
    return np.where(df > 0.5, value, np.inf)[()]


def _laplace(z: Any) -> Any:
    return np.abs(z) + np.exp(-np.abs(z)) - 0.75


def _logistic(z: Any) -> Any:
    return np.logaddexp(z, 0) + np.logaddexp(-z, 0) - 1


def _gumbel_r(z: Any) -> Any:
    from scipy.special import exp1

    far = z > 18  # where E₁(e^(−z)) = z − γ + e^(−z), also where the argument would be 0
    rate = np.exp(np.minimum(-z, 700))
    near = 2 * exp1(np.where(far, 1, rate)) - z + np.euler_gamma
    return np.where(far, z - np.euler_gamma + 2 * rate, near) - math.log(2)


def _lognorm(z: Any, s: Any) -> Any:
    """z erf(w/√2) + m erfc(s/2) − 2 m Φ(w − s), products in logarithms: the mean m may be beyond all numbers."""
    from scipy.special import erf, log_ndtr

    inside = z > 0
    w = np.where(inside, np.log(np.where(inside, z, 1)) / s, -40)
    log_mean = 0.5 * np.square(s) + math.log(2)
    with np.errstate(over="ignore"):
        half_gap = np.exp(log_mean + log_ndtr(-s / math.sqrt(2)))
        value = z * erf(w / math.sqrt(2)) + half_gap - np.exp(log_mean + log_ndtr(w - s))
    return np.where(np.isfinite(half_gap), value, np.inf)[()]


def _gamma(z: Any, a: Any) -> Any:
    from scipy.special import beta, gammaincc

    from ._host_gamma import gammainc

    x = np.maximum(z, 0)
    one = gammainc(a, x) - gammaincc(a, x)
    two = gammainc(a + 1, x) - gammaincc(a + 1, x)
    return z * one - a * two - 1 / beta(0.5, a)


def _invgamma(z: Any, a: Any) -> Any:
    """By continuation also where the mean is infinite, ½ < a ≤ 1."""
    from scipy.special import gammaincc, gammaln

    from ._host_gamma import gammainc

    v = np.where(a > 0.5, np.where(np.abs(a - 1) < 1e-6, 1 + 1e-6, a), 2.0)
    inside = z > 0
    x = 1 / np.where(inside, z, 1)
    mean = 1 / (v - 1)
    sign = np.where(inside, gammaincc(v, x) - gammainc(v, x), -1)
    kernel = np.where(inside, np.exp((v - 1) * np.log(x) - x - gammaln(v)), 0)
    half_gap = np.exp(gammaln(v - 0.5) - gammaln(v)) / math.sqrt(math.pi)
    return np.where(a > 0.5, (z - mean) * sign + mean * (2 * kernel - half_gap), np.inf)[()]


def _weibull_min(z: Any, c: Any) -> Any:
    from scipy.special import gamma, gammainc

    x = np.maximum(z, 0) ** c
    mean = gamma(1 + 1 / c)
    return z * (1 - 2 * np.exp(-x)) - mean * (2 * gammainc(1 + 1 / c, x) - 1) + mean * np.expm1(-math.log(2) / c)


def _expon(z: Any) -> Any:
    return np.abs(z) + 0.5 + 2 * np.expm1(-np.maximum(z, 0))


def _halfnorm(z: Any) -> Any:
    from scipy.special import erf

    x = np.maximum(z, 0)
    mean = math.sqrt(2 / math.pi)
    return z * (2 * erf(x / math.sqrt(2)) - 1) + 2 * mean * np.exp(-0.5 * np.square(x)) - 2 / math.sqrt(math.pi)


def _uniform(z: Any) -> Any:
    x = np.clip(z, 0, 1)
    return np.abs(z - x) + np.square(x) - x + 1 / 3


def _beta(z: Any, a: Any, b: Any) -> Any:
    from scipy.special import betainc, betaln

    x = np.clip(z, 0, 1)
    mean = a / (a + b)
    gap = 2 / a * np.exp(betaln(2 * a, 2 * b) - 2 * betaln(a, b))
    return z * (2 * betainc(a, b, x) - 1) + mean * (1 - 2 * betainc(a + 1, b, x) - gap)


def _poisson(z: Any, mu: Any) -> Any:
    """(y − μ)(2 F − 1) + 2 μ f − μ (I₀ + I₁)(2 μ) e^(−2 μ)."""
    from scipy import stats
    from scipy.special import ive

    from ._host_scipy import sound

    law = sound(stats.poisson(mu))
    whole = np.floor(z)
    near = (z - mu) * (law.cdf(whole) - law.sf(whole)) + 2 * mu * law.pmf(whole)
    return near - mu * (ive(0, 2 * mu) + ive(1, 2 * mu))


CLOSED: dict[str, Callable[..., Any]] = {
    "norm": _norm,
    "t": _t,
    "laplace": _laplace,
    "logistic": _logistic,
    "gumbel_r": _gumbel_r,
    "lognorm": _lognorm,
    "gamma": _gamma,
    "invgamma": _invgamma,
    "weibull_min": _weibull_min,
    "expon": _expon,
    "halfnorm": _halfnorm,
    "uniform": _uniform,
    "beta": _beta,
    "poisson": _poisson,
}
"""By scipy's names."""


def crps(law: Any, y: Any) -> Any:
    """Of a frozen distribution, or of an object with its methods."""
    if hasattr(law, "crps"):
        return law.crps(y)
    kind = getattr(law, "dist", None)
    name = getattr(kind, "name", None)
    if name in CLOSED and kind is not None:
        shapes, loc, *scales = kind._parse_args(*law.args, **law.kwds)
        scale = scales[0] if scales else 1.0
        scale = np.asarray(scale, np.float64)
        return scale * CLOSED[name]((y - loc) / scale, *(np.asarray(shape, np.float64) for shape in shapes))
    if hasattr(kind if kind is not None else law, "pmf") or (hasattr(law, "logpmf") and not hasattr(law, "logpdf")):
        return _on_lattice(law, y)
    return by_quantiles(law, y)


def graded(order: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes u in (0, 1), 1 − u, and weights, dense at both ends: Gauss–Legendre under u = t³ (10 − 15 t + 6 t²)."""
    t, mass = np.polynomial.legendre.leggauss(order)
    t, mass = (t + 1) / 2, mass / 2
    rise = t**3 * (10 - 15 * t + 6 * t**2)
    return rise, rise[::-1].copy(), mass * 30 * np.square(t * (1 - t))


def _at_tails(law: Any, below: Any, above: Any) -> Any:
    upper = above < below
    return np.where(upper, law.isf(np.where(upper, above, 0.5)), law.ppf(np.where(upper, 0.5, below)))


def by_quantiles(law: Any, y: Any) -> Any:
    """2 ∫ (1{y ≤ Q(u)} − u)(Q(u) − y) du, cut at u = F(y), and at the seam of a law that has one."""
    with np.errstate(invalid="ignore"):  # of a nan, which comes out as one
        at_y = np.asarray(law.cdf(y)), np.asarray(law.sf(y))
    first, last = at_y, at_y
    middle: Any = 0.0
    seam = getattr(law, "seam", None)
    if seam is not None:
        at_seam = np.asarray(law.cdf(seam)), np.asarray(law.sf(seam))
        first = np.minimum(at_y[0], at_seam[0]), np.maximum(at_y[1], at_seam[1])
        last = np.maximum(at_y[0], at_seam[0]), np.minimum(at_y[1], at_seam[1])
        middle = _part(law, y, first, last, seam < y)
    return 2 * (_part(law, y, (0, 1), first, True) + middle + _part(law, y, last, (1, 0), False))[()]


def _part(law: Any, y: Any, start: tuple[Any, Any], end: tuple[Any, Any], left: Any) -> Any:
    """Half the CRPS from the levels between two points, by the tails of both: all to one side of `y`."""
    length = np.where(end[0] < start[1], end[0] - start[0], start[1] - end[1])
    total = np.zeros(np.broadcast_shapes(length.shape, np.shape(y)))
    for rise, fall, mass in zip(*graded(), strict=True):
        below, above = start[0] + length * rise, end[1] + length * fall
        weight = length * np.where(left, below, above)
        with np.errstate(invalid="ignore"):
            quantile = _at_tails(law, below, above)
            gap = np.maximum(np.where(left, y - quantile, quantile - y), 0)
            total = total + mass * np.where(weight <= 0, 0, weight * gap)  # what is not a number stays that
    return total


def _on_lattice(law: Any, y: Any) -> Any:
    """Σ (F(k) − 1{k ≥ y})² over whole numbers, with the part between a fractional `y` and its neighbours exact."""
    low, high = np.floor(law.ppf(1e-13)) - 1, np.ceil(law.isf(1e-13)) + 1
    kept = np.clip(y, low, high)  # beyond, F is 0 or 1: every row sums over its own range, whatever the others need
    span = high - low
    size = int(min(np.max(span), _LATTICE))
    shape = np.broadcast_shapes(np.shape(low), np.shape(y))
    total = np.abs(y - kept) + np.zeros(shape)
    for first in range(0, size, 256):
        k = low + np.arange(first, min(first + 256, size), dtype=np.float64).reshape((-1,) + (1,) * len(shape))
        below, above = law.cdf(k), law.sf(k)
        after = np.clip(k + 1 - kept, 0, 1)  # the share of [k, k + 1) at or above y
        total = total + (np.square(below) * (1 - after) + np.square(above) * after).sum(0)
    wide = span > _LATTICE
    if np.any(wide):
        total = np.where(wide, _pieces_on_lattice(law, y, np.maximum(low, 0), high), total)
    return total[()]


def _pieces_on_lattice(law: Any, y: Any, low: Any, high: Any) -> Any:
    """As `_on_lattice` over a wide range: an integral of the interpolated cdf, right to about 1e-6 of the score."""
    z = np.unique(np.concatenate([[1e-13, 1e-10], 0.5 * graded(60)[0]]))
    quantiles = [law.ppf(q) for q in z] + [law.isf(q) for q in z[::-1]]
    shape = np.broadcast_shapes(np.shape(low), np.shape(y))
    cuts = np.sort(np.stack([np.broadcast_to(c, shape) for c in (*quantiles, y)]).astype(np.float64), 0)
    nodes, mass = np.polynomial.legendre.leggauss(6)
    total = np.maximum(cuts[0] - y, 0) + np.maximum(y - cuts[-1], 0)
    for a, b in itertools.pairwise(cuts):
        for node, share in zip(nodes, mass, strict=True):
            x = 0.5 * (a + b) + 0.5 * (b - a) * node
            k = np.floor(x - 0.5)
            part = x - 0.5 - k  # between lattice points the cdf is interpolated
            below = law.cdf(k) * (1 - part) + law.cdf(k + 1) * part
            above = law.sf(k) * (1 - part) + law.sf(k + 1) * part
            total = total + 0.5 * (b - a) * share * np.where(x >= y, np.square(above), np.square(below))
    return total[()]


def entropy(law: Any, shape: tuple[int, ...] | None = None) -> Any:
    """−∫ log f(Q(u)) du of a continuous law."""
    points, mass = _points(law, shape if shape is not None else np.shape(law.ppf(0.5)))
    value = law.logpdf(points)
    if getattr(law, "seam", None) is not None:  # a point rounded onto a pole: what lies so near weighs nothing
        value = np.where(np.isfinite(value), value, 0)
    return -(mass * value).sum(0)[()]


def moments(law: Any, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and variance of a continuous law, from its quantiles."""
    points, mass = _points(law, shape)
    mean = (mass * points).sum(0)
    return mean[()], (mass * np.square(points - mean)).sum(0)[()]


def _points(law: Any, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles along a new leading axis, and their weights: graded to both ends, with a seam at the median."""
    t, mass = np.polynomial.legendre.leggauss(100)
    t, mass = (t + 1) / 2, mass / 2
    column = (-1,) + (1,) * len(shape)
    seam = getattr(law, "seam", None)
    if seam is not None:  # where the density has a kink or a pole: graded towards it as well, from both sides
        rise, fall, share = (part.reshape(column) for part in graded())
        below, above = law.cdf(seam), law.sf(seam)
        left = np.maximum(below * rise, 1e-300), above + below * fall
        right = below + above * fall, np.maximum(above * rise, 1e-300)
        points = [np.where(low < high, law.ppf(low), law.isf(high)) for low, high in (left, right)]
        return np.concatenate(points), np.concatenate([below * share, above * share])
    tail, mass = (0.5 * t**4).reshape(column), (2 * mass * t**3).reshape(column)
    low, high = np.broadcast_arrays(law.ppf(tail), law.isf(tail))
    return np.concatenate([low, high]), np.concatenate([mass, mass])
