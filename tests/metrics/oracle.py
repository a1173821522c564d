"""Mixtures of normals by brute force in float64, to compare closed forms with. Shares no code with uq."""

import itertools

import numpy as np
from scipy import integrate, optimize, stats


class Mixture:
    """One example's mixture of normals; components of weight 0 are left out."""

    def __init__(self, locs, scales, weights):
        keep = np.asarray(weights, np.float64) > 0
        self.locs = np.asarray(locs, np.float64)[keep]
        self.scales = np.asarray(scales, np.float64)[keep]
        self.weights = np.asarray(weights, np.float64)[keep]
        self.weights /= self.weights.sum()

    def pdf(self, t):
        parts = zip(self.weights, self.locs, self.scales, strict=True)
        return sum(w * stats.norm.pdf(t, m, s) for w, m, s in parts)

    def log_pdf(self, t):
        parts = zip(self.weights, self.locs, self.scales, strict=True)
        return np.logaddexp.reduce([np.log(w) + stats.norm.logpdf(t, m, s) for w, m, s in parts])

    def cdf(self, t):
        parts = zip(self.weights, self.locs, self.scales, strict=True)
        return sum(w * stats.norm.cdf(t, m, s) for w, m, s in parts)

    def sf(self, t):
        parts = zip(self.weights, self.locs, self.scales, strict=True)
        return sum(w * stats.norm.sf(t, m, s) for w, m, s in parts)

    def quantile(self, level):
        """Root of the distribution function; `level` above ½ is looked for from above."""
        each = stats.norm.ppf(level, self.locs, self.scales)
        low, high = each.min(), each.max()
        if high - low < 1e-12 * self.scales.min():
            return 0.5 * (low + high)
        if level <= 0.5:
            return optimize.brentq(lambda t: self.cdf(t) - level, low, high, xtol=1e-13, rtol=1e-14)
        return optimize.brentq(lambda t: (1 - level) - self.sf(t), low, high, xtol=1e-13, rtol=1e-14)

    def _integral(self, function, low, high):
        """∫ over [low, high], piece by piece so that no component is missed."""
        cuts = [low, high]
        for m, s in zip(self.locs, self.scales, strict=True):
            cuts += [t for t in m + s * np.array([-12.0, -4.0, -1.0, 0.0, 1.0, 4.0, 12.0]) if low < t < high]
        cuts = np.unique(cuts)
        pieces = itertools.pairwise(cuts)
        return sum(integrate.quad(function, a, b, epsabs=1e-13, epsrel=1e-11)[0] for a, b in pieces)

    @property
    def ends(self):
        return (self.locs - 14 * self.scales).min(), (self.locs + 14 * self.scales).max()

    def crps(self, y):
        low, high = self.ends
        low, high = min(low, y), max(high, y)
        below = self._integral(lambda t: self.cdf(t) ** 2, low, y)
        return below + self._integral(lambda t: self.sf(t) ** 2, y, high)

    def entropy(self):
        return self._integral(lambda t: -self.pdf(t) * self.log_pdf(t) if self.pdf(t) > 0 else 0.0, *self.ends)

    def moment(self, power, about=0.0):
        return self._integral(lambda t: (t - about) ** power * self.pdf(t), *self.ends)


def softplus(raw):
    return np.logaddexp(0.0, np.asarray(raw, np.float64))


def entropy(probs):
    """−Σ p log p of one distribution, term by term."""
    return -sum(p * np.log(p) for p in np.asarray(probs, np.float64) if p > 0)
