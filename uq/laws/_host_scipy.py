"""Distributions of scipy's whose digits it loses, mended: the same names, parameters and methods."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np


def sound(law: Any) -> Any:
    """A frozen scipy distribution, or one of ours in place of those whose digits scipy loses.

    Laplace's log-density and log-tails are −∞ from 745 scales on; gamma's lower tail is wrong for large shapes, and
    with it the tails of what is made of it; the counts named below look for an upper tail q at the level 1 − q, which
    may be 1, and have a quantile of level 0 that is no count.
    """
    name = getattr(getattr(law, "dist", None), "name", None)
    if name not in ("laplace", "gamma", "invgamma", "poisson", "nbinom", "binom", "bernoulli"):
        return law
    own = _own(name)
    return law if isinstance(law.dist, type(own)) else own(*law.args, **law.kwds)


@functools.cache
def _own(name: str) -> Any:
    from scipy import special, stats

    from . import _host_gamma

    def density(a: Any, x: Any, plain: Any, less: Any) -> Any:
        """log x^a e^(−x) / Γ(a) less something, for large shapes; else `plain`."""
        a, x = np.broadcast_arrays(a, x)
        large = (a >= _host_gamma.LARGE) & (x > 0)
        if not large.any():
            return plain
        value = _host_gamma.log_density(np.where(large, a, 1), np.where(large, x, 1))
        return np.where(large, value - np.log(np.where(large, less, 1)), plain)

    class Laplace(type(stats.laplace)):  # type: ignore[misc]
        def _logpdf(self, x: Any) -> Any:
            return -np.abs(x) - math.log(2)

        def _logcdf(self, x: Any) -> Any:
            return np.where(x < 0, x - math.log(2), np.log1p(-0.5 * np.exp(-np.abs(x))))

        def _logsf(self, x: Any) -> Any:
            return self._logcdf(-x)

    class Gamma(type(stats.gamma)):  # type: ignore[misc]
        def _logpdf(self, x: Any, a: Any) -> Any:
            return density(a, x, super()._logpdf(x, a), x)

        def _cdf(self, x: Any, a: Any) -> Any:
            return _host_gamma.gammainc(a, x)

        def _logcdf(self, x: Any, a: Any) -> Any:
            return _host_gamma.log_gammainc(a, x)

        def _ppf(self, q: Any, a: Any) -> Any:
            return _host_gamma.gammaincinv(a, q)

    class InverseGamma(type(stats.invgamma)):  # type: ignore[misc]
        def _logpdf(self, x: Any, a: Any) -> Any:
            return density(a, 1 / x, super()._logpdf(x, a), x)

        def _sf(self, x: Any, a: Any) -> Any:
            return _host_gamma.gammainc(a, 1 / x)

        def _logsf(self, x: Any, a: Any) -> Any:
            return _host_gamma.log_gammainc(a, 1 / x)

        def _isf(self, q: Any, a: Any) -> Any:
            return 1 / _host_gamma.gammaincinv(a, q)

    class Counts:
        _sf: Any
        support: Any

        def ppf(self, q: Any, *args: Any, **more: Any) -> Any:
            """As everywhere here, the quantile of level 0 is the smallest count; scipy's is one less."""
            return np.maximum(super().ppf(q, *args, **more), self.support(*args, **more)[0])  # type: ignore[misc]

        def isf(self, q: Any, *args: Any, **more: Any) -> Any:
            return np.maximum(super().isf(q, *args, **more), self.support(*args, **more)[0])  # type: ignore[misc]

        def _isf(self, q: Any, *args: Any) -> Any:
            """The smallest k with P(Y > k) ≤ q, by bisection."""
            q = np.asarray(q)
            low, high = np.full(q.shape, -1.0), np.ones(q.shape)
            while (more := self._sf(high, *args) > q).any():
                low, high = np.where(more, high, low), np.where(more, 2 * high + 1, high)
            while (high - low > 1).any():
                middle = np.floor(0.5 * (low + high))
                reached = self._sf(middle, *args) <= q
                low, high = np.where(reached, low, middle), np.where(reached, middle, high)
            return high

    class NegativeBinomial(Counts, type(stats.nbinom)):  # type: ignore[misc]
        pass

    class Binomial(Counts, type(stats.binom)):  # type: ignore[misc]
        pass

    class Bernoulli(Counts, type(stats.bernoulli)):  # type: ignore[misc]
        pass

    class Poisson(Counts, type(stats.poisson)):  # type: ignore[misc]
        def _logpmf(self, k: Any, mu: Any) -> Any:
            return density(k + 1, mu, super()._logpmf(k, mu), mu)

        def _pmf(self, k: Any, mu: Any) -> Any:
            return np.exp(self._logpmf(k, mu))

        def _sf(self, x: Any, mu: Any) -> Any:
            k = np.floor(x)
            far = (k + 1 >= _host_gamma.LARGE) & (mu > 0)
            return np.where(far, _host_gamma.gammainc(np.where(far, k + 1, 1), mu), special.pdtrc(k, mu))

    kinds = {
        "laplace": lambda: Laplace(name="laplace"),
        "gamma": lambda: Gamma(a=0.0, name="gamma"),
        "invgamma": lambda: InverseGamma(a=0.0, name="invgamma"),
        "poisson": lambda: Poisson(name="poisson", longname="A Poisson"),
        "nbinom": lambda: NegativeBinomial(name="nbinom"),
        "binom": lambda: Binomial(name="binom"),
        "bernoulli": lambda: Bernoulli(b=1, name="bernoulli"),
    }
    return kinds[name]()
