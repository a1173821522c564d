"""Laws that scipy lacks, or reaches only through a slow import, with the methods of a frozen scipy distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

_SQRT_2PI = math.sqrt(2 * math.pi)


class Normal:
    """Normal distributions by scipy.special alone: scipy.stats is slow to import and to freeze."""

    def __init__(self, loc: Any, scale: Any) -> None:
        self.loc, self.scale = loc, scale

    def _z(self, y: Any) -> Any:
        return (y - self.loc) / self.scale

    def logpdf(self, y: Any) -> Any:
        return -0.5 * np.square(self._z(y)) - np.log(self.scale * _SQRT_2PI)

    def cdf(self, y: Any) -> Any:
        from scipy.special import ndtr

        return ndtr(self._z(y))

    def sf(self, y: Any) -> Any:
        from scipy.special import ndtr

        return ndtr(-self._z(y))

    def logcdf(self, y: Any) -> Any:
        from scipy.special import log_ndtr

        return log_ndtr(self._z(y))

    def logsf(self, y: Any) -> Any:
        from scipy.special import log_ndtr

        return log_ndtr(-self._z(y))

    def ppf(self, q: Any) -> Any:
        from scipy.special import ndtri

        return self.loc + self.scale * ndtri(q)

    def isf(self, q: Any) -> Any:
        from scipy.special import ndtri

        return self.loc - self.scale * ndtri(q)

    def mean(self) -> Any:
        return self.loc + 0 * self.scale

    def var(self) -> Any:
        return np.square(self.scale) + 0 * self.loc

    def entropy(self) -> Any:
        return 0.5 + np.log(self.scale * _SQRT_2PI) + 0 * self.loc

    def crps(self, y: Any) -> Any:
        z = self._z(y)
        return self.scale * (absolute_normal(z, 1.0) - 1 / math.sqrt(math.pi))

    def cross(self, pick: Any, other: Any) -> Any:
        """E|X − X′| between components `pick` and `other` of the leading axis."""
        width = np.sqrt(np.square(self.scale[pick]) + np.square(self.scale[other]))
        return absolute_normal(self.loc[pick] - self.loc[other], width)


def absolute_normal(gap: Any, scale: Any) -> Any:
    """E|X| for X ~ N(gap, scale²)."""
    from scipy.special import erf

    z = gap / scale
    return gap * erf(z / math.sqrt(2)) + 2 * scale * np.exp(-0.5 * np.square(z)) / _SQRT_2PI


class Truncated:
    """A frozen distribution given that its outcome lies in [low, high], in log space from the smaller side."""

    def __init__(self, base: Any, low: Any, high: Any) -> None:
        self.base, self.low, self.high = base, low, high

    def _log_mass(self, low: Any, high: Any) -> Any:
        """log P(low < Y ≤ high) of the base."""
        with np.errstate(divide="ignore", invalid="ignore"):
            s_low, s_high, f_low, f_high = (
                self.base.logsf(low), self.base.logsf(high), self.base.logcdf(low), self.base.logcdf(high),
            )  # fmt: skip
            upper = s_low < f_low
            big, small = np.where(upper, s_low, f_high), np.where(upper, s_high, f_low)
            ratio = np.where(small == -np.inf, -np.inf, small - big)
            return big + np.where(ratio > -0.7, np.log(-np.expm1(ratio)), np.log1p(-np.exp(ratio)))

    def logpdf(self, y: Any) -> Any:
        value = self.base.logpdf(y) - self._log_mass(self.low, self.high)
        return np.where((y < self.low) | (y > self.high), -np.inf, value)

    def logcdf(self, y: Any) -> Any:
        kept = np.clip(y, self.low, self.high)
        value = self._log_mass(self.low, kept) - self._log_mass(self.low, self.high)
        return np.where(y <= self.low, -np.inf, np.minimum(value, 0))

    def logsf(self, y: Any) -> Any:
        kept = np.clip(y, self.low, self.high)
        value = self._log_mass(kept, self.high) - self._log_mass(self.low, self.high)
        return np.where(y >= self.high, -np.inf, np.minimum(value, 0))

    def cdf(self, y: Any) -> Any:
        return np.exp(self.logcdf(y))

    def sf(self, y: Any) -> Any:
        return np.exp(self.logsf(y))

    def ppf(self, q: Any) -> Any:
        q = np.asarray(q, np.float64)
        return self._point(q, 1 - q)

    def isf(self, q: Any) -> Any:
        q = np.asarray(q, np.float64)
        return self._point(1 - q, q)

    def _point(self, below: Any, above: Any) -> Any:
        with np.errstate(divide="ignore"):
            below, above = np.log(below), np.log(above)
            log_f = np.logaddexp(self.base.logcdf(self.low) + above, self.base.logcdf(self.high) + below)
            log_s = np.logaddexp(self.base.logsf(self.low) + above, self.base.logsf(self.high) + below)
        right = log_s < log_f
        least = np.where(right, log_s, log_f)
        if isinstance(self.base, Normal):
            from scipy.special import ndtri_exp

            point = self.base.loc + np.where(right, -1, 1) * self.base.scale * ndtri_exp(least)
        elif (name := getattr(getattr(self.base, "dist", None), "name", None)) in _BY_LOG_TAIL:
            _, loc, scale = self.base.dist._parse_args(*self.base.args, **self.base.kwds)
            point = loc + np.where(right, -1, 1) * scale * _BY_LOG_TAIL[name](least)
        else:
            point = np.where(right, self.base.isf(np.exp(least)), self.base.ppf(np.exp(least)))
        return np.clip(point, self.low, self.high)

    def mean(self) -> Any:
        from ._host_scores import moments

        return moments(self, np.shape(self.low))[0]

    def var(self) -> Any:
        from ._host_scores import moments

        return moments(self, np.shape(self.low))[1]

    def entropy(self) -> Any:
        from ._host_scores import entropy

        return entropy(self, np.shape(self.low))


def _laplace_point(log_tail: Any) -> Any:
    half = math.log(2)
    low = log_tail < -half
    above = np.log1p(-np.exp(np.where(low, -half, log_tail)))
    return np.where(low, log_tail + half, -half - above)


_BY_LOG_TAIL = {"laplace": _laplace_point, "logistic": lambda log_tail: log_tail - np.log1p(-np.exp(log_tail))}
"""Quantiles of symmetric laws by the logarithm of the lower tail, which may be too small for a number."""


class Monotone:
    """A frozen distribution under monotone changes, `(change, parameters)` pairs with the innermost first."""

    def __init__(self, base: Any, pairs: Any) -> None:
        from .transformed import pull, push

        self.base, self.pairs = base, pairs
        self._pull, self._push = pull, push

    def _at(self, y: Any) -> tuple[Any, ...]:
        with np.errstate(all="ignore"):
            return self._pull(np, np.asarray(y, np.float64), self.pairs)

    @property
    def seam(self) -> Any:
        """Where the density has a kink or a pole; None where it has none."""
        from .transformed import seam_of

        return seam_of(np, self.pairs)

    @property
    def _rising(self) -> Any:
        from .transformed import is_rising

        return is_rising(np, self.pairs)

    def _one_sided(self, y: Any, name: str, mirror: str, under: float, over: float) -> Any:
        x, _, rising, below, above = self._at(y)
        value = np.where(rising, getattr(self.base, name)(x), getattr(self.base, mirror)(x))
        return np.where(below, under, np.where(above, over, value))

    def logpdf(self, y: Any) -> Any:
        x, slope, _, below, above = self._at(y)
        return np.where(below | above, -np.inf, self.base.logpdf(x) - slope)

    def cdf(self, y: Any) -> Any:
        return self._one_sided(y, "cdf", "sf", 0.0, 1.0)

    def sf(self, y: Any) -> Any:
        return self._one_sided(y, "sf", "cdf", 1.0, 0.0)

    def logcdf(self, y: Any) -> Any:
        return self._one_sided(y, "logcdf", "logsf", -np.inf, 0.0)

    def logsf(self, y: Any) -> Any:
        return self._one_sided(y, "logsf", "logcdf", 0.0, -np.inf)

    def ppf(self, q: Any) -> Any:
        return self._push(np, np.where(self._rising, self.base.ppf(q), self.base.isf(q)), self.pairs)

    def isf(self, q: Any) -> Any:
        return self._push(np, np.where(self._rising, self.base.isf(q), self.base.ppf(q)), self.pairs)

    @property
    def _scale(self) -> Any:
        """The factor of an affine change; None for others."""
        from .transformed import AFFINE

        scale: Any = 1.0
        for change, parameters in self.pairs:
            if change is not AFFINE:
                return None
            scale = scale * parameters[1]
        return scale

    def crps(self, y: Any) -> Any:
        from ._host_scores import by_quantiles, crps

        if self._scale is None:
            return by_quantiles(self, y)
        return np.abs(self._scale) * crps(self.base, self._at(y)[0])

    def _moments(self) -> tuple[Any, Any]:
        from ._host_scores import moments

        if self._scale is None:
            return moments(self, np.shape(self.ppf(0.5)))
        return self._push(np, self.base.mean(), self.pairs), np.square(self._scale) * self.base.var()

    def mean(self) -> Any:
        return self._moments()[0]

    def var(self) -> Any:
        return self._moments()[1]

    def entropy(self) -> Any:
        from ._host_scores import entropy

        if self._scale is None:
            return entropy(self, np.shape(self.ppf(0.5)))
        return self.base.entropy() + np.log(np.abs(self._scale))
