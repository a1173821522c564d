"""Mixtures in float64 on the host, with the methods of a frozen scipy distribution."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from . import _host_scores

_TAILS = (0.5, 0.31, 0.16, 0.067, 0.023, 6e-3, 1e-3, 3e-5, 3e-7, 1e-9, 1e-11)
_TINY = 1e-300


class Mixture:
    """A frozen law whose parameters have a leading axis of components, and their weights of the same rank.

    `make(extra)` freezes it with so many axes after the first, for outcomes that have more axes than one component.
    """

    positive = False
    """Whether outcomes lie above 0, so that integrals are taken over log y."""
    mirror: Mixture | None = None
    """The mixture of 1 − Y, of fractions."""

    def __init__(self, make: Callable[[int], Any], weight: np.ndarray, discrete: bool) -> None:
        self.make, self.weight, self.discrete = make, weight, discrete
        self.law = make(0)

    def _for(self, y: Any) -> Mixture:
        extra = np.ndim(y) - self.weight.ndim + 1
        if extra <= 0:
            return self
        weight = self.weight.reshape(self.weight.shape[0], *(1,) * extra, *self.weight.shape[1:])
        return Mixture(lambda more: self.make(extra + more), weight, self.discrete)

    def _mean(self, values: Any) -> Any:
        return (self.weight * values).sum(0)[()]

    def _log_mean(self, values: Any) -> Any:
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.log(self.weight) + values
            top = total.max(0)
            top = np.where(np.isfinite(top), top, 0)
            return (np.log(np.exp(total - top).sum(0)) + top)[()]

    def logpdf(self, y: Any) -> Any:
        own = self._for(y)
        return own._log_mean(own.law.logpmf(y) if self.discrete else own.law.logpdf(y))

    logpmf = logpdf

    def cdf(self, y: Any) -> Any:
        own = self._for(y)
        return own._mean(own.law.cdf(y))

    def sf(self, y: Any) -> Any:
        own = self._for(y)
        return own._mean(own.law.sf(y))

    def logcdf(self, y: Any) -> Any:
        own = self._for(y)
        return own._log_mean(own.law.logcdf(y))

    def logsf(self, y: Any) -> Any:
        own = self._for(y)
        return own._log_mean(own.law.logsf(y))

    def mean(self) -> Any:
        return self._mean(self.law.mean())

    def var(self) -> Any:
        means = self.law.mean()
        return self._mean(self.law.var() + np.square(means - self._mean(means)))

    def ppf(self, q: Any) -> Any:
        q = np.asarray(q, np.float64)
        own = self._for(q)
        return own._between(np.asarray(own.law.ppf(q)), lambda y: own.cdf(y) >= q * (1 - 1e-15))

    def isf(self, q: Any) -> Any:
        q = np.asarray(q, np.float64)
        own = self._for(q)
        return own._between(np.asarray(own.law.isf(q)), lambda y: own.sf(y) <= q * (1 + 1e-15))

    def _between(self, each: np.ndarray, reached: Any) -> Any:
        """The first point that has `reached`, between the smallest and the largest component quantile."""
        low, high = each.min(0), each.max(0)
        for _ in range(200):
            with np.errstate(over="ignore"):
                middle = np.floor(0.5 * low + 0.5 * high) if self.discrete else 0.5 * low + 0.5 * high
            done = reached(middle)
            after = np.minimum(middle + 1, high) if self.discrete else middle
            fresh = np.where(done, low, after), np.where(done, middle, high)
            if np.array_equal(fresh[0], low) and np.array_equal(fresh[1], high):
                break
            low, high = fresh
        return high[()]

    def _cuts(self) -> np.ndarray:
        points = [self.law.ppf(t) for t in _TAILS] + [self.law.isf(t) for t in _TAILS[1:]]
        stacked = np.stack([np.broadcast_to(p, np.broadcast_shapes(np.shape(p), self.weight.shape)) for p in points])
        return np.sort(stacked.reshape(-1, *stacked.shape[2:]), 0)

    def _sum(self, function: Any, order: int = 10, upto: float = np.inf) -> Any:
        """∫ of a function of y up to `upto`, or its sum over whole numbers."""
        cuts = np.minimum(self._cuts(), upto)
        total = exact = np.zeros(cuts.shape[1:])
        wide = np.ones(cuts.shape[1:], bool)
        if self.discrete:  # each row from its own first whole number on, however far apart the rows are
            start = np.floor(cuts[0]) - 1
            span = np.ceil(cuts[-1]) + 2 - start
            for k in range(int(min(span.max(), _host_scores._LATTICE))):
                exact = exact + function(start + k)
            wide = span > _host_scores._LATTICE
            if not wide.any():
                return exact[()]
            cuts, order = cuts - 0.5, 2 * order
        nodes, mass = np.polynomial.legendre.leggauss(order)
        if self.positive and not self.discrete:
            cuts = np.log(np.maximum(cuts, _TINY))
            plain = function
            function = lambda x: np.exp(x) * plain(np.exp(x))  # noqa: E731
        for a, b in itertools.pairwise(cuts):
            for node, share in zip(nodes, mass, strict=True):
                x = 0.5 * (a + b) + 0.5 * (b - a) * node
                total = total + 0.5 * (b - a) * share * function(np.floor(x + 0.5) if self.discrete else x)
        return np.where(wide, total, exact)[()]

    def entropy(self) -> Any:
        if self.mirror is not None:  # each half from its own end, towards which the density may rise without limit
            ends = (self, self.mirror)
            return sum(law._sum(law._surprise, upto=0.5) + law._beside_zero() for law in ends)
        total = self._sum(self._surprise)
        if self.positive and not self.discrete:
            total = total + self._beside_zero()
        for atom in self.law.atoms() if hasattr(self.law, "atoms") else ():
            end = np.max(atom)  # limits with a probability are those of all components
            total = total + (self._surprise(end) if np.isfinite(end) else 0.0)
        return total

    def _surprise(self, y: Any) -> Any:
        log_prob = np.maximum(self.logpdf(y), -1e300)
        return -np.exp(log_prob) * log_prob

    def _beside_zero(self) -> Any:
        """−∫ f log f over outcomes too small for a number, where densities are powers."""
        point = np.full(self.weight.shape[1:], _TINY)
        mass, density = self.logcdf(point), self.logpdf(point)
        some = mass > np.log(1e-16)
        inverse = np.exp(np.where(some, mass - density - np.log(_TINY), 0))
        return np.where(some, np.exp(mass) * (1 - inverse - np.where(some, density, 0)), 0.0)

    def crps(self, y: Any) -> Any:
        own = self._for(y)
        first = own._mean(_host_scores.crps(own.law, y))
        if self.weight.shape[0] == 1:
            return first
        if hasattr(self.law, "cross"):
            return first - self._pairs()
        return first - self._sum(self._variance)

    def _variance(self, y: Any) -> Any:
        values = self.law.cdf(y)
        return self._mean(np.square(values - self._mean(values)))

    def _pairs(self) -> Any:
        """½ (ΣΣ w w′ E|X − X′| − Σ w E|X − X″|)."""
        size = self.weight.shape[0]
        every = np.arange(size)
        total = -self._mean((1 - self.weight) * self.law.cross(every, every))
        for shift in range(1, size // 2 + 1):
            other = (every + shift) % size
            gaps = self.weight * self.weight[other] * self.law.cross(every, other)
            total = total + (1 if 2 * shift == size else 2) * gaps.sum(0)
        return 0.5 * total
