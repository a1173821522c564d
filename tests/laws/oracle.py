"""Mixtures of frozen scipy distributions by brute force in float64. Shares no code with uq."""

import itertools
import warnings

import numpy as np
from scipy import integrate, optimize


class FrozenMixture:
    """One example's mixture: a list of frozen distributions and their weights."""

    def __init__(self, laws, weights):
        self.laws, self.weights = laws, np.asarray(weights, np.float64)

    def _mean(self, name, x):
        return sum(w * getattr(law, name)(x) for w, law in zip(self.weights, self.laws, strict=True))

    def cdf(self, x):
        return self._mean("cdf", x)

    def sf(self, x):
        return self._mean("sf", x)

    def pdf(self, x):
        return self._mean("pdf", x)

    def pmf(self, k):
        return self._mean("pmf", k)

    def quantile(self, level):
        ends = [law.ppf(level) for law in self.laws]
        return optimize.brentq(
            lambda x: self.cdf(x) - level if level < 0.5 else (1 - level) - self.sf(x),
            min(ends), max(ends), xtol=1e-14, rtol=1e-13,
        )  # fmt: skip

    def whole_quantile(self, level, top=10_000):
        return np.flatnonzero(self.cdf(np.arange(top)) >= level)[0]

    def _integral(self, function, cuts, **how):
        pieces = itertools.pairwise(sorted(set(cuts)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", integrate.IntegrationWarning)  # pieces that hold next to nothing
            return sum(integrate.quad(function, a, b, epsabs=1e-13, epsrel=1e-10, **how)[0] for a, b in pieces)

    def _points(self, levels):
        return [float(law.ppf(q)) for law in self.laws for q in levels] + [
            float(law.isf(q)) for law in self.laws for q in levels
        ]

    def crps(self, y):
        cuts = [y, *self._points([1e-12, 1e-8, 1e-4, 0.02, 0.5])]
        return self._integral(lambda x: self.cdf(x) ** 2 if x < y else self.sf(x) ** 2, cuts)

    def whole_crps(self, y, top=10_000):
        k = np.arange(top)
        return ((self.cdf(k) - (k >= y)) ** 2).sum()

    def entropy(self):
        def surprise(x):
            p = self.pdf(x)
            return -p * np.log(p) if 0 < p < np.inf else 0.0

        cuts = self._points([1e-12, 1e-9, 1e-6, 1e-4, 1e-3, 0.01, 0.1, 0.3, 0.5])
        return self._integral(surprise, cuts, limit=200)

    def whole_entropy(self, top=10_000):
        p = self.pmf(np.arange(top))
        return -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum()


def rows(twin):
    """Frozen distributions of single numbers, from one whose parameters are columns."""
    shape = np.broadcast_shapes(*(np.shape(leaf) for leaf in (*twin.args, *twin.kwds.values())))

    def at(leaf, row):
        return float(np.broadcast_to(leaf, shape)[row, 0])

    for row in range(shape[0]):
        yield twin.dist(*(at(a, row) for a in twin.args), **{name: at(a, row) for name, a in twin.kwds.items()})
