"""Twelve families of predictive distributions, by numpyro and by scipy, and wrong versions of each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpyro.distributions as dist
from scipy import stats


class Family(NamedTuple):
    ours: Callable[..., Any]
    """Parameters → numpyro distribution, as a metric takes it."""
    theirs: Callable[..., Any]
    """Parameters → frozen scipy distribution, which gives the truth."""
    base: tuple[float, ...]
    """Parameters of the truth: away from 0 and 1."""


def quiet(make):
    """A numpyro constructor that checks nothing: its checks are compiled."""
    return lambda *parameters: make(*parameters, validate_args=False)


FAMILIES = {
    "Normal": Family(quiet(dist.Normal), stats.norm, (3.0, 2.0)),
    "StudentT": Family(quiet(dist.StudentT), stats.t, (5.0, 3.0, 2.0)),
    "Laplace": Family(quiet(dist.Laplace), stats.laplace, (3.0, 2.0)),
    "Logistic": Family(quiet(dist.Logistic), stats.logistic, (3.0, 2.0)),
    "Gumbel": Family(quiet(dist.Gumbel), stats.gumbel_r, (3.0, 2.0)),
    "LogNormal": Family(quiet(dist.LogNormal), lambda m, s: stats.lognorm(s, scale=np.exp(m)), (1.0, 0.6)),
    "Gamma": Family(quiet(dist.Gamma), lambda a, b: stats.gamma(a, scale=1 / np.asarray(b)), (2.5, 0.7)),
    "Weibull": Family(quiet(dist.Weibull), lambda s, c: stats.weibull_min(c, scale=s), (3.0, 1.7)),
    "Exponential": Family(quiet(dist.Exponential), lambda b: stats.expon(scale=1 / np.asarray(b)), (0.3,)),
    "Beta": Family(quiet(dist.Beta), stats.beta, (2.5, 4.0)),
    "Poisson": Family(quiet(dist.Poisson), stats.poisson, (6.0,)),
    "NegativeBinomial": Family(
        quiet(dist.NegativeBinomial2),
        lambda m, c: stats.nbinom(c, np.asarray(c) / (np.asarray(c) + m)),
        (6.0, 2.5),
    ),
}


def wrong(base, size):
    """Three wrong sets of parameters: the first, the last and both too large (or, of one alone, in three ways)."""
    factor = 1 + size
    if len(base) == 1:
        return [(base[0] * factor,), (base[0] / factor,), (base[0] * factor**2,)]
    if len(base) == 2:
        return [(base[0] * factor, base[1]), (base[0], base[1] * factor), (base[0] * factor, base[1] / factor)]
    return [tuple(value * (factor if i == j else 1.0) for j, value in enumerate(base)) for i in range(len(base))]


def nodes(truth, number=400):
    """Outcomes and weights that make means into expectations under `truth`: its quantiles, or all counts."""
    if hasattr(truth.dist, "pmf"):
        y = np.arange(truth.isf(1e-14) + 1.0)
        return y, truth.pmf(y)
    v, weight = np.polynomial.legendre.leggauss(number)
    v, weight = (v + 1) / 2, weight / 2
    level = v**3 * (10 - 15 * v + 6 * v * v)  # crowded at both ends, where scores may be infinite
    rest = (1 - v) ** 3 * (10 - 15 * (1 - v) + 6 * (1 - v) ** 2)
    y = np.where(v < 0.5, truth.ppf(level), truth.isf(rest))
    return y, weight * 30 * v**2 * (1 - v) ** 2
